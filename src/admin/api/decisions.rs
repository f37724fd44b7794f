//! Bodies of `/api/v1/decisions/{id}` and `/api/v1/explain`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::telemetry::record::{
    Line,
    decided::DecisionLine,
    evidence::EvidenceLine,
    facts::FactsLine,
    line::{AttemptLine, Label},
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
    /// The moment; absent = now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A request with its decisions: of one that was served, of one that is only asked about, of one from a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionAnswer {
    /// What became of the request; absent where it is only asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeLine>,
    /// Who pays.
    pub team: Arc<str>,
    /// The hash of the policies.
    pub policy: Arc<str>,
    /// What is known of the request.
    pub facts: FactsLine,
    /// Why the winner, in one line.
    #[serde(default)]
    pub reason: String,
    /// Every decision in order: after the first, those after something had failed.
    pub decisions: Vec<DecisionLine>,
    /// What stands behind the numbers, at the moment of the first decision. Empty where the policies are gone.
    pub evidence: Vec<EvidenceLine>,
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
    /// A recorded request, with what stands behind its numbers.
    pub fn of(line: Line, evidence: Vec<EvidenceLine>) -> Self {
        let outcome = OutcomeLine {
            id: line.id,
            served: line.served,
            status: line.status,
            code: line.code,
            end: line.end,
            cost_nanousd: line.cost_nanousd,
            first_byte_ms: line.first_byte_ms,
            total_ms: line.total_ms,
            attempts: line.attempts,
        };
        Self {
            outcome: Some(outcome),
            team: line.team,
            policy: line.policy,
            facts: line.facts,
            reason: line.reason,
            decisions: line.decisions,
            evidence,
        }
    }
}
