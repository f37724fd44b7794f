//! A pool of replicas: who is sound, who is asked, and what comes of it.
//!
//! A request goes by these rules, in this order:
//! 1. not to a replica that says that it is not ready;
//! 2. not to one that it has tried;
//! 3. not to one that failed a moment ago (5 s, or as long as it asked for): a server that fails at once always has
//!    the fewest requests in flight, and would draw them all;
//! 4. not to one whose breaker is open, as long as no more than half of the pool is out: beyond, what looks like ill
//!    replicas is more likely something that they share, and the rest would break down under what is sent to it (panic);
//! 5. not to one of a higher priority number (SRV records) than another;
//! 6. where the balance algorithm says.
//!
//! Each rule gives way if it would leave nobody.

use std::{sync::Arc, time::Duration};

use super::{
    Ask, Balancer, Scene,
    index::Known,
    mix,
    pace::Pace,
    prefix::warm_tokens,
    replica::{Load, Queued, Ready, Replica, ReplicaId, State},
    shared::Shared,
};
use crate::policy::{
    breaker::{BreakerState, Outcome, Permit},
    queue::Company,
};

/// The replicas of one backend. Every `now` is a time since one fixed origin.
#[derive(Debug, Default)]
pub struct Pool {
    replicas: Vec<Replica>,
    pace: Pace,
    /// Requests so far: they are numbered by it, and `round_robin` counts with it.
    turn: u64,
    next_id: u64,
    seed: u64,
    shared: Shared,
}

/// The right to ask one replica: hand it back with [`Pool::ended`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request that never ends counts as load for ever"]
pub struct Ticket {
    /// Which.
    pub replica: ReplicaId,
    number: u64,
    at: Duration,
    permit: Permit,
    /// What is to be read before the answer begins: new tokens, and those before it in the queue.
    work: u64,
    known: Known,
    blocks: usize,
    tokens: u64,
    /// Tokens that are hoped to be cached, though this gateway did not bring them there.
    hoped: u64,
}

/// How a request ended, as far as its replica is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was served; the engine read so many tokens of the prompt from its cache (0 also where it does not tell).
    Served {
        /// Those tokens.
        cached: u64,
    },
    /// It failed, through no fault of the request; the replica asks to be left alone for so long.
    Failed {
        /// That time.
        retry_after: Option<Duration>,
    },
    /// Nothing is known of the replica: the client's fault, or a client that went away.
    Unknown,
}

impl Ticket {
    /// When the request was sent.
    pub fn sent(&self) -> Duration {
        self.at
    }
}

impl Pool {
    /// An empty pool; `seed` draws the jitter of its breakers.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Makes replicas of `names`, which are addresses; those that are known keep all that was seen of them. One that
    /// joins a pool which is in use already begins with a small share. Those that are no longer named go with their
    /// last request.
    pub fn set(&mut self, names: &[Arc<str>], now: Duration) -> Vec<ReplicaId> {
        self.replicas.retain(|replica| replica.own() > 0 || names.contains(&replica.name));
        let joins = (!self.replicas.is_empty()).then_some(now);
        let ids = names.iter().map(|name| {
            if let Some(known) = self.replicas.iter().find(|replica| replica.name == *name) {
                return known.id;
            }
            let id = ReplicaId(self.next_id);
            self.next_id += 1;
            self.replicas.push(Replica::new(id, Arc::clone(name), mix(self.seed ^ id.0), joins));
            id
        });
        ids.collect()
    }

    /// Asks one of `members` by `balancer`, if possible none of `tried`. `None` = there are no members.
    pub fn pick(
        &mut self,
        balancer: &dyn Balancer,
        members: &[ReplicaId],
        tried: &[ReplicaId],
        ask: &Ask<'_>,
        now: Duration,
    ) -> Option<Ticket> {
        let panic = self.panics(members, now);
        let faults = |replica: &Replica| {
            let ejected = !panic && replica.breaker.broken_for(now).is_some();
            (!replica.is_ready(), tried.contains(&replica.id), replica.shunned(now), ejected, replica.priority)
        };
        let mine = || self.replicas.iter().filter(|replica| members.contains(&replica.id));
        let least = mine().map(faults).min()?;
        let sound: Vec<&Replica> = mine().filter(|replica| faults(replica) == least).collect();
        let turn = usize::try_from(self.turn).unwrap_or(0);
        let (shared, trust_milli) = (self.shared.is_so(), self.shared.trust_milli());
        let scene = Scene { sound: &sound, ask, turn, shared, trust_milli, now };
        let chosen = balancer.pick(&scene)?;
        let id = sound.get(chosen)?.id;
        let strange = balancer.needs_blocks() && ask.settled > 0 && scene.is_strange();
        let hoped = if shared && strange && scene.home() == Some(chosen) { ask.settled } else { 0 };
        if balancer.needs_blocks() && ask.settled > 0 {
            self.shared.came(strange);
        }
        self.send(id, ask, hoped, now)
    }

    fn send(&mut self, id: ReplicaId, ask: &Ask<'_>, hoped: u64, now: Duration) -> Option<Ticket> {
        self.turn = self.turn.wrapping_add(1);
        let (number, pace, trusted) = (self.turn, self.pace, hoped * self.shared.trust_milli() / 1_000);
        let replica = self.replica(id)?;
        let known = replica.known(ask.blocks);
        let new = ask.tokens.saturating_sub(warm_tokens(ask, known.blocks).max(trusted));
        let work = new.saturating_add(replica.queued_tokens());
        let permit = replica.breaker.admit(now).unwrap_or_else(|_| replica.breaker.admit_anyway(now));
        let expected = if ask.streams { pace.expected(work) } else { None };
        let queued = Queued { number, at: now, tokens: new, clock: replica.clock(), expected };
        replica.sent(queued, ask.blocks);
        let (blocks, tokens) = (ask.blocks.len(), ask.tokens);
        Some(Ticket { replica: id, number, at: now, permit, work, known, blocks, tokens, hoped })
    }

    /// The first token came.
    pub fn first_token(&mut self, ticket: &Ticket, now: Duration) {
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == ticket.replica) else { return };
        if replica.unqueue(ticket.number).is_some() {
            let ratio = self.pace.add(ticket.work, now.saturating_sub(ticket.at), now);
            replica.slowdown.add(ratio, now);
        }
    }

    /// The request is over.
    pub fn ended(&mut self, ticket: &Ticket, end: End, now: Duration) {
        let Some(replica) = self.replica(ticket.replica) else { return };
        replica.unqueue(ticket.number);
        replica.left();
        match end {
            End::Served { cached } => {
                let read = u128::from(cached) * ticket.blocks as u128;
                let read = read.checked_div(u128::from(ticket.tokens)).and_then(|read| usize::try_from(read).ok());
                replica.index.learn(ticket.known, read.unwrap_or(0));
                let tells = replica.index.tells();
                replica.served(ticket.permit, ticket.at, now);
                if ticket.hoped > 0 && tells {
                    self.shared.found(cached, ticket.hoped);
                }
            }
            End::Failed { retry_after } => replica.failed(ticket.permit, retry_after, now),
            End::Unknown => {
                replica.breaker.report(ticket.permit, Outcome::Unknown, now);
            }
        }
    }

    /// What an engine says of its own load, where it is asked so often.
    pub fn told(&mut self, id: ReplicaId, load: Load, every: Duration, now: Duration) {
        if let Some(replica) = self.replica(id) {
            replica.told(load, every, now);
        }
    }

    /// What the engines of `members` tell of other gateways' requests.
    pub fn company(&self, members: &[ReplicaId], now: Duration) -> Company {
        let (mut own, mut others_milli, mut unanswered_milli) = (0_u64, 0_u64, 0_u64);
        for replica in self.replicas.iter().filter(|replica| members.contains(&replica.id)) {
            own = own.saturating_add(replica.own());
            others_milli = others_milli.saturating_add(replica.others_milli(now));
            unanswered_milli = unanswered_milli.saturating_add(replica.others_unanswered_milli(now));
        }
        Company {
            servers: u32::try_from(members.len()).unwrap_or(u32::MAX),
            unanswered: unanswered_milli / 1_000,
            times_milli: (others_milli / own.max(1)).saturating_add(1_000),
        }
    }

    /// What a server says of its readiness, or its silence.
    pub fn asked(&mut self, id: ReplicaId, ready: Ready, now: Duration) {
        if let Some(replica) = self.replica(id) {
            replica.asked(ready, now);
        }
    }

    /// Gives a replica another weight, in thousandths of a usual one, and priority (0 = the first).
    pub fn weigh(&mut self, id: ReplicaId, weight_milli: u64, priority: u16) {
        if let Some(replica) = self.replica(id) {
            replica.weigh(weight_milli);
            replica.priority = priority;
        }
    }

    /// Every replica and what has become of it; who is not of `members` only ends what it has begun.
    pub fn states(&self, members: &[ReplicaId], now: Duration) -> impl Iterator<Item = (&Replica, State)> {
        self.replicas.iter().map(move |replica| {
            let named = members.contains(&replica.id);
            (replica, if named { replica.state(now) } else { State::Draining })
        })
    }

    /// Whether one of `members` other than `but` is ready and has neither failed lately nor been ejected.
    pub fn has_sound(&self, members: &[ReplicaId], but: ReplicaId, now: Duration) -> bool {
        let sound = |replica: &Replica| {
            replica.is_ready() && !replica.shunned(now) && replica.breaker.broken_for(now).is_none()
        };
        self.replicas.iter().any(|replica| replica.id != but && members.contains(&replica.id) && sound(replica))
    }

    /// More than half of `members` are out, so that nobody is left out for it.
    pub fn panics(&self, members: &[ReplicaId], now: Duration) -> bool {
        let out = self.replicas.iter().filter(|replica| members.contains(&replica.id));
        2 * out.filter(|replica| replica.breaker.broken_for(now).is_some()).count() > members.len()
    }

    /// The breaker of a replica, for tables and metrics.
    pub fn breaker(&self, id: ReplicaId, now: Duration) -> Option<BreakerState> {
        self.replicas.iter().find(|replica| replica.id == id).map(|replica| replica.breaker.state(now))
    }

    /// What was seen of a replica.
    pub fn seen(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    fn replica(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.id == id)
    }
}
