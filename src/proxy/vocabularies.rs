//! Prompt tokens, counted with one vocabulary of the route once that is in memory; the decision converts the count for
//! candidates that read with another one.
//!
//! A vocabulary takes a tenth of a second to load and 25 MB to keep, so the first request that wants one starts the
//! load on a thread of its own and goes on with the estimate; the upstream's usage settles in any case.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::{
    base::catalog::Tokenizer,
    policy::{Choice, Policies, Route},
    wire::{request::ChatRequest, tokens},
};

/// Prompts beyond this many bytes are estimated: counting them would hold the reactor up.
const MAX_COUNTED: u64 = 64 * 1024;

/// Tokens of one image at most: GPT-4o mini bills 2,833 and 5,667 for each of up to 8 tiles (OpenAI, "Images and
/// vision").
const IMAGE_BOUND: u64 = 2_833 + 8 * 5_667;

/// Which vocabularies are on their way into memory.
#[derive(Debug, Default)]
pub struct Vocabularies {
    asked: Mutex<HashSet<Tokenizer>>,
}

impl Vocabularies {
    /// Puts the counted prompt tokens into the facts, if the vocabulary is there. Until then the estimate stays. The
    /// bound for candidates that read with another vocabulary is one token a byte: a script may cost them twice as many.
    pub fn count(&self, policies: &Policies, route: &Route, chat: &mut ChatRequest) {
        let facts = &mut chat.facts;
        facts.input_bound = facts.body_bytes.saturating_add(facts.images.saturating_mul(IMAGE_BOUND));
        let Some(tokenizer) = tokenizer(policies, route) else { return };
        if facts.body_bytes > MAX_COUNTED {
            return;
        }
        if tokens::is_loaded(tokenizer) {
            chat.facts.input_tokens = chat.count_tokens(tokenizer);
            chat.facts.counted_with = Some(tokenizer);
            return;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.insert(tokenizer) {
            tokio::task::spawn_blocking(move || tokens::count(tokenizer, "a"));
        }
    }
}

/// Loads the vocabulary that prompts of this route are counted with: not on a reactor thread.
pub fn load(policies: &Policies, route: &Route) {
    if let Some(tokenizer) = tokenizer(policies, route) {
        tokens::count(tokenizer, "a");
    }
}

/// The vocabulary of the route's first candidate whose vocabulary is known.
fn tokenizer(policies: &Policies, route: &Route) -> Option<Tokenizer> {
    match &route.choice {
        Choice::Value { candidates, .. } | Choice::Order(candidates) => {
            let mut read_with = candidates.iter().map(|id| policies.candidate(*id).model.tokenizer);
            read_with.find(|tokenizer| *tokenizer != Tokenizer::Other)
        }
        Choice::Split { arms, .. } => {
            arms.iter().filter_map(|arm| policies.routes.get(&arm.route)).find_map(|arm| tokenizer(policies, arm))
        }
    }
}
