//! Hedging: a second attempt where the first is overdue, and what may be spent on that. Pure, on given amounts.
//!
//! A hedge pays twice for one answer, so it has a budget: a share of what its route is charged. What it is expected to
//! cost is taken when it begins, and what the attempt that lost was billed in truth when it has ended; so the balance may
//! fall below zero, and then nobody is hedged until the route has earned it again. How many there may be is the budget of
//! retries' to say ([`super::retry::RetryBudget::try_spare`]): hedges cost vendors calls as retries do.

use std::time::Duration;

use crate::base::money::Money;

/// How a route hedges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// When an attempt is overdue.
    pub after: After,
    /// The share of the route's spend that hedges may cost, in parts per million.
    pub spend_ppm: u32,
}

/// When an attempt is overdue, counted from its dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// After the 95th percentile of its candidate's measured times to the first token; never while too few are known.
    P95,
    /// After so long.
    Time(Duration),
}

impl Hedge {
    /// The share of the spend where none is stated: 2 %.
    pub const SPEND_PPM: u32 = 20_000;

    /// When an attempt is overdue whose candidate has that percentile.
    pub fn overdue_after(&self, p95: Option<Duration>) -> Option<Duration> {
        match self.after {
            After::P95 => p95,
            After::Time(time) => Some(time),
        }
    }
}

/// So many of the dearest requests of late may be saved up for.
const SAVED: i64 = 20;
/// How fast the dearest is forgotten: by this part of it with each request.
const FORGET: i64 = 1_000;

/// What one route may still spend on hedges: a token bucket of nano-USD, empty at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HedgeBudget {
    left: i64,
    dearest: i64,
}

impl HedgeBudget {
    /// A request of the route was charged so much, of which `spend_ppm` is for hedges.
    pub fn earn(&mut self, charged: Money, spend_ppm: u32) {
        let charged = charged.nanousd().max(0);
        self.dearest = charged.max(self.dearest - self.dearest / FORGET);
        let share = i128::from(charged) * i128::from(spend_ppm) / 1_000_000;
        let share = i64::try_from(share).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(share).min(self.dearest.saturating_mul(SAVED));
    }

    /// Takes what a hedge is expected to cost, if it is there. One that costs nothing is free.
    pub fn try_take(&mut self, expected: Money) -> bool {
        let enough = self.left >= expected.nanousd();
        if enough {
            self.left -= expected.nanousd();
        }
        enough
    }

    /// The hedge for which `expected` was taken has cost `bill`.
    pub fn settle(&mut self, expected: Money, bill: Money) {
        self.left = self.left.saturating_add(expected.nanousd()).saturating_sub(bill.nanousd());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn usd(nano: i64) -> Money {
        Money::from_nanousd(nano)
    }

    #[test]
    fn nothing_is_spent_before_it_is_earned() {
        let mut budget = HedgeBudget::default();
        assert!(!budget.try_take(usd(1)) && budget.try_take(usd(0)));
        (0..49).for_each(|_| budget.earn(usd(1_000), Hedge::SPEND_PPM));
        assert!(!budget.try_take(usd(1_000)));
        budget.earn(usd(1_000), Hedge::SPEND_PPM);
        assert!(budget.try_take(usd(1_000)) && !budget.try_take(usd(1)));
    }

    #[test]
    fn a_hedge_that_cost_more_than_expected_is_paid_off_first() {
        let mut budget = HedgeBudget::default();
        budget.earn(usd(100_000), Hedge::SPEND_PPM);
        assert!(budget.try_take(usd(2_000)));
        budget.settle(usd(2_000), usd(5_000));
        budget.earn(usd(100_000), Hedge::SPEND_PPM);
        assert!(!budget.try_take(usd(1)));
        budget.earn(usd(100_000), Hedge::SPEND_PPM);
        assert!(budget.try_take(usd(1_000)));
    }

    #[test]
    fn a_quiet_year_saves_up_for_a_few_hedges_only() {
        let mut budget = HedgeBudget::default();
        (0..1_000_000).for_each(|_| budget.earn(usd(1_000), Hedge::SPEND_PPM));
        assert_eq!((0..100).filter(|_| budget.try_take(usd(1_000))).count(), 20);
    }

    #[test]
    fn a_candidate_without_a_percentile_is_never_overdue() {
        let hedge = Hedge { after: After::P95, spend_ppm: 0 };
        assert_eq!(hedge.overdue_after(None), None);
        assert_eq!(hedge.overdue_after(Some(Duration::from_secs(1))), Some(Duration::from_secs(1)));
        let hedge = Hedge { after: After::Time(Duration::from_secs(2)), spend_ppm: 0 };
        assert_eq!(hedge.overdue_after(None), Some(Duration::from_secs(2)));
    }

    proptest! {
        /// What hedges cost never passes the share of what was charged, but for one hedge beyond what it was expected to.
        #[test]
        fn hedges_cost_the_share_at_most(
            requests in prop::collection::vec((0_i64..1_000_000, 0_i64..1_000_000, 0_i64..1_000_000), 1..300),
            ppm in 0_u32..1_000_000,
        ) {
            let (mut budget, mut charged, mut hedges, mut beyond) = (HedgeBudget::default(), 0_i128, 0_i128, 0_i128);
            for (charge, expected, bill) in requests {
                budget.earn(usd(charge), ppm);
                charged += i128::from(charge);
                if budget.try_take(usd(expected)) {
                    budget.settle(usd(expected), usd(bill));
                    hedges += i128::from(bill);
                    beyond = beyond.max(i128::from(bill - expected));
                }
                prop_assert!(hedges <= charged * i128::from(ppm) / 1_000_000 + beyond.max(0));
            }
        }
    }
}
