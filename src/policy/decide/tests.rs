//! Decisions one by one: each rejection with its number, the orders, the last resort, the reason.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::decide;
use crate::{
    base::{
        catalog::{CandidateId, Served, Tokenizer},
        facts::{Abilities, Ability},
        money::Money,
    },
    policy::{
        Choice, Decision, Floor, Ordering, Prefer, Purse, Question, Rejection, Require, Route, Seen, Unavailable,
        queue::Line,
        rules::{Condition, Rule},
        sample::{Made, World, now, route, team},
    },
};

static EXHAUSTED: OnceLock<Vec<(CandidateId, Arc<str>)>> = OnceLock::new();

fn purse(nanousd: i64, cheapest: bool, clamp: bool) -> Option<Purse> {
    Some(Purse { left: usd(nanousd), cheapest, clamp })
}

const fn usd(nanousd: i64) -> Money {
    Money::from_nanousd(nanousd)
}

fn ask(world: &World, route: &Route) -> Decision {
    decide(&world.policies, world, &world.question(route))
}

fn models(decision: &Decision) -> Vec<&str> {
    decision.ranked.iter().map(|ranked| ranked.candidate.model.name.as_str()).collect()
}

fn rule(when: &str) -> Rule {
    Rule {
        name: "rule 1".into(),
        when: Condition::compile(when).unwrap(),
        candidates: None,
        prefer: None,
        right: None,
        max_cost: None,
        first_token_p95: None,
    }
}

/// The one candidate of a world is rejected, and for this.
fn rejection(made: Made, edit: impl FnOnce(&mut World, &mut Route), more: impl FnOnce(&mut Question<'_>)) -> Rejection {
    let mut world = World::new(&[made]);
    let mut route = world.route(Prefer::BALANCED);
    edit(&mut world, &mut route);
    let mut question = world.question(&route);
    more(&mut question);
    let decision = decide(&world.policies, &world, &question);
    assert!(decision.ranked.is_empty(), "{decision:?}");
    decision.rejected[0].why.clone()
}

#[test]
fn every_condition_rejects_with_its_number() {
    let made = || Made::new(1);
    let texts = [
        rejection(Made { off: true, ..made() }, |_, _| {}, |_| {}),
        rejection(Made { served: vec![Served { from: None, until: Some(now()) }], ..made() }, |_, _| {}, |_| {}),
        rejection(
            Made { served: vec![Served { from: "2027-01-01T00:00:00Z".parse().ok(), until: None }], ..made() },
            |_, _| {},
            |_| {},
        ),
        rejection(
            Made { location: Some("us".into()), ..made() },
            |world, _| world.team.locations = Some(vec!["eu".into()]),
            |_| {},
        ),
        rejection(made(), |world, _| world.team.locations = Some(vec!["eu".into()]), |_| {}),
        rejection(
            Made { abilities: Some(Abilities::default().with(Ability::Json)), ..made() },
            |world, _| world.facts.images = 1,
            |_| {},
        ),
        rejection(Made { context: 1_200, ..made() }, |_, _| {}, |_| {}),
        rejection(Made { price: None, ..made() }, |world, _| world.team = team(true), |_| {}),
        rejection(made(), |_, route| route.require.right = Some(Floor::Fitted(900_000)), |_| {}),
        rejection(
            Made::new(33),
            |_, route| {
                route.require.right = Some(Floor::Benchmark { benchmark: "exam".into(), at_least_milli: 70_500 });
            },
            |_| {},
        ),
        rejection(made(), |_, route| route.require.max_cost = Some(usd(1_000_000)), |_| {}),
        rejection(made(), |_, route| route.require.first_token_p95 = Some(Duration::from_millis(900)), |_| {}),
        rejection(made(), |_, _| {}, |question| question.affordable = purse(2_000_000, false, false)),
        rejection(
            made(),
            |_, _| {},
            |question| {
                question.exhausted =
                    EXHAUSTED.get_or_init(|| vec![(CandidateId(0), "budget `day` of model `m1`".into())])
            },
        ),
        rejection(made(), |world, _| world.seen[0].unavailable = Some(Unavailable::Full), |_| {}),
        rejection(made(), |_, _| {}, |question| question.failed = &[CandidateId(0)]),
        rejection(made(), |_, _| {}, |question| question.time_left = Some(Duration::ZERO)),
    ]
    .map(|why| why.to_string());
    assert_eq!(
        texts.each_ref().map(String::as_str),
        [
            "switched off: maintenance",
            "retired by its vendor on 2026-11-23T12:00:00Z",
            "not served by its vendor before 2027-01-01T00:00:00Z",
            "data of this team may not go to `us`",
            "its backend states no location, and the team is fenced",
            "lacks `images`",
            "needs 1300 tokens of context, has 1200",
            "its price is not known",
            "right with at least 35.3%, the floor is 90.0%",
            "has no score, the floor is 70.500",
            "expected to cost 0.0019 USD, at most 0.001 USD is allowed",
            "first token within 1.00 s (95 %), at most 0.90 s is allowed",
            "may cost up to 0.002844 USD, 0.002 USD is left",
            "budget `day` of model `m1` has too little left",
            "it has as many requests in flight as it takes",
            "failed on this request already",
            "expected after 1.00 s, 0.00 s is left",
        ]
    );
}

#[test]
fn the_limits_of_the_formula_order_by_their_own_term() {
    // m1 scores 47, m2 64, m3 81.
    let slow = Made { price: Some((10, 10)), ..Made::new(1) };
    let mut fast = Made { price: Some((100, 100)), ..Made::new(2) };
    fast.seen.first_token = Some(Duration::from_millis(100));
    let good = Made { price: Some((900, 900)), ..Made::new(3) };
    let world = World::new(&[slow, fast, good]);
    let order = |prefer| models(&ask(&world, &world.route(prefer))).join(" ");
    assert_eq!(order(Prefer::Cheapest), "m1 m2 m3");
    assert_eq!(order(Prefer::Fastest), "m2 m1 m3");
    assert_eq!(order(Prefer::Best), "m3 m2 m1");
    assert_eq!(order(Prefer::Worth { right_answer: usd(1_000_000_000), second: usd(0) }), "m3 m2 m1");
    assert_eq!(order(Prefer::Worth { right_answer: usd(0), second: usd(0) }), "m1 m2 m3");
    assert_eq!(order(Prefer::Worth { right_answer: usd(0), second: usd(1_000_000_000) }), "m2 m1 m3");
}

#[test]
fn an_unknown_price_is_never_the_cheapest() {
    let world = World::new(&[Made { price: None, ..Made::new(1) }, Made { price: Some((900, 900)), ..Made::new(2) }]);
    let decision = ask(&world, &world.route(Prefer::Cheapest));
    assert_eq!(models(&decision), ["m2", "m1"]);
    assert_eq!(decision.reason(), "cheapest of 2; m1 set back: its price is not known");
}

#[test]
fn who_is_set_back_for_want_of_a_price_is_not_said_to_be_of_less_value() {
    let unpriced = |number| Made { price: None, ..Made::new(number) };
    let world = World::new(&[unpriced(1), Made { price: Some((900, 900)), ..Made::new(2) }]);
    let decision = ask(&world, &world.route(Prefer::BALANCED));
    assert_eq!(decision.reason(), "best value of 2; m1 set back: its price is not known");
    let world = World::new(&[unpriced(1), unpriced(2)]);
    let decision = ask(&world, &world.route(Prefer::BALANCED));
    assert_eq!(decision.reason(), format!("best value of 2; {} at an unknown price, too", models(&decision)[1]));
}

#[test]
fn a_model_clears_a_floor_of_itself_and_the_unknown_clears_none() {
    let world = World::new(&[Made::new(3), Made::new(2), Made::new(39)]);
    let mut route = world.route(Prefer::Cheapest);
    route.require.right = Some(Floor::Of { at_least_ppm: 1_000_000, model: "m3".into() });
    let decision = ask(&world, &route);
    assert_eq!(models(&decision), ["m3"]);
    assert_eq!(decision.reason(), "the only one of 3 that passes; m2: right with at least 48.8%, the floor is 65.9%");
}

#[test]
fn an_order_is_kept_and_spills() {
    let mut world = World::new(&[Made::new(1), Made::new(2), Made::new(3)]);
    let chain = route("chain", Choice::Order([2, 0, 1, 0].map(CandidateId).to_vec()));
    let decision = ask(&world, &chain);
    assert_eq!((models(&decision), decision.order), (vec!["m3", "m1", "m2"], Ordering::Listed));
    assert_eq!(decision.reason(), "first of 3 in order; m1 next");
    world.seen[2].unavailable = Some(Unavailable::Full);
    assert_eq!(models(&ask(&world, &chain)), ["m1", "m2"]);
}

#[test]
fn a_sole_candidate_is_tried_though_its_breaker_is_open() {
    let broken = |left| Some(Unavailable::Broken(Duration::from_secs(left)));
    let mut world = World::new(&[Made::new(1), Made::new(2), Made { off: true, ..Made::new(3) }]);
    world.seen[0].unavailable = broken(9);
    let route = world.route(Prefer::Cheapest);
    assert_eq!(models(&ask(&world, &route)), ["m2"], "not while another is able");
    world.seen[1].unavailable = broken(4);
    let decision = ask(&world, &route);
    assert!(decision.last_resort);
    assert_eq!(models(&decision), ["m2"], "the one that is due first");
    assert_eq!(
        decision.reason(),
        "last resort: its breaker is open, and no other is able; m1: its breaker is open for another 9.00 s"
    );
    let failed = [CandidateId(1)];
    let question = Question { failed: &failed, ..world.question(&route) };
    assert_eq!(models(&decide(&world.policies, &world, &question)), ["m1"]);
    let failed = [CandidateId(0), CandidateId(1)];
    let question = Question { failed: &failed, ..world.question(&route) };
    assert!(decide(&world.policies, &world, &question).ranked.is_empty(), "one live try each");
}

#[test]
fn a_later_rule_goes_over_an_earlier_one_and_who_it_takes_out_is_told() {
    let world = World::new(&[Made::new(1), Made::new(2), Made::new(3)]);
    let mut route = world.route(Prefer::Cheapest);
    route.rules = vec![
        Rule { candidates: Some(vec![CandidateId(0)]), ..rule("request.messages == 1") },
        Rule { candidates: Some(vec![CandidateId(1), CandidateId(2)]), name: "night".into(), ..rule("true") },
        Rule { prefer: Some(Prefer::Best), max_cost: Some(usd(50_000_000)), ..rule("request.input_tokens > 999") },
        Rule { candidates: Some(vec![]), ..rule("request.images > 0") },
        rule("1 / request.images > 0"),
    ];
    route.require = Require { max_cost: Some(usd(40_000_000)), ..Require::default() };
    let decision = ask(&world, &route);
    assert_eq!(models(&decision), ["m3", "m2"]);
    assert_eq!(decision.rules, ["rule 1", "night", "rule 1"].map(Arc::<str>::from));
    assert_eq!(decision.rule_errors, 1);
    assert_eq!(decision.require.max_cost, Some(usd(40_000_000)));
    assert_eq!(decision.rejected[0].why, Rejection::Rule("night".into()));
}

#[test]
fn the_cap_is_the_clients_then_the_routes_within_model_and_context() {
    let mut world = World::new(&[Made { context: 1_500, ..Made::new(1) }, Made::new(2)]);
    let route = world.route(Prefer::Cheapest);
    let caps = |world: &World| {
        let mut ranked = ask(world, &route).ranked;
        ranked.sort_by_key(|ranked| ranked.candidate.id);
        ranked.iter().map(|ranked| (ranked.max_output, ranked.terms.output_tokens)).collect::<Vec<_>>()
    };
    assert_eq!(caps(&world), [(500, 300), (1_000, 300)], "the small context leaves 500 tokens");
    world.facts.max_output = Some(200);
    assert_eq!(caps(&world), [(200, 200), (200, 200)]);
    world.facts.max_output = Some(600);
    assert_eq!(caps(&world), [(600, 300)], "what the client reserved must fit");
}

#[test]
fn what_a_hold_must_cover_is_the_dearest_within_reach() {
    let made: Vec<Made> = (1..=5).map(|n| Made { price: Some((100 * i64::from(n), 0)), ..Made::new(n) }).collect();
    let mut world = World::new(&made);
    let decision = ask(&world, &world.route(Prefer::Cheapest));
    assert_eq!(decision.ceiling, usd(3 * 1_116_000), "three attempts reach the third, 1,116 tokens with the margin");
    world.facts.input_bound = 1_000;
    assert_eq!(ask(&world, &world.route(Prefer::Cheapest)).ceiling, usd(3 * 1_000_000));
}

#[test]
fn every_candidate_counts_the_prompt_in_its_own_vocabulary() {
    let read_with = |number, tokenizer| Made { tokenizer, ..Made::new(number) };
    let vocabularies = [Tokenizer::O200k, Tokenizer::Cl100k, Tokenizer::Deepseek, Tokenizer::Other];
    let made: Vec<Made> = (1..).zip(vocabularies).map(|(number, tokenizer)| read_with(number, tokenizer)).collect();
    let mut world = World::new(&made);
    world.facts.counted_with = Some(Tokenizer::O200k);
    world.facts.estimated_tokens = 1_300;
    world.facts.input_bound = 5_000;
    let counts = |world: &World| {
        let mut ranked = ask(world, &world.route(Prefer::Cheapest)).ranked;
        ranked.sort_by_key(|ranked| ranked.candidate.id);
        ranked.iter().map(|ranked| (ranked.terms.input_tokens, ranked.ceiling.nanousd())).collect::<Vec<_>>()
    };
    let [own, bound] = [1_116, 5_000].map(|input| (input + 3 * 1_000) * 1_000);
    assert_eq!(counts(&world), [(1_000, own), (1_018, bound), (1_033, bound), (1_300, bound)]);
    world.facts.other_script_ppm = 1_000_000;
    assert_eq!(counts(&world), [(1_000, own), (1_422, bound), (869, bound), (1_300, bound)]);
    world.facts.images = 1;
    assert_eq!(counts(&world)[0], (1_000, bound), "what an image costs, no vocabulary tells");
}

#[test]
fn a_prompt_must_fit_as_the_candidate_itself_counts_it() {
    let read_with = |number, tokenizer| Made { tokenizer, context: 1_400, ..Made::new(number) };
    let mut world = World::new(&[read_with(1, Tokenizer::Cl100k), read_with(2, Tokenizer::O200k)]);
    world.facts.counted_with = Some(Tokenizer::O200k);
    world.facts.other_script_ppm = 1_000_000;
    let decision = ask(&world, &world.route(Prefer::Cheapest));
    assert_eq!(models(&decision), ["m2"]);
    assert_eq!(decision.rejected[0].why, Rejection::Context { needed: 1_722, context: 1_400 });
}

#[test]
fn a_short_budget_takes_the_cheapest_that_fits_then_cuts_the_answer() {
    // Upper bounds of 4.1 and 0.41 millidollars; the dear one scores more.
    let (dear, cheap) = (Made::new(2), Made { price: Some((10, 30)), ..Made::new(1) });
    let mut world = World::new(&[dear, cheap]);
    world.facts.stream = false;
    let route = world.route(Prefer::Best);
    let with = |purse| decide(&world.policies, &world, &Question { affordable: purse, ..world.question(&route) });
    assert_eq!(models(&with(None)), ["m2", "m1"]);
    assert_eq!(models(&with(purse(9_000_000, true, false))), ["m1", "m2"]);
    let fits = with(purse(1_000_000, true, false));
    assert_eq!(models(&fits), ["m1"]);
    assert!(
        fits.reason().starts_with("the only one of 2 that the budget can still pay; m2: may cost"),
        "{}",
        fits.reason()
    );
    assert!(models(&with(purse(300_000, true, false))).is_empty());
    let cut = with(purse(300_000, true, true));
    assert_eq!(models(&cut), ["m1"]);
    let winner = &cut.ranked[0];
    assert!(winner.clamped && winner.max_output < 1_000 && winner.ceiling <= usd(300_000), "{winner:?}");
    assert!(winner.ceiling > usd(299_000), "as much as can be paid: {winner:?}");
    assert!(cut.reason().starts_with(&format!("answer capped at {} tokens for its budget; ", winner.max_output)));
    assert!(models(&with(purse(1_000, true, true))).is_empty());
}

#[test]
fn a_candidate_with_a_budget_needs_a_price() {
    let mut world = World::new(&[Made { price: None, ..Made::new(1) }]);
    let route = world.route(Prefer::BALANCED);
    assert_eq!(models(&ask(&world, &route)), ["m1"]);
    let budgeted = Question { budgeted: true, ..world.question(&route) };
    assert!(decide(&world.policies, &world, &budgeted).ranked.is_empty());
    let candidate = Arc::make_mut(&mut world.policies.candidates[0]);
    Arc::make_mut(&mut candidate.model).fences = team(true).fences;
    assert!(ask(&world, &route).ranked.is_empty());
}

#[test]
fn rented_servers_cost_what_those_behind_wait_longer() {
    let second = Duration::from_secs(1);
    let line = Line { wait: second, each: second * 2, load_ppm: 500_000, servers: 4 };
    let rented = |line| Made { rent: Some(16_800_000_000), seen: Seen { line, ..Seen::default() }, ..Made::new(1) };
    let marginal = |line, prefer| {
        let world = World::new(&[rented(line), Made::new(2)]);
        let decision = ask(&world, &world.route(prefer));
        let own = decision.ranked.iter().find(|ranked| ranked.candidate.id == CandidateId(0)).unwrap();
        (own.terms.marginal, models(&decision).join(" "))
    };
    let worth = |second| Prefer::Worth { right_answer: usd(0), second: usd(second) };
    assert_eq!(marginal(Line::default(), worth(1_000_000)), (usd(0), "m1 m2".into()), "paid anyway");
    // At half load, one who comes makes all behind it wait 1 + 2 ÷ 2 seconds longer.
    assert_eq!(marginal(line, worth(1_000_000)), (usd(2_000_000), "m2 m1".into()));
    assert_eq!(marginal(line, worth(100_000)).0, usd(200_000));
    assert_eq!(marginal(line, Prefer::Cheapest), (usd(400_000), "m1 m2".into()), "a second as `balanced` has it");
    assert_eq!(marginal(Line { wait: second * 60, ..line }, Prefer::Cheapest).1, "m2 m1");
    assert_eq!(
        marginal(Line { wait: second * 60, ..line }, Prefer::Fastest).1,
        "m2 m1",
        "its own wait is in its seconds"
    );
    let world = World::new(&[rented(Line::default()), Made::new(2)]);
    let route = world.route(Prefer::Best);
    let budget = Question { affordable: purse(9_000_000, true, false), ..world.question(&route) };
    let decision = decide(&world.policies, &world, &budget);
    assert!(decision.ranked.iter().all(|ranked| ranked.terms.marginal == ranked.terms.cost), "what is charged counts");
}

#[test]
fn what_would_wait_too_long_spills_also_down_an_order() {
    let second = Duration::from_secs(1);
    let line = Line { wait: second * 3, ..Line::default() };
    let own = Made { spill: Some(second * 2), seen: Seen { line, ..Seen::default() }, ..Made::new(1) };
    let world = World::new(&[own.clone(), Made::new(2)]);
    let decision = ask(&world, &route("chain", Choice::Order(world.ids())));
    assert_eq!(models(&decision), ["m2"]);
    assert_eq!(decision.rejected[0].why, Rejection::Spilled { wait: second * 3, max: second * 2 });
    let patient = World::new(&[Made { spill: Some(second * 3), ..own }, Made::new(2)]);
    let route = route("chain", Choice::Order(patient.ids()));
    assert_eq!(models(&ask(&patient, &route)), ["m1", "m2"]);
}

#[test]
fn the_break_even_is_told_against_the_cheapest_that_is_able() {
    let rented = Made { rent: Some(10_000_000_000), ..Made::new(1) };
    let (dear, cheap) = (Made { price: Some((200, 600)), ..Made::new(2) }, Made::new(3));
    let out = Made { price: Some((1, 1)), off: true, ..Made::new(4) };
    let world = World::new(&[rented, dear, cheap, out]);
    let decision = ask(&world, &world.route(Prefer::BALANCED));
    let [found] = decision.break_even.as_slice() else { panic!("{:?}", decision.break_even) };
    // 1,000 and 300 tokens for 0.0019 USD elsewhere: 10 USD an hour buy 6.842 million.
    assert_eq!((found.against.label().as_str(), found.tokens_per_hour), ("m3@b3", 6_842_106));
    let alone = World::new(&[Made { rent: Some(1), ..Made::new(1) }]);
    assert!(ask(&alone, &alone.route(Prefer::BALANCED)).break_even.is_empty());
}
