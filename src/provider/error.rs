//! What upstreams say when they fail, whatever the shape, and what it means where the vendor has no word of its own.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::Value;

use super::{Class, Failure, Fault, text};

/// Bodies longer than this, in bytes, are not read as JSON: no vendor's error is.
const BODY_LIMIT: usize = 256 << 10;

/// The longest rest that an upstream may ask for.
const REST_LIMIT: Duration = Duration::from_secs(3600);

/// A failed answer in its parts, whatever its shape.
#[derive(Clone, Debug)]
pub struct Said {
    /// The status of the answer; of an error event in a 200, the status that its `code` or `type` stands for if it
    /// stands for one, else 200.
    pub status: StatusCode,
    /// `code`, a number as text.
    pub code: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// The text as it came; it may quote the client.
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
    /// The request alone is more than this account ever admits: another may take it, and nothing is parked for it.
    pub const TOO_BIG: Self = Self::new(Class::Elsewhere, Fault::Request);
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
    /// Reads an error body or an error event's data: OpenAI's object under `error`, a string there (TGI, Ollama), the
    /// members at the top (SGLang, DashScope, older vLLM), a list of one (Gemini), FastAPI's `detail`, or plain text.
    pub fn read(status: StatusCode, body: &[u8]) -> Self {
        let value: Value =
            if body.len() <= BODY_LIMIT { serde_json::from_slice(body).unwrap_or_default() } else { Value::Null };
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let member = |names: &[&str]| {
            let places = [error, value];
            places.iter().flat_map(|place| names.iter().filter_map(|name| place.get(name))).find_map(word)
        };
        let code = member(&["code", "error_code"]);
        let kind = member(&["type", "error_type", "status"]).filter(|kind| kind != "error");
        let message = error
            .as_str()
            .map(str::to_owned)
            .or_else(|| member(&["message", "error_msg", "msg"]))
            .or_else(|| value.get("detail").and_then(detail))
            .or_else(|| plain_text(value, body))
            .unwrap_or_default();
        let mut said = Self { status, code, kind, message };
        if status.is_success() {
            said.status = said.stated_status().unwrap_or(status);
        }
        said
    }

    /// Whether `code` or `type` is one of these words, in any case.
    pub fn is(&self, words: &[&str]) -> bool {
        self.labels().any(|label| words.iter().any(|word| label.eq_ignore_ascii_case(word)))
    }

    /// Whether `code` or `type` begins with this word, in any case.
    pub fn begins(&self, word: &str) -> bool {
        self.labels().any(|label| label.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
    }

    /// Whether the message contains one of these phrases (in lower case here, in any case there).
    pub fn mentions(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        [&self.code, &self.kind].into_iter().filter_map(|label| label.as_deref())
    }

    /// The status that an error event speaks of: vLLM and llama.cpp write it as `code`, others have a type for it.
    fn stated_status(&self) -> Option<StatusCode> {
        const TYPES: &[(u16, &[&str])] = &[
            (400, &["invalid_request_error", "BadRequestError"]),
            (401, &["authentication_error"]),
            (402, &["billing_error"]),
            (403, &["permission_error"]),
            (404, &["not_found_error", "NotFoundError"]),
            (429, &["rate_limit_error", "requests", "tokens"]),
        ];
        let number = self.labels().filter_map(|label| label.parse().ok()).find(|code| (400..600).contains(code));
        let by_type = || TYPES.iter().find(|(_, types)| self.is(types)).map(|(status, _)| *status);
        StatusCode::from_u16(number.or_else(by_type)?).ok()
    }

    /// The failure for the relay.
    pub(super) fn into_failure(self, verdict: Verdict, retry_after: Option<Duration>) -> Failure {
        let mut message = text::presentable(&self.message, text::MESSAGE_LIMIT);
        if message.is_empty() {
            message = format!("the upstream answered `{}` without a message", self.status);
        }
        Failure {
            class: verdict.class,
            fault: verdict.fault,
            message,
            code: self.code.or(self.kind).map(|code| text::presentable(&code, text::CODE_LIMIT)),
            retry_after,
            context_length: verdict.context_length,
        }
    }
}

/// A string that is not empty, or a number as text.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// FastAPI's `detail`: a text, or a list of faults of which the first is told, without the input that it quotes.
fn detail(detail: &Value) -> Option<String> {
    let first = detail.get(0).unwrap_or(detail);
    first.get("msg").and_then(word).or_else(|| word(first))
}

/// A body of plain text; pages of proxies in between and broken JSON say nothing worth repeating.
fn plain_text(value: &Value, body: &[u8]) -> Option<String> {
    let start = &body[..body.len().min(2 * text::MESSAGE_LIMIT)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim();
    (value.is_null() && !text.is_empty() && !text.starts_with(['<', '{', '['])).then(|| text.to_owned())
}

/// The reading that all dialects share: first the words that many vendors use, then the status.
pub(super) fn common(said: &Said) -> Verdict {
    by_label(said).or_else(|| by_phrase(said)).unwrap_or_else(|| by_status(said.status))
}

/// Codes that say more than the status they come with.
fn by_label(said: &Said) -> Option<Verdict> {
    const WORDS: &[(Verdict, &[&str])] = &[
        (Verdict::CONTEXT, &["context_length_exceeded", "exceed_context_size_error"]),
        (Verdict::NEVER, &["content_filter", "content_policy_violation"]),
        (Verdict::UNABLE, &["unsupported_parameter", "unsupported_value", "unknown_parameter", "not_supported_error"]),
        (Verdict::ACCOUNT, &["insufficient_quota", "invalid_api_key"]),
        (Verdict::QUOTA, &["rate_limit_exceeded"]),
        (Verdict::BACKEND, &["model_not_found"]),
    ];
    WORDS.iter().find(|(_, words)| said.is(words)).map(|(verdict, _)| *verdict)
}

/// Servers that give all their 400s one code tell the prompt's length and lacking abilities in the message only. It may
/// quote the client, so what is read from it never goes beyond the request at hand.
fn by_phrase(said: &Said) -> Option<Verdict> {
    const CONTEXT: &[&str] = &[
        "context length",
        "context window",
        "context size",
        "maximum model length",
        "prompt is too long",
        "range of input length",
        "reduce the length of the",
    ];
    const UNABLE: &[&str] = &[
        "does not support",
        "doesn't support",
        "not supported",
        "unsupported",
        "only supported by",
        "only support stream",
        "not a multimodal model",
        "at most 0 ",
    ];
    let status = said.status.as_u16();
    if matches!(status, 400 | 413 | 422 | 500) && said.mentions(CONTEXT) {
        return Some(Verdict::CONTEXT);
    }
    (matches!(status, 400 | 422 | 501) && said.mentions(UNABLE)).then_some(Verdict::UNABLE)
}

fn by_status(status: StatusCode) -> Verdict {
    match status.as_u16() {
        401..=403 | 407 => Verdict::ACCOUNT,
        404 | 405 | 408 | 409 | 410 | 424 | 425 => Verdict::BACKEND,
        413 | 501 => Verdict::UNABLE,
        429 => Verdict::QUOTA,
        400..=499 => Verdict::NEVER,
        _ => Verdict::BACKEND,
    }
}

/// How long the upstream asks to be left alone, at most an hour: `retry-after-ms`, or `retry-after` in seconds or as a
/// date (RFC 9110, 10.2.3). There is no clock here: a date counts from the answer's own `date`, and says nothing
/// without it.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| decimal(text, 1));
    let rest = millis.or_else(|| {
        let text = text(header::RETRY_AFTER.as_str())?;
        decimal(text, 1000).or_else(|| until(text, headers.get(header::DATE)?.to_str().ok()?))
    })?;
    Some(rest.min(REST_LIMIT))
}

/// A number with or without decimals, in units of so many milliseconds; parts of a millisecond are left out.
fn decimal(text: &str, unit_ms: u64) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    let whole_ms = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit_ms);
    let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    Some(Duration::from_millis(whole_ms.saturating_add(thousandths * unit_ms / 1000)))
}

fn until(date: &str, now: &str) -> Option<Duration> {
    let parser = DateTimeParser::new();
    let seconds = parser.parse_timestamp(date).ok()?.as_second() - parser.parse_timestamp(now).ok()?.as_second();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}
