//! The configuration in force together with what has been seen of every candidate.
//!
//! A [`Live`] is made anew at each reload and never changes; the states inside it are shared by name with the one
//! before, so a reload forgets neither a breaker nor a latency.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::toll::{Timing, Verdict};
use crate::{
    base::{
        catalog::{Account, Backend, Balance, Candidate, Pick},
        failure::Fault,
        names::{BackendName, ModelName, RouteName},
        usage::Usage,
    },
    net::pool::{Origin, Pool},
    policy::{
        Observations, Policies, Seen, Unavailable,
        breaker::{Breaker, BreakerState, Outcome, Permit},
        observe::Meter,
        retry::RetryBudget,
    },
    provider::{self, Provider},
};

/// How long an account is parked that its vendor turned away without saying for how long.
const PARK: Duration = Duration::from_secs(60);
/// How long an account is parked after a 429 without `retry-after`.
const PARK_QUOTA: Duration = Duration::from_secs(5);

/// One configuration in force.
pub struct Live {
    /// The policies.
    pub policies: Arc<Policies>,
    candidates: Vec<Arc<CandidateState>>,
    backends: HashMap<BackendName, Arc<BackendState>>,
    retries: HashMap<RouteName, Arc<Mutex<RetryBudget>>>,
    /// The zero of all monotonic times in it: the gateway's start.
    epoch: Instant,
}

/// What has been seen of one (model, backend).
#[derive(Debug)]
pub struct CandidateState {
    seen: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    meter: Meter,
    breaker: Breaker,
}

impl Default for CandidateState {
    fn default() -> Self {
        Self { seen: Mutex::new(Watched { meter: Meter::default(), breaker: Breaker::new(rand::random()) }) }
    }
}

/// One backend's endpoints and accounts.
#[derive(Debug)]
pub struct BackendState {
    /// Its dialect.
    pub provider: &'static dyn Provider,
    backend: Arc<Backend>,
    endpoints: Vec<Endpoint>,
    // Milliseconds since the epoch of the gateway.
    parked_until: Vec<AtomicI64>,
    next: AtomicUsize,
}

/// One server of a backend.
#[derive(Debug)]
struct Endpoint {
    uri: http::Uri,
    origin: Origin,
    in_flight: AtomicU32,
}

/// The right to send one request: an endpoint and an account, in flight until it is dropped.
#[derive(Debug)]
pub struct Flight {
    state: Arc<BackendState>,
    candidate: Arc<CandidateState>,
    endpoint: usize,
    account: usize,
    permit: Permit,
    epoch: Instant,
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here are plain numbers: a panic elsewhere cannot leave them half written.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Puts `policies` in force, keeping what `before` had seen.
    pub fn new(policies: Arc<Policies>, before: Option<&Self>, pool: &Pool) -> Self {
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
            Some((backend.name.clone(), Arc::new(BackendState::new(backend, before, pool)?)))
        });
        let backends = backends.collect();
        let retries = policies.routes.keys().map(|route| {
            let known = before.and_then(|live| live.retries.get(route).cloned());
            (route.clone(), known.unwrap_or_default())
        });
        let retries = retries.collect();
        Self { policies, candidates, backends, retries, epoch }
    }

    /// The monotonic time that breakers, meters and budgets of retries count in.
    fn elapsed(&self) -> Duration {
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

    /// Everything that a client may name: routes, models (each has a route) and aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let routes = self.policies.routes.keys().map(|name| name.as_str());
        routes.chain(self.policies.aliases.keys().map(String::as_str))
    }

    /// The right to send one request to a candidate, on an endpoint that is not among `tried` if there is one.
    /// `anyway` passes over an open breaker: the one live try of a sole candidate.
    pub fn board(&self, candidate: &Candidate, tried: &[usize], anyway: bool) -> Option<Flight> {
        let now = self.elapsed();
        let state = self.backends.get(&candidate.backend.name)?;
        let account = state.account(now)?;
        let endpoint = state.endpoint(tried)?;
        let watched = self.candidates.get(candidate.id.0 as usize)?;
        let permit = {
            let breaker = &mut lock(&watched.seen).breaker;
            if anyway { breaker.admit_anyway(now) } else { breaker.admit(now).ok()? }
        };
        state.endpoints[endpoint].in_flight.fetch_add(1, Ordering::Relaxed);
        let (state, candidate, epoch) = (Arc::clone(state), Arc::clone(watched), self.epoch);
        Some(Flight { state, candidate, endpoint, account, permit, epoch })
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

impl Observations for Live {
    fn seen(&self, candidate: &Candidate) -> Seen {
        let Some(state) = self.candidates.get(candidate.id.0 as usize) else { return Seen::default() };
        let now = self.elapsed();
        let closed = || self.backends.get(&candidate.backend.name).and_then(|backend| backend.closed(now));
        let watched = lock(&state.seen);
        let unavailable = watched.breaker.broken_for(now).map(Unavailable::Broken).or_else(closed);
        watched.meter.seen(now, unavailable)
    }
}

impl BackendState {
    fn new(backend: &Arc<Backend>, before: Option<&Arc<Self>>, pool: &Pool) -> Option<Self> {
        let provider = provider::by_name(backend.provider)?;
        let endpoints: Option<Vec<Endpoint>> = backend
            .endpoints
            .iter()
            .map(|base| {
                let uri = provider.uri(base);
                Some(Endpoint { origin: pool.origin(&uri).ok()?, uri, in_flight: AtomicU32::new(0) })
            })
            .collect();
        let parked = |account: &Account| {
            let before = before?;
            let index = before.backend.accounts.iter().position(|known| known.name == account.name)?;
            Some(before.parked_until[index].load(Ordering::Relaxed))
        };
        let parked_until =
            backend.accounts.iter().map(|account| AtomicI64::new(parked(account).unwrap_or(i64::MIN))).collect();
        Some(Self {
            provider,
            backend: Arc::clone(backend),
            endpoints: endpoints?,
            parked_until,
            next: AtomicUsize::new(0),
        })
    }

    /// Whether it takes no request now.
    fn closed(&self, now: Duration) -> Option<Unavailable> {
        let in_flight: u32 = self.endpoints.iter().map(|endpoint| endpoint.in_flight.load(Ordering::Relaxed)).sum();
        if self.backend.max_in_flight.is_some_and(|most| in_flight >= most) {
            return Some(Unavailable::Full);
        }
        let free = self.parked_until.iter().map(|until| until.load(Ordering::Relaxed)).min()?;
        let left = free.saturating_sub(millis(now));
        (left > 0).then(|| Unavailable::Parked(Duration::from_millis(left.unsigned_abs())))
    }

    fn account(&self, now: Duration) -> Option<usize> {
        let count = self.parked_until.len();
        let first = match self.backend.pick {
            Pick::Order => 0,
            Pick::Spread => self.next.fetch_add(1, Ordering::Relaxed),
        };
        let free = |&index: &usize| self.parked_until[index].load(Ordering::Relaxed) <= millis(now);
        (0..count).map(|step| (first.wrapping_add(step)) % count).find(free)
    }

    fn endpoint(&self, tried: &[usize]) -> Option<usize> {
        let count = self.endpoints.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        // Beginning at a moving index makes equals take turns.
        let turn = || (0..count).map(|step| first.wrapping_add(step) % count);
        let all_tried = turn().all(|index| tried.contains(&index));
        let mut free = turn().filter(|index| all_tried || !tried.contains(index));
        match self.backend.balance {
            Balance::RoundRobin => free.next(),
            Balance::LeastLoaded => free.min_by_key(|&index| self.endpoints[index].in_flight.load(Ordering::Relaxed)),
        }
    }

    fn park(&self, account: usize, wait: Duration, now: Duration) {
        self.parked_until[account].fetch_max(millis(now.saturating_add(wait)), Ordering::Relaxed);
    }
}

impl Flight {
    /// The credential that is used.
    pub fn account(&self) -> &Account {
        &self.state.backend.accounts[self.account]
    }

    /// The backend's dialect.
    pub fn provider(&self) -> &'static dyn Provider {
        self.state.provider
    }

    /// Which endpoint of the backend it is.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// The address of the endpoint's chat path.
    pub fn uri(&self) -> &http::Uri {
        &self.state.endpoints[self.endpoint].uri
    }

    /// The endpoint's connections.
    pub fn origin(&self) -> Origin {
        self.state.endpoints[self.endpoint].origin.clone()
    }

    /// Notes the first meaningful event.
    pub fn first_token(&self, after: Duration) {
        lock(&self.candidate.seen).meter.first_token(after, self.epoch.elapsed());
    }

    /// Notes how the attempt ended: latency, breaker, parked account.
    pub fn ended(&self, verdict: Verdict, timing: &Timing, usage: &Usage) {
        let now = self.epoch.elapsed();
        let (outcome, park) = match verdict {
            Verdict::Served => (Outcome::Success, None),
            Verdict::Unknown => (Outcome::Unknown, None),
            Verdict::Failed { fault: Fault::Backend, .. } => (Outcome::Failure, None),
            // It answered, whatever the answer was.
            Verdict::Failed { fault: Fault::Request, .. } => (Outcome::Success, None),
            Verdict::Failed { fault: Fault::Quota, retry_after } => {
                (Outcome::Unknown, Some(retry_after.unwrap_or(PARK_QUOTA)))
            }
            Verdict::Failed { fault: Fault::Account, retry_after } => {
                (Outcome::Unknown, Some(retry_after.unwrap_or(PARK)))
            }
        };
        if let Some(wait) = park {
            self.state.park(self.account, wait, now);
        }
        let mut watched = lock(&self.candidate.seen);
        watched.breaker.report(self.permit, outcome, now);
        match verdict {
            Verdict::Served => {
                watched.meter.answer(usage.output, timing.writing, usage.input, usage.cached_input, now);
            }
            Verdict::Failed { fault: Fault::Backend | Fault::Quota, retry_after } => {
                watched.meter.failure(retry_after, now);
            }
            Verdict::Failed { .. } | Verdict::Unknown => {}
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.state.endpoints[self.endpoint].in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
