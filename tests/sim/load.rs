//! Who asks what: conversations that begin with one of a few system prompts and go on turn by turn.

use std::rc::Rc;

use turnpike::policy::balance::mix;

use crate::{dice::Dice, engine::BLOCK};

/// Shared beginnings.
const SYSTEM_PROMPTS: u64 = 6;
/// Idle conversations beyond so many are never taken up again.
const REMEMBERED: usize = 400;
/// A conversation longer than this is not taken up again.
const LONGEST: u64 = 16_000;

/// A prompt: hashes of its blocks, each standing for all up to it, and its tokens.
#[derive(Debug)]
pub struct Prompt {
    pub conversation: u64,
    pub blocks: Vec<u64>,
    pub tokens: u64,
    pub output: u64,
    /// Tokens that earlier turns said.
    pub settled: u64,
}

/// What the load is like.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// The share of requests that go on with a conversation, in per cent.
    pub continued: u64,
    /// The share of new conversations that begin with one and the same long prompt, in per cent.
    pub hot: u64,
}

/// All conversations.
#[derive(Debug)]
pub struct Talk {
    mix: Mix,
    idle: Vec<Rc<Prompt>>,
    next: u64,
}

impl Talk {
    pub fn new(mix: Mix) -> Self {
        Self { mix, idle: Vec::new(), next: 1 }
    }

    /// The next request.
    pub fn ask(&mut self, dice: &mut Dice) -> Rc<Prompt> {
        let output = (dice.exponential(150.0) as u64).clamp(4, 800);
        if !self.idle.is_empty() && dice.chance(self.mix.continued) {
            let place = dice.below(self.idle.len() as u64) as usize;
            let before = self.idle.swap_remove(place);
            let said = before.output + (dice.lognormal(120.0, 0.8) as u64).clamp(8, 2_000);
            return Rc::new(Prompt { settled: before.tokens, ..longer(&before, said, output) });
        }
        self.next += 1;
        let conversation = self.next;
        let hot = dice.chance(self.mix.hot);
        let system = if hot { 0 } else { 1 + dice.below(SYSTEM_PROMPTS) };
        let shared = if hot { 6_000 } else { 160 * system };
        let root = Prompt { conversation: system << 40, blocks: Vec::new(), tokens: 0, output: 0, settled: 0 };
        let system = longer(&root, shared, 0);
        let asked = if hot { dice.lognormal(100.0, 0.5) } else { dice.lognormal(600.0, 1.1) };
        let own = Prompt { conversation, ..system };
        Rc::new(longer(&own, (asked as u64).clamp(8, 8_000), output))
    }

    /// The answer is read: the conversation may go on.
    pub fn answered(&mut self, prompt: Rc<Prompt>, dice: &mut Dice) {
        if prompt.tokens > LONGEST {
            return;
        }
        if self.idle.len() >= REMEMBERED {
            let place = dice.below(self.idle.len() as u64) as usize;
            self.idle.swap_remove(place);
        }
        self.idle.push(prompt);
    }
}

fn longer(before: &Prompt, said: u64, output: u64) -> Prompt {
    let tokens = before.tokens + said;
    let mut blocks = before.blocks.clone();
    while (blocks.len() as u64 + 1) * BLOCK <= tokens {
        let last = blocks.last().copied().unwrap_or(7);
        blocks.push(mix(last ^ mix(before.conversation)));
    }
    Prompt { conversation: before.conversation, blocks, tokens, output, settled: 0 }
}
