//! Guarded change: whether an arm of a split is surely worse than its control by more than its guard allows.
//!
//! Each guarded arm has a window of its last requests beside the requests of the control from the same time and the same
//! gateway: what goes wrong for both, such as an outage of a shared vendor, withdraws nobody. The window is of slots of an
//! eighth of `min_requests`, and of all gateways that share a store: each tells what it has seen as sums
//! ([`Rollout::seen`]), hears what the others tell ([`Rollout::hear`]), and looks at the newest slots of all until
//! `min_requests` are together. What is heard replaces what was heard before, so nothing counts twice however often it is
//! told. A gateway that hears nobody looks at its own.
//!
//! At a look three tests are made ([`bounds`]). α is 1 in 30,000 a look. Looks come once in an eighth of `min_requests` and
//! overlap, so with `min_requests: 500` an arm exactly at its bound is withdrawn by chance less than once in two million
//! requests; one that is like its control far more rarely. Several gateways look at nearly the same; were their looks
//! independent, chance would have as many times that.
#![allow(clippy::float_arithmetic, reason = "shares and their bounds; no amount of money is booked from them")]

mod bounds;
mod tally;

use std::{fmt, time::Duration};

use super::Arm;
use crate::base::{money::Money, names::RouteName};
use tally::{Basis, SLOTS, Tally};
pub use tally::{KeptSlot, KeptTally, Seen};

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
pub struct Breach {
    why: String,
    /// How many of its requests this rests on.
    pub requests: u32,
    /// How many gateways have served them.
    pub gateways: usize,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        if self.gateways > 1 { write!(f, " (seen at {} gateways)", self.gateways) } else { Ok(()) }
    }
}

/// The watch over one guarded split.
#[derive(Clone, Debug)]
pub struct Rollout {
    guard: Guard,
    control: RouteName,
    arms: Vec<(RouteName, Watch)>,
}

/// What is known of one arm.
#[derive(Clone, Debug, Default)]
struct Watch {
    own: Seen,
    /// What the other gateways have told last, of the same beginning.
    others: Vec<Seen>,
    /// How many requests they have told of.
    elsewhere: u64,
    /// How many requests had been seen, here and elsewhere, at the last look.
    looked: u64,
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
        let arms = guarded.map(|arm| (arm.route.clone(), Watch::default())).collect();
        Self { guard, control, arms }
    }

    /// Takes in how a request of `arm` ended at `now_ms`, in milliseconds since 1970; why that arm is to be withdrawn, if it
    /// is.
    pub fn take(&mut self, arm: &RouteName, ended: &Ended, now_ms: i64) -> Option<Breach> {
        let one = Tally::of(ended, self.guard.first_token_p95);
        if *arm == self.control {
            self.arms.iter_mut().for_each(|(_, watch)| watch.own.add_control(&one));
            return None;
        }
        let guard = self.guard;
        let watch = self.watch(arm)?;
        watch.own.add(&one, now_ms);
        let breach = watch.look(&guard, now_ms);
        watch.own.advance(guard.step());
        breach
    }

    /// What was seen here of each guarded arm, to be kept and told.
    pub fn seen(&self) -> impl Iterator<Item = (&RouteName, &Seen)> {
        self.arms.iter().map(|(arm, watch)| (arm, &watch.own))
    }

    /// Takes up what this gateway saw of an arm before it was restarted, unless that was switched since.
    pub fn restore(&mut self, arm: &str, seen: Seen) {
        if let Some(watch) = self.watch(arm).filter(|watch| watch.own.since_ms == seen.since_ms) {
            watch.looked = seen.total.saturating_add(watch.elsewhere);
            watch.own = seen;
        }
    }

    /// Takes in what the other gateways have seen of each arm, one [`Seen`] a gateway, in place of what they told before.
    /// Who has not heard of the arm's last switch yet, or heard of it sooner, does not count.
    pub fn hear(&mut self, mut of_arm: impl FnMut(&RouteName) -> Vec<Seen>) {
        for (arm, watch) in &mut self.arms {
            let since_ms = watch.own.since_ms;
            watch.others = of_arm(arm).into_iter().filter(|seen| seen.since_ms == since_ms).collect();
            watch.elsewhere = watch.others.iter().map(|seen| seen.total).fold(0, u64::saturating_add);
        }
    }

    /// Which arms are to be withdrawn by what was heard, and why.
    pub fn look(&mut self, now_ms: i64) -> Vec<(RouteName, Breach)> {
        let guard = self.guard;
        let breach = |(arm, watch): &mut (RouteName, Watch)| Some((arm.clone(), watch.look(&guard, now_ms)?));
        self.arms.iter_mut().filter_map(breach).collect()
    }

    /// Of each guarded arm how many of its requests a look at `now_ms` would rest on, and of how many gateways.
    pub fn basis(&self, now_ms: i64) -> impl Iterator<Item = (&RouteName, u32, usize)> {
        self.arms.iter().map(move |(arm, watch)| {
            let basis = watch.basis(&self.guard, now_ms);
            (arm, basis.arm.requests, basis.gateways)
        })
    }

    /// The arm was switched off or on at `since_ms`, in milliseconds since 1970: it begins anew, here and with what is
    /// heard. A switch that is known changes nothing.
    pub fn begin(&mut self, arm: &str, since_ms: i64) {
        if let Some(watch) = self.watch(arm).filter(|watch| watch.own.since_ms < since_ms) {
            *watch = Watch { own: Seen::since(since_ms), ..Watch::default() };
        }
    }

    fn watch(&mut self, arm: &str) -> Option<&mut Watch> {
        self.arms.iter_mut().find(|(name, _)| name.as_str() == arm).map(|(_, watch)| watch)
    }
}

impl Watch {
    /// Looks, if what was seen has passed another eighth of `min_requests` since the last look.
    fn look(&mut self, guard: &Guard, now_ms: i64) -> Option<Breach> {
        let seen = self.own.total.saturating_add(self.elsewhere);
        // It is less than before when a gateway is not heard any more.
        let (before, step) = (self.looked.min(seen), u64::from(guard.step()));
        self.looked = seen;
        if seen / step == before / step {
            return None;
        }
        let basis = self.basis(guard, now_ms);
        if basis.arm.requests < guard.min_requests { None } else { guard.breach(&basis) }
    }

    fn basis(&self, guard: &Guard, now_ms: i64) -> Basis {
        Basis::of(&self.own, &self.others, guard.min_requests, now_ms)
    }
}

impl Guard {
    /// How many requests of an arm fill a slot.
    fn step(&self) -> u32 {
        self.min_requests.div_ceil(SLOTS as u32 - 1).max(1)
    }
}

#[cfg(test)]
mod tests;
