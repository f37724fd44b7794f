//! What holds for every decision, whatever the candidates.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::decide;
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        facts::{Abilities, Ability},
        money::Money,
        names::RouteName,
        usage::Usage,
    },
    policy::{
        Arm, Caller, Choice, Decision, Floor, Observations, Prefer, Purse, Question, Rejection, Require, Route, Seen,
        StickyBy, Unavailable,
        queue::Line,
        rules::{Condition, Rule},
        sample::{self, Made, World, team},
    },
};

prop_compose! {
    fn any_seen()(
        first in prop::option::of(1_u64..8_000), p95 in prop::option::of(1_u64..12_000),
        per in prop::option::of(1_u64..90_000), output in prop::option::of(1_u64..5_000), cached_ppm in 0_u32..1_000_000,
        warm in prop::option::of((0_u64..2_000, 0_u32..1_000_000)),
        line in prop::option::weighted(0.3, (0_u64..8_000, 0_u64..800, 0_u64..950_000)),
        unavailable in prop::option::weighted(0.3, prop_oneof![
            (1_u64..300).prop_map(|left| Unavailable::Broken(Duration::from_secs(left))),
            (1_u64..300).prop_map(|left| Unavailable::Parked(Duration::from_secs(left))),
            Just(Unavailable::Full),
            Just(Unavailable::NotReady),
            Just(Unavailable::Crowded),
        ]),
    ) -> Seen {
        Seen {
            first_token: first.map(Duration::from_millis),
            first_token_p95: p95.map(Duration::from_millis),
            per_token: per.map(Duration::from_micros),
            output_tokens: output,
            cached_ppm,
            warm_tokens: warm.map_or(0, |(tokens, _)| tokens),
            warm_ppm: warm.map_or(0, |(_, ppm)| ppm),
            line: line.map_or(Line::default(), |(wait, each, load_ppm)| Line {
                wait: Duration::from_millis(wait), each: Duration::from_millis(each), load_ppm, servers: 2,
            }),
            unavailable,
            ..Seen::default()
        }
    }
}

prop_compose! {
    fn any_made(number: u32)(
        // Few different prices, so that ties come up.
        price in prop::option::weighted(0.9, (0_i64..8, 0_i64..8)), seen in prop_oneof![Just(Seen::default()), any_seen()],
        place in 0_usize..4, off in prop::bool::weighted(0.1), json in any::<bool>(),
        context in prop_oneof![Just(0_u64), 900_u64..3_000],
        rent in prop::option::weighted(0.2, 0_i64..100_000_000_000), spill in prop::option::weighted(0.2, 1_u64..6_000),
    ) -> Made {
        Made {
            price: price.map(|(input, output)| (input * 50, output * 100)),
            seen,
            location: [None, Some("eu".into()), Some("cn".into()), Some("us".into())][place].clone(),
            off,
            abilities: json.then(|| Abilities::default().with(Ability::Json)),
            context,
            rent,
            spill: spill.map(Duration::from_millis),
            ..Made::new(number)
        }
    }
}

fn any_made_list() -> impl Strategy<Value = Vec<Made>> {
    prop::sample::subsequence((0_u32..40).collect::<Vec<_>>(), 1..8)
        .prop_flat_map(|numbers| numbers.into_iter().map(any_made).collect::<Vec<_>>())
}

fn any_prefer() -> impl Strategy<Value = Prefer> {
    prop_oneof![
        Just(Prefer::Cheapest),
        Just(Prefer::Fastest),
        Just(Prefer::Best),
        Just(Prefer::BALANCED),
        (0_i64..100_000_000, 0_i64..2_000_000).prop_map(|(right_answer, second)| Prefer::Worth {
            right_answer: Money::from_nanousd(right_answer),
            second: Money::from_nanousd(second),
        }),
    ]
}

fn any_require() -> impl Strategy<Value = Require> {
    let floor = prop_oneof![
        (100_000_u32..800_000).prop_map(Floor::Fitted),
        (500_000_u32..1_100_000).prop_map(|at_least_ppm| Floor::Of { at_least_ppm, model: "m3".into() }),
        (30_000_i64..80_000).prop_map(|at_least_milli| Floor::Benchmark { benchmark: "exam".into(), at_least_milli }),
    ];
    let parts = (prop::option::of(floor), prop::option::of(1_i64..5_000_000), prop::option::of(100_u64..9_000));
    parts.prop_map(|(right, max_cost, p95)| Require {
        right,
        max_cost: max_cost.map(Money::from_nanousd),
        first_token_p95: p95.map(Duration::from_millis),
    })
}

/// What one request is like, apart from the candidates.
#[derive(Clone, Debug)]
struct Ask {
    prefer: Prefer,
    require: Require,
    stream: bool,
    json: bool,
    budget: bool,
    fenced: bool,
    time_left: Option<Duration>,
    affordable: Option<Money>,
    max_output: Option<u64>,
}

prop_compose! {
    fn any_ask()(
        prefer in any_prefer(), require in any_require(), flags in prop::array::uniform4(any::<bool>()),
        time_left in prop::option::weighted(0.3, 1_u64..30_000), left in prop::option::weighted(0.2, 0_i64..9_000_000),
        max_output in prop::option::of(1_u64..2_000),
    ) -> Ask {
        let [stream, json, budget, fenced] = flags;
        Ask {
            prefer, require, stream, json, budget, fenced, max_output,
            time_left: time_left.map(Duration::from_millis), affordable: left.map(Money::from_nanousd),
        }
    }
}

fn world(made: &[Made], ask: &Ask) -> World {
    let mut world = World::new(made);
    world.team = team(ask.budget);
    world.team.locations = ask.fenced.then(|| vec!["eu".into(), "cn".into()]);
    world.facts.json = ask.json;
    world.facts.stream = ask.stream;
    world.facts.max_output = ask.max_output;
    world
}

fn asked(world: &World, ask: &Ask, edit: impl FnOnce(&mut Route)) -> Decision {
    let mut route = world.route(ask.prefer);
    route.require = ask.require.clone();
    edit(&mut route);
    let question =
        Question { time_left: ask.time_left, affordable: ask.affordable.map(purse), ..world.question(&route) };
    decide(&world.policies, world, &question)
}

fn run(made: &[Made], ask: &Ask) -> Decision {
    asked(&world(made, ask), ask, |_| {})
}

/// Everything said of each candidate, by name; the place and the last resort apart.
fn said(decision: &Decision) -> BTreeMap<String, String> {
    let ranked = decision.ranked.iter().map(|r| (r.candidate.label(), format!("{:?} {:?}", r.terms, r.ceiling)));
    let rejected = decision.rejected.iter().map(|r| (r.candidate.label(), format!("{:?} {:?}", r.why, r.terms)));
    ranked.chain(rejected).collect()
}

fn order(decision: &Decision) -> Vec<String> {
    decision.ranked.iter().map(|ranked| ranked.candidate.label()).collect()
}

fn place(decision: &Decision, number: u32) -> Option<usize> {
    order(decision).iter().position(|label| *label == format!("m{number}@b{number}"))
}

proptest! {
    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        (made, turned) in any_made_list().prop_flat_map(|made| (Just(made.clone()), Just(made).prop_shuffle())),
        ask in any_ask(),
    ) {
        let (a, b) = (run(&made, &ask), run(&turned, &ask));
        prop_assert_eq!(order(&a), order(&b));
        prop_assert_eq!(said(&a), said(&b));
        prop_assert_eq!(a.reason(), b.reason());
        prop_assert_eq!(a.ceiling, b.ceiling);
    }

    #[test]
    fn the_same_question_gets_the_same_decision(made in any_made_list(), ask in any_ask()) {
        prop_assert_eq!(format!("{:?}", run(&made, &ask)), format!("{:?}", run(&made, &ask)));
    }

    #[test]
    fn removing_a_candidate_changes_no_number_of_another(
        made in any_made_list(), out in any::<prop::sample::Index>(), mut ask in any_ask(),
    ) {
        // The model that a floor is relative to must stay in the catalog; here it would leave with its candidate.
        if matches!(ask.require.right, Some(Floor::Of { .. })) {
            ask.require.right = None;
        }
        let mut fewer = made.clone();
        let out = fewer.remove(out.index(made.len()));
        let (whole, rest) = (run(&made, &ask), run(&fewer, &ask));
        let mut expected = said(&whole);
        expected.remove(&format!("m{0}@b{0}", out.number));
        let found = said(&rest);
        prop_assert_eq!(expected.len(), found.len());
        for (label, words) in found {
            let resort = |decision: &Decision| decision.last_resort && decision.ranked[0].candidate.label() == label;
            // The last who was in time is gone, and now the others may come late.
            let late = whole.late != rest.late;
            prop_assert!(words == expected[&label] || late || resort(&whole) || resort(&rest), "{label}: {words}");
        }
    }

    #[test]
    fn a_dearer_price_never_raises_a_rank(
        made in any_made_list(), which in any::<prop::sample::Index>(), by in (0_i64..300, 0_i64..300), ask in any_ask(),
    ) {
        let which = which.index(made.len());
        let mut dearer = made.clone();
        dearer[which].price = made[which].price.map(|(input, output)| (input + by.0, output + by.1));
        let (before, after) = (run(&made, &ask), run(&dearer, &ask));
        let worst = usize::MAX;
        let number = made[which].number;
        prop_assert!(place(&after, number).unwrap_or(worst) >= place(&before, number).unwrap_or(worst));
    }

    #[test]
    fn every_candidate_is_either_ranked_or_rejected_and_the_ranked_fulfil_all_conditions(
        made in any_made_list(), ask in any_ask(),
    ) {
        let decision = run(&made, &ask);
        prop_assert_eq!(said(&decision).len(), made.len());
        prop_assert_eq!(decision.ranked.len() + decision.rejected.len(), made.len());
        for ranked in &decision.ranked {
            let number: u32 = ranked.candidate.model.name[1..].parse().unwrap();
            let made = made.iter().find(|made| made.number == number).unwrap();
            prop_assert!(!made.off);
            prop_assert!(!ask.fenced || matches!(made.location.as_deref(), Some("eu" | "cn")));
            prop_assert!(!ask.budget || made.price.is_some());
            prop_assert!(ask.require.max_cost.is_none_or(|max| made.price.is_some() && ranked.terms.cost <= max));
            prop_assert!(ask.affordable.is_none_or(|left| ranked.stake.first <= left));
            prop_assert!(made.spill.is_none_or(|max| made.seen.line.wait <= max));
            prop_assert!(made.rent.is_some() || ranked.terms.marginal == ranked.terms.cost);
            let able = made.seen.unavailable.is_none();
            prop_assert!(able || decision.last_resort && decision.ranked.len() == 1);
            if let Some(Floor::Fitted(floor)) = ask.require.right {
                prop_assert!(ranked.terms.right_low_ppm >= floor);
            }
            prop_assert!(ranked.terms.cost <= ranked.ceiling && ranked.stake.first <= ranked.ceiling);
            prop_assert!(ask.stream || ranked.stake.first == ranked.ceiling);
            prop_assert!(ranked.max_output >= 1 && ask.max_output.is_none_or(|max| ranked.max_output <= max));
        }
        let reach = decision.ranked.iter().take(3).map(|ranked| ranked.stake.first).max().unwrap_or(Money::ZERO);
        prop_assert_eq!(decision.ceiling, reach);
        let reason = decision.reason();
        prop_assert!(reason.len() <= 200 && reason.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", reason);
    }

    #[test]
    fn a_rule_tightens_and_never_loosens(
        made in any_made_list(), ask in any_ask(), tighter in any_require(), keep in any::<u32>(), narrow in any::<bool>(),
    ) {
        let world = world(&made, &ask);
        let chosen = |world: &World| world.ids().into_iter().filter(|id| keep >> (id.0 % 32) & 1 == 1).collect::<Vec<_>>();
        let with = asked(&world, &ask, |route| route.rules.push(Rule {
            name: "rule 1".into(),
            when: Condition::compile("request.messages == 1").unwrap(),
            candidates: narrow.then(|| chosen(&world)),
            prefer: None,
            right: tighter.right.clone(),
            max_cost: tighter.max_cost,
            first_token_p95: tighter.first_token_p95,
        }));
        prop_assert_eq!(&with.rules, &[Arc::<str>::from("rule 1")]);
        let without = run(&made, &ask);
        let only = asked(&world, &ask, |route| route.require = tighter.clone());
        for ranked in &with.ranked {
            let label = ranked.candidate.label();
            let passes = |decision: &Decision| {
                order(decision).contains(&label)
                    || decision.rejected.iter().any(|rejected| {
                        rejected.candidate.label() == label
                            && matches!(
                                rejected.why,
                                Rejection::Deadline { .. }
                                    | Rejection::Unavailable(
                                        Unavailable::Broken(_) | Unavailable::NotReady | Unavailable::Crowded
                                    )
                            )
                    })
            };
            prop_assert!(passes(&without) && passes(&only), "{label}");
            prop_assert!(!narrow || chosen(&world).contains(&ranked.candidate.id));
        }
    }

    #[test]
    fn a_ceiling_covers_every_usage_within_its_bounds(
        made in any_made_list(), mut ask in any_ask(), share in (0_u64..=1000, 0_u64..=1000, 0_u64..=1000), answers in 1_u64..4,
    ) {
        ask.affordable = None;
        let mut world = world(&made, &ask);
        world.facts.answers = answers;
        for ranked in asked(&world, &ask, |_| {}).ranked {
            let input = (world.facts.input_tokens * 11 / 10 + 16) * share.0 / 1000;
            let output = ranked.max_output * answers * share.1 / 1000;
            let usage = Usage { input, cached_input: input * share.2 / 1000, output, ..Usage::default() };
            let charged = ranked.price.map_or(Money::ZERO, |price| price.charge(&usage, true).money);
            prop_assert!(charged <= ranked.ceiling);
        }
    }

}

proptest! {
    // Each case deals 4,000 times.
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_caller_stays_on_its_arm_and_the_arms_get_their_shares(heavy in 1_u32..20, names in any::<u64>()) {
        let weights = [heavy, 20 - heavy.min(19)];
        let mut world = World::new(&[Made::new(1), Made::new(2)]);
        for (number, id) in [(1, 0), (2, 1)] {
            let name = format!("arm{number}");
            let choice = Choice::Order(vec![CandidateId(id)]);
            world.policies.routes.insert(name.as_str().into(), sample::route(&name, choice).into());
        }
        let arms = |turned: bool| {
            let mut arms: Vec<_> = [("arm1", weights[0]), ("arm2", weights[1])]
                .map(|(route, weight)| Arm { route: route.into(), weight })
                .into();
            if turned { arms.reverse() }
            let by = StickyBy::User;
            sample::route("canary", Choice::Split { arms, by, guard: None, revision: "".into() })
        };
        let (route, turned) = (arms(false), arms(true));
        let mut first = 0_u32;
        for number in 0..2_000 {
            let user = format!("{names:x}-{number}");
            let deal = |route, seed| {
                let caller = Caller { user: &user, ..world.question(route).caller };
                decide(&world.policies, &world, &Question { caller, seed, ..world.question(route) })
            };
            let decision = deal(&route, number);
            prop_assert_eq!(&decision.arm, &deal(&turned, number + 1).arm);
            prop_assert_eq!(decision.arm.as_ref(), Some(&decision.route));
            first += u32::from(decision.ranked[0].candidate.model.name.as_str() == "m1");
        }
        // Within five standard deviations of a binomial of 2,000 draws, squared and in parts of the sum of weights.
        let (sum, share) = (i64::from(weights[0] + weights[1]), i64::from(weights[0]));
        let off = i64::from(first) * sum - 2_000 * share;
        prop_assert!(off * off <= 25 * 2_000 * share * (sum - share) + sum * sum, "{first} of {share} / {sum}");
    }
}

/// A world in which one arm may be withdrawn.
struct Without<'a>(&'a World, Option<&'static str>);

impl Observations for Without<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        self.0.seen(candidate)
    }

    fn withdrawn(&self, route: &RouteName, arm: &RouteName) -> Option<Arc<str>> {
        (route.as_str() == "canary" && self.1 == Some(arm.as_str())).then(|| "it fails".into())
    }
}

#[test]
fn a_withdrawal_moves_only_those_whom_the_arm_served() {
    let mut world = World::new(&[Made::new(1), Made::new(2), Made::new(3)]);
    let mut arms = Vec::new();
    for (name, id) in [("a", 0), ("b", 1), ("c", 2)] {
        let choice = Choice::Order(vec![CandidateId(id)]);
        world.policies.routes.insert(name.into(), sample::route(name, choice).into());
        arms.push(Arm { route: name.into(), weight: 10 });
    }
    for by in [StickyBy::User, StickyBy::Session, StickyBy::Key, StickyBy::Request] {
        let split = Choice::Split { arms: arms.clone(), by, guard: None, revision: "".into() };
        let route = sample::route("canary", split);
        let mut moved = 0;
        for number in 0..600 {
            let name = format!("caller-{number}");
            let deal = |gone| {
                let caller = Caller { user: &name, session: &name, key: &name, ..world.question(&route).caller };
                let question = Question { caller, seed: number, ..world.question(&route) };
                decide(&world.policies, &Without(&world, gone), &question)
            };
            let (before, after) = (deal(None), deal(Some("b")));
            let (was, is) = (before.arm.unwrap(), after.arm.unwrap());
            assert_eq!(after.withdrawn, [("b".into(), "it fails".into())]);
            assert!(is.as_str() != "b" && (was == is || was.as_str() == "b"), "{by:?}: {was} → {is}");
            moved += u32::from(was != is);
        }
        assert!((150..250).contains(&moved), "{by:?}: {moved} of 600");
    }
}

fn purse(left: Money) -> Purse {
    Purse { left, cheapest: false, clamp: false }
}
