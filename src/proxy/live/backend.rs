//! One backend: which of its accounts serves next, and how many requests it takes at once.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    lock,
    servers::{Servers, Wanted},
};
use crate::{
    base::catalog::{Account, Backend, Candidate, Endpoint, Pick},
    net::pool::Pool,
    policy::{
        Unavailable,
        balance::{self, ReplicaId},
        queue::{Line, Queue},
    },
    provider::{self, Provider},
    wire::request::ChatRequest,
};

/// One backend's endpoints and accounts.
#[derive(Debug)]
pub(super) struct BackendState {
    /// Its dialect.
    pub(super) provider: &'static dyn Provider,
    pub(super) backend: Arc<Backend>,
    pub(super) servers: Arc<Servers>,
    // Milliseconds since the epoch of the gateway.
    parked_until: Vec<AtomicI64>,
    next_account: AtomicUsize,
    /// Who waits for them, where `rent` or `spill` asks for it; shared like the pool.
    queue: Option<Arc<Mutex<Queue>>>,
    pub(super) in_flight: Arc<AtomicU32>,
}

/// The most bytes of each part of an opening that are looked at.
const OPENING: usize = 64 * 1024;

/// What the choice of a server knows of a request.
#[derive(Clone, Copy, Debug)]
pub struct Boarding<'a> {
    /// The request.
    pub chat: &'a ChatRequest,
    /// What stays together with `sticky`: the session, else the user, else the key.
    pub affinity: [&'a str; 3],
    /// Its randomness.
    pub seed: u64,
    /// Servers of this backend that it has tried in vain.
    pub tried: &'a [ReplicaId],
    /// Pass over an open breaker: the one live try of a sole candidate.
    pub anyway: bool,
}

impl Boarding<'_> {
    /// A hash that is the same in every gateway.
    pub(super) fn affinity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let named = self.affinity.iter().position(|name| !name.is_empty());
        named.map(|place| (place, self.affinity[place])).hash(&mut hasher);
        hasher.finish()
    }

    /// The prompt as a pool's index knows it.
    pub(super) fn blocks(&self, key: u64) -> Vec<u64> {
        let said = self.chat.said();
        balance::blocks(key, said.tools.chain([said.before, said.since]))
    }

    /// How the conversation began, as a hash that is the same in every gateway; nothing is known by it but where it goes.
    pub(super) fn opening(&self) -> u64 {
        let said = self.chat.said();
        let mut hasher = DefaultHasher::new();
        said.tools.chain([said.opening]).for_each(|part| hasher.write(&part[..part.len().min(OPENING)]));
        hasher.finish()
    }

    /// Of so many tokens of the prompt, those that earlier turns said: its share by bytes.
    pub(super) fn settled(&self, tokens: u64) -> u64 {
        let said = self.chat.said();
        if said.before.is_empty() {
            return 0;
        }
        let tools: usize = said.tools.map(<[u8]>::len).sum();
        let settled = (tools + said.before.len()) as u128;
        let all = settled + said.since.len() as u128;
        u64::try_from(u128::from(tokens) * settled / all).unwrap_or(0)
    }
}

impl BackendState {
    pub(super) fn new(backend: &Arc<Backend>, before: Option<&Arc<Self>>, pool: &Pool, now: Duration) -> Option<Self> {
        let provider = provider::by_name(backend.provider)?;
        let servers = before.map(|before| Arc::clone(&before.servers)).unwrap_or_default();
        // Those that are found by name stay until the name server tells of others.
        if backend.discover.is_none() {
            let usual = |endpoint: &Endpoint| Wanted {
                url: endpoint.url.clone(),
                weight_milli: endpoint.weight_milli,
                priority: 0,
            };
            let wanted: Vec<Wanted> = backend.endpoints.iter().map(usual).collect();
            servers.put(backend, provider, &wanted, pool, now);
        }
        let watched = backend.rent.is_some() || backend.spill.is_some();
        let queue = watched.then(|| before.and_then(|before| before.queue.clone()).unwrap_or_default());
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
            servers,
            parked_until,
            next_account: AtomicUsize::new(0),
            queue,
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

    /// What a request would find at its queue.
    pub(super) fn line(&self, now: Duration) -> Line {
        self.queue.as_ref().map(|queue| lock(queue).line(self.count(), now)).unwrap_or_default()
    }

    /// A request joins the queue; `None` = nobody looks at it.
    pub(super) fn queue_up(&self, streams: bool, now: Duration) -> Option<u64> {
        self.queue.as_ref().map(|queue| lock(queue).sent(self.count(), streams, now))
    }

    /// It was answered: its first token came, or all of it.
    pub(super) fn answered(&self, queued: Option<u64>, now: Duration) {
        if let (Some(queue), Some(number)) = (&self.queue, queued) {
            lock(queue).answered(number, now);
        }
    }

    /// It is over.
    pub(super) fn unqueue(&self, queued: Option<u64>) {
        if let (Some(queue), Some(number)) = (&self.queue, queued) {
            lock(queue).left(number);
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.servers.count().max(1)).unwrap_or(u32::MAX)
    }

    /// For how long each account is left alone; zero = it is not.
    pub(super) fn parked(&self, now: Duration) -> impl Iterator<Item = (&Account, Duration)> {
        let left = move |until: &AtomicI64| until.load(Ordering::Relaxed).saturating_sub(millis(now)).max(0);
        let left = self.parked_until.iter().map(move |until| Duration::from_millis(left(until).unsigned_abs()));
        self.backend.accounts.iter().zip(left)
    }

    pub(super) fn park(&self, account: usize, wait: Duration, now: Duration) {
        self.parked_until[account].fetch_max(millis(now.saturating_add(wait)), Ordering::Relaxed);
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
