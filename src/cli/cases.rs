//! Policy tests as `turnpike check` runs them: each is decided dry, held against what it expects, and counted for the
//! rules and candidates that it covers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use jiff::Timestamp;

use super::explain::candidates_told;
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        money::Money,
        names::RouteName,
    },
    config::{
        Diagnostic, Environment, Faults, Loaded,
        cases::{Case, Cases, Expectation},
    },
    policy::{Caller, Decision, Observations, Policies, Question, Seen},
    proxy::{self, Refusal},
    telemetry::record::decided::DecidedLine,
};

/// How many candidates that no test chooses are named.
const MOST_NAMED: usize = 20;

/// What came of the tests.
pub struct Outcome {
    /// Rules that no test meets.
    pub warnings: Vec<Diagnostic>,
    /// The line about them.
    pub summary: String,
}

/// Runs the policy tests beside the policies of `loaded`; `None` = there are none.
///
/// # Errors
/// What is wrong with their files, or the tests that failed; and the line about those that ran.
pub fn run(loaded: &Loaded, env: Environment<'_>, now: Timestamp) -> Result<Option<Outcome>, (Faults, String)> {
    let codes = proxy::Code::ALL.map(proxy::Code::as_str);
    let Some(mut cases) = Cases::load(loaded, &codes, env, now).map_err(|faults| (faults, String::new()))? else {
        return Ok(None);
    };
    let (mut covered, mut failures) = (Covered::default(), Vec::new());
    for (index, case) in cases.list.iter().enumerate() {
        let Some((decision, refusal)) = decided(&cases.policies, case) else { continue };
        covered.take(case, &decision);
        let unmet = unmet(&cases.policies, case, &decision, refusal.as_ref());
        if !unmet.is_empty() {
            failures.push((index, unmet, table(case, &decision, refusal.as_ref())));
        }
    }
    let (all, failed) = (cases.list.len(), failures.len());
    for (index, unmet, table) in failures {
        cases.fail(index, &unmet, table);
    }
    let policies = Arc::clone(&cases.policies);
    let (met, rules) = covered.rules(&policies, &mut cases);
    let coverage = format!(
        "{met} of {rules} rules met, {} of {} candidates chosen{}",
        covered.winners.len(),
        policies.candidates.len(),
        covered.never_chosen(&policies),
    );
    match cases.finish() {
        Ok(warnings) => Ok(Some(Outcome { warnings, summary: format!("policy tests: {all} passed; {coverage}") })),
        Err(faults) => Err((faults, format!("policy tests: {failed} of {all} failed; {coverage}\n"))),
    }
}

/// What a test gives to be observed.
struct Given<'a>(&'a Case);

impl Observations for Given<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        self.0.seen.get(candidate.id.0 as usize).copied().unwrap_or_default()
    }

    fn off(&self, candidate: &Candidate) -> Option<Arc<str>> {
        self.0.off.contains(&candidate.id).then(|| "by this test".into())
    }

    fn withdrawn(&self, _: &RouteName, arm: &RouteName) -> Option<Arc<str>> {
        self.0.withdrawn.contains(arm).then(|| "by this test".into())
    }
}

fn decided(policies: &Policies, case: &Case) -> Option<(Decision, Option<Refusal>)> {
    let route = policies.routes.get(&case.route)?;
    let question = Question {
        route,
        facts: &case.facts,
        caller: Caller { team: &case.team, key: &case.key, user: &case.user, session: &case.session },
        budget: case.budget,
        now: case.at,
        time_left: case.deadline,
        seed: case.seed,
        failed: &case.failed,
        affordable: None,
        budgeted: case.budgeted,
        exhausted: &[],
    };
    let (decision, refusal) = proxy::dry(policies, &Given(case), &question, case.budget.left);
    let forbidden = || Refusal::new(proxy::Code::ModelNotAllowed, "the team may not use it");
    Some((decision, if case.forbidden { Some(forbidden()) } else { refusal }))
}

/// The expectations that do not hold, each with what was found instead.
fn unmet(policies: &Policies, case: &Case, decision: &Decision, refusal: Option<&Refusal>) -> Vec<(usize, String)> {
    let check = Check { policies, decision, refusal };
    let mut unmet: Vec<(usize, String)> = case
        .expected
        .iter()
        .enumerate()
        .filter_map(|(index, expected)| Some((index, check.found(&expected.what)?)))
        .collect();
    let expects_refusal = case.expected.iter().any(|expected| matches!(expected.what, Expectation::Refused { .. }));
    if let Some(refusal) = refusal.filter(|_| !expects_refusal && unmet.is_empty()) {
        unmet.push((0, format!("the client gets {}", said(refusal))));
    }
    unmet
}

struct Check<'a> {
    policies: &'a Policies,
    decision: &'a Decision,
    refusal: Option<&'a Refusal>,
}

impl Check<'_> {
    /// What was found, if it is not what is expected.
    fn found(&self, expectation: &Expectation) -> Option<String> {
        let winner = self.decision.ranked.first().filter(|_| self.refusal.is_none());
        let nobody = || self.refusal.map_or_else(|| "nobody".to_owned(), |why| format!("nobody: {}", said(why)));
        let won = || winner.map_or_else(nobody, |winner| winner.candidate.label());
        match expectation {
            Expectation::Refused { code, status } => {
                let Some(refusal) = self.refusal else { return Some(format!("served by {}", won())) };
                let fits =
                    refusal.code.as_str() == code && status.is_none_or(|status| refusal.status().as_u16() == status);
                (!fits).then(|| format!("refused with {}", said(refusal)))
            }
            Expectation::Rules(rules) => {
                let met = self.decision.rules.iter().map(AsRef::as_ref);
                (!met.clone().eq(rules.iter().map(String::as_str))).then(|| match self.decision.rules.len() {
                    0 => "no rule matched".to_owned(),
                    _ => format!("matched: {}", met.collect::<Vec<_>>().join(", ")),
                })
            }
            Expectation::Rejected(ids, why) => self.rejected(ids, why),
            Expectation::Able(ids) => {
                let able: BTreeSet<CandidateId> = self.decision.ranked.iter().map(|it| it.candidate.id).collect();
                (able != ids.iter().copied().collect()).then(|| format!("able: {}", self.labels(able)))
            }
            Expectation::Winner(named) => {
                let won_by = |ids: &Vec<CandidateId>| winner.is_some_and(|it| ids.contains(&it.candidate.id));
                (!named.iter().any(won_by)).then(|| format!("won by {}", won()))
            }
            Expectation::Order(named) => {
                let mut ranked = self.decision.ranked.iter();
                let fits = |ids: &Vec<CandidateId>| ranked.next().is_some_and(|it| ids.contains(&it.candidate.id));
                let all = self.decision.ranked.iter().map(|it| it.candidate.id);
                (!named.iter().all(fits)).then(|| format!("in order: {}", self.labels(all)))
            }
            Expectation::Backend(names) => {
                let fits = winner.is_some_and(|it| names.iter().any(|name| *name == *it.candidate.backend.name));
                (!fits).then(|| format!("won by {}", won()))
            }
            Expectation::Arm(names) => {
                let arm = self.decision.arm.as_ref().map_or("none", |arm| arm.as_str());
                (!names.iter().any(|name| name == arm)).then(|| format!("dealt to {arm}"))
            }
            Expectation::MaxCost(most) => {
                let cost = winner.filter(|it| it.price.is_some()).map(|it| it.terms.cost);
                within(cost, *most, "expected to cost")
            }
            Expectation::MaxHold(most) => {
                within(winner.filter(|it| it.price.is_some()).map(|_| self.decision.ceiling), *most, "held for")
            }
            Expectation::Right(least) => {
                let low = winner.map_or(0, |it| it.terms.right_low_ppm);
                // A digit more than the table, which rounds: what fails by little must not look as if it held.
                (low < *least).then(|| format!("surely right in {}.{:02} % of cases", low / 10_000, low / 100 % 100))
            }
        }
    }

    fn rejected(&self, ids: &[CandidateId], why: &str) -> Option<String> {
        let found = |id: &CandidateId| {
            let rejected = self.decision.rejected.iter().find(|rejected| rejected.candidate.id == *id);
            match rejected {
                Some(rejected) if rejected.why.word() == why => None,
                Some(rejected) => Some(format!("rejected as {}: {}", rejected.why.word(), rejected.why)),
                None if self.decision.ranked.iter().any(|it| it.candidate.id == *id) => Some("able".to_owned()),
                None => Some("not a candidate here".to_owned()),
            }
        };
        ids.iter().find_map(found)
    }

    fn labels(&self, ids: impl IntoIterator<Item = CandidateId>) -> String {
        let labels: Vec<String> = ids.into_iter().map(|id| self.policies.candidate(id).label()).collect();
        if labels.is_empty() { "nobody".to_owned() } else { labels.join(", ") }
    }
}

fn within(found: Option<Money>, most: Money, word: &str) -> Option<String> {
    match found {
        Some(found) if found <= most => None,
        Some(found) => Some(format!("{word} {found} USD")),
        None => Some("no cost is known".to_owned()),
    }
}

fn said(refusal: &Refusal) -> String {
    format!("{} ({})", refusal.code.as_str(), refusal.status().as_u16())
}

/// What was decided, candidate by candidate, and why.
fn table(case: &Case, decision: &Decision, refusal: Option<&Refusal>) -> String {
    let mut text = format!("route {}", case.route);
    if let Some(arm) = &decision.arm {
        let _ = write!(text, ", arm {arm}");
    }
    for (arm, why) in &decision.withdrawn {
        let _ = write!(text, ", arm {arm} withdrawn: {why}");
    }
    if !decision.rules.is_empty() {
        let _ = write!(text, ", rules: {}", decision.rules.join(", "));
    }
    let _ = write!(text, "\n{}", decision.reason());
    if let Some(refusal) = refusal {
        let _ = write!(text, "\nthe client gets {}: {}", said(refusal), refusal.message.lines().next().unwrap_or(""));
    }
    text.push('\n');
    candidates_told(&mut text, &DecidedLine::from(decision));
    text.trim_end().to_owned()
}

/// What the tests have met.
#[derive(Default)]
struct Covered {
    /// Names of rules by the route whose they are.
    rules: BTreeMap<RouteName, BTreeSet<Arc<str>>>,
    winners: BTreeSet<CandidateId>,
}

impl Covered {
    fn take(&mut self, case: &Case, decision: &Decision) {
        for route in [&case.route, &decision.route] {
            self.rules.entry(route.clone()).or_default().extend(decision.rules.iter().cloned());
        }
        self.winners.extend(decision.ranked.first().map(|winner| winner.candidate.id));
    }

    /// `; never chosen: a@x, b@y`, or nothing.
    fn never_chosen(&self, policies: &Policies) -> String {
        let others = policies.candidates.iter().filter(|candidate| !self.winners.contains(&candidate.id));
        let labels: Vec<String> = others.map(|candidate| candidate.label()).collect();
        match labels.len() {
            0 => String::new(),
            count if count > MOST_NAMED => {
                format!("; never chosen: {} and {} more", labels[..MOST_NAMED].join(", "), count - MOST_NAMED)
            }
            _ => format!("; never chosen: {}", labels.join(", ")),
        }
    }

    /// How many rules were met, of how many; the others are named.
    fn rules(&self, policies: &Policies, cases: &mut Cases) -> (usize, usize) {
        let (mut met, mut all) = (0, 0);
        for route in policies.routes.values() {
            let known = self.rules.get(&route.name);
            for (index, rule) in route.rules.iter().enumerate() {
                all += 1;
                if known.is_some_and(|known| known.contains(&rule.name)) {
                    met += 1;
                } else {
                    cases.untested(&route.name, index, &rule.name);
                }
            }
        }
        (met, all)
    }
}
