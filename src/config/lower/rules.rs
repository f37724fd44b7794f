//! `prefer:`, `require:` and `rules:` of a route. Rules may tighten a route, never loosen it.

use std::sync::Arc;

use super::{
    super::{close, tree::Node, units},
    Work, routes,
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        money::Money,
        names::{BenchmarkName, ModelName},
    },
    policy::{
        Choice, Floor, Prefer, Require,
        rules::{Condition, Rule},
    },
};

/// A word, or `{right_answer, second}`.
pub fn prefer(node: &Node) -> Option<Prefer> {
    match node.text() {
        Some("cheapest") => Some(Prefer::Cheapest),
        Some("fastest") => Some(Prefer::Fastest),
        Some("best") => Some(Prefer::Best),
        Some("balanced") => Some(Prefer::BALANCED),
        Some(_) => None,
        None => Some(Prefer::Worth {
            right_answer: Money::from_nanousd(node.read("right_answer", units::usd)?),
            second: Money::from_nanousd(node.read("second", units::usd)?),
        }),
    }
}

/// The hard conditions in `node`.
pub fn require(work: &mut Work<'_, '_>, node: &Node) -> Require {
    Require {
        right: node.get("right").and_then(|node| floor(work, node)),
        max_cost: node.read("max_cost", units::usd).map(Money::from_nanousd),
        first_token_p95: node.read("first_token_p95", units::duration),
    }
}

fn floor(work: &mut Work<'_, '_>, node: &Node) -> Option<Floor> {
    if let Some(share) = node.text() {
        return units::share(share).ok().map(Floor::Fitted);
    }
    let (at_least, least) = (node.get("at_least")?, node.word("at_least")?);
    match (node.get("of"), node.get("benchmark")) {
        (Some(of), None) => {
            let model = of.text()?;
            let known = work.known("models", "model", model, of.span);
            match units::share(least) {
                Ok(at_least_ppm) => known.then(|| Floor::Of { at_least_ppm, model: ModelName::from(model) }),
                Err(unfit) => {
                    work.report.fault(at_least.span, unfit.problem).label("expected a share").hint(unfit.hint);
                    None
                }
            }
        }
        (None, Some(benchmark)) => {
            let name = benchmark.text()?;
            let mut names = benchmarks(work);
            if !names.any(|known| known == name) {
                let names: Vec<&str> = benchmarks(work).collect();
                let hint = close::hint(name, names, "define it under `benchmarks:`");
                work.report.fault(benchmark.span, format!("no benchmark `{name}`")).label("not defined").hint(hint);
                return None;
            }
            let at_least_milli = units::thousandths(least).ok()?;
            Some(Floor::Benchmark { benchmark: BenchmarkName::from(name), at_least_milli })
        }
        (Some(_), Some(_)) | (None, None) => {
            let fault = work.report.fault(node.span, "`at_least` of what?");
            fault
                .label("`of` or `benchmark` is missing")
                .hint("write `{at_least: 95%, of: MODEL}` or `{benchmark: NAME, at_least: 70}`");
            None
        }
    }
}

/// The names of all benchmarks, the operator's and the catalog's.
fn benchmarks<'a>(work: &Work<'a, '_>) -> impl Iterator<Item = &'a str> + use<'a> {
    let (own, catalog) = (work.sections, work.catalog);
    let rows = own.list("scores").iter().filter_map(|row| row.word("benchmark"));
    own.names("benchmarks").chain(rows).chain(catalog.benchmarks.keys().map(BenchmarkName::as_str))
}

/// The rules of a route that chooses by `choice` under `require`.
pub fn lower(
    work: &mut Work<'_, '_>,
    route: &Node,
    choice: &Choice,
    require: &Require,
    candidates: &[Arc<Candidate>],
) -> Vec<Rule> {
    let rules = route.get("rules").map(Node::items).unwrap_or_default();
    let named = |node: &Node| node.word("name").map(str::to_owned);
    for (index, node) in rules.iter().enumerate() {
        let Some(first) =
            named(node).and_then(|name| rules[..index].iter().find(|first| named(first) == Some(name.clone())))
        else {
            continue;
        };
        let name = node.get("name").unwrap_or(node);
        let fault = work.report.fault(name.span, "two rules of one name");
        fault
            .label("here again")
            .also(first.get("name").unwrap_or(first).span, "first here")
            .hint("rename one of them");
    }
    let rules = rules.iter().enumerate();
    rules.filter_map(|(index, node)| rule(work, index, node, choice, require, candidates)).collect()
}

fn rule(
    work: &mut Work<'_, '_>,
    index: usize,
    node: &Node,
    choice: &Choice,
    require: &Require,
    candidates: &[Arc<Candidate>],
) -> Option<Rule> {
    let may = match choice {
        Choice::Value { candidates, .. } | Choice::Order(candidates) => candidates.as_slice(),
        Choice::Split { .. } => &[],
    };
    let chosen = node.get("candidates").map(|list| narrowed(work, list, may, candidates));
    if let (Choice::Order(_), Some(place)) = (choice, node.get("prefer")) {
        let fault = work.report.fault(place.span, "`prefer` in a route with `order`");
        fault.label("not here").hint("an `order` is its own preference: use `candidates` with `prefer`");
    }
    if ["candidates", "prefer", "require"].iter().all(|key| node.get(key).is_none()) {
        let fault = work.report.fault(node.span, "a rule that changes nothing");
        fault.label("has a condition only").hint("add `candidates:`, `prefer:` or `require:`");
    }
    let own = match node.get("require") {
        Some(place) => {
            let own = self::require(work, place);
            check_tighter(work, place, &own, require);
            own
        }
        None => Require::default(),
    };
    let when = condition(work, node.get("when")?)?;
    let name = node.word("name").map_or_else(|| format!("rule {}", index + 1), str::to_owned);
    let prefer = node.get("prefer").and_then(prefer);
    let Require { right, max_cost, first_token_p95 } = own;
    Some(Rule { name: Arc::from(name), when, candidates: chosen, prefer, right, max_cost, first_token_p95 })
}

fn condition(work: &mut Work<'_, '_>, place: &Node) -> Option<Condition> {
    let text = place.text()?;
    let condition = match Condition::compile(text) {
        Ok(condition) => condition,
        Err(error) => {
            let usual = "conditions are written in CEL, as in `request.images > 0 && caller.team == \"search\"`";
            let (problem, hint) = error.message.split_once("; hint: ").unwrap_or((&error.message, usual));
            // An offset holds in the file only where the scalar stands there as it is: plain, or quoted without escapes.
            let quotes = place.span.len().saturating_sub(text.len()) / 2;
            let at = error.offset.filter(|_| place.span.len() <= text.len() + 2);
            let span = at.map_or(place.span, |at| place.span.within(at + quotes..at + quotes + 1));
            let fault = work.report.fault(span, "a condition that cannot be used");
            fault.label(problem).hint(hint);
            return None;
        }
    };
    for model in condition.models() {
        if work.sections.find("models", model).is_none() {
            work.known("models", "model", model, place.span);
        }
    }
    Some(condition)
}

/// The candidates of a rule; one that the route does not name would loosen it.
fn narrowed(
    work: &mut Work<'_, '_>,
    list: &Node,
    may: &[CandidateId],
    candidates: &[Arc<Candidate>],
) -> Vec<CandidateId> {
    let mut chosen = Vec::new();
    for place in list.items() {
        let one = Node { span: place.span, value: super::super::tree::Value::List(vec![place.clone()]) };
        let ids = routes::named(work, &one, candidates);
        if let Some(beyond) = ids.iter().find(|id| !may.contains(id)) {
            let label = candidates.get(beyond.0 as usize).map(|candidate| candidate.label()).unwrap_or_default();
            let fault = work.report.fault(place.span, format!("`{label}` is no candidate of this route"));
            fault.label("a rule may narrow, not widen").hint("add it to the route's own candidates");
        }
        chosen.extend(ids);
    }
    chosen
}

/// Notes requirements of a rule that are looser than the route's own: they would never take effect.
fn check_tighter(work: &mut Work<'_, '_>, place: &Node, own: &Require, route: &Require) {
    let looser = [
        ("max_cost", own.max_cost.zip(route.max_cost).is_some_and(|(own, route)| own > route)),
        ("first_token_p95", own.first_token_p95.zip(route.first_token_p95).is_some_and(|(own, route)| own > route)),
        ("right", own.right.as_ref().zip(route.right.as_ref()).is_some_and(|(own, route)| lower_floor(own, route))),
    ];
    for (key, _) in looser.into_iter().filter(|(_, looser)| *looser) {
        if let Some(node) = place.get(key) {
            let fault = work.report.fault(node.span, format!("`{key}` is looser than the route's own"));
            fault.label("never takes effect").hint("a rule may tighten `require`, not loosen it");
        }
    }
}

fn lower_floor(own: &Floor, route: &Floor) -> bool {
    match (own, route) {
        (Floor::Fitted(own), Floor::Fitted(route)) => own < route,
        (Floor::Of { at_least_ppm: own, model }, Floor::Of { at_least_ppm: route, model: other }) => {
            model == other && own < route
        }
        (
            Floor::Benchmark { benchmark, at_least_milli: own },
            Floor::Benchmark { benchmark: other, at_least_milli: route },
        ) => benchmark == other && own < route,
        (Floor::Fitted(_) | Floor::Of { .. } | Floor::Benchmark { .. }, _) => false,
    }
}
