//! Which classes a gateway turns away while it is itself too slow: a pure controller on given times.
//!
//! The signal is lag: by how much a timer of the gateway fires late, which is what its work waits for a processor. Requests
//! in flight would say nothing, for they wait on vendors. As in DAGOR (Zhou et al., "Overload Control for Scaling WeChat
//! Microservices", 2018) a level says which classes are let in: while the lag is above its target and does not shrink the
//! level rises fast, within the target it falls slowly. A class is turned away only for the good of a higher one that has been seen lately: among equals
//! it would only choose whom to disappoint, and a gateway whose clients name no classes turns nobody away.

use std::time::Duration;

use crate::base::priority::Priority;

/// How often the lag is told.
pub const TICK: Duration = Duration::from_millis(100);
/// A level of so much turns all of one class away.
const WHOLE: u32 = 1_000;
/// How fast the level rises while the lag is above its target and does not shrink: from nothing to a whole class in two
/// seconds. Twice as fast, it overshot and turned away a twentieth of a class that there was room for.
const RISE: u32 = 50;
/// How fast it falls while the lag is within its target.
const FALL: u32 = 10;
/// For so long a class that was seen is one to be protected.
const LATELY: Duration = Duration::from_secs(10);

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Shedder {
    target: Duration,
    // The lag, smoothed over some four ticks.
    lag: Duration,
    level: u32,
    seen: [Option<Duration>; 3],
    // Of each class: what has been saved up for the next to be turned away.
    owed: [u32; 3],
}

impl Shedder {
    /// A controller that keeps the lag at `target`.
    pub fn new(target: Duration) -> Self {
        Self { target, lag: Duration::ZERO, level: 0, seen: [None; 3], owed: [0; 3] }
    }

    /// Takes the lag of the last tick.
    pub fn tick(&mut self, lag: Duration) {
        let before = self.lag;
        self.lag = (self.lag * 3 + lag) / 4;
        if self.lag <= self.target {
            self.level = self.level.saturating_sub(FALL);
        } else if lag >= before {
            self.level = (self.level + RISE).min(WHOLE * 2);
        }
    }

    /// Whether a request of `class` is let in. Of a class that is turned away in part, every so many is.
    pub fn admits(&mut self, class: Priority, now: Duration) -> bool {
        let place = class.index();
        self.seen[place] = Some(now);
        let lately = |seen: &Option<Duration>| seen.is_some_and(|seen| now.saturating_sub(seen) < LATELY);
        let share = self.level.saturating_sub(WHOLE * u32::try_from(place).unwrap_or(0)).min(WHOLE);
        if share == 0 || !self.seen[place + 1..].iter().any(lately) {
            return true;
        }
        self.owed[place] += share;
        let turned_away = self.owed[place] >= WHOLE;
        if turned_away {
            self.owed[place] -= WHOLE;
        }
        !turned_away
    }

    /// Whether it turns anybody away now, had it somebody to protect.
    pub fn is_pressed(&self) -> bool {
        self.level > 0
    }

    /// The smoothed lag.
    pub fn lag(&self) -> Duration {
        self.lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Critical, Sheddable, Standard};

    const TARGET: Duration = Duration::from_millis(50);

    /// A gateway on a virtual clock that can do so many requests a tick; the rest of its work waits. Returns for each class
    /// how many came and how many were let in, over the last two thirds of the time.
    fn overloaded(offered: [u64; 3], capacity: u64) -> [(u64, u64); 3] {
        let mut shedder = Shedder::new(TARGET);
        let (mut backlog, mut counts) = (0_u64, [(0, 0); 3]);
        for tick in 0..600_u32 {
            let now = TICK * tick;
            for class in Priority::ALL {
                for _ in 0..offered[class.index()] {
                    let admitted = shedder.admits(class, now);
                    backlog += u64::from(admitted);
                    if tick >= 200 {
                        let count = &mut counts[class.index()];
                        *count = (count.0 + 1, count.1 + u64::from(admitted));
                    }
                }
            }
            backlog = backlog.saturating_sub(capacity);
            // What waits delays the timer by as long as it takes.
            shedder.tick(TICK * u32::try_from(backlog).unwrap() / u32::try_from(capacity).unwrap());
        }
        counts
    }

    #[test]
    fn at_three_times_the_load_the_top_class_loses_nobody() {
        let [sheddable, standard, critical] = overloaded([100, 100, 100], 100);
        assert_eq!(critical.0, critical.1);
        assert!(sheddable.1 * 100 <= sheddable.0 * 10, "{sheddable:?}");
        assert!(standard.1 * 100 <= standard.0 * 30, "{standard:?}");
    }

    #[test]
    fn the_second_class_is_turned_away_after_the_first_only() {
        let [sheddable, standard, critical] = overloaded([100, 40, 40], 100);
        assert_eq!((critical.0, standard.0), (critical.1, standard.1));
        assert!(sheddable.1 > sheddable.0 / 20 && sheddable.1 < sheddable.0 / 3, "{sheddable:?}");
    }

    #[test]
    fn what_fits_is_let_in() {
        for (came, admitted) in overloaded([30, 30, 30], 100) {
            assert_eq!(came, admitted);
        }
    }

    #[test]
    fn equals_are_not_turned_away_for_one_another() {
        for class in Priority::ALL {
            let mut offered = [0; 3];
            offered[class.index()] = 300;
            let (came, admitted) = overloaded(offered, 100)[class.index()];
            assert_eq!(came, admitted, "{class:?}");
        }
    }

    #[test]
    fn nobody_is_turned_away_for_a_class_that_has_gone() {
        let mut shedder = Shedder::new(TARGET);
        (0..60).for_each(|_| shedder.tick(TARGET * 4));
        assert!(shedder.is_pressed() && shedder.admits(Critical, Duration::from_secs(1)));
        assert!(
            !shedder.admits(Sheddable, Duration::from_secs(2)) && !shedder.admits(Standard, Duration::from_secs(2))
        );
        assert!(shedder.admits(Standard, Duration::from_secs(12)), "ten seconds later");
        assert!(!shedder.admits(Sheddable, Duration::from_secs(12)), "for the good of the standard ones");
    }

    #[test]
    fn the_level_falls_when_the_lag_does() {
        let mut shedder = Shedder::new(TARGET);
        (0..40).for_each(|_| shedder.tick(TARGET * 4));
        (0..240).for_each(|_| shedder.tick(Duration::ZERO));
        assert!(!shedder.is_pressed());
    }
}
