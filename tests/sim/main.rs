//! The simulator: the real picker, breakers, retries and decision on a virtual clock, under load and in hard weather.
//!
//! `TURNPIKE_SIM_TABLE=6 cargo test --test sim -- --nocapture table` prints the table, of six runs a cell.
//! `TURNPIKE_SIM_SEEDS` is how many seeds are run through the scenarios (200 unless stated, 10,000 by night); a failure
//! prints its seed, and `TURNPIKE_SIM_SEED` runs that one alone. `TURNPIKE_SIM_ONLY` and `TURNPIKE_SIM_PICKER` are parts
//! of the names of scenarios and pickers in the table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::float_arithmetic, reason = "times and rates are drawn; nothing here is an amount")]

mod dice;
mod engine;
mod gateway;
mod load;
mod pickers;
mod report;
mod scenario;
mod world;

use pickers::OURS;
use report::{percentile, variable};
use scenario::Scenario;
use world::{Outcome, run};

/// Without a wish, one brief run a cell of ours alone: that the table can be printed.
#[test]
fn table() {
    report::print(variable("TURNPIKE_SIM_TABLE"));
}

/// Which scenario a seed stands for.
fn scenario_of(scenarios: &[Scenario], seed: u64) -> usize {
    (seed % scenarios.len() as u64) as usize
}

/// One seed, with what must hold in each run.
fn checked(scenarios: &[Scenario], seed: u64) -> Outcome {
    let scenario = &scenarios[scenario_of(scenarios, seed)];
    let outcome = run(scenario, OURS, seed);
    let replay = format!("{}: seed {seed}; TURNPIKE_SIM_SEED={seed} runs it again", scenario.name);
    assert!(outcome.requests > 100, "{replay}: {} requests", outcome.requests);
    assert!(outcome.calls * 10 <= outcome.requests * 12, "{replay}: {} calls", outcome.calls);
    // One of a few hundred would be more than a tenth of a per cent: the share is looked at over all seeds.
    assert!(outcome.errors <= 1, "{replay}: {} of {} failed", outcome.errors, outcome.requests);
    outcome
}

#[test]
fn every_seed_holds_the_bars() {
    let scenarios: Vec<Scenario> = Scenario::all().into_iter().map(Scenario::brief).collect();
    if let Some(seed) = variable("TURNPIKE_SIM_SEED") {
        let outcome = checked(&scenarios, seed);
        println!("{outcome:?}");
        return;
    }
    let seeds = variable("TURNPIKE_SIM_SEEDS").unwrap_or(200);
    let mut sums = vec![Outcome::default(); scenarios.len()];
    for (seed, outcome) in (0..).zip(report::all(seeds, |seed| checked(&scenarios, seed))) {
        sums[scenario_of(&scenarios, seed)].add(outcome);
    }
    for (scenario, sum) in scenarios.iter().zip(&sums) {
        let p99 = percentile(sum, 99);
        assert!(scenario.bar.is_none_or(|bar| p99 <= bar), "{}: first token p99 is {p99} s", scenario.name);
        assert!(
            sum.errors * 1_000_000 <= sum.requests * scenario.errors_ppm,
            "{}: {} errors",
            scenario.name,
            sum.errors
        );
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for (seed, scenario) in (0..).zip(Scenario::all().into_iter().map(Scenario::brief).step_by(4)) {
        let (one, again) = (run(&scenario, OURS, seed), run(&scenario, OURS, seed));
        assert_eq!(format!("{one:?}"), format!("{again:?}"), "{}", scenario.name);
    }
}

#[test]
fn a_replica_that_fails_fast_draws_less_than_one_per_cent() {
    let scenario = Scenario::all().into_iter().find(|scenario| scenario.name == "one fails fast").unwrap();
    let outcome = run(&Scenario { seconds: 20, ..scenario }, OURS, 1);
    let failed = outcome.calls - outcome.requests;
    assert!(failed > 0 && failed * 100 < outcome.requests, "{failed} of {}", outcome.requests);
}

/// Eight gateways each see an eighth of what waits at eight servers: none of it, until the queue is longer than all servers.
#[test]
fn gateways_that_each_see_little_of_a_queue_spill_by_what_the_engines_tell() {
    let spill = Scenario::all().into_iter().find(|scenario| scenario.spill.is_some()).unwrap();
    let (mut told, mut blind) = (Outcome::default(), Outcome::default());
    for seed in 0..6 {
        told.add(run(&spill, OURS, seed));
        blind.add(run(&Scenario { scrape: None, ..spill.clone() }, OURS, seed));
    }
    let show = |name: &str, outcome: &Outcome| {
        let (median, tail) = (percentile(outcome, 50), percentile(outcome, 99));
        let bought = outcome.by_server[8] * 1_000 / outcome.requests;
        println!("{name}: first token p50 {median:.2} s, p99 {tail:.2} s; {bought} of 1,000 bought");
        (median, tail)
    };
    let (told, blind) = (show("told", &told), show("not told", &blind));
    assert!(told.0 * 2.0 < blind.0 && told.1 * 1.5 < blind.1, "{told:?} s, {blind:?} s");
}

#[test]
fn in_a_429_storm_less_is_sent_at_once_and_less_is_refused() {
    let storm = Scenario::all().into_iter().find(|scenario| scenario.name == "429 storm").unwrap();
    let (mut with, mut without) = (Outcome::default(), Outcome::default());
    for seed in 0..8 {
        with.add(run(&storm, OURS, seed));
        without.add(run(&Scenario { adaptive: false, ..storm.clone() }, OURS, seed));
    }
    let told = |name: &str, outcome: &Outcome| {
        let (calls, refused, first) = (outcome.calls, outcome.refused, outcome.by_server[0] - outcome.refused);
        println!(
            "{name}: {calls} calls for {} requests, {refused} refused, {first} served by the first",
            outcome.requests
        );
    };
    told("adaptive", &with);
    told("not adaptive", &without);
    assert_eq!((with.errors, without.errors), (0, 0));
    assert!(with.refused < without.refused, "{} of {}", with.refused, without.refused);
}
