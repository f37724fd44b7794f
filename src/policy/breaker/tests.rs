//! The breaker on given instants.

use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn attempt(breaker: &mut Breaker, outcome: Outcome, now: Duration) {
    let permit = breaker.admit(now).expect("admitted");
    breaker.report(permit, outcome, now);
}

fn opened() -> Breaker {
    let mut breaker = Breaker::new(7);
    (0..5).for_each(|n| attempt(&mut breaker, Outcome::Failure, at(n)));
    breaker
}

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let mut breaker = Breaker::new(1);
    for round in 0..3 {
        (0..4).for_each(|_| attempt(&mut breaker, Outcome::Failure, at(round)));
        attempt(&mut breaker, Outcome::Success, at(round));
    }
    assert_eq!(breaker.state(at(10)), BreakerState::Closed);
    assert_eq!(opened().state(at(10)), BreakerState::Open);
}

/// Attempts of one window of which so many fail, spread evenly; whether that opens the breaker.
fn opens(failed: u64, attempts: u64) -> bool {
    let mut breaker = Breaker::new(1);
    for n in 0..attempts {
        let fails = (n + 1) * failed / attempts > n * failed / attempts;
        let outcome = if fails { Outcome::Failure } else { Outcome::Success };
        if breaker.admit(at(n * 9_000 / attempts)).is_err() {
            return true;
        }
        attempt(&mut breaker, outcome, at(n * 9_000 / attempts));
    }
    breaker.state(at(9_000)) == BreakerState::Open
}

#[test]
fn a_backend_that_surely_fails_more_than_one_time_in_five_is_opened() {
    assert!(!opens(7, 20) && opens(8, 20));
    assert!(!opens(28, 100) && opens(29, 100));
    assert!(!opens(200, 1_000) && opens(230, 1_000));
    assert!(!opens(15, 19), "too few to tell, and never five in a row");
}

#[test]
fn what_the_budget_of_retries_pays_for_opens_nothing() {
    for attempts in [20, 100, 1_000, 9_000] {
        assert!(!opens(attempts / 5, attempts), "a fifth of {attempts}");
        assert!(!opens(attempts / 10, attempts), "a tenth of {attempts}");
    }
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let mut breaker = Breaker::new(1);
    for n in 0..19 {
        let outcome = if n % 3 == 2 { Outcome::Success } else { Outcome::Failure };
        attempt(&mut breaker, outcome, at(n));
    }
    for n in 0..20 {
        let outcome = if n % 4 == 3 { Outcome::Failure } else { Outcome::Success };
        attempt(&mut breaker, outcome, at(11_000 + n));
    }
    assert_eq!(breaker.state(at(12_000)), BreakerState::Closed);
}

#[test]
fn after_the_open_time_one_probe_goes_and_decides() {
    let mut breaker = opened();
    let left = breaker.admit(at(1000)).expect_err("open");
    assert!(left >= at(6_500) && left <= at(9_100), "{left:?}");
    let probe = breaker.admit(at(11_000)).expect("the probe");
    breaker.admit(at(11_001)).expect_err("only one probe");
    breaker.report(probe, Outcome::Success, at(11_500));
    assert_eq!(breaker.state(at(11_500)), BreakerState::Closed);
    attempt(&mut breaker, Outcome::Failure, at(11_600));
    assert_eq!(breaker.state(at(11_700)), BreakerState::Closed, "the old failures count no more");
}

#[test]
fn every_failed_probe_doubles_the_open_time_up_to_five_minutes() {
    let mut breaker = opened();
    let mut now = at(4);
    for n in 0..10_u32 {
        let left = breaker.broken_for(now).expect("open");
        let whole = FIRST_OPEN.saturating_mul(1 << n).min(LONGEST_OPEN);
        assert!(left <= whole && left >= whole * 3 / 4, "{n}: {left:?}");
        now += left;
        let probe = breaker.admit(now).expect("the probe");
        breaker.report(probe, Outcome::Failure, now);
    }
}

#[test]
fn outcomes_of_attempts_from_before_it_opened_change_nothing() {
    let mut breaker = Breaker::new(1);
    let early = breaker.admit(at(0)).expect("closed");
    (0..5).for_each(|n| attempt(&mut breaker, Outcome::Failure, at(n)));
    breaker.report(early, Outcome::Success, at(100));
    assert_eq!(breaker.state(at(100)), BreakerState::Open);
}

#[test]
fn a_probe_that_told_nothing_or_was_lost_makes_way_for_the_next() {
    let mut breaker = opened();
    let probe = breaker.admit(at(11_000)).expect("the probe");
    breaker.report(probe, Outcome::Unknown, at(11_100));
    let _lost = breaker.admit(at(11_200)).expect("the next probe");
    breaker.admit(at(131_199)).expect_err("still waited for");
    assert!(breaker.admit(at(131_200)).is_ok());
}

#[test]
fn a_sole_candidate_gets_its_live_try_while_open() {
    let mut breaker = opened();
    let permit = breaker.admit_anyway(at(100));
    breaker.report(permit, Outcome::Success, at(200));
    assert_eq!(breaker.state(at(200)), BreakerState::Closed);
}

#[test]
fn live_tries_closer_together_than_their_answers_close_it_with_the_first_success() {
    let mut breaker = opened();
    let permits: Vec<Permit> = (0..10).map(|n| breaker.admit_anyway(at(100 + n * 10))).collect();
    breaker.report(permits[0], Outcome::Success, at(200));
    assert_eq!(breaker.state(at(200)), BreakerState::Closed);
    for permit in &permits[1..] {
        breaker.report(*permit, Outcome::Failure, at(210));
    }
    assert_eq!(breaker.state(at(210)), BreakerState::Closed, "only the first to report decides");
}

#[test]
fn live_tries_that_fail_together_open_it_once() {
    let mut breaker = opened();
    let permits = [breaker.admit_anyway(at(100)), breaker.admit_anyway(at(110))];
    for permit in permits {
        breaker.report(permit, Outcome::Failure, at(200));
    }
    let left = breaker.broken_for(at(200)).expect("open");
    assert!(left <= FIRST_OPEN * 2, "{left:?}");
}

#[test]
fn a_hint_opens_what_has_not_succeeded_since_and_is_not_told_on() {
    let mut breaker = Breaker::new(1);
    attempt(&mut breaker, Outcome::Success, at(1_000));
    breaker.hint(at(9_000), at(500), at(1_400));
    assert_eq!(breaker.state(at(1_400)), BreakerState::Closed, "it succeeded after the other opened");
    breaker.hint(at(60_000), at(100), at(1_400));
    assert_eq!(breaker.broken_for(at(1_400)), Some(FIRST_OPEN), "never for longer than the first time");
    assert_eq!(breaker.opened_here(at(1_500)), None);
    let probe = breaker.admit(at(11_400)).expect("the probe");
    breaker.report(probe, Outcome::Success, at(11_500));
    assert_eq!(breaker.state(at(11_500)), BreakerState::Closed);
    let mut own = opened();
    let before = own.broken_for(at(100));
    own.hint(at(5_000), at(0), at(100));
    assert_eq!(own.broken_for(at(100)), before, "what was seen here stays");
    assert_eq!(own.opened_here(at(100)).map(|(left, age)| (Some(left), age)), Some((before, at(96))));
}
