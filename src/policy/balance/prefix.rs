//! `prefix`: the least product of work before the first token and of company after it.
//!
//! `(2 × new prefill + queued prefill + 1) × (in flight + 1) × slowdown ÷ weight`. New prefill is what of the prompt the
//! replica does not have in its cache; queued prefill is what it has been sent and has not answered yet. The product
//! (LMetric) weighs load against company; the slowdown tells replicas apart that are of different or failing hardware.
//! New prefill counts twice, since it delays everybody who comes after, too: in `tests/sim`, over LMetric's single
//! weight, that gives 4 points more of cached tokens and a burst × 5 a fifth less at the 99th percentile; three times
//! and more piles requests up where a popular prefix is.
//!
//! Where other gateways ask the same pool ([`super::shared`]), a conversation that nobody here has sent counts half at its
//! home, and what earlier turns said is expected to be cached there. In `tests/sim`, with four gateways, that takes the
//! 99th percentile from 0.64 s to 0.48 s and the cached share from 41 to 61 %; one gateway alone would lose a tenth by it.

use super::{Ask, Balancer, Replica, Scene};

/// Up to so many replicas each is looked at.
const ALL: usize = 16;
/// Beyond, the one with the most of the prompt, the home, and so many others.
const OTHERS: u64 = 3;
/// How much a token that has to be read counts against one that is queued before it.
const NEW: u64 = 2;
/// How much less a conversation that is strange here counts at its home.
const AT_HOME: u128 = 2;
/// So many tokens fewer than were said do not make a conversation strange: engines and templates cut elsewhere.
const SLACK: u64 = 64;

/// See the module's text.
pub struct Prefix;

impl Balancer for Prefix {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn needs_blocks(&self) -> bool {
        true
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        let home = scene.home().filter(|_| scene.shared && scene.is_strange());
        let score = |&place: &usize| (score(scene.sound[place], scene, home == Some(place)), scene.draw(place as u64));
        if scene.sound.len() <= ALL {
            return (0..scene.sound.len()).min_by_key(score);
        }
        let warmest = scene.least(|replica| std::cmp::Reverse(replica.warm_blocks(scene.ask.blocks)))?;
        let drawn = (0..OTHERS).map(|number| (scene.draw(!number) % scene.sound.len() as u64) as usize);
        drawn.chain([warmest]).chain(home).min_by_key(score)
    }
}

impl Scene<'_> {
    /// Nobody here has sent what earlier turns of the conversation said; so it is with every first turn. What engines have
    /// dropped since is no sign of anybody else.
    pub(super) fn is_strange(&self) -> bool {
        let blocks = self.ask.blocks;
        let settled = u128::from(self.ask.settled.saturating_sub(SLACK)) * blocks.len() as u128;
        let settled =
            settled.checked_div(u128::from(self.ask.tokens)).and_then(|settled| usize::try_from(settled).ok());
        let last = settled.and_then(|settled| blocks.get(settled.checked_sub(1)?));
        self.ask.settled == 0 || last.is_some_and(|last| self.sound.iter().all(|replica| !replica.index.noted(*last)))
    }
}

/// Tokens of the prompt that stand in so many warm blocks.
pub fn warm_tokens(ask: &Ask<'_>, warm: usize) -> u64 {
    let tokens = u128::from(ask.tokens) * warm as u128;
    tokens.checked_div(ask.blocks.len() as u128).and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(0)
}

fn score(replica: &Replica, scene: &Scene<'_>, is_home: bool) -> u128 {
    let warm = warm_tokens(scene.ask, replica.warm_blocks(scene.ask.blocks));
    let hoped = if is_home { scene.ask.settled.saturating_mul(scene.trust_milli) / 1_000 } else { 0 };
    let new = scene.ask.tokens.saturating_sub(warm.max(hoped));
    let work = u128::from(new.saturating_mul(NEW).saturating_add(replica.queued_tokens())) + 1;
    let company = u128::from(replica.in_flight(scene.now)) + 1;
    let slowdown = u128::from(replica.slowdown_milli(scene.now));
    let share = u128::from(replica.share_milli(scene.now)) * if is_home { AT_HOME } else { 1 };
    work.saturating_mul(company).saturating_mul(slowdown * 1_000) / share
}
