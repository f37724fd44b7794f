//! How much came lately: two windows, of which the one before counts by as much of it as still overlaps.
//!
//! What is told is exact for what comes evenly, and off by at most what one window held otherwise. It takes three
//! numbers, however much comes.

use std::time::Duration;

/// Amounts within the last span of time. Every `now` is a time since one fixed origin; the span is the same in all calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    window: u64,
    current: u64,
    before: u64,
}

impl Flow {
    /// Adds an amount.
    pub fn add(&mut self, amount: u64, span: Duration, now: Duration) {
        *self = self.at(span, now);
        self.current = self.current.saturating_add(amount);
    }

    /// Takes back what was added too much.
    pub fn take_back(&mut self, amount: u64, span: Duration, now: Duration) {
        *self = self.at(span, now);
        let beyond = amount.saturating_sub(self.current);
        self.current = self.current.saturating_sub(amount);
        self.before = self.before.saturating_sub(beyond);
    }

    /// What came within the last span.
    pub fn within(&self, span: Duration, now: Duration) -> u64 {
        let at = self.at(span, now);
        let left = span.as_nanos().saturating_sub(into(span, now));
        let overlap = u128::from(at.before).saturating_mul(left) / span.as_nanos().max(1);
        at.current.saturating_add(u64::try_from(overlap).unwrap_or(u64::MAX))
    }

    /// After how long less than `most` will be within the span, if nothing more comes. At most two spans.
    pub fn below(&self, most: u64, span: Duration, now: Duration) -> Duration {
        let at = self.at(span, now);
        if at.within(span, now) < most {
            return Duration::ZERO;
        }
        // What must have slid out: of the window before, or of the running one once that has become the one before.
        let (rest, held, next) =
            if at.current < most { (most - at.current, at.before, Duration::ZERO) } else { (most, at.current, span) };
        let part = span.as_nanos().saturating_mul(u128::from(held.saturating_sub(rest))) / u128::from(held.max(1));
        let out =
            Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX)).saturating_add(Duration::from_millis(1));
        let gone = Duration::from_nanos(u64::try_from(into(span, now)).unwrap_or(u64::MAX));
        out.saturating_add(next).saturating_sub(gone)
    }

    /// The same as it stands in the window of `now`.
    fn at(&self, span: Duration, now: Duration) -> Self {
        let window = u64::try_from(now.as_nanos() / span.as_nanos().max(1)).unwrap_or(u64::MAX);
        match window.saturating_sub(self.window) {
            0 => *self,
            1 => Self { window, current: 0, before: self.current },
            _ => Self { window, current: 0, before: 0 },
        }
    }
}

/// How far into its window `now` is.
fn into(span: Duration, now: Duration) -> u128 {
    now.as_nanos() % span.as_nanos().max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_came_slides_out_evenly() {
        let mut flow = Flow::default();
        flow.add(60, MINUTE, at(30));
        let within = |now| flow.within(MINUTE, at(now));
        assert_eq!((within(30), within(59), within(60), within(90), within(119), within(120)), (60, 60, 60, 30, 1, 0));
        flow.take_back(70, MINUTE, at(65));
        assert_eq!(flow.within(MINUTE, at(65)), 0);
    }

    proptest! {
        #[test]
        fn an_even_flow_is_told_as_it_is(each in 1_u64..1_000, seconds in 120_u64..400) {
            let mut flow = Flow::default();
            (0..seconds).for_each(|second| flow.add(each, MINUTE, at(second)));
            let within = flow.within(MINUTE, at(seconds - 1));
            prop_assert!(within.abs_diff(each * 60) <= each, "{within} of {}", each * 60);
        }

        #[test]
        fn when_less_is_left_is_known_in_advance(
            amounts in prop::collection::vec((0_u64..50, 0_u64..40), 1..30), most in 1_u64..200,
        ) {
            let (mut flow, mut now) = (Flow::default(), Duration::ZERO);
            for (amount, wait) in amounts {
                now += at(wait);
                flow.add(amount, MINUTE, now);
            }
            let wait = flow.below(most, MINUTE, now);
            prop_assert!(wait <= MINUTE * 2 + Duration::from_millis(1));
            prop_assert!(flow.within(MINUTE, now + wait) < most, "after {wait:?}");
            prop_assert!(wait < at(1) || flow.within(MINUTE, now + wait - at(1)) + 1 >= most);
        }
    }
}
