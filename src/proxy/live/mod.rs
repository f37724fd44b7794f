//! The configuration in force together with what has been seen of every candidate.
//!
//! A [`Live`] is made anew at each reload and never changes; the states inside it are shared by name with the one
//! before, so a reload forgets neither a breaker nor a latency.

mod accounts;
mod backend;
mod flight;
pub mod hints;
mod lengths;
pub mod seen;
pub mod servers;
pub mod warm;
mod watching;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

pub use self::{
    accounts::Seat,
    backend::{Boarding, Missed, take_place},
    flight::Flight,
};
use self::{
    backend::BackendState,
    lengths::Lengths,
    warm::{Place, Turn, Warm},
};
use super::{lineup::Lineup, rollouts::Rollouts, toll::Hedges, users::Users};
use crate::{
    base::{
        catalog::{Backend, Candidate},
        failure::Fault,
        names::{BackendName, ModelName, RouteName},
        priority::Priority,
    },
    net::pool::Pool,
    policy::{
        Decision, Observations, Policies, Unavailable,
        account::{self, Busy},
        balance::ReplicaId,
        breaker::{Breaker, BreakerState, Outcome},
        observe::Meter,
        queue::Line,
        retry::RetryBudget,
    },
};

/// One configuration in force.
pub struct Live {
    /// The policies.
    pub policies: Arc<Policies>,
    /// Their revision: the instant at which they were loaded, in milliseconds since 1970, and more than that of those
    /// before whatever the clock says.
    pub revision: u64,
    /// The fences of its users.
    pub users: Users,
    candidates: Vec<Arc<CandidateState>>,
    backends: HashMap<BackendName, Arc<BackendState>>,
    retries: HashMap<RouteName, Arc<Mutex<RetryBudget>>>,
    /// Of routes that hedge.
    hedges: HashMap<RouteName, Hedges>,
    /// The watches over guarded splits.
    pub rollouts: Rollouts,
    lengths: Lengths,
    /// The zero of all monotonic times in it: the gateway's start.
    epoch: Instant,
    /// Conversations and where their prompts are cached.
    pub warm: Arc<Warm>,
}

/// What has been seen of one (model, backend).
#[derive(Debug)]
pub struct CandidateState {
    seen: Mutex<Watched>,
    in_flight: AtomicU32,
}

#[derive(Debug)]
struct Watched {
    meter: Meter,
    breaker: Breaker,
}

impl Default for CandidateState {
    fn default() -> Self {
        Self {
            seen: Mutex::new(Watched { meter: Meter::default(), breaker: Breaker::new(rand::random()) }),
            in_flight: AtomicU32::new(0),
        }
    }
}

/// The lock of what has been seen.
pub fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here are plain numbers: a panic elsewhere cannot leave them half written.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Puts `policies` in force that are loaded at `now`, keeping what `before` had seen.
    pub fn new(policies: Arc<Policies>, now: Timestamp, before: Option<&Self>, pool: &Pool) -> Self {
        let loaded = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let revision = loaded.max(before.map_or(0, |live| live.revision) + 1);
        let epoch = before.map_or_else(Instant::now, |live| live.epoch);
        let known: HashMap<(ModelName, BackendName), Arc<CandidateState>> = before
            .map(|live| {
                live.policies.candidates.iter().zip(&live.candidates).map(|(candidate, state)| {
                    let key = (candidate.model.name.clone(), candidate.backend.name.clone());
                    (key, Arc::clone(state))
                })
            })
            .into_iter()
            .flatten()
            .collect();
        let candidates = policies.candidates.iter().map(|candidate| {
            let key = (candidate.model.name.clone(), candidate.backend.name.clone());
            known.get(&key).cloned().unwrap_or_default()
        });
        let candidates = candidates.collect();
        let backends = policies.backends.values().filter_map(|backend| {
            let before = before.and_then(|live| live.backends.get(&backend.name));
            let state = BackendState::new(backend, before, pool, epoch.elapsed())?;
            Some((backend.name.clone(), Arc::new(state)))
        });
        let backends = backends.collect();
        let retries = policies.routes.keys().map(|route| {
            let known = before.and_then(|live| live.retries.get(route).cloned());
            (route.clone(), known.unwrap_or_default())
        });
        let retries = retries.collect();
        let hedges = policies.routes.values().filter_map(|route| {
            let known = before.and_then(|live| live.hedges.get(&route.name));
            let budget = known.map(|known| Arc::clone(&known.budget)).unwrap_or_default();
            Some((route.name.clone(), Hedges { budget, spend_ppm: route.hedge?.spend_ppm }))
        });
        let hedges = hedges.collect();
        let rollouts = Rollouts::new(&policies, before.map(|live| &live.rollouts));
        let lengths = Lengths::new(&policies, before.map(|live| &live.lengths));
        let warm = before.map(|live| Arc::clone(&live.warm)).unwrap_or_default();
        Self {
            policies,
            revision,
            users: Users::default(),
            candidates,
            backends,
            retries,
            hedges,
            rollouts,
            lengths,
            epoch,
            warm,
        }
    }

    /// The monotonic time that breakers, meters and budgets of retries count in.
    pub fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Notes a request for the route's budget of retries.
    pub fn on_request(&self, route: &RouteName) {
        if let Some(budget) = self.retries.get(route) {
            lock(budget).on_request(self.elapsed());
        }
    }

    /// Takes one retry from the route's budget.
    pub fn may_retry(&self, route: &RouteName) -> bool {
        self.retries.get(route).is_none_or(|budget| lock(budget).try_take(self.elapsed()))
    }

    /// What the route may spend on hedges, if it has any.
    pub fn hedges(&self, route: &RouteName) -> Option<&Hedges> {
        self.hedges.get(route)
    }

    /// Takes one hedge from the route's budget of retries.
    pub fn may_hedge(&self, route: &RouteName) -> bool {
        self.retries.get(route).is_none_or(|budget| lock(budget).try_spare(self.elapsed()))
    }

    /// Whether nobody is sent for now to where an attempt has just failed.
    pub fn is_at_rest(&self, candidate: &Candidate, endpoint: ReplicaId, account: &str, fault: Fault) -> bool {
        let now = self.elapsed();
        let Some(state) = self.backends.get(&candidate.backend.name) else { return false };
        match fault {
            Fault::Quota | Fault::Account => state.accounts.is_parked(account, now),
            // With a sound server beside it, the one that failed is shunned.
            Fault::Backend => {
                let watched = self.candidates.get(candidate.id.0 as usize);
                watched.is_some_and(|watched| lock(&watched.seen).breaker.broken_for(now).is_some())
                    || state.servers.has_sound(endpoint, now)
            }
            Fault::Request => false,
        }
    }

    /// Everything that a client may name: routes, models (each has a route) and aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let routes = self.policies.routes.keys().map(|name| name.as_str());
        routes.chain(self.policies.aliases.keys().map(String::as_str))
    }

    /// The right to send one request to a candidate, on an endpoint that it has not tried if there is one.
    ///
    /// # Errors
    /// [`Missed`] where something has changed since it was decided.
    pub fn board(&self, candidate: &Candidate, route: &RouteName, asked: &Boarding<'_>) -> Result<Flight, Missed> {
        let now = self.elapsed();
        let state = self.backends.get(&candidate.backend.name).ok_or(Missed::Closed)?;
        let watched = self.candidates.get(candidate.id.0 as usize).ok_or(Missed::Closed)?;
        if asked.called != Some(&candidate.backend.name) && !state.lineup.may_pass(asked.class) {
            return Err(Missed::Place);
        }
        // One account has every prompt; of several, the one that served the turn before has this one.
        let several = state.backend.accounts.len() > 1;
        let last = several.then(|| self.warm.find(asked.turn)).flatten();
        let warm = |last: &Place| {
            Arc::ptr_eq(&last.candidate, watched) && last.tokens_at(now, state.provider.prompt_cache()) > 0
        };
        let last = last.filter(warm).and_then(|last| last.seat);
        let berth = state.accounts.board(last.as_ref(), &state.passage(candidate, asked.tokens), now);
        let berth = berth.map_err(|busy| if busy == Busy::Full { Missed::Place } else { Missed::Closed })?;
        if !take_place(&state.in_flight, state.backend.max_in_flight) {
            berth.ended(account::End::Other { tokens: 0 }, None, now);
            return Err(Missed::Place);
        }
        let permit = {
            let breaker = &mut lock(&watched.seen).breaker;
            if asked.anyway { Some(breaker.admit_anyway(now)) } else { breaker.admit(now).ok() }
        };
        let Some(permit) = permit else {
            berth.ended(account::End::Other { tokens: 0 }, None, now);
            state.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(Missed::Closed);
        };
        let Some((server, ticket)) = state.servers.pick(&state.backend, candidate, asked, now) else {
            // It had servers when this was decided; none is left.
            lock(&watched.seen).breaker.report(permit, Outcome::Unknown, now);
            berth.ended(account::End::Other { tokens: 0 }, None, now);
            state.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(Missed::Closed);
        };
        let queued = state.queue_up(asked.chat.facts.stream, now);
        watched.in_flight.fetch_add(1, Ordering::Relaxed);
        let (id, state, candidate, epoch) = (candidate.id, Arc::clone(state), Arc::clone(watched), self.epoch);
        let (lengths, warm) = (self.lengths.of(route, id).cloned(), Arc::clone(&self.warm));
        let (reported, turn, warm_tokens) = (AtomicBool::new(false), Turn::default(), 0);
        Ok(Flight {
            state,
            candidate,
            server,
            ticket,
            queued,
            berth,
            permit,
            lengths,
            reported,
            epoch,
            warm,
            turn,
            warm_tokens,
        })
    }

    /// Notes from which load on rented servers pay, as a decision found it.
    pub fn note(&self, decision: &Decision) {
        for found in &decision.break_even {
            if let Some(state) = self.candidates.get(found.candidate.id.0 as usize) {
                lock(&state.seen).meter.pays_from(found.tokens_per_hour);
            }
        }
    }

    /// Tokens an hour from which on the rent of a candidate's servers pays, as decisions found it lately.
    pub fn break_even(&self, candidate: &Candidate) -> Option<u64> {
        lock(&self.candidates.get(candidate.id.0 as usize)?.seen).meter.break_even()
    }

    /// The accounts of a backend.
    pub fn seats(&self, backend: &Backend) -> impl Iterator<Item = &Arc<Seat>> {
        self.backends.get(&backend.name).into_iter().flat_map(|state| state.accounts.all())
    }

    /// How many retries the route's budget has saved up, in thousandths.
    pub fn retries_left_milli(&self, route: &RouteName) -> Option<u64> {
        Some(lock(self.retries.get(route)?).left_milli(self.elapsed()))
    }

    /// The queue of a backend's servers; `None` = nobody looks at it.
    pub fn line(&self, backend: &Backend) -> Option<Line> {
        let watched = backend.rent.is_some() || backend.spill.is_some();
        self.backends.get(&backend.name).filter(|_| watched).map(|state| state.line(self.elapsed()))
    }

    /// The line before a candidate's backend.
    pub fn lineup(&self, candidate: &Candidate) -> Option<&Arc<Lineup>> {
        self.backends.get(&candidate.backend.name).map(|state| &state.lineup)
    }

    /// Whether a candidate takes no more at once.
    pub fn is_full(&self, candidate: &Candidate) -> bool {
        self.seen(candidate).unavailable == Some(Unavailable::Full)
    }

    /// Whether somebody of `class` who has just come would have to wait for a place at a candidate.
    pub fn must_wait(&self, candidate: &Candidate, class: Priority) -> bool {
        self.lineup(candidate).is_some_and(|line| !line.may_pass(class)) || self.is_full(candidate)
    }

    /// The breaker of a candidate as a number: 0 closed, 1 half open, 2 open.
    pub fn breaker(&self, candidate: &Candidate) -> i64 {
        let state = self.candidates.get(candidate.id.0 as usize);
        match state.map(|state| lock(&state.seen).breaker.state(self.elapsed())) {
            None | Some(BreakerState::Closed) => 0,
            Some(BreakerState::HalfOpen) => 1,
            Some(BreakerState::Open) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;

    #[test]
    fn no_more_places_are_taken_than_there_are() {
        let taken = AtomicU32::new(0);
        let got = (0..5).filter(|_| take_place(&taken, Some(3))).count();
        assert_eq!((got, taken.load(Ordering::Relaxed)), (3, 3));
        assert!(take_place(&taken, None));
    }

    #[test]
    fn the_vendors_own_caps_are_known() {
        let deepseek = provider::by_name("deepseek").unwrap();
        assert_eq!(deepseek.concurrency_cap("deepseek-v4-pro"), Some(500));
        assert_eq!(deepseek.concurrency_cap("deepseek-flash"), Some(2500));
        assert_eq!(provider::by_name("openai").unwrap().concurrency_cap("gpt-4o"), None);
    }
}
