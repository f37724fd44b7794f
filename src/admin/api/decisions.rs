//! Bodies of `/api/v1/decisions/{id}` and `/api/v1/explain`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::telemetry::record::{
    Line,
    decided::DecisionLine,
    evidence::EvidenceLine,
    facts::FactsLine,
    line::{AttemptLine, Label},
    texts::Texts,
};

/// The body of `POST /api/v1/explain`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The body of a chat request.
    pub request: Box<RawValue>,
    /// The route, instead of the request's `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Who pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The public id of the client key that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The end user who asks, instead of the one whom the request names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The moment, as `explain --at` takes it; absent = now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A request with its decisions: of one that was served, of one that is only asked about, of one from a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionAnswer {
    /// What became of the request; absent where it is only asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeLine>,
    /// Of an operator's shadow: the request that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<Arc<str>>,
    /// What became of its shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<OutcomeLine>>,
    /// Who pays.
    pub team: Arc<str>,
    /// The hash of the policies.
    pub policy: Arc<str>,
    /// What is known of the request.
    pub facts: FactsLine,
    /// Why the winner, in one line.
    #[serde(default)]
    pub reason: String,
    /// What of a request that is only asked about is not known and may change the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Every decision in order: after the first, those after something had failed.
    pub decisions: Vec<DecisionLine>,
    /// What stands behind the numbers, at the moment of the first decision. Empty where the policies are gone.
    pub evidence: Vec<EvidenceLine>,
    /// What was asked and answered, for those who read the files themselves and ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Box<Texts>>,
    /// Bytes that could not be read while it was looked for.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub damaged_bytes: u64,
}

fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

/// What became of a request.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeLine {
    /// The `x-request-id`.
    pub id: Arc<str>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Label>,
    /// The HTTP status that the client saw.
    pub status: u16,
    /// The error code that the client saw.
    #[serde(default)]
    pub code: Arc<str>,
    /// How it ended.
    pub end: Arc<str>,
    /// Charged.
    pub cost_nanousd: i64,
    /// From arrival to the first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// From arrival to the end.
    pub total_ms: u64,
    /// Every attempt.
    pub attempts: Vec<AttemptLine>,
}

impl DecisionAnswer {
    /// A recorded request without its texts, with what stands behind its numbers.
    pub fn of(mut line: Line, evidence: Vec<EvidenceLine>) -> Self {
        Self {
            shadow_of: line.shadow_of.take(),
            shadow: None,
            team: Arc::clone(&line.team),
            policy: Arc::clone(&line.policy),
            facts: std::mem::take(&mut line.facts),
            reason: std::mem::take(&mut line.reason),
            unknown: None,
            decisions: std::mem::take(&mut line.decisions),
            evidence,
            texts: None,
            damaged_bytes: 0,
            outcome: Some(OutcomeLine::from(line)),
        }
    }
}

impl From<Line> for OutcomeLine {
    fn from(line: Line) -> Self {
        Self {
            id: line.id,
            served: line.served,
            status: line.status,
            code: line.code,
            end: line.end,
            cost_nanousd: line.cost_nanousd,
            first_byte_ms: line.first_byte_ms,
            total_ms: line.total_ms,
            attempts: line.attempts,
        }
    }
}
