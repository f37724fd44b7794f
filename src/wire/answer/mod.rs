//! Answers: what an event or a body says, read without being rebuilt.
//!
//! `read` says what is in it, `usage` reads its numbers, `assemble` builds a whole answer from a stream, `write` makes
//! the few bytes of our own: the cost, the error that ends a stream, the keep-alive.

mod assemble;
#[cfg(test)]
mod malformed;
mod read;
#[cfg(test)]
mod tests;
mod usage;
mod write;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::base::tier::Tier;

pub use self::{
    assemble::Assembler,
    read::{read_answer, read_event},
    usage::openai_usage,
    write::{error_event, keep_alive, with_cost},
};

/// What one stream event, or one whole answer, says.
#[derive(Debug, Default)]
pub struct Reading {
    /// It carries content, a tool call, reasoning, a refusal or audio: the first of these ends the wait. An answer
    /// with a [`Self::finish_reason`] and nothing meaningful in it or before it is an empty completion.
    pub meaningful: bool,
    /// `choices` is present and empty, or absent.
    pub no_choices: bool,
    /// `finish_reason` of the first choice that has one.
    pub finish_reason: Option<String>,
    /// The `usage` object as it stands; each provider reads its own.
    pub usage: Option<Box<RawValue>>,
    /// The tier of service that it says it was served at; `None` = it does not say.
    pub tier: Option<Tier>,
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
    /// Neither: a garbage line. Empty data is one too: the official SDKs fail on it.
    Garbage,
}
