//! By how much budgets may be passed at most, where the policies allow it: what `check` prints beside its counts.

use jiff::Timestamp;

use crate::{
    base::{
        fences::Unit,
        money::Money,
        price::Bound,
        tenants::{Midstream, Team},
    },
    policy::{Policies, value::price_in_force},
};

/// One line for every team whose streams finish when its budget is used up.
pub fn lines(policies: &Policies, now: Timestamp) -> Vec<String> {
    let mut teams: Vec<&Team> = policies.teams.values().map(AsRef::as_ref).collect();
    teams.sort_by_key(|team| &team.name);
    let finish = teams.into_iter().filter(|team| team.midstream == Midstream::Finish && team.has_budget());
    finish.map(|team| line(policies, team, now)).collect()
}

fn line(policies: &Policies, team: &Team, now: Timestamp) -> String {
    let begins = format!("team `{}` lets streams finish (`midstream: finish`)", team.name);
    let fences = team.lineage().flat_map(|team| team.fences.iter());
    let Some(streams) = fences.filter(|fence| fence.unit == Unit::Concurrent).map(|fence| fence.cap).min() else {
        return format!(
            "{begins}: nothing bounds by how much they pass its budgets\n  hint: limit how many run at once, `limits: {{concurrent: 20}}`"
        );
    };
    match dearest(policies, now) {
        Ok(None) => format!("{begins}: no answer costs anything"),
        Ok(Some((each, label))) => {
            let all = Money::saturating_from(i128::from(each.nanousd()) * i128::from(streams));
            format!(
                "{begins}: they may pass its budgets by {all} USD, {streams} at once with {each} USD each ({label})"
            )
        }
        Err(label) => format!(
            "{begins}: nothing bounds by how much an answer of {label} passes its budgets\n  hint: tell the model's `max_output`"
        ),
    }
}

/// The dearest answer that a client may ask for, and whose it is; or a priced candidate whose answers have no end.
fn dearest(policies: &Policies, now: Timestamp) -> Result<Option<(Money, String)>, String> {
    let mut most: Option<(Money, String)> = None;
    for candidate in &policies.candidates {
        let Some(price) = price_in_force(policies, candidate, now) else { continue };
        let cost = |output| {
            let bound = Bound { input: 0, output, audio: false };
            price.row.upper_bound(bound, |_| true, price.factor_ppm, price.exchange_nanousd)
        };
        let lengths = [candidate.model.max_output, candidate.model.context];
        let Some(longest) = lengths.into_iter().filter(|tokens| *tokens > 0).min() else {
            if cost(1_000_000) > Money::ZERO {
                return Err(candidate.label());
            }
            continue;
        };
        let whole = cost(longest);
        if whole > most.as_ref().map_or(Money::ZERO, |(money, _)| *money) {
            most = Some((whole, candidate.label()));
        }
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(team: &str, model: &str) -> Vec<String> {
        let policies = format!(
            "backends:\n  b: {{provider: openai_compatible, endpoints: [\"http://127.0.0.1:1/v1\"]}}\n\
             models:\n  m: {{backends: {{b: m}}{model}}}\n\
             prices:\n  - {{backend: b, upstream: m, from: 2025-01-01, input: 2 USD, output: 8 USD}}\n\
             teams:\n  t: {{budgets: [{{name: month, limit: 5 USD, per: month}}]{team}}}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), policies).unwrap();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let loaded = crate::config::load_at(folder.path(), &|_| None, now).map_err(|faults| faults.render(false));
        lines(&loaded.unwrap().policies, now)
    }

    #[test]
    fn what_streams_may_pass_a_budget_by_is_said_where_they_may() {
        assert_eq!(lines_of(", limits: {concurrent: 20}", ", max_output: 10000"), Vec::<String>::new());
        let bound = lines_of(", midstream: finish, limits: {concurrent: 20}", ", max_output: 10000");
        assert!(bound[0].ends_with("by 1.6 USD, 20 at once with 0.08 USD each (m@b)"), "{bound:?}");
        let many = lines_of(", midstream: finish", ", max_output: 10000");
        assert!(many[0].contains("nothing bounds by how much they pass its budgets"), "{many:?}");
        let long = lines_of(", midstream: finish, limits: {concurrent: 20}", "");
        assert!(long[0].contains("an answer of m@b"), "{long:?}");
    }
}
