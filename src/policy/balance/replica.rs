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
/// What an engine said of its load counts for two and a half of the intervals at which it is asked.
const FRESH_HALVES: u32 = 5;
/// From such a use of its memory of prompts on, in parts per million, an engine begins nothing before something ends: vLLM
/// keeps a hundredth free, and a prompt has to fit.
const FULL: u64 = 950_000;

/// Of the requests that others send to a replica one in so many counts. Whoever reads the same gap fills it, and what a
/// page tells is a second old: counted in full, four gateways in `tests/sim` took turns in piling their requests up, and
/// `least_loaded` had 1.5 s instead of 0.9 s at the 99th percentile.
const OTHERS: u64 = 4;
/// A mean over about so many times that it told.
const MEMORY: u64 = 4;

/// Names a replica within its pool for as long as the pool lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub(super) u64);

/// What an engine says of its own load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that it works on or that wait.
    pub requests: u64,
    /// Those of them that wait, for whatever reason.
    pub waiting: u64,
    /// Those of them that wait for room.
    pub queue: u64,
    /// How full the memory of its prompts is, in parts per million; `None` = it does not tell.
    pub cache_used_ppm: Option<u64>,
}

/// What a server says when it is asked whether it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It is.
    Yes,
    /// Not now: it does not answer in time. What it had cached is still there.
    Silent,
    /// It loads its model, ends, or is gone: it comes back with an empty cache.
    No,
}

/// What becomes of a replica, for tables and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has its whole share.
    Ready,
    /// New or healed: its share grows.
    Warming,
    /// It failed a moment ago.
    Shunned,
    /// Its breaker is open or tries a probe.
    Ejected,
    /// It says so itself, or does not answer.
    NotReady,
    /// It is no longer named, and ends what it has begun.
    Draining,
}

impl State {
    /// All states, in the order of the metrics page.
    pub const ALL: [State; 6] =
        [Self::Ready, Self::Warming, Self::Shunned, Self::Ejected, Self::NotReady, Self::Draining];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Warming => "warming",
            Self::Shunned => "shunned",
            Self::Ejected => "ejected",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
        }
    }
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
    ready: Ready,
    /// Since when it says so.
    ready_since: Duration,
    /// It has served since what it said that it would not.
    overruled: bool,
    /// Asked only where no sound replica has a lower one (RFC 2782).
    pub(super) priority: u16,
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
    /// How often it is asked.
    every: Duration,
    /// Requests of others among them, in thousandths: a mean over the last few times that it told.
    others_milli: u64,
    /// Requests of others among them that had not been answered, in thousandths.
    others_unanswered_milli: u64,
}

impl Told {
    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) < self.lasts()
    }

    fn lasts(&self) -> Duration {
        self.every.saturating_mul(FRESH_HALVES) / 2
    }

    /// How much it counts: wholly until it should have been told anew, then less and less.
    fn weight_milli(&self, now: Duration) -> u64 {
        let (age, lasts) = (now.saturating_sub(self.at).max(self.every), self.lasts());
        let (left, of) = (lasts.saturating_sub(age).as_millis(), lasts.saturating_sub(self.every).as_millis());
        u64::try_from((left * 1_000).checked_div(of).unwrap_or(0)).unwrap_or(0)
    }
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
            ready: Ready::Yes,
            ready_since: Duration::ZERO,
            overruled: false,
            priority: 0,
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

    /// Requests that it works on, as far as they weigh in a choice: our own, and a part of those that it told lately of
    /// others.
    pub fn in_flight(&self, now: Duration) -> u64 {
        self.in_flight.saturating_add(self.others_milli(now) / OTHERS / 1_000)
    }

    /// Requests of others that it works on or that wait there, in thousandths.
    pub(super) fn others_milli(&self, now: Duration) -> u64 {
        self.told.filter(|told| told.is_fresh(now)).map_or(0, |told| told.others_milli)
    }

    /// Requests of others that it had not answered when it told, in thousandths; what was told long ago counts less.
    pub(super) fn others_unanswered_milli(&self, now: Duration) -> u64 {
        self.told.map_or(0, |told| told.others_unanswered_milli.saturating_mul(told.weight_milli(now)) / 1_000)
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

    /// Our own requests to it.
    pub fn own(&self) -> u64 {
        self.in_flight
    }

    /// What it is known by: its address.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its weight in thousandths of a usual one.
    pub fn weight_milli(&self) -> u64 {
        self.weight_milli
    }

    /// What it told of its load lately.
    pub fn load(&self, now: Duration) -> Option<Load> {
        self.told.filter(|told| told.is_fresh(now)).map(|told| told.load)
    }

    /// What has become of it; whether it is still named, its pool knows.
    pub(super) fn state(&self, now: Duration) -> State {
        if !self.is_ready() {
            State::NotReady
        } else if self.breaker.broken_for(now).is_some() {
            State::Ejected
        } else if self.shunned(now) {
            State::Shunned
        } else if self.fresh_since.is_some_and(|since| now.saturating_sub(since) < WARM_UP) {
            State::Warming
        } else {
            State::Ready
        }
    }

    /// Why it is left out, if it is: it says that it is not ready, or its breaker has opened and no probe closed it.
    pub fn out(&self) -> Option<State> {
        if !self.is_ready() {
            return Some(State::NotReady);
        }
        self.breaker.is_open().then_some(State::Ejected)
    }

    /// Whether it takes requests, by its own word or, where that says no, by having served one that came after it.
    pub fn is_ready(&self) -> bool {
        self.ready == Ready::Yes || self.overruled
    }

    pub(super) fn asked(&mut self, ready: Ready, now: Duration) {
        if std::mem::replace(&mut self.ready, ready) == ready {
            return;
        }
        (self.ready_since, self.overruled) = (now, false);
        match ready {
            Ready::Yes => self.fresh_since = Some(now),
            Ready::No => self.index.forget(),
            Ready::Silent => {}
        }
    }

    pub(super) fn shunned(&self, now: Duration) -> bool {
        self.shunned_until > now
    }

    pub(super) fn told(&mut self, load: Load, every: Duration, now: Duration) {
        let others_milli = load.requests.saturating_sub(self.in_flight).saturating_mul(1_000);
        // Long silent, it begins anew.
        let before = self.told.filter(|told| told.is_fresh(now));
        let mean = |before: &Told| before.others_milli - before.others_milli / MEMORY + others_milli / MEMORY;
        let others_milli = before.as_ref().map_or(others_milli, mean);
        // Where somebody waits, or would, one more is at hand.
        let at_hand = u64::from(load.queue > 0 || load.cache_used_ppm.is_some_and(|used| used >= FULL));
        let unanswered = load.queue.saturating_add(at_hand).saturating_sub(self.queue.len() as u64);
        let others_unanswered_milli = unanswered.saturating_mul(1_000);
        self.told = Some(Told { load, at: now, every, others_milli, others_unanswered_milli });
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
        self.overruled |= self.ready != Ready::Yes && begun > self.ready_since;
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
