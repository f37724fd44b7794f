//! Who is tried after whom.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_budget_is_a_fifth_of_the_requests_and_ten_a_second() {
    let mut budget = RetryBudget::default();
    let taken = |budget: &mut RetryBudget, now| (0..1_000).filter(|_| budget.try_take(now)).count();
    assert_eq!(taken(&mut budget, ms(0)), 10, "what a fresh one has");
    assert_eq!(taken(&mut budget, ms(1_000)), 10);
    (0..100).for_each(|_| budget.on_request(ms(1_000)));
    assert_eq!(taken(&mut budget, ms(1_000)), 20);
    assert_eq!(taken(&mut budget, ms(3_600_000)), 100, "no more is saved up");
}

#[test]
fn a_clock_that_runs_backwards_fills_nothing() {
    let mut budget = RetryBudget::default();
    while budget.try_take(ms(5_000)) {}
    assert!(!budget.try_take(ms(1_000)));
}
