//! Which routes decide otherwise under another set of the catalog.
//!
//! Every route that an operator wrote is asked each of the sample requests, as team `default`, with nothing measured:
//! what differs then differs by the catalog alone.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::samples;
use crate::{
    base::{catalog::Candidate, tenants::Team},
    policy::{BudgetSeen, Caller, Choice, Decision, Observations, Policies, Question, Route, Seen, decide::decide},
};

/// One decision that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The route.
    pub route: String,
    /// The sample request.
    pub sample: &'static str,
    /// Who wins under the older set, and its expected cost; `None` = nobody may be tried.
    pub before: Option<(String, String)>,
    /// The same under the newer.
    pub after: Option<(String, String)>,
}

impl Moved {
    /// As JSON.
    pub fn json(&self) -> Value {
        let side = |side: &Option<(String, String)>| {
            side.as_ref().map(|(candidate, usd)| json!({"candidate": candidate, "expected_cost_usd": usd}))
        };
        json!({"route": self.route, "sample": self.sample, "before": side(&self.before), "after": side(&self.after)})
    }

    /// As the cells of a line.
    pub fn cells(&self) -> Vec<String> {
        let side = |side: &Option<(String, String)>| side.clone().unwrap_or(("nobody".to_owned(), String::new()));
        let ((before, before_usd), (after, after_usd)) = (side(&self.before), side(&self.after));
        vec![self.route.clone(), self.sample.to_owned(), before, before_usd, after, after_usd]
    }
}

/// Nothing has been measured.
struct Unmeasured;

impl Observations for Unmeasured {
    fn seen(&self, _: &Candidate) -> Seen {
        Seen::default()
    }
}

/// The decisions that differ between two sets of policies.
pub fn moves(older: &Policies, newer: &Policies, at: Timestamp) -> Vec<Moved> {
    let written =
        newer.routes.values().filter(|route| !route.implicit && !matches!(route.choice, Choice::Split { .. }));
    let mut moves = Vec::new();
    for route in written {
        let Some(before) = older.routes.get(&route.name) else { continue };
        for sample in samples::all() {
            let (before, after) = (ask(older, before, &sample, at), ask(newer, route, &sample, at));
            let winner = |decision: &Decision| {
                let first = decision.ranked.first()?;
                Some((first.candidate.label(), first.terms.cost.to_string()))
            };
            let (before, after) = (winner(&before), winner(&after));
            if before.as_ref().map(|(name, _)| name) != after.as_ref().map(|(name, _)| name) {
                moves.push(Moved { route: route.name.to_string(), sample: sample.name, before, after });
            }
        }
    }
    moves
}

fn ask(policies: &Policies, route: &Route, sample: &samples::Sample, at: Timestamp) -> Decision {
    let team = policies.teams.get("default").map_or_else(|| Team::named("default"), |team| team.as_ref().clone());
    let question = Question {
        route,
        facts: &sample.facts,
        caller: Caller { team: &team, key: "", user: "", session: "" },
        budget: BudgetSeen::default(),
        now: at,
        time_left: None,
        seed: 0,
        failed: &[],
        affordable: None,
        budgeted: false,
        exhausted: &[],
    };
    decide(policies, &Unmeasured, &question)
}
