//! A chat request: its facts, and the splices that make it fit an upstream.
//!
//! `parse` reads the body once, `fields` knows the top-level fields, `messages` the conversation, `splice` writes for
//! one candidate, `count` counts tokens.

mod count;
mod fields;
mod messages;
mod parse;
mod splice;

#[cfg(test)]
mod malformed;
#[cfg(test)]
mod splicing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use self::{fields::MAX_USER, messages::Talk};
use super::json::{self, Member, Members, Span};
use crate::base::facts::Facts;

/// Why a body is refused: becomes a 400 `invalid_request`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// What is wrong and how to mend it; never the prompt's text.
    pub message: String,
    /// The field, as OpenAI's `param`.
    pub param: Option<String>,
}

impl BadRequest {
    fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.into()) }
    }

    fn body(message: impl Into<String>) -> Self {
        Self { message: message.into(), param: None }
    }
}

/// A parsed chat request: the body with the places that matter.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The body as it came.
    pub body: Bytes,
    /// Facts for the decision; `input_tokens` is an estimate until counted.
    pub facts: Facts,
    /// The client asked for usage in its stream.
    pub wants_usage: bool,
    /// `user` of the body.
    pub user: Option<String>,
    /// `safety_identifier` of the body.
    pub safety_identifier: Option<String>,
    places: Places,
}

/// Where in the body stand the things that a splice may touch or a count needs.
#[derive(Clone, Debug, Default)]
struct Places {
    model: Span,
    max_tokens: Option<Member>,
    max_completion_tokens: Option<Member>,
    stream: Option<Member>,
    stream_options: Option<Member>,
    /// The value of `include_usage` in `stream_options`.
    include_usage: Option<Span>,
    /// `tools`, `functions` and a JSON schema: prompt tokens too.
    schemas: Vec<Span>,
    talk: Talk,
}

impl ChatRequest {
    /// A text at the top level of the body, at most as long as a user may be; "" counts as none. A field that the
    /// protocol does not know costs another pass over the body.
    pub fn top_text(&self, field: &str) -> Option<Cow<'_, str>> {
        match field {
            "user" => self.user.as_deref().map(Cow::Borrowed),
            "safety_identifier" => self.safety_identifier.as_deref().map(Cow::Borrowed),
            _ => self.find_text(field),
        }
    }

    fn find_text(&self, field: &str) -> Option<Cow<'_, str>> {
        let mut found: Option<&RawValue> = None;
        let body = std::str::from_utf8(&self.body).ok()?;
        Members::new(|key: &RawValue, value| {
            if json::text(key.get()) == field {
                found = Some(value);
            }
        })
        .visit(body);
        let raw = found?.get();
        (raw.starts_with('"') && raw.len() > 2 && raw.len() <= MAX_USER).then(|| json::text(raw))
    }
}

/// What a conversation has said, as bytes of the body: to be hashed, never kept.
#[derive(Clone, Copy, Debug)]
pub struct SaidSoFar<'a, T> {
    /// Tools and schemas, which stand before the messages for most vendors.
    pub tools: T,
    /// The messages before the last answer; empty = there is none.
    pub before: &'a [u8],
    /// The rest.
    pub since: &'a [u8],
    /// What was said before the first answer: the same in all turns of a conversation.
    pub opening: &'a [u8],
}

impl ChatRequest {
    /// What has been said up to the last answer and since. Two turns of one conversation, written by one client, begin
    /// with the same bytes.
    pub fn said(&self) -> SaidSoFar<'_, impl Iterator<Item = &[u8]> + Clone> {
        let talk = &self.places.talk;
        let at = talk.before_answer.unwrap_or(talk.start);
        let cut = |start, end| Span { start, end }.cut(&self.body);
        SaidSoFar {
            tools: self.places.schemas.iter().map(|span| span.cut(&self.body)),
            before: cut(talk.start, at),
            since: cut(at, talk.end),
            opening: cut(talk.start, talk.before_answers.unwrap_or(talk.end)),
        }
    }
}

/// What happens to `reasoning_content` in the history before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// Passed through.
    #[default]
    Keep,
    /// Taken out (DeepSeek R1 of 2025).
    Drop,
    /// Added as "" to assistant messages with tool calls that lack it (DeepSeek V4 thinking, Moonshot).
    Fill,
}

/// How the cap on the answer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

impl CapField {
    /// Its name in a body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// What is changed in a body for one candidate; everything else is passed on byte for byte.
#[derive(Clone, Debug)]
pub struct Edits<'a> {
    /// The upstream's name of the model.
    pub model: &'a str,
    /// The cap that must stand in the body, under this name (the client's, if it differs, is renamed).
    pub cap: Option<(CapField, u64)>,
    /// `stream`, when it must differ from the client's.
    pub stream: Option<bool>,
    /// Ask for usage in the stream: `stream_options.include_usage`.
    pub include_usage: bool,
    /// The reasoning history.
    pub history: History,
}

/// A body in pieces: slices of the original with what was spliced in between.
#[derive(Clone, Debug, Default)]
pub struct Spliced {
    /// The pieces in order.
    pub pieces: Vec<Bytes>,
}

impl Spliced {
    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// All pieces in one buffer: a copy, for tests and for callers that need the whole.
    pub fn joined(&self) -> Bytes {
        self.pieces.concat().into()
    }
}
