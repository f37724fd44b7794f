//! Who is tried after whom.

use super::*;
use crate::{
    base::{catalog::Account, names::AccountName, tenants::Limits},
    policy::{
        Prefer, Question, decide,
        sample::{Made, World},
    },
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

/// What to do where the budget allows it.
fn go_on(attempts: &[AttemptSeen], decision: &Decision, time_left: Option<Duration>) -> Next {
    next(attempts, decision, false, &mut || true, time_left)
}

/// Candidates, the first with so many endpoints and accounts.
fn pool(candidates: &[Made], endpoints: usize, accounts: usize) -> World {
    let mut world = World::new(candidates);
    let mut candidate = (*world.policies.candidates[0]).clone();
    let mut backend = (*candidate.backend).clone();
    backend.endpoints = vec![backend.endpoints[0].clone(); endpoints];
    backend.accounts =
        vec![Account { name: AccountName::from("main"), api_key: None, limits: Limits::default() }; accounts];
    candidate.backend = backend.into();
    world.policies.candidates[0] = candidate.into();
    world
}

const SAME: Next = Next::Try { candidate: CandidateId(0), delay: Duration::ZERO };
const SECOND_TRY: Next = Next::Try { candidate: CandidateId(0), delay: FIRST_DELAY };

#[test]
fn another_candidate_is_decided_anew_and_the_failed_ones_stay_out() {
    let world = World::new(&[Made::new(1), Made::new(2), Made::new(3)]);
    let first = decision(&world, &[]);
    let attempts = [broken(0)];
    assert_eq!(go_on(&attempts, &first, None), Next::Resolve);
    let failed = failed(&attempts, &first);
    assert_eq!(failed, [CandidateId(0)]);
    let second = decision(&world, &failed);
    assert!(second.ranked.iter().all(|ranked| ranked.candidate.id != CandidateId(0)));
    assert_eq!(go_on(&[broken(0), broken(1)], &second, None), Next::Resolve);
    let third = [broken(0), broken(1), broken(2)];
    assert_eq!(go_on(&third, &second, None), Next::Stop(StopReason::Attempts));
}

#[test]
fn a_verdict_is_asked_of_nobody_else() {
    let world = World::new(&[Made::new(1), Made::new(2)]);
    let verdict = [attempt(0, Class::Never, Fault::Request)];
    assert_eq!(go_on(&verdict, &decision(&world, &[]), None), Next::Stop(StopReason::Verdict));
}

#[test]
fn the_budget_and_the_deadline_stop_it() {
    let world = World::new(&[Made::new(1), Made::new(2)]);
    let first = decision(&world, &[]);
    assert_eq!(next(&[broken(0)], &first, false, &mut || false, None), Next::Stop(StopReason::Budget));
    assert_eq!(go_on(&[broken(0)], &first, Some(ms(0))), Next::Stop(StopReason::Deadline));
}

#[test]
fn a_sole_candidate_is_tried_again_after_a_growing_delay_or_as_it_asks() {
    let world = World::new(&[Made::new(1)]);
    let first = decision(&world, &[]);
    assert_eq!(go_on(&[broken(0)], &first, None), SECOND_TRY);
    let doubled = Next::Try { candidate: CandidateId(0), delay: FIRST_DELAY * 2 };
    assert_eq!(go_on(&[broken(0), broken(0)], &first, None), doubled);
    assert_eq!(go_on(&[broken(0)], &first, Some(ms(100))), Next::Stop(StopReason::Deadline));
    let asked = |after| AttemptSeen { retry_after: Some(after), ..attempt(0, Class::Elsewhere, Fault::Quota) };
    let after = Next::Try { candidate: CandidateId(0), delay: ms(1_500) };
    assert_eq!(go_on(&[asked(ms(1_500))], &first, None), after);
    assert_eq!(go_on(&[asked(ms(30_000))], &first, None), Next::Stop(StopReason::NobodyLeft));
    let unable = [attempt(0, Class::NotHere, Fault::Request)];
    assert_eq!(go_on(&unable, &first, None), Next::Stop(StopReason::NobodyLeft));
}

#[test]
fn another_replica_of_a_broken_backend_comes_first() {
    let world = pool(&[Made::new(1), Made::new(2)], 2, 1);
    let first = decision(&world, &[]);
    assert_eq!(go_on(&[broken(0)], &first, None), SAME);
    assert_eq!(go_on(&[broken(0), broken(0)], &first, None), Next::Resolve);
    assert_eq!(go_on(&[attempt(0, Class::Elsewhere, Fault::Account)], &first, None), Next::Resolve);
}

#[test]
fn the_last_attempt_is_another_candidates() {
    let world = pool(&[Made::new(1), Made::new(2)], 3, 1);
    let first = decision(&world, &[]);
    assert_eq!(first.attempts, 3);
    assert_eq!(go_on(&[broken(0)], &first, None), SAME);
    assert_eq!(go_on(&[broken(0), broken(0)], &first, None), Next::Resolve);
    let sole = pool(&[Made::new(1)], 3, 1);
    assert_eq!(go_on(&[broken(0), broken(0)], &decision(&sole, &[]), None), SAME, "nobody else wants it");
}

#[test]
fn a_sole_candidate_out_of_quota_is_left_alone_while_its_accounts_are_parked() {
    let quota = attempt(0, Class::Elsewhere, Fault::Quota);
    let sole = decision(&pool(&[Made::new(1)], 1, 1), &[]);
    assert_eq!(go_on(&[quota], &sole, None), Next::Stop(StopReason::NobodyLeft));
    let two = decision(&pool(&[Made::new(1)], 1, 2), &[]);
    assert_eq!(go_on(&[quota], &two, None), SAME);
    assert_eq!(go_on(&[quota, quota], &two, None), Next::Stop(StopReason::NobodyLeft));
    let free = Next::Try { candidate: CandidateId(0), delay: FIRST_DELAY * 2 };
    assert_eq!(go_on(&[broken(0), quota], &two, None), free, "one account was not turned away");
}

#[test]
fn the_budget_is_asked_once_and_only_where_somebody_would_be_tried() {
    let world = World::new(&[Made::new(1), Made::new(2)]);
    let (both, sole) = (decision(&world, &[]), decision(&World::new(&[Made::new(1)]), &[]));
    let asked = |attempts: &[AttemptSeen], decision: &Decision, time_left| {
        let mut asked = 0;
        let next = next(attempts, decision, false, &mut || (asked += 1, true).1, time_left);
        (asked, matches!(next, Next::Stop(_)))
    };
    assert_eq!(asked(&[broken(0)], &both, None), (1, false));
    assert_eq!(asked(&[broken(0)], &sole, None), (1, false));
    assert_eq!(asked(&[broken(0), broken(1), broken(0)], &both, None), (0, true), "attempts");
    assert_eq!(asked(&[broken(0)], &both, Some(ms(0))), (0, true), "deadline");
    assert_eq!(asked(&[broken(0)], &sole, Some(ms(100))), (0, true), "too late to try again");
    assert_eq!(asked(&[attempt(0, Class::Never, Fault::Request)], &both, None), (0, true), "verdict");
    assert_eq!(asked(&[attempt(0, Class::Elsewhere, Fault::Account)], &sole, None), (0, true), "nobody left");
}

#[test]
fn whoever_leaves_a_closed_door_pays_nothing() {
    let none_left = |attempts: &[AttemptSeen], decision: &Decision| next(attempts, decision, true, &mut || false, None);
    let two = decision(&World::new(&[Made::new(1), Made::new(2)]), &[]);
    assert_eq!(none_left(&[broken(0)], &two), Next::Resolve);
    assert_eq!(none_left(&[broken(0)], &decision(&pool(&[Made::new(1)], 2, 1), &[])), SAME, "another replica");
    let sole = decision(&World::new(&[Made::new(1)]), &[]);
    assert_eq!(none_left(&[broken(0)], &sole), Next::Stop(StopReason::Budget), "the same door again");
    let mut desperate = two.clone();
    desperate.last_resort = true;
    assert_eq!(none_left(&[broken(0)], &desperate), Next::Stop(StopReason::Budget), "all doors are closed");
    assert_eq!(none_left(&[broken(0), broken(1), broken(0)], &two), Next::Stop(StopReason::Attempts));
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
    assert_eq!(go_on(&attempts, &first, None), Next::Resolve);
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

#[test]
fn hedges_leave_half_of_the_budget_to_failures() {
    let mut budget = RetryBudget::default();
    let spared = (0..200).filter(|_| budget.try_spare(Duration::ZERO)).count();
    assert_eq!(spared, 50);
    assert_eq!((0..200).filter(|_| budget.try_take(Duration::ZERO)).count(), 50);
}
