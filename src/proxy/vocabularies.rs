//! Prompt tokens, counted with the first candidate's vocabulary once that is in memory.
//!
//! A vocabulary takes a tenth of a second to load and 25 MB to keep, so the first request that wants one starts the
//! load on a thread of its own and goes on with the estimate; the upstream's usage settles in any case.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::{
    base::catalog::{CandidateId, Tokenizer},
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
    /// Puts the counted prompt tokens into the facts, if the vocabulary is there. Until then the estimate stays, and
    /// the bound that a hold covers is one token a byte.
    pub fn count(&self, policies: &Policies, route: &Route, chat: &mut ChatRequest) {
        let facts = &mut chat.facts;
        facts.input_bound = facts.body_bytes.saturating_add(facts.images.saturating_mul(IMAGE_BOUND));
        let Some(tokenizer) = tokenizer(policies, route) else { return };
        if facts.body_bytes > MAX_COUNTED {
            return;
        }
        if tokens::is_loaded(tokenizer) {
            let images = chat.facts.images > 0;
            chat.facts.input_tokens = chat.count_tokens(tokenizer);
            // With a count, the decision takes its own margin on it. It holds for this vocabulary alone: where a
            // candidate reads with another one, the bound by bytes stays, for a script may cost it twice as many.
            if !images && alike(policies, route, tokenizer) {
                chat.facts.input_bound = 0;
            }
            return;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.insert(tokenizer) {
            tokio::task::spawn_blocking(move || tokens::count(tokenizer, "a"));
        }
    }
}

/// Whether every candidate of the route reads with this vocabulary.
fn alike(policies: &Policies, route: &Route, tokenizer: Tokenizer) -> bool {
    match &route.choice {
        Choice::Value { candidates, .. } | Choice::Order(candidates) => {
            candidates.iter().all(|id| policies.candidate(*id).model.tokenizer == tokenizer)
        }
        Choice::Split { arms, .. } => {
            arms.iter().all(|arm| policies.routes.get(&arm.route).is_some_and(|arm| alike(policies, arm, tokenizer)))
        }
    }
}

/// The vocabulary of the route's first candidate.
fn tokenizer(policies: &Policies, route: &Route) -> Option<Tokenizer> {
    let first = match &route.choice {
        Choice::Value { candidates, .. } | Choice::Order(candidates) => candidates.first().copied(),
        Choice::Split { arms, .. } => {
            return tokenizer(policies, policies.routes.get(&arms.first()?.route)?);
        }
    };
    let id: CandidateId = first?;
    Some(policies.candidate(id).model.tokenizer)
}
