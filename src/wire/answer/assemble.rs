//! A whole answer from the chunks of a stream, for models that only stream and clients that did not ask for one.
//!
//! Strings are joined as they are escaped, so that a surrogate pair split between two chunks comes out whole and no
//! text is decoded and encoded again.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::json;

/// The most choices, tool calls of a choice, and bytes that are collected.
const MAX_CHOICES: u64 = 128;
const MAX_CALLS: u64 = 1024;
const MAX_BYTES: usize = 64 << 20;

/// Members of a chunk that stand for the whole answer, in the order in which they are written. The first chunk that has
/// one decides.
const HEAD: [&str; 5] = ["id", "created", "model", "system_fingerprint", "service_tier"];
/// Members of a message that are joined from the deltas.
const TEXTS: [&str; 4] = ["content", "reasoning_content", "reasoning", "refusal"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Piece<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    system_fingerprint: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<PieceChoice<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PieceChoice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    logprobs: Option<Logprobs<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<PieceCall<'a>>>,
    #[serde(borrow)]
    function_call: Option<PieceFunction<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PieceCall<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<PieceFunction<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PieceFunction<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Logprobs<'a> {
    #[serde(borrow)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    refusal: Option<Vec<&'a RawValue>>,
}

/// Collects a stream's chunks.
#[derive(Debug, Default)]
pub struct Assembler {
    head: [Option<String>; HEAD.len()],
    usage: Option<String>,
    choices: BTreeMap<u64, Choice>,
    /// Bytes that came.
    bytes: usize,
    /// Bytes of text and arguments among them.
    size: usize,
    /// A chunk could not be read, or a limit was passed.
    broken: bool,
}

#[derive(Debug, Default)]
struct Choice {
    texts: [Option<String>; TEXTS.len()],
    calls: BTreeMap<u64, Call>,
    function_call: Option<Call>,
    logprobs: [Option<String>; 2],
    finish_reason: Option<String>,
}

/// A tool call; all members are raw JSON, `arguments` without its quotes.
#[derive(Debug, Default)]
struct Call {
    id: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    arguments: String,
}

impl Assembler {
    /// Takes in the data of one event. `[DONE]` is passed over.
    pub fn push(&mut self, data: &Bytes) {
        if self.broken || data.trim_ascii() == b"[DONE]" {
            return;
        }
        self.bytes += data.len();
        match serde_json::from_slice::<Piece<'_>>(data) {
            Ok(piece) if self.bytes <= MAX_BYTES => self.take(piece),
            Ok(_) | Err(_) => self.broken = true,
        }
    }

    fn take(&mut self, piece: Piece<'_>) {
        let head = [piece.id, piece.created, piece.model, piece.system_fingerprint, piece.service_tier];
        for (slot, value) in self.head.iter_mut().zip(head) {
            first(slot, value);
        }
        if let Some(usage) = piece.usage {
            self.usage = Some(usage.get().to_owned());
        }
        for (place, choice) in piece.choices.into_iter().flatten().enumerate() {
            let index = choice.index.unwrap_or(place as u64);
            if index >= MAX_CHOICES || self.choices.entry(index).or_default().take(choice, &mut self.size).is_none() {
                self.broken = true;
            }
        }
    }

    /// Bytes of text, tool arguments and log-probabilities so far, as they are escaped.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The answer as far as it has come; `None` when no choice has.
    pub fn so_far(&self) -> Option<String> {
        (!self.choices.is_empty()).then(|| self.written())
    }

    /// The answer as a `chat.completion`; `None` when no choice came, one has no `finish_reason` (the stream was cut),
    /// a chunk was unreadable, or more than 64 MiB, 128 choices or 1,024 tool calls came.
    pub fn finish(self) -> Option<Bytes> {
        if self.broken || self.choices.is_empty() || self.choices.values().any(|choice| choice.finish_reason.is_none())
        {
            return None;
        }
        Some(self.written().into())
    }

    fn written(&self) -> String {
        let mut out = String::with_capacity(self.bytes / 4 + 512);
        out.push_str("{\"object\":\"chat.completion\"");
        for (name, value) in HEAD.iter().zip(&self.head) {
            member(&mut out, name, value.as_deref());
        }
        out.push_str(",\"choices\":[");
        for (place, (index, choice)) in self.choices.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            choice.write(*index, &mut out);
        }
        out.push(']');
        member(&mut out, "usage", self.usage.as_deref());
        out.push('}');
        out
    }
}

impl Choice {
    /// Adds what came to `size`; `None` when a limit was passed or a text is no string.
    fn take(&mut self, piece: PieceChoice<'_>, size: &mut usize) -> Option<()> {
        let delta = piece.delta.unwrap_or_default();
        let texts = [delta.content, delta.reasoning_content, delta.reasoning, delta.refusal];
        for (slot, text) in self.texts.iter_mut().zip(texts) {
            if let Some(text) = text {
                let text = json::inner(text.get())?;
                *size += text.len();
                slot.get_or_insert_default().push_str(text);
            }
        }
        for (place, call) in delta.tool_calls.into_iter().flatten().enumerate() {
            let index = call.index.unwrap_or(place as u64);
            if index >= MAX_CALLS {
                return None;
            }
            let slot = self.calls.entry(index).or_default();
            first(&mut slot.id, call.id.filter(|id| json::says_something(id)));
            first(&mut slot.kind, call.kind.filter(|kind| json::says_something(kind)));
            slot.take(call.function.unwrap_or_default(), size)?;
        }
        if let Some(function) = delta.function_call {
            self.function_call.get_or_insert_default().take(function, size)?;
        }
        let logprobs = piece.logprobs.unwrap_or_default();
        for (slot, items) in self.logprobs.iter_mut().zip([logprobs.content, logprobs.refusal]) {
            for item in items.into_iter().flatten() {
                let list = slot.get_or_insert_default();
                list.push_str(if list.is_empty() { "" } else { "," });
                list.push_str(item.get());
                *size += item.get().len();
            }
        }
        if let Some(reason) = piece.finish_reason.filter(|reason| json::says_something(reason)) {
            self.finish_reason = Some(reason.get().to_owned());
        }
        Some(())
    }

    fn write(&self, index: u64, out: &mut String) {
        out.push_str(&format!("{{\"index\":{index},\"message\":{{\"role\":\"assistant\""));
        for (name, text) in TEXTS.iter().zip(&self.texts) {
            match text {
                Some(text) if *name == "content" || !text.is_empty() => {
                    member(out, name, Some(&format!("\"{text}\"")));
                }
                None if *name == "content" => member(out, name, Some("null")),
                Some(_) | None => {}
            }
        }
        if !self.calls.is_empty() {
            out.push_str(",\"tool_calls\":[");
            for (place, call) in self.calls.values().enumerate() {
                out.push_str(if place == 0 { "{\"type\":" } else { ",{\"type\":" });
                out.push_str(call.kind.as_deref().unwrap_or("\"function\""));
                member(out, "id", call.id.as_deref());
                member(out, "function", Some(&call.function()));
                out.push('}');
            }
            out.push(']');
        }
        member(out, "function_call", self.function_call.as_ref().map(Call::function).as_deref());
        out.push('}');
        if self.logprobs.iter().any(Option::is_some) {
            let [content, refusal] = self
                .logprobs
                .each_ref()
                .map(|list| list.as_ref().map_or("null".to_owned(), |list| format!("[{list}]")));
            member(out, "logprobs", Some(&format!("{{\"content\":{content},\"refusal\":{refusal}}}")));
        }
        member(out, "finish_reason", self.finish_reason.as_deref());
        out.push('}');
    }
}

impl Call {
    /// Names come once, or again and again in full; arguments come in pieces.
    fn take(&mut self, piece: PieceFunction<'_>, size: &mut usize) -> Option<()> {
        first(&mut self.name, piece.name.filter(|name| json::says_something(name)));
        if let Some(arguments) = piece.arguments {
            let arguments = json::inner(arguments.get())?;
            *size += arguments.len();
            self.arguments.push_str(arguments);
        }
        Some(())
    }

    fn function(&self) -> String {
        let name = self.name.as_deref().unwrap_or("\"\"");
        format!("{{\"name\":{name},\"arguments\":\"{}\"}}", self.arguments)
    }
}

fn first(slot: &mut Option<String>, value: Option<&RawValue>) {
    if slot.is_none() {
        *slot = value.map(|value| value.get().to_owned());
    }
}

/// Writes a further member, if there is a value.
fn member(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        for part in [",\"", name, "\":", value] {
            out.push_str(part);
        }
    }
}
