//! The few bytes that Turnpike itself puts into an answer.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::wire::json::{self, Members, Span};

/// The event or answer `json` with `"cost": cost` (a JSON number) put into its `usage` object; unchanged when it
/// has none. Only that member differs: a `cost` that the upstream wrote is replaced.
pub fn with_cost(json: &Bytes, cost: &str) -> Bytes {
    let Some((span, comma)) = cost_place(json) else { return json.clone() };
    let key = match comma {
        Some(true) => ",\"cost\":",
        Some(false) => "\"cost\":",
        None => "",
    };
    let mut out = Vec::with_capacity(json.len() + key.len() + cost.len());
    out.extend_from_slice(&json[..span.start as usize]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(cost.as_bytes());
    out.extend_from_slice(&json[span.end as usize..]);
    out.into()
}

/// What is to be replaced by the cost: an old cost, or the place before the closing brace, where a key has to be
/// written too, with a comma (`Some(true)`) or without.
fn cost_place(json: &Bytes) -> Option<(Span, Option<bool>)> {
    let text = std::str::from_utf8(json).ok().filter(|text| u32::try_from(text.len()).is_ok())?;
    let usage = member(text, "\"usage\"").filter(|usage| usage.starts_with('{'))?;
    if let Some(old) = member(usage, "\"cost\"") {
        return Some((Span::of(text, old), None));
    }
    let end = json::skip_space_back(json, Span::of(text, usage).end - 1);
    let empty = json.get(end as usize - 1) == Some(&b'{');
    Some((Span { start: end, end }, Some(!empty)))
}

/// The value of an object's last member of that name.
fn member<'a>(object: &'a str, quoted: &str) -> Option<&'a str> {
    let mut found = None;
    let each = Members::new(|key: &'a RawValue, value: &'a RawValue| {
        if key.get() == quoted {
            found = Some(value.get());
        }
    });
    if each.visit(object) { found } else { None }
}

/// The event that ends a stream that failed, with a body as an error answer has it: both official SDKs raise it. No
/// `[DONE]` follows.
pub fn error_event(body: &serde_json::Value) -> Bytes {
    format!("data: {body}\n\n").into()
}

/// A comment that keeps a connection open: the only form that every SDK passes over.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}
