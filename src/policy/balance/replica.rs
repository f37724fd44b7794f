//! What has been seen of one replica: its load, its cache, its speed and its health.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use super::{
    index::{Index, Known},
    pace::Slowdown,
};
use crate::policy::breaker::{Breaker, Outcome, Permit};

/// How long a replica that failed is asked only if no other is left, where it did not say.
const SHUN: Duration = Duration::from_secs(5);
/// The longest that a replica's own wish to be left alone is followed.
const LONGEST_SHUN: Duration = Duration::from_secs(60);
/// A new or healed replica gets its full share after so long: its cache is cold, and its health a guess.
const WARM_UP: Duration = Duration::from_secs(30);
/// What it begins with, in thousandths of its share.
const FIRST_SHARE: u64 = 100;
/// What an engine said of its load counts for so long.
const FRESH: Duration = Duration::from_secs(3);

/// Names a replica within its pool for as long as the pool lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub(super) u64);

/// What an engine says of its own load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that it works on or that wait.
    pub requests: u64,
}

/// One replica of a pool.
#[derive(Debug)]
pub struct Replica {
    pub(super) id: ReplicaId,
    /// What it is known by across reloads: its address.
    pub(super) name: Arc<str>,
    name_hash: u64,
    weight_milli: u64,
    in_flight: u64,
    queue: VecDeque<Queued>,
    queued_tokens: u64,
    pub(super) slowdown: Slowdown,
    pub(super) index: Index,
    pub(super) breaker: Breaker,
    shunned_until: Duration,
    /// When it failed last: what was begun before says nothing of its health since.
    failed: Option<Duration>,
    /// Since when it warms up.
    fresh_since: Option<Duration>,
    told: Option<Told>,
}

/// A request that has been sent and not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) at: Duration,
    /// What of its prompt was not in the cache.
    pub(super) tokens: u64,
    /// What the index's clock showed before it.
    pub(super) clock: u64,
    /// Its work and the pool's pace give so many seconds; `None` = not known, or not to be seen (no stream).
    pub(super) expected: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    load: Load,
    at: Duration,
    /// Our own requests that it included.
    own: u64,
}

impl Replica {
    pub(super) fn new(id: ReplicaId, name: Arc<str>, seed: u64, fresh_since: Option<Duration>) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self {
            id,
            name,
            name_hash: hasher.finish(),
            weight_milli: 1_000,
            in_flight: 0,
            queue: VecDeque::new(),
            queued_tokens: 0,
            slowdown: Slowdown::default(),
            index: Index::default(),
            breaker: Breaker::new(seed),
            shunned_until: Duration::ZERO,
            failed: None,
            fresh_since,
            told: None,
        }
    }

    /// Which one it is.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// A hash of its name, the same in every gateway.
    pub fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// Requests that it works on: our own, or what it told lately with what changed since.
    pub fn in_flight(&self, now: Duration) -> u64 {
        let told = self.told.filter(|told| now.saturating_sub(told.at) < FRESH);
        told.map_or(self.in_flight, |told| {
            told.load.requests.saturating_add(self.in_flight).saturating_sub(told.own).max(self.in_flight)
        })
    }

    /// Tokens of prompts that it was sent and has not answered yet.
    pub fn queued_tokens(&self) -> u64 {
        self.queued_tokens
    }

    /// How many blocks of a prompt it should have in its cache.
    pub fn warm_blocks(&self, blocks: &[u64]) -> usize {
        self.index.known(blocks).blocks
    }

    /// How much slower than its pool it is, in thousandths, at least 1: what was measured, or what the oldest request
    /// without an answer shows already.
    #[allow(
        clippy::float_arithmetic,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a clamped ratio"
    )]
    pub fn slowdown_milli(&self, now: Duration) -> u64 {
        let overdue = self.queue.front().and_then(|oldest| {
            let expected = oldest.expected.filter(|expected| !expected.is_zero())?;
            Some(now.saturating_sub(oldest.at).as_secs_f64() / expected.as_secs_f64())
        });
        let slowdown = self.slowdown.at(now).max(overdue.unwrap_or(0.0));
        (slowdown.clamp(0.001, 1_000.0) * 1_000.0) as u64
    }

    /// Its share of the pool in thousandths of a usual one, at least 1: its weight, less while it warms up.
    pub fn share_milli(&self, now: Duration) -> u64 {
        let age = self.fresh_since.map_or(WARM_UP, |since| now.saturating_sub(since).min(WARM_UP));
        let ramp = FIRST_SHARE + (1_000 - FIRST_SHARE) * age.as_millis() as u64 / WARM_UP.as_millis() as u64;
        (self.weight_milli * ramp / 1_000).max(1)
    }

    pub(super) fn own(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn shunned(&self, now: Duration) -> bool {
        self.shunned_until > now
    }

    pub(super) fn told(&mut self, load: Load, now: Duration) {
        self.told = Some(Told { load, at: now, own: self.in_flight });
    }

    pub(super) fn weigh(&mut self, weight_milli: u64) {
        self.weight_milli = weight_milli.max(1);
    }

    pub(super) fn known(&self, blocks: &[u64]) -> Known {
        self.index.known_since(blocks, self.queue.front().map(|oldest| oldest.clock))
    }

    pub(super) fn clock(&self) -> u64 {
        self.index.clock()
    }

    pub(super) fn sent(&mut self, queued: Queued, blocks: &[u64]) {
        self.in_flight += 1;
        self.queued_tokens += queued.tokens;
        self.queue.push_back(queued);
        self.index.note(blocks);
    }

    /// Takes a request out of the queue; `None` = it was out already.
    pub(super) fn unqueue(&mut self, number: u64) -> Option<Queued> {
        let place = self.queue.iter().position(|queued| queued.number == number)?;
        let queued = self.queue.remove(place)?;
        self.queued_tokens = self.queued_tokens.saturating_sub(queued.tokens);
        Some(queued)
    }

    pub(super) fn left(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// An attempt begun at `begun` served.
    pub(super) fn served(&mut self, permit: Permit, begun: Duration, now: Duration) {
        if self.failed.is_none_or(|failed| failed < begun) {
            self.shunned_until = Duration::ZERO;
        } else if self.breaker.broken_for(now).is_none() {
            // Begun before the last failure: no word on whether that is over.
            return;
        }
        let was_broken = self.breaker.is_open();
        self.breaker.report(permit, Outcome::Success, now);
        if was_broken && !self.breaker.is_open() {
            self.fresh_since = Some(now);
        }
    }

    /// An attempt failed, through no fault of the request.
    pub(super) fn failed(&mut self, permit: Permit, retry_after: Option<Duration>, now: Duration) {
        let wait = retry_after.unwrap_or(SHUN).min(LONGEST_SHUN);
        self.shunned_until = self.shunned_until.max(now.saturating_add(wait));
        self.failed = Some(now);
        let was_broken = self.breaker.is_open();
        self.breaker.report(permit, Outcome::Failure, now);
        if !was_broken && self.breaker.is_open() {
            // What comes back after that is most likely started anew.
            self.index.forget();
        }
    }
}
