//! Answers: what an event or a body says, read without being rebuilt.

use bytes::Bytes;
use serde_json::value::RawValue;

/// What one stream event, or one whole answer, says.
#[derive(Debug, Default)]
pub struct Reading {
    /// It carries content, a tool call, reasoning, a refusal or audio: the first of these ends the wait.
    pub meaningful: bool,
    /// `choices` is present and empty, or absent.
    pub no_choices: bool,
    /// `finish_reason` of the first choice that has one.
    pub finish_reason: Option<String>,
    /// The `usage` object as it stands; each provider reads its own.
    pub usage: Option<Box<RawValue>>,
    /// The `error` member (object, string or flat `object: "error"`), or an error event: the whole data.
    pub error: Option<Bytes>,
    /// Bytes of text, reasoning and tool arguments in it, for the estimate of a cut stream.
    pub text_bytes: u64,
}

/// What a `data:` payload is.
#[derive(Debug)]
pub enum Data {
    /// `[DONE]`.
    Done,
    /// JSON that could be read.
    Chunk(Reading),
    /// Neither: a garbage line.
    Garbage,
}

/// Reads the payload of an event.
pub fn read_event(data: &Bytes) -> Data {
    let _ = data;
    todo!()
}

/// Reads a whole, non-streaming answer; `None` when it is not a JSON object.
pub fn read_answer(body: &Bytes) -> Option<Reading> {
    let _ = body;
    todo!()
}

/// The event or answer `json` with `"cost": cost` (a JSON number) put into its `usage` object; unchanged when it
/// has none. Only that member differs.
pub fn with_cost(json: &Bytes, cost: &str) -> Bytes {
    let _ = cost;
    json.clone()
}
