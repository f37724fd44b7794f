//! A whole stream as a client read it, and what an SDK would make of it.

use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

/// A stream from its head to its end.
#[derive(Debug)]
pub struct Transcript {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub bytes: Vec<u8>,
    /// The connection broke instead of ending the body.
    pub broken: bool,
    /// Payloads of the events, in order; an event that no blank line ends is not among them.
    pub events: Vec<String>,
}

impl Transcript {
    pub(super) fn new(status: StatusCode, headers: HeaderMap, bytes: Vec<u8>, broken: bool) -> Self {
        let events = payloads(&String::from_utf8_lossy(&bytes));
        Self { status, headers, bytes, broken, events }
    }

    /// A header's value; "" where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The events that are JSON.
    pub fn chunks(&self) -> impl Iterator<Item = Value> {
        self.events.iter().filter_map(|event| serde_json::from_str(event).ok())
    }

    /// The text of the first choice.
    pub fn content(&self) -> String {
        let deltas =
            self.chunks().filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()));
        deltas.collect()
    }

    /// The last usage that was told.
    pub fn usage(&self) -> Option<Value> {
        self.chunks().filter_map(|chunk| chunk.get("usage").filter(|usage| usage.is_object()).cloned()).last()
    }

    /// The first finish reason.
    pub fn finish_reason(&self) -> Option<String> {
        self.chunks().find_map(|chunk| Some(chunk["choices"][0]["finish_reason"].as_str()?.to_owned()))
    }

    /// It ends with `[DONE]`.
    pub fn is_done(&self) -> bool {
        self.events.last().is_some_and(|event| event == "[DONE]")
    }

    /// The error that an SDK raises from the stream.
    pub fn error(&self) -> Option<Value> {
        self.chunks().find_map(|chunk| chunk.get("error").filter(|error| !error.is_null()).cloned())
    }

    /// Fails unless this is a whole good answer with that text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert_eq!((self.status.as_u16(), self.content().as_str()), (200, text), "{}", self.text());
        assert!(self.is_done() && !self.broken && self.error().is_none(), "{}", self.text());
    }

    /// Fails unless the stream ends with an error of this code and nothing that looks like a good end.
    #[track_caller]
    pub fn ends_with_error(&self, code: &str) {
        assert_eq!(self.error().unwrap_or_default()["code"], code, "{}", self.text());
        assert!(!self.events.iter().any(|event| event == "[DONE]"), "{}", self.text());
        assert!(!self.broken, "the connection broke: {}", self.text());
        let last = self.chunks().last().unwrap_or_default();
        assert!(last.get("error").is_some(), "something follows the error: {}", self.text());
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What the `data:` lines of each event carry, as the standard reads them. What stands behind the last line end is no
/// line, and an event that no blank line ends is none.
fn payloads(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (lines, _) = text.rsplit_once('\n').unwrap_or_default();
    let mut events = Vec::new();
    let mut data: Vec<&str> = Vec::new();
    for line in lines.split('\n') {
        if line.is_empty() && !data.is_empty() {
            events.push(data.join("\n"));
            data.clear();
        }
        if let Some(payload) = line.strip_prefix("data:") {
            data.push(payload.strip_prefix(' ').unwrap_or(payload));
        }
    }
    events
}

/// The bytes without the `cost` that the gateway adds to `usage`; everything else stays.
pub fn without_cost(bytes: &[u8]) -> String {
    let mut text = String::from_utf8(bytes.to_vec()).unwrap();
    while let Some(start) = text.find("\"cost\":") {
        let value = text[start + 7..].find([',', '}']).map_or(text.len(), |end| start + 7 + end);
        let (from, to) = if text[value..].starts_with(',') { (start, value + 1) } else { (start, value) };
        let from = if from > 0 && to == value && text[..from].ends_with(',') { from - 1 } else { from };
        text.replace_range(from..to, "");
    }
    text
}
