//! Guarded change: whether an arm of a split is surely worse than its control by more than its guard allows.
//!
//! Each guarded arm has a window of its last requests, in eight slots, beside the requests of the control from the same
//! time: what goes wrong for both, such as an outage of a shared vendor, withdraws nobody. At the end of a slot, when the
//! window holds `min_requests`, three tests are made:
//! - errors: the share of failed requests, by Chernoff's bound (H. Chernoff, 1952): n·KL(seen ‖ bound) > ln(1/α), which
//!   holds for any n; its difference to the control's by Newcombe's hybrid of two intervals (R. G. Newcombe, 1998,
//!   method 10), here Chernoff's;
//! - first tokens: the 95th percentile is above a bound when more than 5 % of them come later, so this is a share too;
//! - cost: the mean of the arm less (1 + excess) × the mean of the control, by the normal approximation (B. L. Welch,
//!   1947). Costs have long tails, so it asks for five standard deviations.
//!
//! α is 1 in 30,000 a look. Looks come once in an eighth of `min_requests` and overlap, so with `min_requests: 500` an
//! arm exactly at its bound is withdrawn by chance less than once in two million requests; one that is like its control
//! far more rarely.
#![allow(clippy::float_arithmetic, reason = "shares and their bounds; no amount of money is booked from them")]

use std::{fmt, time::Duration};

use super::Arm;
use crate::base::{money::Money, names::RouteName};

/// ln(1/α) of the shares' tests.
const DOUBT: f64 = 10.3;
/// Standard deviations of the costs' test.
const Z: f64 = 5.0;
/// Slots of a window.
const SLOTS: usize = 8;
/// The share of first tokens that may come after the 95th percentile.
const BEYOND_P95: f64 = 0.05;

/// Bounds that an arm may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// On failed requests.
    pub errors: Option<ErrorBound>,
    /// By how much more than the control's a request may cost on average, in parts per million.
    pub cost_ppm: Option<u32>,
    /// On the 95th percentile of the time to the first token of streams.
    pub first_token_p95: Option<Duration>,
    /// How many requests of the arm are looked at together.
    pub min_requests: u32,
}

/// A bound on the share of failed requests, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorBound {
    /// At most this, unless the control fails as often.
    Share(u32),
    /// At most so much beyond the control's.
    Beyond(u32),
}

/// How one request of an arm ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// It failed: no answer, a broken one, or one that was turned down.
    pub failed: bool,
    /// All its attempts cost this.
    pub cost: Money,
    /// The wait for the first token, of a stream.
    pub first_token: Option<Duration>,
}

/// Why an arm is to be withdrawn, in words and numbers for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach(String);

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One slot of a window as it is kept: requests, failed ones, streams with a first token, late ones of them; the sum of the
/// costs in nano-USD, and of their squares.
pub type KeptTally = ([u32; 4], [f64; 2]);

/// The watch over one guarded split.
#[derive(Clone, Debug)]
pub struct Rollout {
    guard: Guard,
    control: RouteName,
    arms: Vec<(RouteName, Window)>,
}

/// The last requests of an arm, and those of the control meanwhile. The last slot is being filled.
#[derive(Clone, Debug)]
struct Window {
    arm: [Tally; SLOTS],
    control: [Tally; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u32,
    failed: u32,
    cost: f64,
    cost_squared: f64,
    /// Streams whose first token came, and those of them that came too late.
    timed: u32,
    late: u32,
}

/// The arm that the others are measured by: the one with the largest share, of equal ones the first.
pub fn control(arms: &[Arm]) -> Option<&Arm> {
    arms.iter().rev().max_by_key(|arm| arm.weight)
}

impl Rollout {
    /// A watch that has seen nothing yet.
    pub fn new(guard: Guard, arms: &[Arm]) -> Self {
        let control = control(arms).map(|arm| arm.route.clone()).unwrap_or_else(|| RouteName::from(""));
        let guarded = arms.iter().filter(|arm| arm.route != control);
        let arms = guarded.map(|arm| (arm.route.clone(), Window::default())).collect();
        Self { guard, control, arms }
    }

    /// Takes in how a request of `arm` ended; why that arm is to be withdrawn, if it is.
    pub fn take(&mut self, arm: &RouteName, ended: &Ended) -> Option<Breach> {
        let one = Tally::of(ended, self.guard.first_token_p95);
        if *arm == self.control {
            self.arms.iter_mut().for_each(|(_, window)| window.control[SLOTS - 1].add(&one));
            return None;
        }
        let guard = self.guard;
        let (_, window) = self.arms.iter_mut().find(|(name, _)| name == arm)?;
        window.arm[SLOTS - 1].add(&one);
        let slot = guard.min_requests.div_ceil(SLOTS as u32).max(1);
        if window.arm[SLOTS - 1].requests < slot {
            return None;
        }
        let (arm, control) = (Tally::sum(&window.arm), Tally::sum(&window.control));
        window.advance();
        if arm.requests < guard.min_requests { None } else { guard.breach(&arm, &control) }
    }

    /// What was seen of each guarded arm, to be kept: its slots, then those of the control beside it.
    pub fn kept(&self) -> Vec<(&RouteName, Vec<KeptTally>)> {
        let all = |window: &Window| window.arm.iter().chain(&window.control).map(Tally::kept).collect();
        self.arms.iter().map(|(arm, window)| (arm, all(window))).collect()
    }

    /// Takes up what was kept of an arm; slots that are too many or too few, or that no requests give, are not.
    pub fn restore(&mut self, arm: &str, slots: &[KeptTally]) {
        let Some((_, window)) = self.arms.iter_mut().find(|(name, _)| name.as_str() == arm) else { return };
        let Some(slots) = slots.iter().map(Tally::of_kept).collect::<Option<Vec<_>>>() else { return };
        if slots.len() == 2 * SLOTS {
            window.arm.copy_from_slice(&slots[..SLOTS]);
            window.control.copy_from_slice(&slots[SLOTS..]);
        }
    }

    /// Forgets what was seen of an arm: it begins anew.
    pub fn reset(&mut self, arm: &str) {
        for (_, window) in self.arms.iter_mut().filter(|(name, _)| name.as_str() == arm) {
            *window = Window::default();
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { arm: [Tally::default(); SLOTS], control: [Tally::default(); SLOTS] }
    }
}

impl Window {
    fn advance(&mut self) {
        for slots in [&mut self.arm, &mut self.control] {
            slots.rotate_left(1);
            slots[SLOTS - 1] = Tally::default();
        }
    }
}

impl Tally {
    fn kept(&self) -> KeptTally {
        ([self.requests, self.failed, self.timed, self.late], [self.cost, self.cost_squared])
    }

    /// `None` where the numbers contradict each other.
    fn of_kept(&([requests, failed, timed, late], [cost, cost_squared]): &KeptTally) -> Option<Self> {
        let sound =
            failed <= requests && timed <= requests && late <= timed && cost.is_finite() && cost_squared.is_finite();
        sound.then_some(Self { requests, failed, cost, cost_squared, timed, late })
    }

    fn of(ended: &Ended, bound: Option<Duration>) -> Self {
        let cost = ended.cost.nanousd() as f64;
        let late = ended.first_token.zip(bound).is_some_and(|(first, bound)| first > bound);
        Self {
            requests: 1,
            failed: ended.failed.into(),
            cost,
            cost_squared: cost * cost,
            timed: ended.first_token.is_some().into(),
            late: late.into(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        self.cost += other.cost;
        self.cost_squared += other.cost_squared;
        self.timed = self.timed.saturating_add(other.timed);
        self.late = self.late.saturating_add(other.late);
    }

    fn sum(slots: &[Self]) -> Self {
        let mut sum = Self::default();
        slots.iter().for_each(|slot| sum.add(slot));
        sum
    }

    fn errors(&self) -> Share {
        Share { hits: self.failed, of: self.requests }
    }

    fn late(&self) -> Share {
        Share { hits: self.late, of: self.timed }
    }

    /// The mean cost, and the variance of that mean.
    fn mean_cost(&self) -> (f64, f64) {
        let n = f64::from(self.requests.max(2));
        let mean = self.cost / n;
        let variance = (self.cost_squared - n * mean * mean).max(0.0) / (n - 1.0);
        (mean, variance / n)
    }
}

/// A share of requests.
#[derive(Clone, Copy, Debug)]
struct Share {
    hits: u32,
    of: u32,
}

impl Share {
    fn rate(self) -> f64 {
        if self.of == 0 { 0.0 } else { f64::from(self.hits) / f64::from(self.of) }
    }

    /// The shares that could have shown this by a chance of more than α; of nothing seen it is all of them.
    fn interval(self) -> (f64, f64) {
        (self.end(0.0), self.end(1.0))
    }

    /// The farthest such share towards `edge`, by halving.
    fn end(self, edge: f64) -> f64 {
        let (mut inside, mut outside) = (self.rate(), edge);
        if self.of == 0 {
            return edge;
        }
        for _ in 0..40 {
            let middle = f64::midpoint(inside, outside);
            if f64::from(self.of) * divergence(self.rate(), middle) > DOUBT {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        inside
    }

    /// The lower end of the difference of two shares, by Newcombe's method 10.
    fn surely_beyond(self, other: Self) -> f64 {
        let ((low, _), (_, high)) = (self.interval(), other.interval());
        let (own, others) = (self.rate(), other.rate());
        own - others - ((own - low).powi(2) + (high - others).powi(2)).sqrt()
    }

    /// Whether it is surely above `bound`, and above the other's, if there is another to compare with.
    fn surely_above(self, bound: f64, other: Self) -> bool {
        self.interval().0 > bound && (other.of == 0 || self.surely_beyond(other) > 0.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of {}", 100.0 * self.rate(), self.of)
    }
}

impl Guard {
    fn breach(&self, arm: &Tally, control: &Tally) -> Option<Breach> {
        self.errors_of(arm, control).or_else(|| self.cost_of(arm, control)).or_else(|| self.waits_of(arm, control))
    }

    fn errors_of(&self, arm: &Tally, control: &Tally) -> Option<Breach> {
        let (own, others) = (arm.errors(), control.errors());
        let (passed, bound) = match self.errors? {
            ErrorBound::Share(ppm) => (own.surely_above(share(ppm), others), format!("{} %", per_cent(ppm))),
            ErrorBound::Beyond(ppm) => (own.surely_beyond(others) > share(ppm), format!("+{} %", per_cent(ppm))),
        };
        let text = || format!("error rate {own} requests, control {others}; the guard allows {bound}");
        passed.then(|| Breach(text()))
    }

    fn cost_of(&self, arm: &Tally, control: &Tally) -> Option<Breach> {
        let excess = self.cost_ppm?;
        if control.requests < 2 {
            return None;
        }
        let ((own, own_variance), (others, others_variance)) = (arm.mean_cost(), control.mean_cost());
        let factor = 1.0 + share(excess);
        let deviation = (own_variance + factor * factor * others_variance).sqrt();
        let passed = own - factor * others > Z * deviation && own > others;
        let text = || {
            let (own, others) = (own / 1e9, others / 1e9);
            format!(
                "a request costs {own:.6} USD on average of {}, control {others:.6} USD of {}; the guard allows +{} %",
                arm.requests,
                control.requests,
                per_cent(excess)
            )
        };
        passed.then(|| Breach(text()))
    }

    fn waits_of(&self, arm: &Tally, control: &Tally) -> Option<Breach> {
        let bound = self.first_token_p95?;
        let (own, others) = (arm.late(), control.late());
        let text = || {
            let seconds = bound.as_secs_f64();
            format!("first token later than {seconds} s in {own} streams, control {others}; the guard allows 5 %")
        };
        own.surely_above(BEYOND_P95, others).then(|| Breach(text()))
    }
}

/// KL(p ‖ q) of two shares, in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p <= 0.0 { 0.0 } else { p * libm::log(p / q) };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

fn share(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

fn per_cent(ppm: u32) -> f64 {
    f64::from(ppm) / 1e4
}

#[cfg(test)]
mod tests;
