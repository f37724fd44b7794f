//! What a chunk or an answer says: one typed pass, in which everything that is only tested for presence stays raw.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Data, Reading};
use crate::{
    base::tier::Tier,
    wire::json::{self, Object},
};

/// A chunk or a whole answer. Members of the wrong type make it unreadable; null is absence.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Object<Choice<'a>>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// `error` in SGLang's flat form.
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    /// DashScope's own form: `code` and `message` without choices.
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// FastAPI's form, which vLLM and SGLang give for unknown paths and bad types.
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Object<Said<'a>>>,
    #[serde(borrow)]
    message: Option<Object<Said<'a>>>,
    /// Legacy completions.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    /// OpenRouter puts an upstream's failure here.
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    /// vLLM since 0.11 and OpenRouter.
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Call<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Reads the payload of an event.
pub fn read_event(data: &Bytes) -> Data {
    if data.trim_ascii() == b"[DONE]" {
        return Data::Done;
    }
    read_answer(data).map_or(Data::Garbage, Data::Chunk)
}

/// Reads a whole, non-streaming answer; `None` when it is not a JSON object.
pub fn read_answer(body: &Bytes) -> Option<Reading> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let chunk: Chunk<'_> = serde_json::from_slice(body).ok()?;
    let choices = chunk.choices.as_deref().unwrap_or_default();
    let mut reading = Reading { no_choices: choices.is_empty(), ..Reading::default() };
    for choice in choices {
        read_choice(choice, &mut reading);
    }
    reading.usage = chunk.usage.filter(|usage| usage.get().starts_with('{')).map(ToOwned::to_owned);
    let tier = chunk.service_tier.filter(|tier| json::says_something(tier));
    reading.tier = tier.map(|tier| Tier::parse(&json::text(tier.get())));
    if is_error(&chunk, choices) {
        reading.error = Some(body.clone());
    }
    Some(reading)
}

fn is_error(chunk: &Chunk<'_>, choices: &[Object<Choice<'_>>]) -> bool {
    let named = chunk.error.is_some_and(json::says_something);
    let flat = chunk.object.is_some_and(|object| object.get() == "\"error\"");
    let bare = choices.is_empty()
        && (chunk.code.is_some() && chunk.message.is_some_and(json::says_something)
            || chunk.detail.is_some_and(json::says_something));
    named || flat || bare || choices.iter().any(|choice| choice.error.is_some_and(json::says_something))
}

fn read_choice(choice: &Choice<'_>, reading: &mut Reading) {
    for said in choice.delta.iter().chain(&choice.message) {
        for text in [said.content, said.reasoning_content, said.reasoning, said.refusal] {
            read_text(text, reading);
        }
        for calls in said.tool_calls.into_iter().filter(|calls| json::says_something(calls)) {
            reading.meaningful = true;
            reading.text_bytes += call_bytes(calls);
        }
        for call in said.function_call.into_iter().filter(|call| json::says_something(call)) {
            reading.meaningful = true;
            reading.text_bytes += serde_json::from_str(call.get()).map_or(0, |function| function_bytes(&function));
        }
        reading.meaningful |= said.audio.is_some_and(json::says_something);
    }
    read_text(choice.text, reading);
    if reading.finish_reason.is_none() {
        let reason = choice.finish_reason.filter(|reason| json::says_something(reason));
        reading.finish_reason = reason.map(|reason| json::text(reason.get()).into_owned());
    }
}

fn read_text(text: Option<&RawValue>, reading: &mut Reading) {
    if let Some(text) = text.filter(|text| json::says_something(text)) {
        reading.meaningful = true;
        reading.text_bytes += json::said_bytes(text.get());
    }
}

/// Bytes of names and arguments; a list of another shape counts as it stands.
fn call_bytes(calls: &RawValue) -> u64 {
    match serde_json::from_str::<Vec<Call<'_>>>(calls.get()) {
        Ok(calls) => calls.iter().filter_map(|call| call.function.as_ref()).map(function_bytes).sum(),
        Err(_) => calls.get().len() as u64,
    }
}

fn function_bytes(function: &Function<'_>) -> u64 {
    let parts = [function.name, function.arguments];
    parts.into_iter().flatten().map(|part| json::said_bytes(part.get())).sum()
}
