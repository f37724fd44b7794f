//! Who is passed over for time, and who is tried though it is expected late.

use std::time::Duration;

use super::decide;
use crate::policy::{
    Choice, Decision, Prefer, Question, Rejection, Seen, Unavailable,
    sample::{Made, World, route},
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A candidate whose first token was seen after so long.
fn seen(number: u32, first: u64) -> Made {
    let seen = Seen { first_token: Some(ms(first)), per_token: Some(ms(20)), ..Seen::default() };
    Made { seen, ..Made::new(number) }
}

fn within(made: &[Made], stream: bool, left: u64) -> Decision {
    let mut world = World::new(made);
    world.facts.stream = stream;
    let route = route("chain", Choice::Order(world.ids()));
    decide(&world.policies, &world, &Question { time_left: Some(ms(left)), ..world.question(&route) })
}

fn order(decision: &Decision) -> Vec<&str> {
    decision.ranked.iter().map(|ranked| ranked.candidate.model.name.as_str()).collect()
}

#[test]
fn who_is_expected_late_is_passed_over_while_another_is_in_time() {
    let decision = within(&[seen(1, 3_000), seen(2, 500)], true, 1_000);
    assert_eq!((order(&decision), decision.late), (vec!["m2"], false));
    assert_eq!(decision.rejected[0].why, Rejection::Deadline { expected: ms(3_000), left: ms(1_000) });
}

#[test]
fn where_nobody_is_in_time_all_who_are_able_are_tried_in_the_routes_order() {
    let decision = within(&[seen(1, 3_000), seen(2, 2_000)], true, 1_000);
    assert_eq!((order(&decision), decision.late), (vec!["m1", "m2"], true));
    assert_eq!(decision.reason(), "expected late, nobody is in time; first of 2 in order; m2 next");
    let mut world = World::new(&[seen(1, 3_000), seen(2, 2_000)]);
    world.facts.stream = true;
    let fastest = world.route(Prefer::Fastest);
    let question = Question { time_left: Some(ms(1_000)), ..world.question(&fastest) };
    assert_eq!(order(&decide(&world.policies, &world, &question)), ["m2", "m1"]);
}

#[test]
fn a_prior_keeps_nobody_from_being_asked() {
    // A second to the first token and 20 ms for each further of 300.
    for stream in [true, false] {
        let decision = within(&[Made::new(1), seen(2, 1)], stream, 10);
        assert_eq!((order(&decision)[0], decision.late), ("m1", false));
    }
}

#[test]
fn a_whole_answer_is_in_time_when_its_end_is() {
    // 100 ms and 299 times 20 ms.
    let both = [seen(1, 100), Made::new(2)];
    let decision = within(&both, false, 6_079);
    assert_eq!(decision.rejected[0].why, Rejection::Deadline { expected: ms(6_080), left: ms(6_079) });
    assert_eq!(order(&within(&both, false, 6_080)), ["m1", "m2"]);
    assert_eq!(order(&within(&both, true, 100)), ["m1", "m2"]);
}

#[test]
fn a_deadline_that_has_passed_leaves_nobody() {
    let decision = within(&[Made::new(1), seen(2, 1)], true, 0);
    assert!(decision.ranked.is_empty() && !decision.late);
    assert!(decision.rejected.iter().all(|rejected| matches!(rejected.why, Rejection::Deadline { .. })));
}

#[test]
fn who_is_late_goes_before_who_is_broken_and_a_broken_one_is_not_measured_by_its_failures() {
    let mut broken = seen(1, 5_000);
    broken.seen.unavailable = Some(Unavailable::Broken(ms(100)));
    let decision = within(&[broken.clone(), seen(2, 3_000)], true, 1_000);
    assert_eq!((order(&decision), decision.late, decision.last_resort), (vec!["m2"], true, false));
    let decision = within(&[broken], true, 1_000);
    assert_eq!((order(&decision), decision.late, decision.last_resort), (vec!["m1"], false, true));
}
