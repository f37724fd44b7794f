//! What stands behind the numbers of a decision: the score rows that carried a chance, the price row in force, each with
//! its date and source.

use std::sync::Arc;

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{decided::DecisionLine, line::Label};
use crate::{
    base::{
        catalog::Candidate,
        facts::Category,
        money::{Currency, Native},
        price::{NanoPerMillion, Rate, in_force, rate_in_force},
        scores::{By, ScoreRow},
    },
    policy::Policies,
};

/// The most score rows that are listed of one candidate.
const MOST_ROWS: usize = 100;

/// The evidence on one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceLine {
    /// Whom it is about.
    pub candidate: Label,
    /// The rows that carried its chance, the newest first: those of the category, or all where it has none there or the
    /// category was not sure.
    pub scores: Vec<ScoreLine>,
    /// The price row in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceRowLine>,
}

/// A score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreLine {
    /// The benchmark with its metric.
    pub benchmark: Arc<str>,
    /// The value in the benchmark's unit.
    pub value: f64,
    /// When it was measured.
    pub date: civil::Date,
    /// Who measured: `vendor`, `independent` or `own`.
    pub by: Arc<str>,
    /// Where it was read.
    pub source: Arc<str>,
}

/// A price row. Amounts are decimals in its currency, per million tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriceRowLine {
    /// From when it holds.
    pub from: Timestamp,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Its currency.
    pub currency: Arc<str>,
    /// What one unit of the currency is worth in USD, and since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<(String, Timestamp)>,
    /// The product of the factors of the hours; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<String>,
    /// Its rates, in the order in which they are tried.
    pub rates: Vec<RateLine>,
    /// Where it was read.
    pub source: Arc<str>,
}

/// Prices under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLine {
    /// The condition in words; empty = none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub when: String,
    /// Prompt tokens.
    pub input: String,
    /// Prompt tokens from the cache.
    pub cached_input: String,
    /// Completion tokens.
    pub output: String,
    /// Reasoning tokens, where they have a price of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

/// What `policies` know about every candidate of a decision.
/// `confident`: the request's category was good enough to be used.
pub fn evidence(policies: &Policies, decision: &DecisionLine, confident: bool) -> Vec<EvidenceLine> {
    let decided = &decision.decided;
    let ranked = decided.ranked.iter().map(|ranked| &ranked.candidate);
    let all = ranked.chain(decided.rejected.iter().map(|rejected| &rejected.candidate));
    let of_route = policies.routes.get(decided.route.as_ref()).is_some_and(|route| route.category.is_some());
    let category = Category::parse(&decided.category).filter(|_| confident || of_route);
    let at = decision.asked.at;
    let of = |label: &Label| {
        let candidate = policies.candidates.iter().find(|candidate| label.is(candidate))?;
        Some(EvidenceLine {
            candidate: label.clone(),
            scores: scores(policies, candidate, category, at),
            price: price(policies, candidate, at),
        })
    };
    all.filter_map(of).collect()
}

/// The newest row of each benchmark and measurer that was known at `at`.
fn scores(policies: &Policies, candidate: &Candidate, category: Option<Category>, at: Timestamp) -> Vec<ScoreLine> {
    let day = TimeZone::UTC.to_datetime(at).date();
    let of_catalog = candidate.model.catalog.as_ref().map(|name| policies.scores.rows_of(name)).unwrap_or_default();
    let rows = if of_catalog.is_empty() { policies.scores.rows_of(&candidate.model.name) } else { of_catalog };
    let mut known: Vec<(&ScoreRow, Category)> = Vec::new();
    for row in rows.iter().filter(|row| row.date <= day) {
        let Some(benchmark) = policies.scores.benchmark(&row.benchmark) else { continue };
        // Rows stand in the order of benchmark, measurer and date: a later one takes the place of the one before.
        match known.last_mut() {
            Some((last, _)) if last.benchmark == row.benchmark && last.by == row.by => *last = row,
            _ => known.push((row, benchmark.category)),
        }
    }
    if known.iter().any(|(_, of)| Some(*of) == category) {
        known.retain(|(_, of)| Some(*of) == category);
    }
    known.sort_by_key(|(row, _)| std::cmp::Reverse(row.date));
    let line = |(row, _): (&ScoreRow, Category)| ScoreLine {
        benchmark: row.benchmark.shared(),
        value: row.value,
        date: row.date,
        by: by(row.by).into(),
        source: Arc::clone(&row.source),
    };
    known.into_iter().take(MOST_ROWS).map(line).collect()
}

const fn by(by: By) -> &'static str {
    match by {
        By::Vendor => "vendor",
        By::Independent => "independent",
        By::Own => "own",
    }
}

fn price(policies: &Policies, candidate: &Candidate, at: Timestamp) -> Option<PriceRowLine> {
    let row = in_force(&candidate.prices, at)?;
    let exchange = policies.currencies.get(&row.currency).and_then(|rates| rate_in_force(rates, at));
    let decimal = |nano: i64| amount(nano, row.currency);
    let factor_ppm = row.factor_ppm(at);
    Some(PriceRowLine {
        from: row.from,
        until: row.until,
        currency: row.currency.as_str().into(),
        exchange: exchange
            .filter(|_| row.currency != Currency::USD)
            .map(|rate| (amount(rate.nanousd, Currency::USD), rate.from)),
        factor: (factor_ppm != 1_000_000).then(|| amount(factor_ppm.saturating_mul(1000), Currency::USD)),
        rates: row.rates.iter().map(|rate| rate_line(rate, decimal)).collect(),
        source: Arc::clone(&row.source),
    })
}

fn rate_line(rate: &Rate, decimal: impl Fn(NanoPerMillion) -> String) -> RateLine {
    let mut when = Vec::new();
    if rate.when.tier != crate::base::tier::Tier::Standard {
        when.push(format!("tier {}", rate.when.tier.as_str()));
    }
    when.extend(rate.when.input_upto.map(|upto| format!("input up to {upto}")));
    when.extend(rate.when.output_upto.map(|upto| format!("output up to {upto}")));
    when.extend(rate.when.thinking.map(|thinking| format!("thinking {}", if thinking { "on" } else { "off" })));
    RateLine {
        when: when.join(", "),
        input: decimal(rate.input),
        cached_input: decimal(rate.cached_input),
        output: decimal(rate.output),
        reasoning: (rate.reasoning != rate.output).then(|| decimal(rate.reasoning)),
    }
}

/// Billionths as a plain decimal.
fn amount(nano: i64, currency: Currency) -> String {
    let text = Native { nano: nano.into(), currency }.to_string();
    text.split(' ').next().unwrap_or_default().to_owned()
}
