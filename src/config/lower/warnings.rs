//! What is doubtful but stops nothing: told by `check` and at every load.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{diagnostic::Span, tree::Node},
    Work,
    models::catalog_prices,
    prices::Own,
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        price::{PriceRow, in_force},
        scores::ScoreRow,
    },
    policy::{Choice, Floor, Policies, Prefer, Route},
};

/// Notes all warnings.
pub fn note(work: &mut Work<'_, '_>, policies: &Policies, own: &Own) {
    for candidate in &policies.candidates {
        retired(work, candidate);
        unpriced(work, policies, candidate);
        newer_price(work, candidate, own);
    }
    for route in policies.routes.values().filter(|route| !route.implicit) {
        unscored(work, policies, route);
        unscored_among(work, policies, route);
    }
    fenced_in(work, policies);
    let used: BTreeSet<&str> = policies.candidates.iter().map(|candidate| candidate.backend.name.as_str()).collect();
    let sections = work.sections;
    for (key, _) in sections.table("backends") {
        if !used.contains(key.text.as_str()) {
            let warning = work.report.warning(key.span, format!("no model uses backend `{}`", key.text));
            warning.label("never called").hint("name it under a model's `backends:`, or take it out");
        }
    }
}

/// With a store that several gateways share, limits of accounts are not counted in it.
pub fn counted_apart(work: &mut Work<'_, '_>) {
    let sections = work.sections;
    for (key, node) in sections.table("backends") {
        let accounts = node.get("accounts").map(Node::items).unwrap_or_default();
        if let Some(limits) = accounts.iter().find_map(|account| account.get("limits")) {
            let title = format!("`limits` of accounts of `{}` hold for each gateway, not for all together", key.text);
            let warning = work.report.warning(limits.span, title).label("not counted in `store`");
            warning.hint("write what the vendor allows, divided by the number of gateways");
        }
    }
}

/// Fences of a team and of those above it may leave nothing between them.
fn fenced_in(work: &mut Work<'_, '_>, policies: &Policies) {
    let sections = work.sections;
    for (key, node) in sections.table("teams") {
        let team = policies.teams.get(key.text.as_str());
        if team.is_some_and(|team| team.locations.as_ref().is_some_and(Vec::is_empty)) {
            let place = node.get("locations").map_or(key.span, |list| list.span);
            let warning = work.report.warning(place, format!("team `{}` may send nothing anywhere", key.text));
            warning.label("no place is left").hint("name a place that the teams above may use, too");
        }
    }
}

fn retired(work: &mut Work<'_, '_>, candidate: &Candidate) {
    let place = work.sections.find("models", &candidate.model.name).and_then(|(_, node)| node.get("backends"));
    let place = place.and_then(|node| node.get(&candidate.backend.name));
    if let (Some(since), Some(place)) = (candidate.retired(work.now), place) {
        let date = since.to_zoned(jiff::tz::TimeZone::UTC).date();
        let title = format!("`{}` was retired by {} on {date}", candidate.upstream, candidate.backend.provider);
        work.report.warning(place.span, title).label("no longer served").hint("no route will choose it there");
    }
}

fn unpriced(work: &mut Work<'_, '_>, policies: &Policies, candidate: &Candidate) {
    let Some(place) = work.sections.place("models", &candidate.model.name) else { return };
    if candidate.prices.is_empty() {
        let title = format!("no price is known for `{}`", candidate.label());
        let warning = work.report.warning(place, title).label("teams with a budget cannot use it");
        warning.hint(if candidate.backend.rent.is_some() {
            "say `tokens_per_hour` in its `rent`, or add a row under `prices:`"
        } else {
            "add a row under `prices:`; `input: 0 USD, output: 0 USD` is free"
        });
        return;
    }
    let foreign = candidate.prices.iter().map(|row| row.currency);
    let missing = foreign.filter(|currency| *currency != crate::base::money::Currency::USD);
    let missing: BTreeSet<_> = missing.filter(|currency| !policies.currencies.contains_key(currency)).collect();
    for currency in missing {
        let title = format!("`{}` is priced in {currency}, which has no exchange rate", candidate.label());
        let warning = work.report.warning(place, title).label("its cost counts as unknown");
        warning.hint(format!("add `currencies: {{{currency}: [{{rate: … USD, from: 2025-01-01}}]}}`"));
    }
}

fn newer_price(work: &mut Work<'_, '_>, candidate: &Candidate, own: &Own) {
    let rows = own.placed(&candidate.backend.name, &candidate.upstream);
    let known = catalog_prices(work.newest, &candidate.backend, &candidate.upstream);
    let now = work.now;
    let mut differs = |at, word| {
        let Some(current) = rows.iter().rev().find(|own| own.row.holds(at)) else { return false };
        let newer = known.iter().rev().find(|row| row.holds(at) && row.from > current.row.from);
        let Some(newer) = newer.filter(|newer| !same_price(newer, &current.row)) else { return false };
        let date = newer.from.to_zoned(jiff::tz::TimeZone::UTC).date();
        let title = format!("the catalog has another price for `{}` {word} {date}", candidate.label());
        let warning = work.report.warning(current.span, title).label("yours wins");
        warning.hint(format!("see {}; take your row out to follow the catalog", newer.source));
        true
    };
    if !differs(now, "since") {
        let announced = known.iter().map(|row| row.from).find(|from| *from > now);
        if let Some(from) = announced {
            differs(from, "from");
        }
    }
}

/// What the operator says nothing about, such as a tier of service, is no contradiction.
fn same_price(newer: &PriceRow, own: &PriceRow) -> bool {
    newer.currency == own.currency && newer.rates.iter().filter(|rate| own.has(rate.when.tier)).eq(&own.rates)
}

/// The prices that the newest catalog asks for now and that `catalog: DATE` hides.
pub fn hidden_prices(work: &Work<'_, '_>, policies: &Policies) -> Vec<String> {
    let differs = |candidate: &&Arc<Candidate>| {
        let price_of = |catalog| catalog_prices(catalog, &candidate.backend, &candidate.upstream);
        let (newest, followed) = (price_of(work.newest), price_of(work.catalog));
        let charged = in_force(&candidate.prices, work.now);
        // An operator's own row is told of elsewhere.
        !charged.is_some_and(|row| row.own)
            && match (in_force(&newest, work.now), in_force(&followed, work.now)) {
                (Some(newer), Some(older)) => !same_price(newer, older),
                (Some(_), None) => true,
                (None, _) => false,
            }
    };
    policies.candidates.iter().filter(differs).map(|candidate| candidate.label()).collect()
}

/// A newer row of the catalog about the same model and benchmark as an operator's.
pub fn newer_score(work: &mut Work<'_, '_>, span: Span, own: &ScoreRow) {
    let same = |row: &&ScoreRow| row.model == own.model && row.benchmark == own.benchmark && row.date > own.date;
    let newer = work.newest.scores.iter().filter(same).max_by_key(|row| row.date);
    if let Some(newer) = newer.filter(|newer| newer.value.to_bits() != own.value.to_bits()) {
        let (value, date) = (newer.value, newer.date);
        let title =
            format!("the catalog has another score of `{}` in `{}`: {value} on {date}", own.model, own.benchmark);
        let warning = work.report.warning(span, title).label("yours wins");
        warning.hint(format!("see {}; take your row out to follow the catalog", newer.source));
    }
}

/// A floor tests scores: a model without any counts as the weakest.
fn unscored(work: &mut Work<'_, '_>, policies: &Policies, route: &Route) {
    let floors = [route.require.right.is_some(), route.rules.iter().any(|rule| rule.right.is_some())];
    if !floors.contains(&true) {
        return;
    }
    let benchmark = matches!(route.require.right, Some(Floor::Benchmark { .. }));
    let Some(place) = work
        .sections
        .find("routes", &route.name)
        .and_then(|(key, node)| node.get("require").map(|node| node.span).or(Some(key.span)))
    else {
        return;
    };
    let mut told = BTreeSet::new();
    for id in ids(&route.choice) {
        let Some(candidate) = policies.candidates.get(id.0 as usize).map(Arc::as_ref) else { continue };
        if benchmark || scored(policies, candidate) || !told.insert(&candidate.model.name) {
            continue;
        }
        let title = format!("no score is known for `{}`, and route `{}` has a floor", candidate.model.name, route.name);
        let warning = work.report.warning(place, title).label("it will hardly pass");
        warning.hint("add a row under `scores:`, or name the catalog's entry with `catalog:` in the model");
    }
}

/// A route that decides by scores, some of whose candidates have none: those count as middling, and stand behind.
fn unscored_among(work: &mut Work<'_, '_>, policies: &Policies, route: &Route) {
    let Choice::Value { candidates, prefer: Prefer::Best | Prefer::Worth { .. } } = &route.choice else { return };
    let told = route.require.right.is_some() || route.rules.iter().any(|rule| rule.right.is_some());
    let Some((key, node)) = work.sections.find("routes", &route.name).filter(|_| !told) else { return };
    let place = node.get("prefer").map_or(key.span, |prefer| prefer.span);
    let candidates = candidates.iter().filter_map(|id| policies.candidates.get(id.0 as usize)).map(Arc::as_ref);
    let (known, unknown): (Vec<_>, Vec<_>) = candidates.partition(|candidate| scored(policies, candidate));
    let mut names: Vec<String> = unknown.iter().map(|candidate| format!("`{}`", candidate.model.name)).collect();
    names.dedup();
    if known.is_empty() || names.is_empty() {
        return;
    }
    let title = format!("no score is known for {}, and route `{}` decides by scores", names.join(", "), route.name);
    let warning = work.report.warning(place, title).label("each counts as a middling model, whatever it can do");
    warning.hint("add rows under `scores:`, as `turnpike score` makes them, or take it out of the route");
}

fn scored(policies: &Policies, candidate: &Candidate) -> bool {
    let name = candidate.model.catalog.as_ref().unwrap_or(&candidate.model.name);
    policies.scores.knows(name)
}

/// The candidates that a route chooses from itself; none of a split.
pub(super) fn ids(choice: &Choice) -> &[CandidateId] {
    match choice {
        Choice::Value { candidates, .. } | Choice::Order(candidates) => candidates,
        Choice::Split { .. } => &[],
    }
}
