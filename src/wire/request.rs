//! A chat request: its facts, and the splices that make it fit an upstream.

use bytes::Bytes;

use crate::base::{catalog::Tokenizer, facts::Facts};

/// Why a body is refused: becomes a 400 `invalid_request`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// What is wrong and how to mend it; never the prompt's text.
    pub message: String,
    /// The field, as OpenAI's `param`.
    pub param: Option<String>,
}

/// A parsed chat request: the body with the places that matter.
#[derive(Debug)]
pub struct ChatRequest {
    /// The body as it came.
    pub body: Bytes,
    /// Facts for the decision; `input_tokens` is an estimate until counted.
    pub facts: Facts,
    /// The client asked for usage in its stream.
    pub wants_usage: bool,
    /// `safety_identifier` or `user` of the body.
    pub user: Option<String>,
    // private: spans of top-level fields and of messages
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
}

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BadRequest`] when it is not a JSON object, `model` or `messages` is missing or of the wrong type, a field
    /// stands twice, a number is out of range, or it nests deeper than 64 levels.
    pub fn parse(body: Bytes) -> Result<Self, BadRequest> {
        let _ = body;
        todo!()
    }

    /// The body for one candidate.
    pub fn splice(&self, edits: &Edits<'_>) -> Spliced {
        let _ = edits;
        todo!()
    }

    /// Counts prompt tokens (see `tokens`).
    pub fn count_tokens(&self, tokenizer: Tokenizer) -> u64 {
        let _ = tokenizer;
        todo!()
    }
}
