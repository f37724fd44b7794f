//! Rules: CEL conditions that tighten a route for the requests they match.
//!
//! A condition is compiled once. Compiling resolves every variable and function by name, so that an unknown one is a
//! fault at load and a running condition reads plain fields: `request.model` becomes one identifier, `hour("UTC")`
//! another whose zone is parsed already. Then every part of it is evaluated on two typed samples.
#![allow(clippy::float_arithmetic, reason = "shares become CEL doubles; no amount of money is booked from them")]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use cel::{
    Context, Env, Value,
    common::{
        types::{CelBool, CelDouble, CelInt, CelMap, CelMapKey, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
    parser::Expression,
};
use jiff::{Timestamp, tz::TimeZone};

use super::{BudgetSeen, Caller, Floor, Observations, Policies, Prefer, Question, filter, value};
use crate::base::{
    catalog::{Candidate, CandidateId},
    facts::Facts,
    money::{Money, NANO},
    price::PriceRow,
};

mod compile;
mod prove;

pub use compile::RuleError;

/// One entry of `rules:`.
#[derive(Debug)]
pub struct Rule {
    /// `rule 1`, or the name that the operator gave.
    pub name: Arc<str>,
    /// The compiled condition.
    pub when: Condition,
    /// Who may win, instead of the route's.
    pub candidates: Option<Vec<CandidateId>>,
    /// What is preferred, instead of the route's.
    pub prefer: Option<Prefer>,
    /// Further conditions: each takes effect only where it is tighter.
    pub right: Option<Floor>,
    /// See `Require::max_cost`.
    pub max_cost: Option<Money>,
    /// See `Require::first_token_p95`.
    pub first_token_p95: Option<Duration>,
}

/// A compiled CEL condition.
#[derive(Debug)]
pub struct Condition {
    expression: Expression,
    /// The functions that it calls, each with its argument; the expression names them by number.
    calls: Vec<Call>,
}

/// A function of ours with its argument.
#[derive(Clone, Debug)]
enum Call {
    /// `hour(zone)`, 0–23.
    Hour(TimeZone),
    /// `minute(zone)`, 0–59.
    Minute(TimeZone),
    /// `weekday(zone)`, 1 = Monday to 7 = Sunday.
    Weekday(TimeZone),
    /// `off_peak(model)`: its price has hours with a factor, and this is not a dear one.
    OffPeak(ModelArgument),
    /// `available(model)`: some backend of it is switched on, serves it, and can be tried now.
    Available(ModelArgument),
}

/// The model that a function asks about.
#[derive(Clone, Debug)]
enum ModelArgument {
    Named(Arc<str>),
    /// `request.model`.
    Requested,
}

/// The standard library of CEL without optional values; one for all conditions, since it takes long to build.
static LIBRARY: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

impl Condition {
    /// Compiles and proves a condition: at most 2,000 bytes and 512 nodes, no nested comprehensions, only the
    /// variables and functions of the contract, no part that fails on its types, and a truth value as its result.
    pub fn compile(text: &str) -> Result<Self, RuleError> {
        compile::compile(text)
    }

    /// The models that `off_peak` and `available` name, for a check that they exist.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.calls.iter().filter_map(|call| match call {
            Call::OffPeak(ModelArgument::Named(model)) | Call::Available(ModelArgument::Named(model)) => {
                Some(model.as_ref())
            }
            Call::OffPeak(_) | Call::Available(_) | Call::Hour(_) | Call::Minute(_) | Call::Weekday(_) => None,
        })
    }

    /// Whether the condition holds; `Err` where it failed while running (a division by zero, a missing key).
    pub(super) fn holds(&self, scope: &Scope<'_>) -> Result<bool, Failed> {
        let bound = Bound { scope, calls: &self.calls };
        let mut context = Context::with_env(LIBRARY.clone());
        context.set_variable_resolver(&bound);
        let value = Value::resolve_val(&self.expression, &context).map_err(|_| Failed)?;
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner()).ok_or(Failed)
    }
}

/// A condition failed while it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// What a condition may read of one request.
pub(super) struct Scope<'a> {
    facts: &'a Facts,
    caller: Caller<'a>,
    budget: BudgetSeen,
    now: Timestamp,
    /// Absent on samples.
    live: Option<(&'a Policies, &'a dyn Observations)>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(policies: &'a Policies, observations: &'a dyn Observations, question: &'a Question<'_>) -> Self {
        let Question { facts, caller, budget, now, .. } = *question;
        Self { facts, caller, budget, now, live: Some((policies, observations)) }
    }

    /// Every variable of the contract by its whole name; absent = 0, "" or false.
    fn variable<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (facts, caller) = (self.facts, &self.caller);
        Some(match name {
            "request.model" => text(&facts.model),
            "request.stream" => truth(facts.stream),
            "request.input_tokens" => count(facts.input_tokens),
            "request.max_output" => count(facts.max_output.unwrap_or(0)),
            "request.messages" => count(facts.messages),
            "request.images" => count(facts.images),
            "request.audio" => count(facts.audio),
            "request.tools" => count(facts.tools),
            "request.json" => truth(facts.json),
            "request.reasoning" => truth(facts.reasoning.unwrap_or(false)),
            "request.category" => text(facts.category.as_str()),
            "caller.team" => text(&caller.team.name),
            "caller.key" => text(caller.key),
            "caller.user" => text(caller.user),
            "caller.labels" => self.labels(),
            "budget.used" => double(self.budget.used_ppm as f64 / 1e6),
            "budget.left_usd" => double(self.budget.left.map_or(0.0, dollars)),
            "budget.pace" => double(self.budget.pace_ppm as f64 / 1e6),
            _ => text(self.label(name.strip_prefix("caller.labels.")?)),
        })
    }

    fn label(&self, name: &str) -> &str {
        self.caller.team.labels.get(name).map_or("", String::as_str)
    }

    fn labels<'b>(&'b self) -> CowVal<'b, 'b> {
        let entry = |(name, value): (&String, &'b String)| -> (CelMapKey<'b>, Box<dyn Val + 'b>) {
            (CelMapKey::from(name.clone()), Box::new(CelString::from(value.as_str())))
        };
        let entries: HashMap<_, _> = self.caller.team.labels.iter().map(entry).collect();
        CowVal::owned(CelMap::from(entries))
    }

    fn call<'b>(&'b self, call: &Call) -> CowVal<'b, 'b> {
        let local = |zone: &TimeZone| zone.to_datetime(self.now);
        match call {
            Call::Hour(zone) => CowVal::owned(CelInt::from(i64::from(local(zone).hour()))),
            Call::Minute(zone) => CowVal::owned(CelInt::from(i64::from(local(zone).minute()))),
            Call::Weekday(zone) => CowVal::owned(CelInt::from(i64::from(local(zone).weekday().to_monday_one_offset()))),
            Call::OffPeak(model) => truth(self.any_candidate(model, |candidate, _, policies| {
                value::price_in_force(policies, candidate, self.now)
                    .is_some_and(|price| is_off_peak(&price.row, price.factor_ppm))
            })),
            Call::Available(model) => truth(self.any_candidate(model, |candidate, observations, _| {
                candidate.backend.off.is_none()
                    && observations.off(candidate).is_none()
                    && filter::served(candidate, self.now).is_ok()
                    && observations.seen(candidate).unavailable.is_none()
            })),
        }
    }

    fn any_candidate(
        &self,
        model: &ModelArgument,
        test: impl Fn(&Candidate, &dyn Observations, &Policies) -> bool,
    ) -> bool {
        let name = match model {
            ModelArgument::Named(name) => name.as_ref(),
            ModelArgument::Requested => self.facts.model.as_str(),
        };
        self.live.is_some_and(|(policies, observations)| {
            let name = policies.aliases.get(name).map_or(name, String::as_str);
            let mut of_model = policies.candidates.iter().filter(|candidate| candidate.model.name.as_str() == name);
            of_model.any(|candidate| test(candidate, observations, policies))
        })
    }
}

/// A row without hours is never off peak. With dear hours, off peak is outside them; with cheap hours, within.
fn is_off_peak(row: &PriceRow, factor_ppm: i64) -> bool {
    let dearest = row.calendar.iter().map(|window| window.factor_ppm).max();
    dearest.is_some_and(|dearest| factor_ppm < dearest.max(1_000_000))
}

/// The variables and calls of one condition on one request.
struct Bound<'a> {
    scope: &'a Scope<'a>,
    calls: &'a [Call],
}

impl VariableResolver for Bound<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable.strip_prefix(compile::CALL) {
            Some(number) => Some(self.scope.call(self.calls.get(number.parse::<usize>().ok()?)?)),
            None => self.scope.variable(variable),
        }
    }
}

fn text<'b>(text: &'b str) -> CowVal<'b, 'b> {
    CowVal::owned(CelString::from(text))
}

fn truth<'b>(truth: bool) -> CowVal<'b, 'b> {
    CowVal::owned(CelBool::from(truth))
}

fn count<'b>(count: u64) -> CowVal<'b, 'b> {
    CowVal::owned(CelInt::from(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn double<'b>(number: f64) -> CowVal<'b, 'b> {
    CowVal::owned(CelDouble::from(number))
}

fn dollars(amount: Money) -> f64 {
    amount.nanousd() as f64 / NANO as f64
}

#[cfg(test)]
mod tests;
