//! What is seen of the backends, for operators and metrics.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Live,
    backend::BackendState,
    lock,
    servers::{LookUp, ServerSeen, Servers},
};
use crate::{
    base::catalog::Backend,
    net::pool::Pool,
    policy::{balance::State, breaker::BreakerState},
    provider::Provider,
};

/// One backend now.
#[derive(Clone, Debug)]
pub struct BackendSeen {
    /// As the policies have it.
    pub backend: Arc<Backend>,
    /// Requests in flight to it.
    pub in_flight: u32,
    /// Its servers, those that end what they have begun included.
    pub servers: Vec<ServerSeen>,
    /// How the last question to a name server went, and how long ago it was answered.
    pub look_up: Option<(LookUp, Option<Duration>)>,
    /// Its accounts.
    pub accounts: Vec<AccountSeen>,
    /// Its models.
    pub candidates: Vec<CandidateSeen>,
}

/// One account of a backend now.
#[derive(Clone, Debug)]
pub struct AccountSeen {
    /// Its name.
    pub name: String,
    /// How long it is left alone; zero = it is not.
    pub parked: Duration,
    /// For how long it has sent all that its own limits on requests or tokens allow; zero = it has not.
    pub at_limit: Duration,
    /// How many requests it takes at once, as learned from its refusals; `None` = nobody has refused lately.
    pub learned: Option<u32>,
    /// Requests under way.
    pub in_flight: u32,
}

/// One model of a backend now.
#[derive(Clone, Debug)]
pub struct CandidateSeen {
    /// The model.
    pub model: String,
    /// What the backend calls it.
    pub upstream: String,
    /// Its breaker.
    pub breaker: BreakerState,
    /// When it is tried again, if it is left alone.
    pub tried_again_in: Option<Duration>,
    /// Requests in flight.
    pub in_flight: u32,
}

/// A backend whose servers are asked how they are, or are found by name.
#[derive(Clone, Debug)]
pub struct Kept(Arc<BackendState>);

impl Kept {
    /// As the policies have it.
    pub fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// Its dialect.
    pub fn provider(&self) -> &'static dyn Provider {
        self.0.provider
    }

    /// Its servers.
    pub fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// Makes these its servers.
    pub fn put(&self, wanted: &[super::servers::Wanted], pool: &Pool, now: Duration) {
        self.0.servers.put(&self.0.backend, self.0.provider, wanted, pool, now);
    }
}

impl Live {
    /// The backends whose servers are asked how they are, or are found by name.
    pub fn kept(&self) -> Vec<Kept> {
        let asked = |state: &&Arc<BackendState>| {
            let provider = state.provider;
            let tells = provider.ready_path().is_some() || !provider.load_paths().is_empty();
            state.backend.off.is_none() && (tells || state.backend.discover.is_some())
        };
        self.backends.values().filter(asked).map(|state| Kept(Arc::clone(state))).collect()
    }

    /// How many servers of each backend are in each state, for backends whose servers are counted.
    pub fn server_states(&self) -> impl Iterator<Item = (Arc<str>, Vec<(State, usize)>)> {
        let now = self.elapsed();
        self.backends.values().map(move |state| (state.backend.name.shared(), state.servers.states(now)))
    }

    /// Every backend, by name.
    pub fn backends_seen(&self) -> Vec<BackendSeen> {
        let mut seen: Vec<BackendSeen> = self.backends.values().map(|state| self.backend_seen(state)).collect();
        seen.sort_by(|a, b| a.backend.name.cmp(&b.backend.name));
        seen
    }

    fn backend_seen(&self, state: &BackendState) -> BackendSeen {
        let now = self.elapsed();
        let mine = self.policies.candidates.iter().zip(&self.candidates);
        let mine = mine.filter(|(candidate, _)| candidate.backend.name == state.backend.name);
        let look_up = state.backend.discover.as_ref().map(|_| {
            let last = state.servers.look_up();
            let ago = last.answered.map(|answered| now.saturating_sub(answered));
            (last, ago)
        });
        BackendSeen {
            backend: Arc::clone(&state.backend),
            in_flight: state.in_flight.load(Ordering::Relaxed),
            servers: state.servers.seen(now),
            look_up,
            accounts: state.accounts.seen(now),
            candidates: mine
                .map(|(candidate, watched)| {
                    let breaker = &lock(&watched.seen).breaker;
                    CandidateSeen {
                        model: candidate.model.name.to_string(),
                        upstream: candidate.upstream.to_string(),
                        breaker: breaker.state(now),
                        tried_again_in: breaker.broken_for(now),
                        in_flight: watched.in_flight.load(Ordering::Relaxed),
                    }
                })
                .collect(),
        }
    }
}
