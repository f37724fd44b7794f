//! What upstreams say when they fail, whatever the shape, and what it means where the vendor has no word of its own.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{Class, Failure, Fault};

/// A failed answer in its parts, whatever its shape.
#[derive(Clone, Debug)]
pub struct Said {
    /// The status of the answer; of an error event in a 200, the status in its `code` if that is one, else 200.
    pub status: StatusCode,
    /// `code`, a number as text.
    pub code: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// The text as it came; may quote the client.
    pub message: String,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where to go next.
    pub class: Class,
    /// Whose fault.
    pub fault: Fault,
    /// The prompt is too long for this model.
    pub context_length: bool,
}

impl Verdict {
    /// Too many requests or tokens for now.
    pub const QUOTA: Self = Self::new(Class::Elsewhere, Fault::Quota);
    /// Our credential or our bill.
    pub const ACCOUNT: Self = Self::new(Class::Elsewhere, Fault::Account);
    /// The backend is broken, overloaded, or lacks the model.
    pub const BACKEND: Self = Self::new(Class::Elsewhere, Fault::Backend);
    /// The model lacks an ability or a parameter that the request wants.
    pub const UNABLE: Self = Self::new(Class::NotHere, Fault::Request);
    /// The prompt, or prompt and answer, are longer than the model's context.
    pub const CONTEXT: Self = Self { class: Class::NotHere, fault: Fault::Request, context_length: true };
    /// A content verdict or a malformed request: the same everywhere.
    pub const NEVER: Self = Self::new(Class::Never, Fault::Request);

    const fn new(class: Class, fault: Fault) -> Self {
        Self { class, fault, context_length: false }
    }
}

impl Said {
    /// Reads an error body or an error event's data.
    pub fn read(status: StatusCode, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = value.get("error").unwrap_or(&value);
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").or_else(|| error.as_str().map(str::to_owned)).unwrap_or_default();
        Self { status, code: text("code"), kind: text("type"), message }
    }

    /// The failure for the relay.
    pub(super) fn into_failure(self, verdict: Verdict, retry_after: Option<Duration>) -> Failure {
        Failure {
            class: verdict.class,
            fault: verdict.fault,
            message: self.message,
            code: self.code.or(self.kind),
            retry_after,
            context_length: verdict.context_length,
        }
    }
}

/// The reading that all dialects share: by status.
pub(super) fn common(said: &Said) -> Verdict {
    match said.status.as_u16() {
        401..=403 => Verdict::ACCOUNT,
        429 => Verdict::QUOTA,
        413 => Verdict::UNABLE,
        400 | 422 => Verdict::NEVER,
        _ => Verdict::BACKEND,
    }
}

/// How long the upstream asks to be left alone.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
