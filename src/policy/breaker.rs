//! The breaker of one candidate, as a state machine on a given clock.
//!
//! It opens after 5 consecutive failures, or when of at least 20 attempts within 10 s surely more than a fifth failed: the
//! first sees a dead backend at once, the second one that fails now and then and is never dead for five in a row. A
//! fifth is what a route's budget of retries pays for without end ([`super::retry::RetryBudget`]), so a backend is given
//! up before the budget is. Open, it lets nobody through for 10 s × 2ⁿ with jitter, at most 5 min; then one probe goes, and its outcome
//! decides. A quota (429) and the client's own faults are no outcome: they are not reported here.
//!
//! Every `now` is a time since one fixed origin of the caller's choice.

use std::time::Duration;

use super::balance::mix;

/// Consecutive failures that open it.
const CONSECUTIVE: u32 = 5;
/// Attempts in the window from which the share of successes counts.
const ENOUGH: u32 = 20;
/// The window, in buckets of one second.
const BUCKETS: usize = 10;
/// Of so many attempts one may fail: the inverse of the share that the budget of retries adds for a request.
const TOLERATED: u64 = 5;
/// The first time it stays open.
const FIRST_OPEN: Duration = Duration::from_secs(10);
/// The longest time it stays open.
const LONGEST_OPEN: Duration = Duration::from_secs(300);
/// A probe that reports nothing for so long is given up, so that a lost one cannot keep a backend out for ever.
const PROBE_LOST: Duration = Duration::from_secs(120);

/// Counts of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    succeeded: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    /// Nobody goes before `until`.
    Open {
        until: Duration,
    },
    /// A probe is under way since then.
    Probing {
        since: Duration,
    },
}

/// The breaker of one candidate.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    consecutive: u32,
    buckets: [Bucket; BUCKETS],
    /// How often it opened since the last success of a probe.
    opened: u32,
    /// Changes with every change of state: outcomes of attempts that began before it count no more.
    generation: u32,
    /// When it opened last.
    opened_at: Duration,
    /// It opened because of what another gateway has seen.
    hinted: bool,
    /// When an attempt succeeded last.
    succeeded: Option<Duration>,
    seed: u64,
}

/// The right to make one attempt; hand it back with the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a probe that is never reported keeps the backend out for two minutes"]
pub struct Permit {
    generation: u32,
    probe: bool,
}

/// What an outcome did to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was closed and opened.
    Opened,
    /// It had opened, and is closed.
    Closed,
}

/// How an attempt ended, as far as the backend is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// It is broken or overloaded.
    Failure,
    /// Nothing is known of the backend: a quota, the client's fault, a client that went away.
    Unknown,
}

/// The state, for metrics and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everybody goes.
    Closed,
    /// One probe may go or is under way.
    HalfOpen,
    /// Nobody goes.
    Open,
}

impl Breaker {
    /// A closed breaker; `seed` draws its jitter.
    pub fn new(seed: u64) -> Self {
        let buckets = [Bucket::default(); BUCKETS];
        Self {
            state: State::Closed,
            consecutive: 0,
            buckets,
            opened: 0,
            generation: 0,
            opened_at: Duration::ZERO,
            hinted: false,
            succeeded: None,
            seed,
        }
    }

    /// For how long nobody may be sent, if so; without side effects, for the decision.
    pub fn broken_for(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => (now < until).then(|| until - now),
            State::Probing { since } => {
                let lost = since + PROBE_LOST;
                (now < lost).then(|| lost - now)
            }
        }
    }

    /// Whether it opened and no probe has closed it since.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// Asks to make an attempt: `Ok` with the permit, or for how long to stay away. After an open time the first to
    /// ask gets the only probe.
    pub fn admit(&mut self, now: Duration) -> Result<Permit, Duration> {
        if let Some(left) = self.broken_for(now) {
            return Err(left);
        }
        if matches!(self.state, State::Closed) {
            return Ok(Permit { generation: self.generation, probe: false });
        }
        Ok(self.probe(now))
    }

    /// A permit whatever the state: the one live try of a sole candidate. It counts as the probe; while one is under
    /// way it is a further one, and the first of them to report decides.
    pub fn admit_anyway(&mut self, now: Duration) -> Permit {
        match self.state {
            State::Closed => Permit { generation: self.generation, probe: false },
            State::Open { .. } => self.probe(now),
            // Were each a new state, requests closer together than their answers would outdate one another for ever.
            State::Probing { .. } => Permit { generation: self.generation, probe: true },
        }
    }

    fn probe(&mut self, now: Duration) -> Permit {
        self.enter(State::Probing { since: now });
        Permit { generation: self.generation, probe: true }
    }

    /// Takes the outcome of an attempt, and tells what it did to the breaker.
    pub fn report(&mut self, permit: Permit, outcome: Outcome, now: Duration) -> Option<Change> {
        if permit.generation != self.generation {
            return None;
        }
        let was_open = self.is_open();
        if outcome == Outcome::Success {
            self.succeeded = Some(now);
        }
        match (permit.probe, outcome) {
            (true, Outcome::Success) => self.close(),
            (true, Outcome::Failure) => self.open(now),
            // The probe told nothing: the next one may go at once.
            (true, Outcome::Unknown) => self.enter(State::Open { until: now }),
            (false, Outcome::Unknown) => {}
            (false, Outcome::Success) => {
                self.consecutive = 0;
                self.bucket(now).succeeded += 1;
            }
            (false, Outcome::Failure) => {
                self.consecutive += 1;
                self.bucket(now).failed += 1;
                if self.consecutive >= CONSECUTIVE || self.mostly_fails(now) {
                    self.open(now);
                }
            }
        }
        match (was_open, self.is_open()) {
            (false, true) => Some(Change::Opened),
            (true, false) => Some(Change::Closed),
            _ => None,
        }
    }

    /// The state at `now`.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// Another gateway's breaker opened `age` ago and stays open for `left`. Unless something has succeeded here since, or
    /// more is known here already, this one opens too, for 10 s at most; then a probe goes as always.
    pub fn hint(&mut self, left: Duration, age: Duration, now: Duration) {
        let since = now.saturating_sub(age);
        let closed = matches!(self.state, State::Closed);
        if !closed || left.is_zero() || self.succeeded.is_some_and(|succeeded| succeeded >= since) {
            return;
        }
        (self.opened_at, self.hinted) = (now, true);
        self.enter(State::Open { until: now.saturating_add(left.min(FIRST_OPEN)) });
    }

    /// For how long it stays open and how long ago it opened, if it opened for what was seen here.
    pub fn opened_here(&self, now: Duration) -> Option<(Duration, Duration)> {
        match self.state {
            State::Open { until } if now < until && !self.hinted => {
                Some((until - now, now.saturating_sub(self.opened_at)))
            }
            State::Closed | State::Open { .. } | State::Probing { .. } => None,
        }
    }

    fn close(&mut self) {
        self.enter(State::Closed);
        self.opened = 0;
        self.consecutive = 0;
        self.buckets = [Bucket::default(); BUCKETS];
    }

    fn open(&mut self, now: Duration) {
        let longer = FIRST_OPEN.saturating_mul(1_u32.checked_shl(self.opened.min(16)).unwrap_or(u32::MAX));
        let base = longer.min(LONGEST_OPEN);
        // Between three quarters and the whole: gateways that saw the same failure do not probe as one.
        let permille = 750 + u32::try_from(mix(self.seed ^ u64::from(self.generation)) % 251).unwrap_or(0);
        let time = base.saturating_mul(permille) / 1000;
        self.opened = self.opened.saturating_add(1);
        (self.opened_at, self.hinted) = (now, false);
        self.enter(State::Open { until: now.saturating_add(time) });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
    }

    fn bucket(&mut self, now: Duration) -> &mut Bucket {
        let second = now.as_secs();
        let bucket = &mut self.buckets[usize::try_from(second % BUCKETS as u64).unwrap_or(0)];
        if bucket.second != second {
            *bucket = Bucket { second, ..Bucket::default() };
        }
        bucket
    }

    fn mostly_fails(&self, now: Duration) -> bool {
        let since = now.as_secs().saturating_sub(BUCKETS as u64 - 1);
        let recent = self.buckets.iter().filter(|bucket| bucket.second >= since);
        let (succeeded, failed) =
            recent.fold((0, 0), |(succeeded, failed), bucket| (succeeded + bucket.succeeded, failed + bucket.failed));
        succeeded + failed >= ENOUGH && surely_too_many(u64::from(failed), u64::from(succeeded + failed))
    }
}

/// Whether `failed` of `attempts` lie two standard deviations above the tolerated share `q`, which chance alone brings
/// about once in 44 windows of a backend that fails exactly so often: `failed − n·q > 2·√(n·q·(1 − q))`, squared and in
/// whole numbers.
///
/// Beside the 10 retries a second that the budget adds, this leaves nothing unpaid up to some 1,500 attempts a second:
/// with `d` the share beyond `q`, a window of 10 s shows it from `0.064 ÷ d²` attempts a second on, and below `10 ÷ d`
/// of them the ten are enough.
fn surely_too_many(failed: u64, attempts: u64) -> bool {
    let beyond = u128::from((failed * TOLERATED).saturating_sub(attempts));
    beyond * beyond > 4 * u128::from(attempts) * u128::from(TOLERATED - 1)
}

#[cfg(test)]
mod tests;
