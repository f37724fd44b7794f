//! The top-level fields that Turnpike uses: their types, their ranges, and what they say. Unknown fields pass.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BadRequest, ChatRequest, Places, count, messages::Talk};
use crate::{
    base::{facts::Facts, tier::Asked},
    wire::{
        category,
        json::{self, Member, Members, Span},
    },
};

/// The longest `model`, in bytes.
const MAX_MODEL: usize = 256;
/// The longest `user` and `safety_identifier`, in bytes.
pub(super) const MAX_USER: usize = 512;
/// The most answers (`n`), as OpenAI documents.
const MAX_ANSWERS: u64 = 128;
/// The largest cap on an answer: no model is near it.
const MAX_CAP: u64 = u32::MAX as u64;
/// The longest name of an unknown field that an error names.
const MAX_SHOWN: usize = 64;

/// What has been read so far.
#[derive(Default)]
pub(super) struct Draft<'a> {
    model: Option<Cow<'a, str>>,
    pub(super) talk: Option<Talk>,
    facts: Facts,
    places: Places,
    user: Option<String>,
    safety_identifier: Option<String>,
    wants_usage: bool,
}

/// A field's name as an error may show it: never anything that could be text of a prompt.
pub(super) fn shown(name: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.is_empty() && name.len() <= MAX_SHOWN && name.bytes().all(plain) { name } else { "a field" }
}

impl<'a> Draft<'a> {
    /// Takes in a top-level field other than `messages`; `raw` is its value.
    pub(super) fn field(&mut self, name: &str, member: Member, raw: &'a str) -> Result<(), BadRequest> {
        let (facts, places) = (&mut self.facts, &mut self.places);
        match name {
            "model" => {
                self.model = Some(model(raw)?);
                places.model = member.value;
            }
            "stream" => {
                facts.stream = boolean(name, raw)?.unwrap_or(false);
                places.stream = Some(member);
            }
            "stream_options" => {
                places.stream_options = Some(member);
                self.stream_options(member, raw)?;
            }
            "max_tokens" | "max_completion_tokens" => {
                let cap = whole(name, raw, 1, MAX_CAP)?;
                facts.max_output = facts.max_output.into_iter().chain(cap).min();
                let place =
                    if name == "max_tokens" { &mut places.max_tokens } else { &mut places.max_completion_tokens };
                *place = Some(member);
            }
            "n" => facts.answers = whole(name, raw, 1, MAX_ANSWERS)?.unwrap_or(1),
            "tools" | "functions" => {
                facts.tools += offered(name, raw)?;
                places.schemas.push(member.value);
            }
            "response_format" => {
                facts.json = demands_json(raw)?;
                if facts.json {
                    places.schemas.push(member.value);
                }
            }
            "reasoning_effort" => {
                let effort = string(name, raw)?;
                self.reasoning(effort.map(|effort| effort != "none"));
            }
            "enable_thinking" => {
                let enabled = boolean(name, raw)?;
                self.reasoning(enabled);
            }
            "reasoning" | "thinking" | "chat_template_kwargs" => self.reasoning(switched(raw)),
            "user" => self.user = user(name, raw)?,
            "service_tier" => {
                facts.tier = string(name, raw)?.map_or(Asked::Unsaid, |tier| Asked::parse(&tier));
            }
            "safety_identifier" => self.safety_identifier = user(name, raw)?,
            _ => {}
        }
        Ok(())
    }

    /// Where several fields speak of reasoning, one that asks for it wins: it needs the able model and the larger hold.
    fn reasoning(&mut self, said: Option<bool>) {
        self.facts.reasoning = match (self.facts.reasoning, said) {
            (Some(before), Some(now)) => Some(before || now),
            (before, now) => before.or(now),
        };
    }

    fn stream_options(&mut self, member: Member, raw: &'a str) -> Result<(), BadRequest> {
        if raw == "null" {
            return Ok(());
        }
        let mut found: Vec<&'a RawValue> = Vec::new();
        let is_object = Members::new(|key: &RawValue, value: &'a RawValue| {
            if json::text(key.get()) == "include_usage" {
                found.push(value);
            }
        })
        .visit(raw);
        if !is_object {
            return Err(BadRequest::new("stream_options", "`stream_options` must be an object or null"));
        }
        if found.len() > 1 {
            let name = "stream_options.include_usage";
            return Err(BadRequest::new(name, format!("`{name}` stands twice; hint: send each field once")));
        }
        let Some(value) = found.pop() else { return Ok(()) };
        self.wants_usage = boolean("stream_options.include_usage", value.get())?.unwrap_or(false);
        let within = Span::of(raw, value.get());
        let start = member.value.start;
        self.places.include_usage = Some(Span { start: start + within.start, end: start + within.end });
        Ok(())
    }

    /// The whole, once all fields are read.
    pub(super) fn finish(self, body: &Bytes, text: &str) -> Result<ChatRequest, BadRequest> {
        let Self { model, talk, mut facts, mut places, user, safety_identifier, wants_usage } = self;
        let model = model.ok_or_else(|| {
            BadRequest::new(
                "model",
                "`model` is missing; hint: name a route or a model, as `GET /v1/models` lists them",
            )
        })?;
        places.talk = talk.ok_or_else(|| {
            BadRequest::new("messages", "`messages` is missing; hint: send an array with at least one message")
        })?;
        facts.model = model.into_owned();
        facts.answers = facts.answers.max(1);
        facts.body_bytes = text.len() as u64;
        facts.messages = places.talk.messages;
        facts.images = places.talk.images;
        facts.audio = places.talk.audio;
        facts.estimated_tokens = count::estimate(&places);
        facts.input_tokens = facts.estimated_tokens;
        facts.other_script_ppm = count::other_script_ppm(&places, text);
        let asked = category::classify(places.talk.last_user(text), facts.tools > 0);
        facts.category = asked.category;
        facts.category_confident = asked.confident;
        Ok(ChatRequest { body: body.clone(), facts, wants_usage, user, safety_identifier, places })
    }
}

fn model(raw: &str) -> Result<Cow<'_, str>, BadRequest> {
    match string("model", raw)? {
        Some(model) if model.len() > MAX_MODEL => {
            Err(BadRequest::new("model", format!("`model` is longer than {MAX_MODEL} bytes")))
        }
        Some(model) if !model.is_empty() => Ok(model),
        _ => Err(BadRequest::new("model", "`model` is empty; hint: name a route or a model")),
    }
}

fn user(name: &str, raw: &str) -> Result<Option<String>, BadRequest> {
    let user = string(name, raw)?.filter(|user| !user.is_empty());
    if user.as_ref().is_some_and(|user| user.len() > MAX_USER) {
        let message = format!("`{name}` is longer than {MAX_USER} bytes; hint: send an identifier or its hash");
        return Err(BadRequest::new(name, message));
    }
    Ok(user.map(Cow::into_owned))
}

/// A string, or `None` for null.
pub(super) fn string<'r>(name: &str, raw: &'r str) -> Result<Option<Cow<'r, str>>, BadRequest> {
    match raw.as_bytes().first() {
        Some(b'"') => Ok(Some(json::text(raw))),
        _ if raw == "null" => Ok(None),
        _ => Err(BadRequest::new(name, format!("`{name}` must be a string"))),
    }
}

fn boolean(name: &str, raw: &str) -> Result<Option<bool>, BadRequest> {
    match raw {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        "null" => Ok(None),
        _ => Err(BadRequest::new(name, format!("`{name}` must be true or false"))),
    }
}

fn whole(name: &str, raw: &str, least: u64, most: u64) -> Result<Option<u64>, BadRequest> {
    if raw == "null" {
        return Ok(None);
    }
    match raw.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => {
            let hint = if most == MAX_CAP { "; hint: leave it out for no cap of your own" } else { "" };
            Err(BadRequest::new(name, format!("`{name}` must be a whole number from {least} to {most}{hint}")))
        }
    }
}

/// How many tools an array offers.
fn offered(name: &str, raw: &str) -> Result<u64, BadRequest> {
    if raw == "null" {
        return Ok(0);
    }
    let tools: Vec<&RawValue> = serde_json::from_str(raw)
        .map_err(|_| BadRequest::new(name, format!("`{name}` must be an array of objects")))?;
    match tools.iter().position(|tool| !tool.get().starts_with('{')) {
        Some(index) => {
            let param = format!("{name}[{index}]");
            let message = format!("`{param}` must be an object");
            Err(BadRequest::new(param, message))
        }
        None => Ok(tools.len() as u64),
    }
}

fn demands_json(raw: &str) -> Result<bool, BadRequest> {
    if raw == "null" {
        return Ok(false);
    }
    let mut kind = None;
    let is_object = Members::new(|key: &RawValue, value: &RawValue| {
        if json::text(key.get()) == "type" {
            kind = Some(says(value, &["json_object", "json_schema"]));
        }
    })
    .visit(raw);
    if is_object {
        return Ok(kind.unwrap_or(false));
    }
    Err(BadRequest::new("response_format", "`response_format` must be an object with a `type`"))
}

/// Whether the value is a string that says one of `words`, whatever its escapes.
fn says(value: &RawValue, words: &[&str]) -> bool {
    json::inner(value.get()).is_some_and(|inner| words.contains(&&*json::unescape(inner)))
}

/// The ways in which vendors switch reasoning on and off inside an object. Shapes not known here say nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Switches<'a> {
    /// DeepSeek, Ark, Zhipu, Anthropic: `enabled`, `disabled`, `adaptive`, `auto`.
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    /// OpenAI Responses and OpenRouter.
    #[serde(borrow)]
    effort: Option<&'a RawValue>,
    /// OpenRouter.
    #[serde(borrow)]
    enabled: Option<&'a RawValue>,
    /// OpenRouter: a budget of tokens.
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    /// Qwen 3 behind vLLM and SGLang (`chat_template_kwargs`).
    #[serde(borrow)]
    enable_thinking: Option<&'a RawValue>,
    /// DeepSeek V3.1 and later behind vLLM and SGLang (`chat_template_kwargs`).
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
}

fn switched(raw: &str) -> Option<bool> {
    let flag = |raw: Option<&RawValue>| match raw?.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    match raw.as_bytes().first() {
        Some(b'{') => {}
        Some(b't') => return Some(true),
        Some(b'f') => return Some(false),
        _ => return None,
    }
    let switches: Switches<'_> = serde_json::from_str(raw).ok()?;
    let kind = switches.kind.and_then(|kind| {
        let on = says(kind, &["enabled", "adaptive"]);
        (on || says(kind, &["disabled"])).then_some(on)
    });
    let effort = switches.effort.map(|effort| !says(effort, &["none"]));
    let budget = switches.max_tokens.map(|budget| budget.get() != "0");
    kind.or(flag(switches.enabled)).or(flag(switches.enable_thinking)).or(flag(switches.thinking)).or(effort).or(budget)
}
