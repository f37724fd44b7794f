//! A decision as it is written and shown: what went in, and what came out with every number.
//!
//! The header of an answer, `explain`, `why`, the admin API, the files of records and `replay` all say what stands here.

mod made;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Made, instant,
    line::{Label, is_default},
    seen::SeenLine,
};
use crate::{base::catalog::CandidateId, policy::Policies};

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionLine {
    /// What went in, beside the request's own facts.
    pub asked: AskedLine,
    /// What came out.
    pub decided: DecidedLine,
}

/// What a decision was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedLine {
    /// The instant that it was made for: prices, hours and scores are those of then.
    #[serde(serialize_with = "instant::serialize")]
    pub at: Timestamp,
    /// What the request's time limit left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left_ns: Option<u64>,
    /// The tightest budget of money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetLine>,
    /// A budget of money bound the request, so that costs had to be known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budgeted: bool,
    /// What a budget could still pay, where that bound the choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purse: Option<PurseLine>,
    /// Who had failed on this request, or could not be boarded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Label>,
    /// Whose own budget or limit was reached, and which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exhausted: Vec<(Label, Arc<str>)>,
    /// Arms that were withdrawn, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<(Arc<str>, Arc<str>)>,
    /// What had been seen of the candidates that were looked at.
    pub seen: Vec<SeenLine>,
}

/// A budget as it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLine {
    /// Which one (`team/search/month`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Arc<str>>,
    /// The share that was spent or held.
    pub used_ppm: u64,
    /// What was left.
    pub left_nanousd: i64,
    /// Share spent ÷ share of the window gone by.
    pub pace_ppm: u64,
}

/// What a budget could still pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurseLine {
    /// What was left.
    pub left_nanousd: i64,
    /// The cheapest was to win.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cheapest: bool,
    /// The answer's cap might be lowered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clamp: bool,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecidedLine {
    /// The route that decided.
    pub route: Arc<str>,
    /// The arm, if the named route was a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arc<str>>,
    /// The category that scores were read for.
    pub category: Arc<str>,
    /// The date and hash of the fit of the scores.
    pub fit: Arc<str>,
    /// By what the able were ordered.
    pub prefer: PreferLine,
    /// What had to be fulfilled, after the rules.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require: RequireLine,
    /// Rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Arc<str>>,
    /// How many rules failed while they ran.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule_errors: u32,
    /// How many attempts could be made.
    pub attempts: u32,
    /// What had to be set aside before the first of them.
    pub ceiling_nanousd: i64,
    /// Nobody was able, so one with an open breaker was to be tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_resort: bool,
    /// Nobody was in time, so those who were expected late were to be tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub late: bool,
    /// Who could be tried, the best first.
    pub ranked: Vec<RankedLine>,
    /// Who could not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedLine>,
    /// Arms that nobody was dealt to, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<(Arc<str>, Arc<str>)>,
    /// For rented servers: against whom they pay from how many tokens an hour on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub break_even: Vec<BreakEvenLine>,
    /// Candidates for which a header had no room.
    #[serde(default, skip_serializing_if = "is_default")]
    pub left_out: u32,
}

/// The load from which on rented servers cost no more than tokens elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakEvenLine {
    /// Whose servers are rented.
    pub candidate: Label,
    /// Who sells the tokens.
    pub against: Label,
    /// Tokens an hour.
    pub tokens_per_hour: u64,
}

/// By what candidates were ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferLine {
    /// By the file.
    Listed,
    /// Lowest expected cost.
    Cheapest,
    /// Fewest expected seconds.
    Fastest,
    /// Highest chance of a right answer.
    Best,
    /// Highest value in money.
    Worth {
        /// What a right answer is worth.
        right_answer_nanousd: i64,
        /// What a second of waiting costs.
        second_nanousd: i64,
    },
}

/// The conditions in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequireLine {
    /// The floor on the chance of a right answer that was stated last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<String>,
    /// The most that a request may be expected to cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_nanousd: Option<i64>,
    /// The longest 95th percentile of the time to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p95_ns: Option<u64>,
}

/// The terms of a candidate's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsLine {
    /// The chance of a right answer.
    pub right_ppm: u32,
    /// The lower end of its interval.
    pub right_low_ppm: u32,
    /// How many score rows carried it.
    pub score_rows: u32,
    /// Expected time to the last token.
    pub expected_ms: u64,
    /// Expected prompt tokens.
    pub input: u64,
    /// Of these, from the vendor's cache.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cached: u64,
    /// Expected tokens of one answer.
    pub output: u64,
    /// The expected tier of service; absent = the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// Expected cost: what would be charged.
    pub cost_nanousd: i64,
    /// What one more request costs, where that is not the cost: at rented servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marginal_nanousd: Option<i64>,
    /// What they add up to.
    pub value_nanousd: i64,
}

/// A price row in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceLine {
    /// From when the row holds.
    #[serde(serialize_with = "instant::serialize")]
    pub from: Timestamp,
    /// Its currency.
    pub currency: Arc<str>,
    /// The product of the open windows' factors; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor_ppm: Option<i64>,
    /// What one unit of the currency is worth; absent for USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_nanousd: Option<i64>,
}

/// What is set aside for an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakeLine {
    /// Prompt tokens at most.
    pub input: u64,
    /// The prompt was counted in the model's own vocabulary.
    #[serde(default, skip_serializing_if = "is_default")]
    pub counted: bool,
    /// The learned part of `input`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub margin: u64,
    /// Completion tokens that the first hold covers.
    pub output: u64,
    /// Completion tokens at most.
    pub cap: u64,
    /// By how much tokens may pass what is seen of the stream.
    pub unseen_ppm: u32,
    /// What the first hold covers in money.
    pub first_nanousd: i64,
}

/// A candidate that could be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankedLine {
    /// Who.
    pub candidate: Label,
    /// The terms of its value.
    pub terms: TermsLine,
    /// The price in force; absent = none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceLine>,
    /// The cap on the answer's tokens.
    pub max_output: u64,
    /// The cap was lowered to what a budget can pay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clamped: bool,
    /// The most that one attempt can cost.
    pub ceiling_nanousd: i64,
    /// What is set aside for it.
    pub stake: StakeLine,
}

/// A candidate that could not be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedLine {
    /// Who.
    pub candidate: Label,
    /// The kind of reason.
    pub kind: Arc<str>,
    /// The reason, with the number that failed.
    pub why: String,
    /// Its terms, where they had been worked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<TermsLine>,
}

impl DecisionLine {
    /// What is written of a decision that `policies` made.
    pub fn of(made: &Made, policies: &Policies) -> Self {
        let label = |id: &CandidateId| Label::of(policies.candidate(*id));
        let budget = made.budget.left.map(|left| BudgetLine {
            fence: made.fence.clone(),
            used_ppm: made.budget.used_ppm,
            left_nanousd: left.nanousd(),
            pace_ppm: made.budget.pace_ppm,
        });
        let asked = AskedLine {
            at: made.at,
            time_left_ns: made.time_left.map(nanos),
            budget,
            budgeted: made.budgeted,
            purse: made.decision.purse.map(PurseLine::from),
            failed: made.failed.iter().map(label).collect(),
            exhausted: made.exhausted.iter().map(|(id, fence)| (label(id), Arc::clone(fence))).collect(),
            withdrawn: made::withdrawn(&made.decision),
            seen: made.noted.iter().map(|noted| SeenLine::of(noted, label(&noted.id))).collect(),
        };
        Self { asked, decided: DecidedLine::from(made.decision.as_ref()) }
    }

    /// Who was to be tried first.
    pub fn winner(&self) -> Option<&Label> {
        self.decided.ranked.first().map(|ranked| &ranked.candidate)
    }
}

/// Nanoseconds; some 292 years fit.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
