//! `scores:`, `benchmarks:` and `trust:`: the register that the chance of a right answer is fitted from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::{close, tree::Node, units},
    Named, Work, amounts, idle, warnings,
};
use crate::base::{
    catalog::Model,
    names::{BenchmarkName, ModelName},
    scores::{Benchmark, ScoreRow, Scores, Trust, Unit},
};

/// The operator's rows and the catalog's. A row of a recognised model goes under the catalog's name, which is where
/// its scores are looked up; an operator's row takes the place of the catalog's for the same model and benchmark.
pub fn lower(work: &mut Work<'_, '_>, models: &Named<ModelName, Model>) -> Scores {
    let trust = trust(work);
    let benchmarks = benchmarks(work);
    let mut rows: Vec<ScoreRow> = Vec::new();
    let sections = work.sections;
    for node in sections.list("scores") {
        rows.extend(row(work, node, models, &benchmarks));
    }
    let own: BTreeSet<(ModelName, BenchmarkName)> =
        rows.iter().map(|row| (row.model.clone(), row.benchmark.clone())).collect();
    let known = work.catalog.scores.iter();
    rows.extend(known.filter(|row| !own.contains(&(row.model.clone(), row.benchmark.clone()))).cloned());
    Scores::new(rows, benchmarks, trust)
}

fn row(
    work: &mut Work<'_, '_>,
    node: &Node,
    models: &Named<ModelName, Model>,
    benchmarks: &BTreeMap<BenchmarkName, Benchmark>,
) -> Option<ScoreRow> {
    let (model, benchmark) = (node.get("model")?, node.get("benchmark")?);
    let (name, measure) = (model.text()?, benchmark.text()?);
    if !work.catalog.models.contains_key(name) && !work.known("models", "model", name, model.span) {
        return None;
    }
    if !benchmarks.contains_key(measure) {
        let hint = close::hint(measure, benchmarks.keys().map(BenchmarkName::as_str), "define it under `benchmarks:`");
        let warning = work.report.warning(benchmark.span, format!("benchmark `{measure}` is not described"));
        warning.label("stays out of the fit").hint(hint);
    }
    let mut row = amounts::score(node)?;
    let percent = benchmarks.get(measure).is_some_and(|benchmark| matches!(benchmark.unit, Unit::Percent { .. }));
    if percent && !(0.0..=100.0).contains(&row.value) {
        let place = node.get("value").unwrap_or(node);
        let fault = work.report.fault(place.span, format!("{} is no percentage", row.value));
        fault.label("beyond 0 to 100").hint(format!("`{measure}` counts right answers in percent"));
    }
    check_row(work, node, &row);
    if let Some(catalog) = models.get(name).and_then(|model| model.catalog.clone()) {
        row.model = catalog;
    }
    if row.source.is_empty() {
        row.source = Arc::from("the operator's own row");
    }
    idle::score_to_come(work, node);
    warnings::newer_score(work, node.span, &row);
    Some(row)
}

fn check_row(work: &mut Work<'_, '_>, node: &Node, row: &ScoreRow) {
    if let (Some(place), None) = (node.get("interval"), row.interval) {
        let fault = work.report.fault(place.span, "an interval without two ends in their order");
        fault.label("not an interval").hint("write its lower and its upper end, as in `[60.1, 68.4]`");
    }
    if let (Some(place), Some((low, high))) = (node.get("interval"), row.interval)
        && !(low..=high).contains(&row.value)
    {
        let fault = work.report.fault(place.span, format!("the interval does not hold its value {}", row.value));
        fault.label("beside it").hint("give both in the benchmark's unit");
    }
    if let (Some(place), Some(expires)) = (node.get("expires"), row.expires)
        && expires <= row.date
    {
        let fault = work.report.fault(place.span, "`expires` is not after `date`");
        fault.label("over before it counts").hint("a score counts from `date` up to, but not on, `expires`");
    }
}

/// What each benchmark measures, the operator's before the catalog's.
fn benchmarks(work: &mut Work<'_, '_>) -> BTreeMap<BenchmarkName, Benchmark> {
    let mut benchmarks = work.catalog.benchmarks.clone();
    let sections = work.sections;
    for (key, node) in sections.table("benchmarks") {
        let Some(benchmark) = amounts::benchmark(node) else { continue };
        if let (Unit::Percent { floor, ceiling }, Some(place)) =
            (benchmark.unit, node.get("ceiling").or_else(|| node.get("floor")))
            && floor >= ceiling
        {
            let fault = work.report.fault(place.span, "`ceiling` is not above `floor`");
            fault
                .label("nothing between them")
                .hint("`floor` is what guessing reaches, `ceiling` what a faultless model reaches");
        }
        benchmarks.insert(BenchmarkName::from(key.text.as_str()), benchmark);
    }
    benchmarks
}

fn trust(work: &mut Work<'_, '_>) -> Trust {
    let usual = Trust::default();
    let sections = work.sections;
    let find = |key: &str| sections.find("trust", key).map(|(_, node)| node);
    for place in ["vendor", "independent", "own"].into_iter().filter_map(find) {
        if place.text().is_some_and(|text| units::number(text).is_ok_and(|weight| weight < 0.0)) {
            work.report
                .fault(place.span, "a weight below zero")
                .label("negative")
                .hint("write 0 for what shall not count");
        }
    }
    let weight =
        |key: &str, other| find(key).and_then(Node::text).and_then(|text| units::number(text).ok()).unwrap_or(other);
    let half_life = find("half_life").and_then(Node::text).and_then(|text| units::duration(text).ok());
    let days = half_life.and_then(|length| u32::try_from(length.as_secs() / 86_400).ok());
    if let (Some(0), Some(place)) = (days, find("half_life")) {
        work.report
            .fault(place.span, "a half-life of less than a day")
            .label("too short")
            .hint("write it in days, as in `365d`");
    }
    Trust {
        vendor: weight("vendor", usual.vendor),
        independent: weight("independent", usual.independent),
        own: weight("own", usual.own),
        half_life_days: days.map_or(usual.half_life_days, f64::from),
    }
}
