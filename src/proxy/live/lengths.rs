//! How long the answers of each model are on each route.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    base::{
        catalog::CandidateId,
        names::{ModelName, RouteName},
    },
    policy::{Choice, Policies, observe::answers::Answers},
};

/// What has been seen of one model on one route; whoever serves it writes the same answers.
#[derive(Debug, Default)]
pub(super) struct Length {
    answers: Mutex<Answers>,
    // Zero = not known yet. Read once for each candidate of each decision, so without the lock.
    p90: AtomicU64,
}

impl Length {
    /// One answer had so many tokens.
    pub(super) fn add(&self, tokens: u64) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.add(tokens);
        self.p90.store(answers.p90().unwrap_or(0), Ordering::Relaxed);
    }

    /// A length that nine of ten do not pass.
    pub(super) fn p90(&self) -> Option<u64> {
        Some(self.p90.load(Ordering::Relaxed)).filter(|tokens| *tokens > 0)
    }
}

/// All of them, by route and candidate.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    // Sorted by candidate.
    of: HashMap<RouteName, Vec<(CandidateId, Arc<Length>)>>,
    known: HashMap<(RouteName, ModelName), Arc<Length>>,
}

impl Lengths {
    /// Those of `policies`; what `before` had seen under the same names stays.
    pub(super) fn new(policies: &Policies, before: Option<&Self>) -> Self {
        let mut lengths = Self::default();
        for route in policies.routes.values() {
            let chosen: &[CandidateId] = match &route.choice {
                Choice::Value { candidates, .. } | Choice::Order(candidates) => candidates,
                // An arm is a route of its own.
                Choice::Split { .. } => &[],
            };
            let by_rules = route.rules.iter().filter_map(|rule| rule.candidates.as_deref()).flatten();
            let mut ids: Vec<CandidateId> = chosen.iter().chain(by_rules).copied().collect();
            ids.sort_unstable();
            ids.dedup();
            let of = ids.into_iter().map(|id| {
                let key = (route.name.clone(), policies.candidate(id).model.name.clone());
                let old = || before.and_then(|before| before.known.get(&key).cloned()).unwrap_or_default();
                (id, Arc::clone(lengths.known.entry(key.clone()).or_insert_with(old)))
            });
            let of = of.collect();
            lengths.of.insert(route.name.clone(), of);
        }
        lengths
    }

    /// That of a candidate on a route.
    pub(super) fn of(&self, route: &RouteName, id: CandidateId) -> Option<&Arc<Length>> {
        let of = self.of.get(route)?;
        let place = of.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&of[place].1)
    }
}
