//! What the register promises: it sees only what was known, and the same rows give the same bits.
#![allow(clippy::float_arithmetic, reason = "scores are fitted on the logit scale; no amount of money is touched")]

use std::sync::Arc;

use super::*;
use crate::base::catalog::{Model, SpeedPrior};

fn row(model: &str, benchmark: &str, value: f64, date: civil::Date, by: By) -> ScoreRow {
    ScoreRow { model: model.into(), benchmark: benchmark.into(), value, date, by, source: "test".into() }
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
    assert_eq!(empty, Right { ppm: 500_000, low_ppm: 10_000, rows: 0 });
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
