//! Who is tried after whom.

use super::*;
use crate::policy::{
    Prefer, Question, decide,
    sample::{Made, World},
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn attempt(candidate: u32, class: Class, fault: Fault) -> AttemptSeen {
    AttemptSeen { candidate: CandidateId(candidate), class, fault, retry_after: None, elapsed: ms(10) }
}

fn broken(candidate: u32) -> AttemptSeen {
    attempt(candidate, Class::Elsewhere, Fault::Backend)
}

fn decision(world: &World, failed: &[CandidateId]) -> Decision {
    let route = world.route(Prefer::Cheapest);
    decide::decide(&world.policies, world, &Question { failed, ..world.question(&route) })
}

const SECOND_TRY: Next = Next::Try { candidate: CandidateId(0), delay: FIRST_DELAY };

#[test]
fn another_candidate_is_decided_anew_and_the_failed_ones_stay_out() {
    let world = World::new(&[Made::new(1), Made::new(2), Made::new(3)]);
    let first = decision(&world, &[]);
    let attempts = [broken(0)];
    assert_eq!(next(&attempts, &first, true, None), Next::Resolve);
    let failed = failed(&attempts, &first);
    assert_eq!(failed, [CandidateId(0)]);
    let second = decision(&world, &failed);
    assert!(second.ranked.iter().all(|ranked| ranked.candidate.id != CandidateId(0)));
    assert_eq!(next(&[broken(0), broken(1)], &second, true, None), Next::Resolve);
    let third = [broken(0), broken(1), broken(2)];
    assert_eq!(next(&third, &second, true, None), Next::Stop(StopReason::Attempts));
}

#[test]
fn a_verdict_is_asked_of_nobody_else() {
    let world = World::new(&[Made::new(1), Made::new(2)]);
    let verdict = [attempt(0, Class::Never, Fault::Request)];
    assert_eq!(next(&verdict, &decision(&world, &[]), true, None), Next::Stop(StopReason::Verdict));
}

#[test]
fn the_budget_and_the_deadline_stop_it() {
    let world = World::new(&[Made::new(1), Made::new(2)]);
    let first = decision(&world, &[]);
    assert_eq!(next(&[broken(0)], &first, false, None), Next::Stop(StopReason::Budget));
    assert_eq!(next(&[broken(0)], &first, true, Some(ms(0))), Next::Stop(StopReason::Deadline));
}

#[test]
fn a_sole_candidate_is_tried_again_after_a_growing_delay_or_as_it_asks() {
    let world = World::new(&[Made::new(1)]);
    let first = decision(&world, &[]);
    assert_eq!(next(&[broken(0)], &first, true, None), SECOND_TRY);
    let doubled = Next::Try { candidate: CandidateId(0), delay: FIRST_DELAY * 2 };
    assert_eq!(next(&[broken(0), broken(0)], &first, true, None), doubled);
    assert_eq!(next(&[broken(0)], &first, true, Some(ms(100))), Next::Stop(StopReason::Deadline));
    let asked = |after| AttemptSeen { retry_after: Some(after), ..attempt(0, Class::Elsewhere, Fault::Quota) };
    let after = Next::Try { candidate: CandidateId(0), delay: ms(1_500) };
    assert_eq!(next(&[asked(ms(1_500))], &first, true, None), after);
    assert_eq!(next(&[asked(ms(30_000))], &first, true, None), Next::Stop(StopReason::NobodyLeft));
    let unable = [attempt(0, Class::NotHere, Fault::Request)];
    assert_eq!(next(&unable, &first, true, None), Next::Stop(StopReason::NobodyLeft));
}

#[test]
fn another_replica_of_a_broken_backend_comes_first() {
    let mut world = World::new(&[Made::new(1), Made::new(2)]);
    let mut candidate = (*world.policies.candidates[0]).clone();
    let mut backend = (*candidate.backend).clone();
    backend.endpoints.push("http://127.0.0.1:2".parse().unwrap());
    candidate.backend = backend.into();
    world.policies.candidates[0] = candidate.into();
    let first = decision(&world, &[]);
    let same = Next::Try { candidate: CandidateId(0), delay: Duration::ZERO };
    assert_eq!(next(&[broken(0)], &first, true, None), same);
    assert_eq!(next(&[broken(0), broken(0)], &first, true, None), Next::Resolve);
    assert_eq!(next(&[attempt(0, Class::Elsewhere, Fault::Account)], &first, true, None), Next::Resolve);
}

#[test]
fn where_a_model_is_unable_it_is_left_out_on_every_backend() {
    let mut world = World::new(&[Made::new(1), Made::new(2), Made::new(3)]);
    let mut twin = (*world.policies.candidates[1]).clone();
    twin.model = world.policies.candidates[0].model.clone();
    world.policies.candidates[1] = twin.into();
    let first = decision(&world, &[]);
    let attempts = [attempt(0, Class::NotHere, Fault::Request)];
    assert_eq!(failed(&attempts, &first), [CandidateId(0), CandidateId(1)]);
    assert_eq!(next(&attempts, &first, true, None), Next::Resolve);
}

#[test]
fn the_budget_is_a_fifth_of_the_requests_and_ten_a_second() {
    let mut budget = RetryBudget::default();
    let taken = |budget: &mut RetryBudget, now| (0..1_000).filter(|_| budget.try_take(now)).count();
    assert_eq!(taken(&mut budget, ms(0)), 100, "what a fresh one has");
    assert_eq!(taken(&mut budget, ms(1_000)), 10);
    (0..100).for_each(|_| budget.on_request(ms(1_000)));
    assert_eq!(taken(&mut budget, ms(1_000)), 20);
    assert_eq!(taken(&mut budget, ms(3_600_000)), 100, "no more is saved up");
    assert!(!budget.try_take(ms(1_000)), "a clock that runs backwards fills nothing");
}
