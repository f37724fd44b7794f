//! One backend's servers: which they are now, and which of them serves a request.
//!
//! Which server serves is `policy::balance`'s to say; here its pool has a lock, and outlives a reload. Of a vendor with one
//! address nothing is counted, and no lock is taken.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{backend::Boarding, lock};
use crate::{
    base::catalog::{Backend, Candidate},
    net::pool::{self, Origin},
    policy::{
        balance::{self, End, Load, Ready, ReplicaId, State, Ticket},
        queue::Company,
    },
    provider::Provider,
};

/// One server of a backend.
#[derive(Debug)]
pub struct Server {
    /// What the pool knows it by.
    pub id: ReplicaId,
    /// Its base URL.
    pub url: http::Uri,
    /// Where chat requests go.
    pub uri: http::Uri,
    /// Its connections.
    pub origin: Origin,
}

/// A server as the configuration or a name server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its base URL.
    pub url: http::Uri,
    /// What it is called in TLS and `host`, if not as in the URL.
    pub name: Option<Arc<str>>,
    /// Its share in thousandths of a usual one.
    pub weight_milli: u64,
    /// Those of a higher number serve where no other can.
    pub priority: u16,
}

/// What is seen of a backend's servers, across reloads.
#[derive(Debug)]
pub struct Servers {
    pool: Mutex<balance::Pool>,
    /// Keeps clients from finding prompts whose hashes collide.
    key: u64,
    set: ArcSwap<Set>,
    /// All say that they are not ready.
    none_ready: AtomicBool,
    look_up: Mutex<LookUp>,
}

#[derive(Debug, Default)]
struct Set {
    servers: Vec<Arc<Server>>,
    members: Vec<ReplicaId>,
    /// Requests are counted by server.
    counted: bool,
    /// Of those that left and end what they have begun: their base URLs.
    gone: Vec<(ReplicaId, http::Uri)>,
}

/// How the last question to a name server went.
#[derive(Clone, Debug, Default)]
pub struct LookUp {
    /// When it was answered with servers last.
    pub answered: Option<Duration>,
    /// What is wrong since.
    pub trouble: Option<String>,
}

/// What is seen of one server, for operators.
#[derive(Clone, Debug)]
pub struct ServerSeen {
    /// Its base URL.
    pub url: String,
    /// What has become of it.
    pub state: State,
    /// Its weight in thousandths.
    pub weight_milli: u64,
    /// Our own requests to it.
    pub in_flight: u64,
    /// How much slower than its pool it is, in thousandths.
    pub slowdown_milli: u64,
    /// What it tells of its own load.
    pub load: Option<Load>,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            pool: Mutex::new(balance::Pool::new(rand::random())),
            key: rand::random(),
            set: ArcSwap::default(),
            none_ready: AtomicBool::new(false),
            look_up: Mutex::default(),
        }
    }
}

impl Servers {
    /// Makes these the servers of `backend`. Those that stay keep all that was seen of them, one that joins begins with a
    /// small share, one that left ends what it has begun. One whose address names no origin is left out.
    pub fn put(&self, backend: &Backend, provider: &dyn Provider, wanted: &[Wanted], pool: &pool::Pool, now: Duration) {
        let made: Vec<(http::Uri, Origin, &Wanted)> = wanted
            .iter()
            .filter_map(|wanted| {
                let uri = provider.uri(&wanted.url);
                Some((uri.clone(), pool.origin_called(&uri, wanted.name.as_deref()).ok()?, wanted))
            })
            .collect();
        let counted = made.len() > 1 || backend.discover.is_some() || provider.ready_path().is_some();
        let names: Vec<Arc<str>> = made.iter().map(|(uri, ..)| uri.to_string().into()).collect();
        let mut replicas = lock(&self.pool);
        let members = replicas.set(&names, now);
        for (id, (_, _, wanted)) in members.iter().zip(&made) {
            replicas.weigh(*id, wanted.weight_milli, wanted.priority);
        }
        let servers = members.iter().zip(made);
        let servers =
            servers.map(|(id, (uri, origin, wanted))| Server { id: *id, url: wanted.url.clone(), uri, origin });
        let servers = servers.map(Arc::new).collect();
        let before = self.set.load();
        let left =
            before.servers.iter().map(|server| (server.id, server.url.clone())).chain(before.gone.iter().cloned());
        let gone = left.filter(|(id, _)| !members.contains(id) && replicas.seen(*id).is_some()).collect();
        self.set.store(Arc::new(Set { servers, members, counted, gone }));
        self.look(&replicas);
    }

    /// The servers now.
    pub fn all(&self) -> Vec<Arc<Server>> {
        self.set.load().servers.clone()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.set.load().servers.len()
    }

    /// Nobody can be asked: there is none, or all say that they are not ready.
    pub fn none_ready(&self) -> bool {
        self.none_ready.load(Ordering::Relaxed) || self.count() == 0
    }

    /// The server to ask, with what is to be handed back. `None` = there is none.
    pub fn pick(
        &self,
        backend: &Backend,
        candidate: &Candidate,
        asked: &Boarding<'_>,
        now: Duration,
    ) -> Option<(Arc<Server>, Option<Ticket>)> {
        let set = self.set.load();
        if !set.counted {
            return set.servers.first().map(|server| (Arc::clone(server), None));
        }
        let balancer = balance::by_name(backend.balance);
        let facts = &asked.chat.facts;
        let looks = set.servers.len() > 1 && balancer.needs_blocks();
        let tokens = facts.input_for(candidate.model.tokenizer);
        let (blocks, settled, opening) = match looks {
            true => (asked.blocks(self.key), asked.settled(tokens), asked.opening()),
            false => Default::default(),
        };
        let ask = balance::Ask {
            blocks: &blocks,
            tokens,
            settled,
            affinity: asked.affinity(),
            opening,
            streams: facts.stream,
            seed: asked.seed,
        };
        let ticket = lock(&self.pool).pick(balancer, &set.members, asked.tried, &ask, now)?;
        let server = set.servers.iter().find(|server| server.id == ticket.replica)?;
        Some((Arc::clone(server), Some(ticket)))
    }

    /// Whether a server other than that one is ready and has neither failed lately nor been ejected.
    pub fn has_sound(&self, but: ReplicaId, now: Duration) -> bool {
        let set = self.set.load();
        set.counted && lock(&self.pool).has_sound(&set.members, but, now)
    }

    /// The first token came.
    pub fn first_token(&self, ticket: &Ticket, now: Duration) {
        lock(&self.pool).first_token(ticket, now);
    }

    /// An attempt is over. Returns whether another server is sound: then one that failed is no reason to leave them all.
    pub fn ended(&self, ticket: &Ticket, end: End, now: Duration) -> bool {
        let set = self.set.load();
        let mut pool = lock(&self.pool);
        let before = out(&pool, ticket.replica);
        pool.ended(ticket, end, now);
        set.told(ticket.replica, before, out(&pool, ticket.replica));
        if end != End::Unknown && self.none_ready.load(Ordering::Relaxed) {
            self.look(&pool);
        }
        pool.has_sound(&set.members, ticket.replica, now)
    }

    /// Who else is at them.
    pub fn company(&self, now: Duration) -> Company {
        let set = self.set.load();
        if set.counted {
            return lock(&self.pool).company(&set.members, now);
        }
        Company::alone(u32::try_from(set.servers.len()).unwrap_or(u32::MAX))
    }

    /// What a server said that is asked so often.
    pub fn asked(&self, id: ReplicaId, ready: Option<Ready>, load: Option<Load>, every: Duration, now: Duration) {
        let mut pool = lock(&self.pool);
        let before = out(&pool, id);
        if let Some(ready) = ready {
            pool.asked(id, ready, now);
        }
        self.set.load().told(id, before, out(&pool, id));
        if let Some(load) = load {
            pool.told(id, load, every, now);
        }
        self.look(&pool);
    }

    /// Notes how a question to the name server went.
    pub fn looked_up(&self, look_up: LookUp) {
        *lock(&self.look_up) = look_up;
    }

    /// How the last question to the name server went.
    pub fn look_up(&self) -> LookUp {
        lock(&self.look_up).clone()
    }

    /// How many servers are in each state.
    pub fn states(&self, now: Duration) -> Vec<(State, usize)> {
        let (set, pool) = (self.set.load(), lock(&self.pool));
        let count = |wanted| pool.states(&set.members, now).filter(|(_, state)| *state == wanted).count();
        State::ALL.iter().map(|state| (*state, count(*state))).collect()
    }

    /// What is seen of each, for operators.
    pub fn seen(&self, now: Duration) -> Vec<ServerSeen> {
        let (set, pool) = (self.set.load(), lock(&self.pool));
        let url = |replica: &balance::Replica| {
            let named = set.servers.iter().map(|server| (server.id, &server.url));
            let mut known = named.chain(set.gone.iter().map(|(id, url)| (*id, url)));
            let known = known.find(|(id, _)| *id == replica.id());
            known.map_or_else(|| replica.name().to_string(), |(_, url)| url.to_string())
        };
        let of = |(replica, state): (&balance::Replica, State)| ServerSeen {
            url: url(replica),
            state,
            weight_milli: replica.weight_milli(),
            in_flight: replica.own(),
            slowdown_milli: replica.slowdown_milli(now),
            load: replica.load(now),
        };
        pool.states(&set.members, now).map(of).collect()
    }

    fn look(&self, pool: &balance::Pool) {
        let set = self.set.load();
        let ready = set.members.iter().any(|id| pool.seen(*id).is_some_and(balance::Replica::is_ready));
        self.none_ready.store(!set.members.is_empty() && !ready, Ordering::Relaxed);
    }
}

impl Set {
    /// Logs what has become of a server, once for each change.
    fn told(&self, id: ReplicaId, before: Option<State>, after: Option<State>) {
        if before == after {
            return;
        }
        let Some(server) = self.servers.iter().find(|server| server.id == id) else { return };
        // A query may hold what is nobody's business.
        let (host, path) = (server.url.authority().map_or("", |host| host.as_str()), server.url.path());
        match after {
            Some(why) => tracing::warn!(host, path, why = why.as_str(), "a server is left out"),
            None => tracing::info!(host, path, "a server takes requests again"),
        }
    }
}

/// Why a server of the pool is left out, if it is.
fn out(pool: &balance::Pool, id: ReplicaId) -> Option<State> {
    pool.seen(id).and_then(balance::Replica::out)
}
