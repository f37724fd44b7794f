//! One backend: which of its servers and accounts serves next, and how many requests it takes at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    base::catalog::{Account, Backend, Balance, Candidate, Pick},
    net::pool::{Origin, Pool},
    policy::Unavailable,
    provider::{self, Provider},
};

/// One backend's endpoints and accounts.
#[derive(Debug)]
pub(super) struct BackendState {
    /// Its dialect.
    pub(super) provider: &'static dyn Provider,
    pub(super) backend: Arc<Backend>,
    pub(super) endpoints: Vec<Endpoint>,
    // Milliseconds since the epoch of the gateway.
    parked_until: Vec<AtomicI64>,
    next_account: AtomicUsize,
    next_endpoint: AtomicUsize,
    pub(super) in_flight: Arc<AtomicU32>,
}

/// One server of a backend.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) uri: http::Uri,
    pub(super) origin: Origin,
    pub(super) load: Arc<EndpointLoad>,
}

/// What outlives a reload of one server.
#[derive(Debug, Default)]
pub(super) struct EndpointLoad {
    pub(super) in_flight: AtomicU32,
    // Milliseconds since the epoch of the gateway. A server that fails at once always has the fewest requests in
    // flight: without a penalty it would draw them all.
    pub(super) shunned_until: AtomicI64,
}

impl BackendState {
    pub(super) fn new(backend: &Arc<Backend>, before: Option<&Arc<Self>>, pool: &Pool) -> Option<Self> {
        let provider = provider::by_name(backend.provider)?;
        let endpoints: Option<Vec<Endpoint>> = backend
            .endpoints
            .iter()
            .map(|base| {
                let uri = provider.uri(base);
                let known = before.and_then(|before| before.endpoints.iter().find(|known| known.uri == uri));
                let load = known.map(|known| Arc::clone(&known.load)).unwrap_or_default();
                Some(Endpoint { origin: pool.origin(&uri).ok()?, uri, load })
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
            next_account: AtomicUsize::new(0),
            next_endpoint: AtomicUsize::new(0),
            in_flight: before.map(|before| Arc::clone(&before.in_flight)).unwrap_or_default(),
        })
    }

    /// Whether it takes no request now.
    pub(super) fn closed(&self, now: Duration) -> Option<Unavailable> {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        if self.backend.max_in_flight.is_some_and(|most| in_flight >= most) {
            return Some(Unavailable::Full);
        }
        let free = self.parked_until.iter().map(|until| until.load(Ordering::Relaxed)).min()?;
        let left = free.saturating_sub(millis(now));
        (left > 0).then(|| Unavailable::Parked(Duration::from_millis(left.unsigned_abs())))
    }

    /// How many requests for a model the vendor takes at once from all accounts.
    pub(super) fn vendors_cap(&self, candidate: &Candidate) -> Option<u32> {
        let accounts = u32::try_from(self.backend.accounts.len()).unwrap_or(u32::MAX);
        self.provider.concurrency_cap(&candidate.upstream).map(|cap| cap.saturating_mul(accounts))
    }

    /// Whether a server is left that is neither tried nor shunned.
    pub(super) fn has_sound_endpoint(&self, but: usize, now: Duration) -> bool {
        self.endpoints.iter().enumerate().any(|(index, endpoint)| index != but && !endpoint.load.shunned(now))
    }

    pub(super) fn account(&self, now: Duration) -> Option<usize> {
        let count = self.parked_until.len();
        let first = match self.backend.pick {
            Pick::Order => 0,
            Pick::Spread => self.next_account.fetch_add(1, Ordering::Relaxed),
        };
        let free = |&index: &usize| self.parked_until[index].load(Ordering::Relaxed) <= millis(now);
        (0..count).map(|step| (first.wrapping_add(step)) % count).find(free)
    }

    /// Whether that account is left alone now.
    pub(super) fn is_parked(&self, account: &str, now: Duration) -> bool {
        let known = self.backend.accounts.iter().position(|known| &*known.name == account);
        known.is_some_and(|index| self.parked_until[index].load(Ordering::Relaxed) > millis(now))
    }

    /// The server to ask: one that is not tried, if possible one that has not failed lately.
    pub(super) fn endpoint(&self, tried: &[usize], now: Duration) -> Option<usize> {
        let count = self.endpoints.len();
        let first = self.next_endpoint.fetch_add(1, Ordering::Relaxed);
        // Beginning at a moving index makes equals take turns.
        let turn = || (0..count).map(|step| first.wrapping_add(step) % count);
        let worst = |index: usize| (tried.contains(&index), self.endpoints[index].load.shunned(now));
        let best = turn().map(worst).min()?;
        let mut equals = turn().filter(|&index| worst(index) == best);
        match self.backend.balance {
            Balance::RoundRobin => equals.next(),
            Balance::LeastLoaded => {
                equals.min_by_key(|&index| self.endpoints[index].load.in_flight.load(Ordering::Relaxed))
            }
        }
    }

    pub(super) fn park(&self, account: usize, wait: Duration, now: Duration) {
        self.parked_until[account].fetch_max(millis(now.saturating_add(wait)), Ordering::Relaxed);
    }
}

impl EndpointLoad {
    pub(super) fn shunned(&self, now: Duration) -> bool {
        self.shunned_until.load(Ordering::Relaxed) > millis(now)
    }
}

/// Takes one of `most` places, if one is left.
pub(super) fn take_place(taken: &AtomicU32, most: Option<u32>) -> bool {
    let more = |taken: u32| (taken < most.unwrap_or(u32::MAX)).then(|| taken.saturating_add(1));
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
