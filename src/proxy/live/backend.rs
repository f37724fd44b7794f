//! One backend: which of its accounts serves next, and how many requests it takes at once.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    accounts::Accounts,
    lock,
    servers::{Servers, Wanted},
    warm::Turn,
};
use crate::{
    base::{
        catalog::{Backend, Candidate, Endpoint},
        names::BackendName,
        priority::Priority,
    },
    net::pool::Pool,
    policy::{
        Unavailable,
        account::Passage,
        balance::{self, ReplicaId},
        queue::{Line, Queue},
    },
    provider::{self, Provider},
    proxy::lineup::Lineup,
    wire::request::ChatRequest,
};

/// One backend's endpoints and accounts.
#[derive(Debug)]
pub(super) struct BackendState {
    /// Its dialect.
    pub(super) provider: &'static dyn Provider,
    pub(super) backend: Arc<Backend>,
    pub(super) servers: Arc<Servers>,
    pub(super) accounts: Accounts,
    /// Who waits for them, where `rent` or `spill` asks for it; shared like the pool.
    queue: Option<Arc<Mutex<Queue>>>,
    pub(super) in_flight: Arc<AtomicU32>,
    /// Who waits for a place here.
    pub(super) lineup: Arc<Lineup>,
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
    /// The turn that it is of a conversation.
    pub turn: Turn,
    /// Tokens that it is expected to use.
    pub tokens: u64,
    /// Its class, where others wait for a place.
    pub class: Priority,
    /// The backend that it has waited at.
    pub called: Option<&'a BackendName>,
    /// Pass over an open breaker: the one live try of a sole candidate.
    pub anyway: bool,
}

/// Why a candidate could not be boarded, though a decision had just chosen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// All places are taken, or others wait for one: it is worth waiting.
    Place,
    /// It is closed: by its breaker, its accounts' vendors, an operator, or for want of a server.
    Closed,
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
                name: None,
                weight_milli: endpoint.weight_milli,
                priority: 0,
            };
            let wanted: Vec<Wanted> = backend.endpoints.iter().map(usual).collect();
            servers.put(backend, provider, &wanted, pool, now);
        }
        let watched = backend.rent.is_some() || backend.spill.is_some();
        let queue = watched.then(|| before.and_then(|before| before.queue.clone()).unwrap_or_default());
        let accounts = Accounts::new(backend, before.map(|before| &before.accounts));
        Some(Self {
            provider,
            backend: Arc::clone(backend),
            servers,
            accounts,
            queue,
            in_flight: before.map(|before| Arc::clone(&before.in_flight)).unwrap_or_default(),
            lineup: before.map(|before| Arc::clone(&before.lineup)).unwrap_or_default(),
        })
    }

    /// Whether it takes no such request now.
    pub(super) fn closed(&self, candidate: &Candidate, tokens: u64, now: Duration) -> Option<Unavailable> {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        if self.backend.max_in_flight.is_some_and(|most| in_flight >= most) {
            return Some(Unavailable::Full);
        }
        self.accounts.closed(&self.passage(candidate, tokens), now)
    }

    /// A request for a candidate, as accounts see it.
    pub(super) fn passage<'c>(&self, candidate: &'c Candidate, tokens: u64) -> Passage<'c> {
        let cap = self.provider.concurrency_cap(&candidate.upstream);
        Passage { model: &candidate.upstream, cap, tokens }
    }

    /// What a request would find at its queue.
    pub(super) fn line(&self, now: Duration) -> Line {
        let Some(queue) = &self.queue else { return Line::default() };
        let company = self.servers.company(now);
        lock(queue).line(company, now)
    }

    /// A request joins the queue; `None` = nobody looks at it.
    pub(super) fn queue_up(&self, streams: bool, now: Duration) -> Option<u64> {
        let queue = self.queue.as_ref()?;
        let company = self.servers.company(now);
        Some(lock(queue).sent(company, streams, now))
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
}

/// Takes one of `most` places, if one is left.
pub fn take_place(taken: &AtomicU32, most: Option<u32>) -> bool {
    let more = |taken: u32| (taken < most.unwrap_or(u32::MAX)).then(|| taken.saturating_add(1));
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}
