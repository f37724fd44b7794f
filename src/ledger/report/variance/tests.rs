//! The split: its parts sum to the whole whatever happened, and one change alone is told as that change.

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::{Part, Side, Why, explain};
use crate::ledger::{
    report::{
        Filter, Stretch,
        sample::{charged, price, price_in_yuan, row, settled},
    },
    row::{PriceUsed, Row, Tokens},
};

fn side(requests: &[Vec<Row>]) -> Side {
    let stretch = Stretch { since: Timestamp::MIN, until: Timestamp::MAX };
    let mut side = Side::default();
    for rows in requests {
        side.add(&settled(rows.clone()), stretch, &Filter::default(), &TimeZone::UTC);
    }
    side
}

fn why(before: &[Vec<Row>], after: &[Vec<Row>]) -> Why {
    let why = explain(&side(before), &side(after));
    assert_eq!(why.parts.iter().map(|(_, amount)| amount).sum::<i128>(), why.after - why.before);
    why
}

/// The parts that are not nothing.
fn parts(why: &Why) -> Vec<(Part, i128)> {
    why.parts.into_iter().filter(|(_, amount)| *amount != 0).collect()
}

fn requests(count: u128, row_of: impl Fn(u128) -> Row) -> Vec<Vec<Row>> {
    (0..count).map(|id| vec![row_of(id)]).collect()
}

/// Ten requests of 1000 prompt and 100 completion tokens: 3,500,000 nano-USD each.
fn ten() -> Vec<Vec<Row>> {
    requests(10, |id| row(id, 1, "gpt", 1000, 100, price()))
}

#[test]
fn more_of_the_same_is_volume() {
    let twice = requests(20, |id| row(id, 1, "gpt", 1000, 100, price()));
    assert_eq!(parts(&why(&ten(), &twice)), [(Part::Volume, 35_000_000)]);
    assert_eq!(parts(&why(&ten(), &[])), [(Part::Volume, -35_000_000)]);
    assert_eq!(parts(&why(&[], &ten())), [(Part::Volume, 35_000_000)]);
    assert_eq!(parts(&why(&[], &[])), []);
    assert_eq!(parts(&why(&ten(), &ten())), []);
}

#[test]
fn what_lost_to_the_attempt_beside_it_is_a_hedge_whoever_counted_it() {
    let hedged =
        requests(10, |id| row(id, 1, "gpt", 1000, 100, price())).into_iter().enumerate().map(|(id, mut rows)| {
            let lost = Row { outcome: "lost".into(), estimated: true, ..row(id as u128, 2, "gpt", 1000, 0, price()) };
            rows.push(Row { hedge: true, ..charged(lost) });
            rows
        });
    let hedged: Vec<Vec<Row>> = hedged.collect();
    let more = hedged.iter().map(|rows| i128::from(rows[1].charge_nanousd)).sum();
    assert_eq!(parts(&why(&ten(), &hedged)), [(Part::Retries, more)]);
}

#[test]
fn more_of_the_same_is_volume_with_all_its_roundings_and_retries() {
    // A price that leaves a rest in every charge, a retry and an estimate.
    let odd = PriceUsed { factor_ppm: 333_333, ..price_in_yuan() };
    let some = |count: u128| -> Vec<Vec<Row>> {
        let of = |id: u128| {
            let mut estimate = row(id, 1, "ds", 77, 7, odd.clone());
            estimate.estimated = true;
            let mut failed = row(id + 1, 1, "gpt", 1003, 0, odd.clone());
            failed.outcome = "upstream_error".into();
            [vec![estimate], vec![failed, row(id + 1, 2, "ds", 1009, 103, odd.clone())]]
        };
        (0..count).flat_map(|id| of(2 * id)).collect()
    };
    let told = why(&some(5), &some(15));
    assert_eq!(parts(&told), [(Part::Volume, told.after - told.before)]);
}

#[test]
fn another_price_alone_is_list_price() {
    let cheaper = PriceUsed { rates: price().rates.map(|rate| rate / 2), ..price() };
    let after = requests(10, |id| row(id, 1, "gpt", 1000, 100, cheaper.clone()));
    assert_eq!(parts(&why(&ten(), &after)), [(Part::ListPrice, -17_500_000)]);
    // So is a calendar's factor.
    let peak = PriceUsed { factor_ppm: 2_000_000, ..price() };
    let after = requests(10, |id| row(id, 1, "gpt", 1000, 100, peak.clone()));
    assert_eq!(parts(&why(&ten(), &after)), [(Part::ListPrice, 35_000_000)]);
}

#[test]
fn another_rate_alone_is_exchange() {
    let before = requests(10, |id| row(id, 1, "ds", 1_000_000, 0, price_in_yuan()));
    let dearer = PriceUsed { exchange_nanousd: 140_000_000, ..price_in_yuan() };
    let after = requests(10, |id| row(id, 1, "ds", 1_000_000, 0, dearer.clone()));
    assert_eq!(parts(&why(&before, &after)), [(Part::ExchangeRate, 10 * 2 * 1_100_000)]);
}

#[test]
fn longer_prompts_and_answers_are_told_apart() {
    let after = requests(10, |id| row(id, 1, "gpt", 2000, 100, price()));
    assert_eq!(parts(&why(&ten(), &after)), [(Part::InputTokens, 25_000_000)]);
    let after = requests(10, |id| row(id, 1, "gpt", 1000, 50, price()));
    assert_eq!(parts(&why(&ten(), &after)), [(Part::OutputTokens, -5_000_000)]);
}

#[test]
fn a_warmer_cache_is_the_cached_share() {
    // Nothing was cached before, so what a cached token would have cost then is on its list.
    let cached = |id| {
        let mut row = row(id, 1, "gpt", 1000, 100, price());
        row.tokens.cached_input = 800;
        charged(row)
    };
    assert_eq!(parts(&why(&ten(), &requests(10, cached))), [(Part::CachedShare, -10 * 800 * 1250)]);
}

#[test]
fn another_model_is_mix_even_one_that_was_never_there() {
    let cheap = PriceUsed { rates: price().rates.map(|rate| rate / 10), ..price() };
    let after: Vec<_> =
        (0..10)
            .map(|id| {
                if id < 5 {
                    row(id, 1, "gpt", 1000, 100, price())
                } else {
                    row(id, 1, "mini", 1000, 100, cheap.clone())
                }
            })
            .map(|row| vec![row])
            .collect();
    assert_eq!(parts(&why(&ten(), &after)), [(Part::Mix, -5 * 3_150_000)]);
    assert_eq!(parts(&why(&after, &ten())), [(Part::Mix, 5 * 3_150_000)]);
}

#[test]
fn a_vendor_that_turned_to_dollars_changed_its_list() {
    let before = requests(10, |id| row(id, 1, "ds", 1_000_000, 0, price_in_yuan()));
    let dollars = PriceUsed { rates: [300_000_000; 7], ..price() };
    let after = requests(10, |id| row(id, 1, "ds", 1_000_000, 0, dollars.clone()));
    assert_eq!(parts(&why(&before, &after)), [(Part::ListPrice, 10 * (300_000_000 - 277_800_000))]);
}

#[test]
fn failed_attempts_are_retries() {
    let retried = |id| {
        let mut failed = row(id, 1, "mini", 1000, 0, price());
        failed.outcome = "upstream_error".into();
        vec![failed, row(id, 2, "gpt", 1000, 100, price())]
    };
    let after: Vec<_> = (0..10).map(retried).collect();
    assert_eq!(parts(&why(&ten(), &after)), [(Part::Retries, 25_000_000)]);
}

#[test]
fn the_loser_of_a_hedge_is_a_retry_though_it_came_last() {
    let hedged = |id| {
        let mut loser = row(id, 2, "gpt", 1000, 10, price());
        loser.outcome = "abandoned".into();
        vec![row(id, 1, "gpt", 1000, 100, price()), loser]
    };
    let after: Vec<_> = (0..10).map(hedged).collect();
    assert_eq!(parts(&why(&ten(), &after)), [(Part::Retries, 10 * 2_600_000)]);
}

#[test]
fn what_a_sweep_charges_beyond_the_usual_is_an_estimate() {
    let swept = |id| {
        let mut row = row(id, 1, "gpt", 0, 0, price());
        (row.swept, row.price, row.native_nano, row.charge_nanousd) = (true, None, 0, 9_000_000);
        row
    };
    let mut after = ten();
    after[0] = vec![swept(0)];
    assert_eq!(parts(&why(&ten(), &after)), [(Part::Estimates, 9_000_000 - 3_500_000)]);
    // An estimate that costs what others cost changes nothing.
    let mut after = ten();
    after[0][0].estimated = true;
    assert_eq!(parts(&why(&ten(), &after)), []);
}

fn any_row(id: u128, attempt: u32) -> impl Strategy<Value = Row> {
    let model = prop::sample::select(vec!["gpt", "mini", "ds"]);
    let tokens = (0_u64..200_000, 0_u64..100, 0_u64..20_000, 0_u64..100);
    let rates = prop::array::uniform7(0_i64..100_000_000_000);
    let price =
        (prop::bool::ANY, rates, prop::sample::select(vec![500_000_i64, 1_000_000, 1_999_999]), 1_i64..2_000_000_000);
    let flags =
        (prop::bool::weighted(0.9), prop::bool::weighted(0.1), prop::bool::weighted(0.05), prop::bool::weighted(0.05));
    (model, tokens, price, flags).prop_map(move |(model, tokens, price_parts, (ok, estimated, swept, unpriced))| {
        let (input, cached, output, reasoned) = tokens;
        let (dollars, rates, factor_ppm, exchange_nanousd) = price_parts;
        let currency = if dollars { "USD" } else { "CNY" };
        let price = PriceUsed { currency: currency.into(), from: 0, rates, factor_ppm, exchange_nanousd };
        let mut row = row(id, attempt, model, input, output, price);
        let (cached_input, reasoning) = (input * cached / 100, output * reasoned / 100);
        row.tokens = Tokens { input, cached_input, output, reasoning, ..Tokens::default() };
        (row.estimated, row.swept) = (estimated, swept);
        if !ok {
            row.outcome = "timeout".into();
        }
        row = charged(row);
        if unpriced {
            (row.price, row.native_nano, row.charge_nanousd) = (None, 0, 0);
        }
        row
    })
}

fn any_requests() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let request = prop::collection::vec(any_row(1, 1), 1..4).prop_map(|mut rows| {
        rows.iter_mut().zip(1..).for_each(|(row, attempt)| row.attempt = attempt);
        rows
    });
    prop::collection::vec(request, 0..30)
}

proptest! {
    #[test]
    fn the_parts_sum_to_the_whole_and_rounding_stays_a_rounding(before in any_requests(), after in any_requests()) {
        let told = why(&before, &after);
        let rows = |requests: &[Vec<Row>]| requests.iter().map(Vec::len).sum::<usize>() as i128;
        let (old, new) = (rows(&before), rows(&after));
        // A nano-dollar for each row that was rounded up, the first's scaled to the second's requests, and one a part.
        let scale = if before.is_empty() { 0 } else { after.len() as i128 / before.len() as i128 + 1 };
        let rounding = told.parts[9].1;
        prop_assert!(rounding.abs() <= old * scale + new + 10, "rounding {}", rounding);
    }
}
