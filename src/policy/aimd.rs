//! How many requests an account takes at once, learned from its refusals: additive increase, multiplicative decrease.
//!
//! There is no limit until the vendor refuses for its load (429, or 503 and 529). Then it is 0.7 of what was under way
//! when the refused request was sent, and what is refused later takes off another 0.3, once for all that was sent before.
//! While the limit is used, as many successes as it counts raise it by one, and every success does once nothing has been
//! refused for ten seconds (a quota comes back at once, not by and by); ten minutes without a refusal end it. Additive
//! increase and multiplicative decrease bring those who share a limit, here gateways on one account, to equal shares
//! (D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer
//! Networks", Computer Networks and ISDN Systems 17, 1989); 0.7 is the factor of RFC 9438, section 4.6.
//!
//! Every `now` is a time since one fixed origin of the caller's choice.

use std::time::Duration;

/// What a refusal leaves of the limit, in thousandths.
const LEFT: u64 = 700;
/// One request, in the limit's own unit.
const ONE: u64 = 1_000;
/// After so long without a refusal every success raises it by one, which doubles it each round.
const QUIET: Duration = Duration::from_secs(10);
/// After so long without a refusal there is no limit any more.
const CALM: Duration = Duration::from_secs(600);

/// The limit of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aimd {
    /// In thousandths of a request.
    limit: Option<u64>,
    /// What was sent before this was sent at an older limit.
    lowered: Duration,
    refused: Duration,
}

impl Aimd {
    /// How many requests may be under way at `now`; `None` = nobody has refused lately.
    pub fn limit(&self, now: Duration) -> Option<u32> {
        let limit = self.limit.filter(|_| now.saturating_sub(self.refused) < CALM)?;
        Some(u32::try_from(limit / ONE).unwrap_or(u32::MAX).max(1))
    }

    /// A request that was sent at `sent`, as the last of `under_way`, was refused. Whether the limit is lower now.
    pub fn refused(&mut self, under_way: u32, sent: Duration, now: Duration) -> bool {
        let before = self.limit(now).and(self.limit);
        self.refused = now;
        if before.is_some() && sent <= self.lowered {
            return false;
        }
        let level = u64::from(under_way.max(1)) * ONE;
        let from = before.map_or(level, |limit| limit.min(level));
        self.limit = Some((from * LEFT / 1_000).max(ONE));
        self.lowered = now;
        true
    }

    /// A request that was sent as the last of `under_way` was served. Only a limit that is used can be too low.
    pub fn served(&mut self, under_way: u32, now: Duration) {
        let Some(limit) = self.limit(now).and(self.limit) else {
            self.limit = None;
            return;
        };
        if u64::from(under_way) * ONE * 2 >= limit {
            let quiet = now.saturating_sub(self.refused) >= QUIET;
            self.limit = Some(limit.saturating_add(if quiet { ONE } else { ONE * ONE / limit.max(1) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn nobody_is_limited_before_somebody_was_refused_and_long_after() {
        let mut aimd = Aimd::default();
        aimd.served(100, ms(0));
        assert_eq!(aimd.limit(ms(1)), None);
        assert!(aimd.refused(10, ms(1), ms(2)));
        assert_eq!((aimd.limit(ms(2)), aimd.limit(ms(600_001))), (Some(7), Some(7)));
        assert_eq!(aimd.limit(ms(600_002)), None);
        aimd.refused(100, ms(600_002), ms(600_003));
        assert_eq!(aimd.limit(ms(600_003)), Some(70), "the old limit is forgotten");
    }

    #[test]
    fn what_was_sent_before_it_was_lowered_lowers_it_no_more() {
        let mut aimd = Aimd::default();
        assert!(aimd.refused(10, ms(1), ms(100)));
        (2..50).for_each(|sent| assert!(!aimd.refused(10, ms(sent), ms(100 + sent))));
        assert_eq!(aimd.limit(ms(200)), Some(7));
        assert!(aimd.refused(7, ms(101), ms(200)));
        assert_eq!(aimd.limit(ms(200)), Some(4));
        for n in 2..50 {
            aimd.refused(1, ms(n * 1_000), ms(n * 1_000));
        }
        assert_eq!(aimd.limit(ms(50_000)), Some(1), "one may always try");
    }

    #[test]
    fn a_round_of_successes_raises_it_by_one_while_it_is_used() {
        let mut aimd = Aimd::default();
        aimd.refused(10, ms(1), ms(1));
        (0..7).for_each(|_| aimd.served(7, ms(2)));
        assert_eq!(aimd.limit(ms(2)), Some(7), "nearly");
        aimd.served(7, ms(2));
        assert_eq!(aimd.limit(ms(2)), Some(8));
        (0..100).for_each(|_| aimd.served(3, ms(3)));
        assert_eq!(aimd.limit(ms(3)), Some(8), "three of eight say nothing of a ninth");
        (0..8).for_each(|_| aimd.served(8, ms(10_001)));
        assert_eq!(aimd.limit(ms(10_001)), Some(16), "nothing was refused for ten seconds");
    }

    #[test]
    fn two_that_share_a_capacity_come_to_equal_shares() {
        // Each sends what it may; together they are refused beyond 40.
        let (mut one, mut two) = (Aimd::default(), Aimd::default());
        one.refused(50, ms(0), ms(1));
        two.refused(6, ms(0), ms(1));
        for round in 1..400_u64 {
            let now = ms(round * 100);
            let (a, b) = (one.limit(now).unwrap(), two.limit(now).unwrap());
            if a + b > 40 {
                one.refused(a, now, now + ms(50));
                two.refused(b, now, now + ms(50));
            } else {
                (0..a).for_each(|_| one.served(a, now));
                (0..b).for_each(|_| two.served(b, now));
            }
        }
        let (a, b) = (one.limit(ms(40_000)).unwrap(), two.limit(ms(40_000)).unwrap());
        assert!(a.abs_diff(b) <= 3 && a + b >= 26 && a + b <= 42, "{a} and {b}");
    }

    proptest! {
        #[test]
        fn refusals_never_raise_it_and_successes_never_lower_it(
            steps in prop::collection::vec((any::<bool>(), 1_u32..200, 0_u64..3_000, 0_u64..2_000), 1..200),
        ) {
            let (mut aimd, mut now) = (Aimd::default(), Duration::ZERO);
            for (refused, under_way, gap, age) in steps {
                now += ms(gap);
                let before = aimd.limit(now);
                if refused {
                    let lowered = aimd.refused(under_way, now.saturating_sub(ms(age)), now);
                    let after = aimd.limit(now).unwrap();
                    prop_assert!(before.is_none_or(|before| after <= before) && after >= 1);
                    prop_assert!(lowered || before == Some(after));
                    prop_assert!(before.is_some() || after <= under_way);
                } else {
                    aimd.served(under_way, now);
                    let after = aimd.limit(now);
                    prop_assert_eq!(after.is_none(), before.is_none());
                    prop_assert!(after.zip(before).is_none_or(|(after, before)| after == before || after == before + 1));
                }
            }
        }
    }
}
