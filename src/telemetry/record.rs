//! The record of a request: what was decided, tried, used and charged. No prompt, no answer, no secret.

use std::sync::Arc;

use serde::Serialize;

/// One finished request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Record {
    /// The `x-request-id`.
    pub id: String,
    /// Who paid.
    pub team: Arc<str>,
    /// The key's public id; empty when the gateway is open.
    pub key: Arc<str>,
    /// The route that decided.
    pub route: Arc<str>,
    /// The arm of a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arc<str>>,
    /// The hash of the policies in force.
    pub policy: Arc<str>,
    /// The category that scores were read for.
    pub category: &'static str,
    /// Who answered; empty when nobody did.
    pub model: Arc<str>,
    /// Through which backend.
    pub backend: Arc<str>,
    /// With which of its credentials.
    pub account: Arc<str>,
    /// Why that one.
    pub reason: String,
    /// The HTTP status that the client saw.
    pub status: u16,
    /// The error code that the client saw; empty for none.
    pub code: &'static str,
    /// How the answer ended: `whole`, `refused`, `failed`, `cut`, `abandoned`.
    pub end: &'static str,
    /// A stream was asked for.
    pub stream: bool,
    /// Every attempt in order.
    pub attempts: Vec<AttemptRecord>,
    /// Charged for all attempts, in nano-USD.
    pub cost_nanousd: i64,
    /// From the request's arrival to the first byte of the answer.
    pub first_byte_ms: Option<u64>,
    /// From the request's arrival to its end.
    pub total_ms: u64,
    /// The part of the time to the first byte that was spent inside Turnpike.
    pub overhead_us: u64,
}

/// One attempt: the row that its cost is booked as.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AttemptRecord {
    /// The model.
    pub model: Arc<str>,
    /// The backend.
    pub backend: Arc<str>,
    /// The credential.
    pub account: Arc<str>,
    /// `ok`, or why it failed.
    pub outcome: &'static str,
    /// The upstream's status; 0 = none came.
    pub upstream_status: u16,
    /// The upstream's own words, shortened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// From dispatch to the first meaningful event.
    pub first_token_ms: Option<u64>,
    /// From dispatch to the attempt's end.
    pub total_ms: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Of these, from the vendor's cache.
    pub cached_input_tokens: u64,
    /// Completion tokens.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// The numbers are Turnpike's own, the upstream gave none.
    pub estimated: bool,
    /// As the vendor bills it (`0.00123 CNY`); empty when nothing was charged or no price is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub native: String,
    /// Charged, in nano-USD.
    pub cost_nanousd: i64,
}

impl Record {
    /// Writes the record as one line of the log.
    pub(super) fn write(&self) {
        let tried: Vec<String> = self
            .attempts
            .iter()
            .map(|attempt| format!("{}@{}:{}", attempt.model, attempt.backend, attempt.outcome))
            .collect();
        let (input, output) = self
            .attempts
            .iter()
            .fold((0_u64, 0_u64), |sum, attempt| (sum.0 + attempt.input_tokens, sum.1 + attempt.output_tokens));
        tracing::info!(
            target: "turnpike::request",
            id = %self.id,
            team = %self.team,
            route = %self.route,
            model = %self.model,
            backend = %self.backend,
            status = self.status,
            code = self.code,
            end = self.end,
            attempts = %tried.join(","),
            input_tokens = input,
            output_tokens = output,
            cost_usd = %crate::base::money::Money::from_nanousd(self.cost_nanousd),
            first_byte_ms = self.first_byte_ms.unwrap_or(0),
            total_ms = self.total_ms,
            overhead_us = self.overhead_us,
            "request"
        );
    }
}
