//! The record of a request: what was decided, tried, used and charged. No prompt, no answer, no secret.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::base::money::Money;

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
    /// It was begun beside another attempt, which was overdue.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hedge: bool,
    /// `ok`, `lost` to the other of two that ran at once, or why it failed.
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

/// The record as one line of the log. An upstream's own words are not in it: they may quote the prompt.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = Money::from_nanousd(self.cost_nanousd);
        let (input, output) = self.attempts.iter().fold((0_u64, 0_u64), |(input, output), attempt| {
            (input.saturating_add(attempt.input_tokens), output.saturating_add(attempt.output_tokens))
        });
        write!(f, "request id={} team={} key={} route={}", self.id, self.team, self.key, self.route)?;
        if let Some(arm) = &self.arm {
            write!(f, " arm={arm}")?;
        }
        write!(f, " status={} end={} model={} backend={}", self.status, self.end, self.model, self.backend)?;
        if !self.code.is_empty() {
            write!(f, " code={}", self.code)?;
        }
        f.write_str(" attempts=")?;
        for (number, attempt) in self.attempts.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let hedge = if attempt.hedge { "+" } else { "" };
            write!(f, "{comma}{hedge}{}@{}:{}", attempt.model, attempt.backend, attempt.outcome)?;
        }
        write!(f, " input_tokens={input} output_tokens={output} cost_usd={cost}")?;
        if let Some(first) = self.first_byte_ms {
            write!(f, " first_byte_ms={first}")?;
        }
        write!(f, " total_ms={} overhead_us={}", self.total_ms, self.overhead_us)
    }
}
