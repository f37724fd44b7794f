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
    wire::{
        request::{ChatRequest, PER_IMAGE},
        tokens,
    },
};

/// Prompts beyond this many bytes are estimated: counting them would hold the reactor up.
const MAX_COUNTED: u64 = 64 * 1024;

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
        facts.input_bound = facts.body_bytes.saturating_add(facts.images.saturating_mul(PER_IMAGE));
        let Some(tokenizer) = tokenizer(policies, route) else { return };
        if facts.body_bytes > MAX_COUNTED {
            return;
        }
        if tokens::is_loaded(tokenizer) {
            chat.facts.input_tokens = chat.count_tokens(tokenizer);
            // With a count, the decision takes its own margin on it.
            chat.facts.input_bound = 0;
            return;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.insert(tokenizer) {
            tokio::task::spawn_blocking(move || tokens::count(tokenizer, "a"));
        }
    }
}

/// The vocabulary of the route's first candidate: others differ by a few percent, which the hold's margin covers.
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
