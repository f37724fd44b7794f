//! One backend: which of its servers and accounts serves next, and how many requests it takes at once.
//!
//! Which server is `policy::balance`'s to say; here its pool has a lock and outlives a reload. A backend of one server
//! has no pool, and its requests take no lock.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{accounts::Accounts, lock, warm::Turn};
use crate::{
    base::catalog::{Backend, Candidate},
    net::pool::{Origin, Pool},
    policy::{
        Unavailable,
        account::Passage,
        balance::{self, End, ReplicaId, Ticket},
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
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) accounts: Accounts,
    /// Its servers as a pool, where there is more than one; shared with the configurations before and after.
    replicas: Option<Arc<Replicas>>,
    /// What they are in the pool, in the order of `endpoints`.
    members: Vec<ReplicaId>,
    /// Who waits for them, where `rent` or `spill` asks for it; shared like the pool.
    queue: Option<Arc<Mutex<Queue>>>,
    pub(super) in_flight: Arc<AtomicU32>,
}

/// One server of a backend.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) uri: http::Uri,
    pub(super) origin: Origin,
}

/// What is seen of a pool's servers outlives a reload.
#[derive(Debug)]
struct Replicas {
    pool: Mutex<balance::Pool>,
    /// Keeps clients from finding prompts whose hashes collide.
    key: u64,
}

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
    pub tried: &'a [usize],
    /// The turn that it is of a conversation.
    pub turn: Turn,
    /// Tokens that it is expected to use.
    pub tokens: u64,
    /// Pass over an open breaker: the one live try of a sole candidate.
    pub anyway: bool,
}

impl Boarding<'_> {
    /// A hash that is the same in every gateway.
    fn affinity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let named = self.affinity.iter().position(|name| !name.is_empty());
        named.map(|place| (place, self.affinity[place])).hash(&mut hasher);
        hasher.finish()
    }

    /// The prompt as a pool's index knows it.
    fn blocks(&self, key: u64) -> Vec<u64> {
        let said = self.chat.said();
        balance::blocks(key, said.tools.chain([said.before, said.since]))
    }
}

impl BackendState {
    pub(super) fn new(backend: &Arc<Backend>, before: Option<&Arc<Self>>, pool: &Pool, now: Duration) -> Option<Self> {
        let provider = provider::by_name(backend.provider)?;
        let endpoints: Option<Vec<Endpoint>> = backend
            .endpoints
            .iter()
            .map(|base| {
                let uri = provider.uri(base);
                Some(Endpoint { origin: pool.origin(&uri).ok()?, uri })
            })
            .collect();
        let endpoints = endpoints?;
        // A pool that had one server yesterday begins anew: nothing was chosen, so nothing was seen.
        let known = before.and_then(|before| before.replicas.clone());
        let replicas = (endpoints.len() > 1).then(|| known.unwrap_or_else(|| Arc::new(Replicas::new())));
        let names: Vec<Arc<str>> = endpoints.iter().map(|endpoint| endpoint.uri.to_string().into()).collect();
        let members = replicas.as_ref().map(|replicas| lock(&replicas.pool).set(&names, now)).unwrap_or_default();
        let watched = backend.rent.is_some() || backend.spill.is_some();
        let queue = watched.then(|| before.and_then(|before| before.queue.clone()).unwrap_or_default());
        let accounts = Accounts::new(backend, before.map(|before| &before.accounts));
        Some(Self {
            provider,
            backend: Arc::clone(backend),
            endpoints,
            accounts,
            replicas,
            members,
            queue,
            in_flight: before.map(|before| Arc::clone(&before.in_flight)).unwrap_or_default(),
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

    /// The server to ask, with what is to be handed back to the pool.
    pub(super) fn endpoint(
        &self,
        candidate: &Candidate,
        asked: &Boarding<'_>,
        now: Duration,
    ) -> (usize, Option<Ticket>) {
        let Some(replicas) = &self.replicas else { return (0, None) };
        let balancer = balance::by_name(self.backend.balance);
        let facts = &asked.chat.facts;
        let blocks = if balancer.needs_blocks() { asked.blocks(replicas.key) } else { Vec::new() };
        let ask = balance::Ask {
            blocks: &blocks,
            tokens: facts.input_for(candidate.model.tokenizer),
            affinity: asked.affinity(),
            streams: facts.stream,
            seed: asked.seed,
        };
        let tried: Vec<ReplicaId> = asked.tried.iter().filter_map(|&place| self.members.get(place)).copied().collect();
        let ticket = lock(&replicas.pool).pick(balancer, &self.members, &tried, &ask, now);
        let place = ticket.and_then(|ticket| self.members.iter().position(|id| *id == ticket.replica));
        // A configuration that is no longer in force may find its servers gone from the pool.
        (place.unwrap_or(0), ticket)
    }

    /// What a request would find at its queue.
    pub(super) fn line(&self, now: Duration) -> Line {
        self.queue.as_ref().map(|queue| lock(queue).line(self.servers(), now)).unwrap_or_default()
    }

    /// A request joins the queue; `None` = nobody looks at it.
    pub(super) fn queue_up(&self, streams: bool, now: Duration) -> Option<u64> {
        self.queue.as_ref().map(|queue| lock(queue).sent(self.servers(), streams, now))
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

    fn servers(&self) -> u32 {
        u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX)
    }

    /// Whether a server other than that one has neither failed lately nor been ejected.
    pub(super) fn has_sound_endpoint(&self, but: usize, now: Duration) -> bool {
        let (Some(replicas), Some(but)) = (&self.replicas, self.members.get(but)) else { return false };
        lock(&replicas.pool).has_sound(&self.members, *but, now)
    }

    /// The first token came.
    pub(super) fn first_token(&self, ticket: &Ticket, now: Duration) {
        if let Some(replicas) = &self.replicas {
            lock(&replicas.pool).first_token(ticket, now);
        }
    }

    /// An attempt is over. Returns whether another server is sound: then one that failed is no reason to leave them all.
    pub(super) fn ended(&self, ticket: &Ticket, end: End, now: Duration) -> bool {
        let Some(replicas) = &self.replicas else { return false };
        let mut pool = lock(&replicas.pool);
        pool.ended(ticket, end, now);
        pool.has_sound(&self.members, ticket.replica, now)
    }
}

impl Replicas {
    fn new() -> Self {
        Self { pool: Mutex::new(balance::Pool::new(rand::random())), key: rand::random() }
    }
}

/// Takes one of `most` places, if one is left.
pub(super) fn take_place(taken: &AtomicU32, most: Option<u32>) -> bool {
    let more = |taken: u32| (taken < most.unwrap_or(u32::MAX)).then(|| taken.saturating_add(1));
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}
