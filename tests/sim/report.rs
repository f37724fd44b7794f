//! Many runs at once, and the table.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::{
    pickers::{OURS, PICKERS},
    scenario::Scenario,
    world::{self, Outcome},
};

/// A percentile in seconds.
pub fn percentile(outcome: &Outcome, per_cent: usize) -> f64 {
    let mut sorted = outcome.first_tokens.clone();
    sorted.sort_unstable();
    let place = (sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(0.0, |micros| *micros as f64 / 1e6)
}

/// A number from the environment.
pub fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Does `work` for `0..count` on all processors; the results in order.
pub fn all<T: Send>(count: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let worker = || {
        let numbers =
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count));
        numbers.map(|number| (number, work(number))).collect::<Vec<_>>()
    };
    let workers = thread::available_parallelism().map_or(1, |count| count.get());
    let mut done: Vec<(u64, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Runs of a scenario with the seeds `0..seeds`.
pub fn runs(scenario: &Scenario, picker: &'static str, seeds: u64) -> Outcome {
    let mut sum = Outcome::default();
    all(seeds, |seed| world::run(scenario, picker, seed)).into_iter().for_each(|one| sum.add(one));
    sum
}

/// Prints everything for every picker, with so many runs a cell.
pub fn print(seeds: Option<u64>) {
    let named = |variable: &str| std::env::var(variable).unwrap_or_default();
    let (only, pickers) = (named("TURNPIKE_SIM_ONLY"), named("TURNPIKE_SIM_PICKER"));
    println!("{} runs each; all pickers with the same retries, ejection and slow start", seeds.unwrap_or(1));
    for scenario in Scenario::all().into_iter().filter(|scenario| scenario.name.contains(&only)) {
        println!(
            "\n{:<22} {:>8} {:>8} {:>7} {:>9} {:>8} {:>10}",
            scenario.name, "p50 s", "p99 s", "hits %", "errors %", "cut %", "calls/req"
        );
        let scenario = if seeds.is_none() { scenario.brief() } else { scenario };
        let all = seeds.is_some() && scenario.has_choice();
        for picker in PICKERS.iter().filter(|picker| (all || **picker == OURS) && picker.contains(&pickers)) {
            row(picker, &runs(&scenario, picker, seeds.unwrap_or(1)));
        }
    }
}

fn row(picker: &str, sum: &Outcome) {
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    println!(
        "  {:<20} {:>8.3} {:>8.3} {:>7.1} {:>9.4} {:>8.3} {:>10.4}",
        picker,
        percentile(sum, 50),
        percentile(sum, 99),
        100.0 * share(sum.cached_tokens, sum.prompt_tokens),
        100.0 * share(sum.errors, sum.requests),
        100.0 * share(sum.cut, sum.requests),
        share(sum.calls, sum.requests),
    );
}
