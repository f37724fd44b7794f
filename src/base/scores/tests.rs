//! What the register promises: it sees only what was known, and the same rows give the same bits.
#![allow(clippy::float_arithmetic, reason = "scores are fitted on the logit scale; no amount of money is touched")]

use std::sync::Arc;

use super::*;
use crate::base::catalog::{Model, SpeedPrior};

fn row(model: &str, benchmark: &str, value: f64, date: civil::Date, by: By) -> ScoreRow {
    let (model, benchmark, source) = (model.into(), benchmark.into(), "test".into());
    ScoreRow { model, benchmark, value, date, by, source, sample: None, interval: None, expires: None }
}

fn model(name: &str) -> Model {
    Model {
        name: name.into(),
        catalog: None,
        context: 0,
        max_output: 0,
        abilities: None,
        thinking: crate::base::catalog::Thinking::Never,
        tokenizer: crate::base::catalog::Tokenizer::O200k,
        prior: SpeedPrior::default(),
        expected_output: 300,
        fences: Arc::default(),
    }
}

const DAY: civil::Date = civil::Date::constant(2025, 2, 15);

fn benchmarks() -> BTreeMap<BenchmarkName, Benchmark> {
    let percent = |category| Benchmark { category, unit: Unit::PERCENT };
    [
        ("easy/code", percent(Category::Code)),
        ("hard/code", percent(Category::Code)),
        ("sums/math", percent(Category::Math)),
        ("arena", Benchmark { category: Category::Chat, unit: Unit::Elo }),
    ]
    .into_iter()
    .map(|(name, benchmark)| (name.into(), benchmark))
    .collect()
}

fn rows() -> Vec<ScoreRow> {
    let mut rows = Vec::new();
    for (model, lift) in [("strong", 15.0), ("middle", 0.0), ("weak", -15.0)] {
        for (benchmark, value) in [("easy/code", 75.0), ("hard/code", 40.0), ("sums/math", 60.0)] {
            rows.push(row(model, benchmark, value + lift, DAY, By::Independent));
        }
        rows.push(row(model, "arena", 1250.0 + 4.0 * lift, DAY, By::Independent));
    }
    rows
}

fn scores(rows: Vec<ScoreRow>) -> Scores {
    Scores::new(rows, benchmarks(), Trust::default())
}

fn code(scores: &Scores, name: &str, day: civil::Date) -> Right {
    scores.fit(day).right(&model(name), Category::Code, true)
}

#[test]
fn a_better_model_has_the_better_chance_and_a_lower_end_below_it() {
    let scores = scores(rows());
    let [strong, middle, weak] = ["strong", "middle", "weak"].map(|name| code(&scores, name, DAY));
    assert!(strong.ppm > middle.ppm && middle.ppm > weak.ppm);
    assert!(strong.low_ppm < strong.ppm && strong.low_ppm > weak.low_ppm);
    assert_eq!(strong.rows, 2);
    assert_eq!(scores.fit(DAY).right(&model("strong"), Category::Code, false).rows, 4);
}

#[test]
fn a_model_that_took_only_the_hard_benchmark_is_not_taken_for_a_weak_one() {
    let mut rows = rows();
    rows.push(row("new", "hard/code", 45.0, DAY, By::Independent));
    let scores = scores(rows);
    assert!(code(&scores, "new", DAY).ppm > code(&scores, "middle", DAY).ppm);
    let width = |right: Right| right.ppm - right.low_ppm;
    assert!(width(code(&scores, "new", DAY)) > width(code(&scores, "middle", DAY)), "one row makes a wide interval");
}

#[test]
fn without_a_row_of_the_category_the_overall_ability_counts_with_a_wide_interval() {
    let mut rows = rows();
    rows.push(row("mathematician", "sums/math", 75.0, DAY, By::Independent));
    let scores = scores(rows);
    let right = code(&scores, "mathematician", DAY);
    assert!(right.ppm > code(&scores, "middle", DAY).ppm);
    assert!(right.low_ppm < code(&scores, "middle", DAY).low_ppm, "hope clears no floor");
    assert_eq!(right.rows, 1);
}

#[test]
fn nothing_new_wins_on_hope() {
    let mut rows = rows();
    rows.push(row("braggart", "own/best", 99.0, DAY, By::Vendor));
    let mut benchmarks = benchmarks();
    benchmarks.insert("own/best".into(), Benchmark { category: Category::Code, unit: Unit::PERCENT });
    let scores = Scores::new(rows, benchmarks, Trust::default());
    for name in ["unheard-of", "braggart"] {
        let right = code(&scores, name, DAY);
        assert_eq!((right.low_ppm, right.rows), (10_000, 0), "{name}");
        assert_eq!(right.ppm, code(&scores, "weak", DAY).ppm, "{name}");
    }
    let empty = Scores::default().fit(DAY).right(&model("x"), Category::Math, true);
    assert_eq!(empty, Right { ppm: 500_000, low_ppm: 10_000, high_ppm: 990_000, rows: 0 });
}

#[test]
fn a_benchmark_that_one_model_took_moves_nobody() {
    let mut benchmarks = benchmarks();
    for (name, category) in [("own/code", Category::Code), ("own/chat", Category::Chat)] {
        benchmarks.insert(name.into(), Benchmark { category, unit: Unit::PERCENT });
    }
    let before = Scores::new(rows(), benchmarks.clone(), Trust::default()).fit(DAY);
    let taken = [("own/code", 3.0), ("own/chat", 97.0)].map(|(name, value)| row("middle", name, value, DAY, By::Own));
    let after = Scores::new(rows().into_iter().chain(taken).collect(), benchmarks, Trust::default()).fit(DAY);
    for name in ["strong", "middle", "weak", "unheard-of"] {
        for category in Category::ALL {
            let [before, after] = [&before, &after].map(|fit| fit.right(&model(name), category, true));
            assert!(before.ppm.abs_diff(after.ppm) <= 10, "{name}, {category:?}: {before:?}, {after:?}");
            assert!(before.low_ppm.abs_diff(after.low_ppm) <= 10, "{name}, {category:?}: {before:?}, {after:?}");
        }
    }
}

#[test]
fn only_what_was_known_on_the_day_counts() {
    let later = civil::date(2025, 3, 1);
    let mut with_later = rows();
    with_later.push(row("weak", "hard/code", 99.0, later, By::Own));
    let (before, after) = (scores(rows()), scores(with_later));
    assert_eq!(code(&before, "weak", DAY), code(&after, "weak", DAY));
    assert_eq!(before.fit(DAY).label(), after.fit(DAY).label());
    assert!(code(&after, "weak", later).ppm > code(&before, "weak", later).ppm);
    assert_eq!(after.benchmark_value("weak", "hard/code", DAY), Some(25_000));
    assert_eq!(after.benchmark_value("weak", "hard/code", later), Some(99_000));
    assert_eq!(after.benchmark_value("weak", "unknown", later), None);
}

#[test]
fn a_vendor_counts_less_than_an_independent_and_age_fades() {
    let with = |by, date| {
        let mut rows = rows();
        rows.push(row("weak", "hard/code", 90.0, date, by));
        code(&scores(rows), "weak", DAY).ppm
    };
    let without = code(&scores(rows()), "weak", DAY).ppm;
    assert!(without < with(By::Vendor, DAY) && with(By::Vendor, DAY) < with(By::Own, DAY));
    assert!(with(By::Own, civil::date(2023, 2, 15)) < with(By::Own, DAY));
}

#[test]
fn the_order_of_the_rows_changes_no_bit() {
    let mut turned = rows();
    turned.reverse();
    turned.swap(0, 5);
    let (a, b) = (scores(rows()).fit(DAY), scores(turned).fit(DAY));
    assert_eq!(a.label(), b.label());
    for name in ["strong", "middle", "weak"] {
        for category in Category::ALL {
            assert_eq!(a.right(&model(name), category, true), b.right(&model(name), category, true));
        }
    }
}

#[test]
fn a_rating_list_has_its_own_zero() {
    let shifted = rows().into_iter().map(|mut row| {
        if row.benchmark.as_str() == "arena" {
            row.value += 500.0;
        }
        row
    });
    let (a, b) = (scores(rows()), scores(shifted.collect()));
    for name in ["strong", "middle", "weak"] {
        assert!(code(&a, name, DAY).ppm.abs_diff(code(&b, name, DAY).ppm) <= 1);
    }
}

#[test]
fn the_catalogs_name_is_read_before_the_operators() {
    let scores = scores(rows());
    let mut aliased = model("our-strong");
    assert_eq!(scores.fit(DAY).right(&aliased, Category::Code, true).rows, 0);
    aliased.catalog = Some("strong".into());
    assert_eq!(scores.fit(DAY).right(&aliased, Category::Code, true), code(&scores, "strong", DAY));
    assert_eq!(scores.rows_of("strong").len(), 4);
    assert!(scores.knows("strong") && !scores.knows("our-strong"));
}

#[test]
fn guessing_is_taken_off_a_percentage() {
    let with_floor = |floor| {
        let mut benchmarks = benchmarks();
        let unit = Unit::Percent { floor, ceiling: 100.0 };
        benchmarks.insert("hard/code".into(), Benchmark { category: Category::Code, unit });
        let scores = Scores::new(rows(), benchmarks, Trust::default());
        code(&scores, "strong", DAY).ppm - code(&scores, "weak", DAY).ppm
    };
    assert!(with_floor(20.0) > with_floor(0.0), "above guessing, the weak one knows little");
}

#[test]
fn wilsons_interval_holds_its_share_and_is_as_published() {
    // Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for (right, asked, low, high) in
        [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)]
    {
        let (share, found_low, found_high) = wilson(right, asked).unwrap();
        assert!((found_low - low).abs() < 0.01 && (found_high - high).abs() < 0.01, "{found_low} {found_high}");
        assert!(found_low <= share && share <= found_high);
    }
    let (_, low, high) = wilson(8, 8).unwrap();
    assert!(low < 70.0 && high == 100.0, "eight of eight is no certainty");
    assert_eq!(wilson(0, 0), None);
}

#[test]
fn a_small_sample_moves_the_fit_less_than_a_large_one_and_a_large_one_as_much_as_an_exact_row() {
    let with = |sample: Option<u32>| {
        let mut rows = rows();
        rows.push(ScoreRow { sample, ..row("middle", "hard/code", 90.0, DAY, By::Own) });
        code(&scores(rows), "middle", DAY).ppm
    };
    let without = code(&scores(rows()), "middle", DAY).ppm;
    let (eight, forty, thousands, exact) = (with(Some(8)), with(Some(40)), with(Some(100_000)), with(None));
    assert!(without < eight && eight < forty && forty < thousands, "{without} {eight} {forty} {thousands}");
    assert!(exact.abs_diff(thousands) < 200, "{thousands} {exact}");
}

#[test]
fn an_interval_weighs_like_the_sample_that_it_comes_from() {
    let (share, low, high) = wilson(36, 60).unwrap();
    let reading = |row: &ScoreRow| Reading::new(row, Unit::PERCENT, &Trust::default(), DAY).unwrap();
    let plain = row("a", "hard/code", share, DAY, By::Own);
    let sampled = reading(&ScoreRow { sample: Some(60), ..plain.clone() });
    let stated = reading(&ScoreRow { interval: Some((low, high)), ..plain.clone() });
    assert!((sampled.precision - stated.precision).abs() < 0.02, "{sampled:?} {stated:?}");
    assert!((reading(&plain).precision - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_row_that_has_expired_counts_no_more_and_is_still_told_of() {
    let mut rows = rows();
    let until = civil::date(2025, 4, 1);
    rows.push(ScoreRow { expires: Some(until), ..row("weak", "hard/code", 95.0, DAY, By::Own) });
    let scores = scores(rows);
    let (before, after) = (code(&scores, "weak", civil::date(2025, 3, 31)), code(&scores, "weak", until));
    assert!(before.ppm > after.ppm + 100_000, "{before:?} {after:?}");
    let accounts = scores.accounts(until);
    let weak = accounts.iter().find(|account| account.model.as_str() == "weak").unwrap();
    let outs: Vec<_> = weak.rows.iter().filter_map(|carried| carried.out).collect();
    assert_eq!(outs, [account::Out::Expired]);
}

#[test]
fn an_account_says_which_rows_count_why_others_do_not_and_what_the_fit_expects() {
    let mut rows = rows();
    rows.push(row("strong", "hard/code", 10.0, civil::date(2024, 2, 15), By::Independent));
    rows.push(row("strong", "of/nothing", 10.0, DAY, By::Independent));
    let trust = Trust { vendor: 0.0, ..Trust::default() };
    rows.push(row("strong", "easy/code", 99.0, DAY, By::Vendor));
    let scores = Scores::new(rows, benchmarks(), trust);
    let fit = scores.fit(DAY);
    let accounts = scores.accounts(DAY);
    let names: Vec<&str> = accounts.iter().map(|account| account.model.as_str()).collect();
    assert_eq!(names, ["middle", "strong", "weak"]);
    let strong = &accounts[1];
    assert_eq!(strong.overall, Some(fit.right(&model("strong"), Category::Code, false)));
    let of_code = strong.categories.iter().find(|(category, ..)| *category == Category::Code).unwrap();
    assert_eq!(of_code.1, Some(fit.right(&model("strong"), Category::Code, true)));
    let mut outs: Vec<_> = strong.rows.iter().filter_map(|row| Some((row.row.benchmark.as_str(), row.out?))).collect();
    outs.sort_by_key(|(name, _)| *name);
    use account::Out::{NotDescribed, Superseded, Weightless};
    assert_eq!(outs, [("easy/code", Weightless), ("hard/code", Superseded), ("of/nothing", NotDescribed)]);
    let counted: Vec<_> = strong.rows.iter().filter(|row| row.out.is_none()).collect();
    assert_eq!(counted.len(), 4);
    for row in counted {
        let (expected, value) = (row.expected.unwrap(), row.row.value);
        let near = if row.row.benchmark.as_str() == "arena" { 100.0 } else { 12.0 };
        assert!((expected - value).abs() < near, "{} {expected} {value}", row.row.benchmark);
    }
}

#[test]
fn vendor_and_others_part_where_their_rows_differ_by_more_than_chance_and_only_there() {
    let boast = |lift: f64| {
        let mut rows = rows();
        for (name, value) in [("easy/code", 60.0), ("hard/code", 25.0), ("sums/math", 45.0)] {
            rows.push(row("weak", name, value + lift, DAY, By::Vendor));
        }
        let scores = scores(rows);
        let accounts = scores.accounts(DAY);
        let weak = accounts.iter().find(|account| account.model.as_str() == "weak").unwrap();
        let sides = |wanted| weak.categories.iter().find(|(category, ..)| *category == wanted).unwrap().2;
        (sides(Category::Code), sides(Category::Chat))
    };
    let (same, chat) = boast(0.0);
    assert!(
        same.is_some_and(|sides| !sides.parted && sides.vendor_ppm.abs_diff(sides.others_ppm) < 20_000),
        "{same:?}"
    );
    assert_eq!(chat, None, "the vendor says nothing of chat");
    let (boasted, _) = boast(38.0);
    assert!(boasted.is_some_and(|sides| sides.parted && sides.vendor_ppm > sides.others_ppm + 200_000), "{boasted:?}");
}
