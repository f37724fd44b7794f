//! Scripts: what one request is answered with, and what goes wrong on the way.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Gate, body::Step, tally::Received};

/// The answer to one request. Without further calls it is a good answer, streamed if the request asks for that.
#[derive(Clone)]
pub struct Script {
    pub(super) status: StatusCode,
    pub(super) head: Head,
    pub(super) gate: Option<Gate>,
    headers: Vec<(String, String)>,
    content: Content,
    finish_reason: String,
    prompt_tokens: u64,
    usage: UsageAt,
    pace: Duration,
    lead_in: Bytes,
    line_end: &'static str,
    piece: Option<usize>,
    fault: Option<(At, Fault)>,
}

/// What happens before the head of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Send,
    Stall,
    HangUp,
    Reset,
}

#[derive(Clone)]
enum Content {
    /// Words, one event and one token each.
    Words(Vec<String>),
    /// One tool call: its name, and its arguments in pieces.
    Call(String, Vec<String>),
    /// These bytes, whatever was asked for; nothing is billed.
    Raw(Bytes),
    /// These events (each with its blank line), whatever was asked for.
    Events(Vec<Bytes>),
}

/// Where a stream tells its usage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UsageAt {
    /// In a chunk of its own if asked, as OpenAI does.
    OwnChunk,
    /// In the chunk with the finish reason, asked or not, as DeepSeek does.
    LastChunk,
    /// Nowhere.
    Nowhere,
}

/// Where a fault strikes: after so many events, or bytes of the body.
#[derive(Clone, Copy)]
enum At {
    Events(usize),
    Bytes(usize),
}

/// What goes wrong in the middle of a body.
#[derive(Clone)]
pub enum Fault {
    /// The connection closes without the end of the body.
    Abort,
    /// The connection is reset.
    Reset,
    /// The body ends in good order, but too early.
    End,
    /// Nothing more comes, and nothing closes.
    Stall,
    /// Nothing more comes until the gate opens.
    Wait(Gate),
}

/// A script made ready for one request.
pub(super) struct Rendered {
    pub(super) headers: Vec<(String, String)>,
    pub(super) steps: Vec<Step>,
    /// `None` where nothing is billed.
    pub(super) prompt_tokens: Option<u64>,
}

impl Script {
    fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            head: Head::Send,
            gate: None,
            headers: Vec::new(),
            content,
            finish_reason: "stop".to_owned(),
            prompt_tokens: 11,
            usage: UsageAt::OwnChunk,
            pace: Duration::ZERO,
            lead_in: Bytes::new(),
            line_end: "\n",
            piece: None,
            fault: None,
        }
    }

    /// A good answer with this text; each word (with the space before it) is a token and an event.
    pub fn says(text: &str) -> Self {
        Self::new(StatusCode::OK, Content::Words(text.split_inclusive(' ').map(str::to_owned).collect()))
    }

    /// A good answer that calls one tool.
    pub fn calls(tool: &str, arguments: &str) -> Self {
        let pieces = arguments.split_inclusive(',').map(str::to_owned).collect();
        Self::new(StatusCode::OK, Content::Call(tool.to_owned(), pieces)).finish_reason("tool_calls")
    }

    /// This status with this JSON body.
    pub fn fails(status: u16, body: Value) -> Self {
        Self::raw(status, "application/json", body.to_string())
    }

    /// OpenAI's error shape.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::fails(status, json!({"error": {"message": message, "type": code, "param": null, "code": code}}))
    }

    /// These very bytes.
    pub fn raw(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let script = Self::new(StatusCode::from_u16(status).unwrap(), Content::Raw(body.into()));
        script.header("content-type", content_type)
    }

    /// A stream of these very events; each must end with its blank line.
    pub fn events(events: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        let events = events.into_iter().map(Into::into).collect();
        Self::new(StatusCode::OK, Content::Events(events)).header("content-type", "text/event-stream")
    }

    /// A recorded stream, cut into its events at blank lines.
    pub fn recorded(stream: &[u8]) -> Self {
        let mut events = Vec::new();
        let mut rest = stream;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            let (event, behind) = rest.split_at(end + 2);
            events.push(Bytes::copy_from_slice(event));
            rest = behind;
        }
        Self::events(events)
    }

    /// The request is read and never answered.
    pub fn stalls() -> Self {
        Self { head: Head::Stall, ..Self::says("") }
    }

    /// The connection closes instead of an answer.
    pub fn hangs_up() -> Self {
        Self { head: Head::HangUp, ..Self::says("") }
    }

    /// The connection is reset instead of an answer.
    pub fn resets() -> Self {
        Self { head: Head::Reset, ..Self::says("") }
    }

    /// A further header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The last chunk's reason.
    pub fn finish_reason(mut self, reason: &str) -> Self {
        self.finish_reason = reason.to_owned();
        self
    }

    /// What the prompt is billed as.
    pub fn prompt_tokens(mut self, tokens: u64) -> Self {
        self.prompt_tokens = tokens;
        self
    }

    /// Usage rides in the chunk with the finish reason.
    pub fn usage_in_last_chunk(mut self) -> Self {
        self.usage = UsageAt::LastChunk;
        self
    }

    /// Usage is never told.
    pub fn without_usage(mut self) -> Self {
        self.usage = UsageAt::Nowhere;
        self
    }

    /// A pause before each event but the first.
    pub fn pace(mut self, pause: Duration) -> Self {
        self.pace = pause;
        self
    }

    /// The head of the answer waits for the gate.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// These bytes come first: comments, blank lines.
    pub fn led_in_by(mut self, bytes: &str) -> Self {
        self.lead_in = Bytes::copy_from_slice(bytes.as_bytes());
        self
    }

    /// How lines of a stream end: `\n`, `\r\n` or `\r`.
    pub fn line_end(mut self, end: &'static str) -> Self {
        self.line_end = end;
        self
    }

    /// The body leaves in pieces of so many bytes.
    pub fn in_pieces_of(mut self, bytes: usize) -> Self {
        self.piece = Some(bytes);
        self
    }

    /// After so many events, the connection closes without the end of the body.
    pub fn cut_after_events(self, events: usize) -> Self {
        self.after_events(events, Fault::Abort)
    }

    /// After so many bytes of the body, the connection closes without its end.
    pub fn cut_after_bytes(self, bytes: usize) -> Self {
        self.after_bytes(bytes, Fault::Abort)
    }

    /// After so many events, this.
    pub fn after_events(mut self, events: usize, fault: Fault) -> Self {
        self.fault = Some((At::Events(events), fault));
        self
    }

    /// After so many bytes of the body, this.
    pub fn after_bytes(mut self, bytes: usize, fault: Fault) -> Self {
        self.fault = Some((At::Bytes(bytes), fault));
        self
    }

    pub(super) fn render(&self, request: &Received) -> Rendered {
        let stream = request.wants_stream();
        let (content_type, units) = self.units(request, stream);
        let mut headers = self.headers.clone();
        if !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        let length: usize = units.iter().map(|(bytes, _)| bytes.len()).sum();
        let ends_early = matches!(self.fault, Some((_, Fault::End)));
        if content_type != "text/event-stream" && !ends_early {
            headers.push(("content-length".to_owned(), (length + self.lead_in.len()).to_string()));
        }
        let billed = self.status.is_success() && !matches!(self.content, Content::Raw(_));
        Rendered { headers, steps: self.steps(units), prompt_tokens: billed.then_some(self.prompt_tokens) }
    }

    /// The content type, and the body in events with the tokens that each stands for.
    fn units(&self, request: &Received, stream: bool) -> (&'static str, Vec<(Bytes, u64)>) {
        match &self.content {
            Content::Raw(bytes) => ("application/json", vec![(bytes.clone(), 0)]),
            Content::Events(events) => ("text/event-stream", events.iter().map(|event| (event.clone(), 1)).collect()),
            Content::Words(_) | Content::Call(..) if stream => ("text/event-stream", self.stream(request)),
            Content::Words(_) | Content::Call(..) => {
                let body = self.whole(&request.model());
                ("application/json", vec![(body.to_string().into(), self.tokens())])
            }
        }
    }

    fn tokens(&self) -> u64 {
        let (Content::Words(pieces) | Content::Call(_, pieces)) = &self.content else { return 0 };
        pieces.len() as u64
    }

    fn usage_json(&self) -> Value {
        let (prompt, completion) = (self.prompt_tokens, self.tokens());
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }

    /// The answer in one piece.
    fn whole(&self, model: &str) -> Value {
        let message = match &self.content {
            Content::Call(tool, pieces) => json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": pieces.concat()}}]}),
            Content::Words(words) => json!({"role": "assistant", "content": words.concat()}),
            Content::Raw(_) | Content::Events(_) => Value::Null,
        };
        let mut answer = json!({
            "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_740_000_000, "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
        });
        if self.usage != UsageAt::Nowhere {
            answer["usage"] = self.usage_json();
        }
        answer
    }

    /// The answer event by event.
    fn stream(&self, request: &Received) -> Vec<(Bytes, u64)> {
        let model = request.model();
        let chunk = |choices: Value| {
            json!({"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_740_000_000,
                "model": model, "choices": choices})
        };
        let delta = |delta: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
        let mut events = vec![(delta(json!({"role": "assistant", "content": ""})), 0)];
        match &self.content {
            Content::Words(words) => events.extend(words.iter().map(|word| (delta(json!({"content": word})), 1))),
            Content::Call(tool, pieces) => {
                let head = json!({"index": 0, "id": "call_1", "type": "function",
                    "function": {"name": tool, "arguments": ""}});
                events.push((delta(json!({"tool_calls": [head]})), 0));
                events.extend(
                    pieces.iter().map(|piece| {
                        (delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})), 1)
                    }),
                );
            }
            Content::Raw(_) | Content::Events(_) => {}
        }
        let mut last = chunk(json!([{"index": 0, "delta": {}, "finish_reason": self.finish_reason}]));
        if self.usage == UsageAt::LastChunk {
            last["usage"] = self.usage_json();
        }
        events.push((last, 0));
        if self.usage == UsageAt::OwnChunk && request.wants_usage() {
            let mut usage = chunk(json!([]));
            usage["usage"] = self.usage_json();
            events.push((usage, 0));
        }
        let mut units: Vec<_> = events.iter().map(|(json, tokens)| (self.event(&json.to_string()), *tokens)).collect();
        units.push((self.event("[DONE]"), 0));
        units
    }

    fn event(&self, data: &str) -> Bytes {
        format!("data: {data}{end}{end}", end = self.line_end).into()
    }

    /// What is sent, with pauses, and cut off where the fault strikes.
    fn steps(&self, units: Vec<(Bytes, u64)>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut sent = 0;
        if !self.lead_in.is_empty() {
            steps.push(Step::Bytes(self.lead_in.clone()));
        }
        for (index, (bytes, tokens)) in units.into_iter().enumerate() {
            if let Some((At::Events(after), fault)) = &self.fault
                && *after == index
                && strike(&mut steps, fault)
            {
                return steps;
            }
            if index > 0 && !self.pace.is_zero() {
                steps.push(Step::Pause(self.pace));
            }
            let struck = match &self.fault {
                Some((At::Bytes(after), fault)) if (sent..sent + bytes.len()).contains(after) => {
                    Some((*after - sent, fault))
                }
                _ => None,
            };
            steps.push(Step::Produced(tokens));
            sent += bytes.len();
            let (before, behind) = bytes.split_at(struck.map_or(bytes.len(), |(within, _)| within));
            self.send(&mut steps, before);
            if struck.is_some_and(|(_, fault)| strike(&mut steps, fault)) {
                return steps;
            }
            self.send(&mut steps, behind);
        }
        steps
    }

    fn send(&self, steps: &mut Vec<Step>, bytes: &[u8]) {
        let piece = self.piece.unwrap_or(usize::MAX);
        steps.extend(bytes.chunks(piece).map(|piece| Step::Bytes(Bytes::copy_from_slice(piece))));
    }
}

/// Adds the fault; true when nothing comes after it.
fn strike(steps: &mut Vec<Step>, fault: &Fault) -> bool {
    steps.extend(match fault {
        Fault::Abort => Some(Step::Abort),
        Fault::Reset => Some(Step::Reset),
        Fault::End => None,
        Fault::Stall => Some(Step::Stall),
        Fault::Wait(gate) => Some(Step::Wait(gate.clone())),
    });
    !matches!(fault, Fault::Wait(_))
}
