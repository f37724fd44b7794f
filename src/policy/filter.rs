//! The hard conditions: what a candidate must fulfil before its value counts. Nothing later loosens them.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, civil};

use super::{
    Floor, Policies, PriceInForce, Question, Rejection, Require, Seen, Terms, Unavailable,
    value::{first_token, measured, needed_context},
};
use crate::base::{
    catalog::Candidate,
    facts::{Abilities, Category},
    money::Money,
    names::BenchmarkName,
    scores::Fit,
};

/// A floor made ready to be tested: other models' chances are read once for a request.
#[derive(Debug)]
pub(super) enum Bar<'a> {
    /// The lower end of the chance, in parts per million.
    Right(u32),
    /// A benchmark, in thousandths of its unit.
    Benchmark(&'a BenchmarkName, i64),
}

/// All that the conditions need besides the candidate.
pub(super) struct Fence<'a> {
    pub(super) policies: &'a Policies,
    pub(super) question: &'a Question<'a>,
    pub(super) day: civil::Date,
    pub(super) require: &'a Require,
    pub(super) bars: Vec<Bar<'a>>,
    pub(super) wanted: Abilities,
    /// The price must be known: the team has a budget, or the route a `max_cost`.
    pub(super) priced: bool,
    pub(super) route_cap: u64,
}

impl Fence<'_> {
    /// The conditions that need no estimate: is it served, allowed and able?
    pub(super) fn before(&self, candidate: &Candidate, seen: &Seen) -> Result<(), Rejection> {
        let model = &candidate.model;
        if let Some(why) = &candidate.backend.off {
            return Err(Rejection::Off { why: why.clone() });
        }
        served(candidate, self.question.now)?;
        let location = candidate.backend.location.as_ref();
        if !self.question.caller.team.may_send_to(location) {
            return Err(Rejection::Location { location: location.cloned() });
        }
        if let Some(ability) = model.abilities.and_then(|abilities| abilities.lacking(self.wanted)) {
            return Err(Rejection::Lacks(ability));
        }
        let needed = needed_context(model, self.question.facts, seen, self.route_cap);
        if model.context > 0 && needed > model.context {
            return Err(Rejection::Context { needed, context: model.context });
        }
        Ok(())
    }

    /// The conditions on the estimate, in the order in which they are reported. Whether it is in time and whether its
    /// breaker is open are the caller's last, since both may be overridden.
    pub(super) fn after(
        &self,
        candidate: &Candidate,
        seen: &Seen,
        price: Option<&PriceInForce>,
        terms: &Terms,
        ceiling: Money,
    ) -> Result<(), Rejection> {
        let tier = self.question.facts.tier.expected(candidate.backend.tier);
        let priced = self.priced || candidate.has_budget();
        if priced && !price.is_some_and(|price| price.row.has(tier)) {
            return Err(Rejection::NoPrice { tier });
        }
        self.bars.iter().try_for_each(|bar| self.clears(bar, candidate, terms))?;
        if let Some(max) = self.require.max_cost.filter(|max| terms.cost > *max) {
            return Err(Rejection::TooDear { cost: terms.cost, max });
        }
        if let Some(max) = self.require.first_token_p95 {
            let p95 = seen.first_token_p95.unwrap_or_else(|| first_token(candidate, seen)).max(seen.line.wait);
            if p95 > max {
                return Err(Rejection::TooSlow { p95, max });
            }
        }
        if let Some(purse) = self.question.affordable.filter(|purse| ceiling > purse.left) {
            return Err(Rejection::Unaffordable { ceiling, left: purse.left });
        }
        if let Some((_, fence)) = self.question.exhausted.iter().find(|(id, _)| *id == candidate.id) {
            return Err(Rejection::Exhausted(Arc::clone(fence)));
        }
        let wait = seen.line.wait;
        if let Some(max) = candidate.backend.spill.filter(|max| wait > *max) {
            return Err(Rejection::Spilled { wait, max });
        }
        if let Some(unavailable @ (Unavailable::Parked(_) | Unavailable::Full)) = seen.unavailable {
            return Err(Rejection::Unavailable(unavailable));
        }
        if self.question.failed.contains(&candidate.id) {
            return Err(Rejection::Failed);
        }
        match self.question.time_left {
            Some(left @ Duration::ZERO) => {
                let whole = Duration::from_millis(terms.expected_ms);
                let expected = if self.question.facts.stream { first_token(candidate, seen) } else { whole };
                Err(Rejection::Deadline { expected, left })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn clears(&self, bar: &Bar<'_>, candidate: &Candidate, terms: &Terms) -> Result<(), Rejection> {
        match *bar {
            Bar::Right(floor_ppm) if terms.right_low_ppm < floor_ppm => {
                Err(Rejection::BelowFloor { right_ppm: terms.right_low_ppm, floor_ppm })
            }
            Bar::Right(_) => Ok(()),
            Bar::Benchmark(benchmark, at_least_milli) => {
                let value = |name: &str| self.policies.scores.benchmark_value(name, benchmark, self.day);
                let of_catalog = candidate.model.catalog.as_ref().and_then(|name| value(name));
                let value_milli = of_catalog.or_else(|| value(&candidate.model.name));
                if value_milli.is_some_and(|value| value >= at_least_milli) {
                    return Ok(());
                }
                Err(Rejection::BelowBenchmark { value_milli, at_least_milli })
            }
        }
    }

    /// Why an able candidate is passed over while somebody else is in time. A stream is in time when it can begin, a plain
    /// answer when it can end. Only what was measured tells of that: by a prior nobody would ever be asked and measured.
    pub(super) fn late(&self, seen: &Seen, terms: &Terms) -> Option<Rejection> {
        let left = self.question.time_left?;
        let expected = measured(seen, self.question.facts, terms);
        (expected > left).then_some(Rejection::Deadline { expected, left })
    }
}

/// Whether the vendor serves the candidate at `now`; no spans = not known, no check.
pub(super) fn served(candidate: &Candidate, now: Timestamp) -> Result<(), Rejection> {
    let begun = |from: Option<Timestamp>| from.is_none_or(|from| from <= now);
    let ended = |until: Option<Timestamp>| until.is_some_and(|until| until <= now);
    if candidate.served.is_empty() || candidate.served.iter().any(|span| begun(span.from) && !ended(span.until)) {
        return Ok(());
    }
    if let Some(since) = candidate.retired(now) {
        return Err(Rejection::Retired { since });
    }
    let next = candidate.served.iter().filter_map(|span| span.from).filter(|from| *from > now).min();
    Err(Rejection::NotYet { from: next.unwrap_or(now) })
}

/// The bars of floors from the route and the rules, each to be cleared.
///
/// `{at_least, of}` compares like with like: the candidate's lower end with a share of the other model's lower end,
/// so that a model always clears a floor of itself, and a less certain one needs to be better.
pub(super) fn bars<'a>(
    floors: impl Iterator<Item = &'a Floor>,
    policies: &Policies,
    fit: &Fit,
    category: Category,
    confident: bool,
) -> Vec<Bar<'a>> {
    let bar = |floor: &'a Floor| match floor {
        Floor::Fitted(ppm) => Bar::Right(*ppm),
        Floor::Of { at_least_ppm, model } => {
            // A model that the policies do not have cannot be cleared by anybody; `check` names it as a fault.
            let low = policies.models.get(model).map(|model| fit.right(model, category, confident).low_ppm);
            let share = low.map(|low| u64::from(low) * u64::from(*at_least_ppm) / 1_000_000);
            Bar::Right(share.and_then(|share| u32::try_from(share).ok()).unwrap_or(1_000_000))
        }
        Floor::Benchmark { benchmark, at_least_milli } => Bar::Benchmark(benchmark, *at_least_milli),
    };
    floors.map(bar).collect()
}
