//! Tokens: what an upstream says it read and wrote.

use super::tier::Tier;

/// Tokens of one attempt by kind. `input` includes `cached_input`, `cache_write` and `audio_input`; `output`
/// includes `reasoning` and `audio_output`, as in the Chat Completions dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens.
    pub input: u64,
    /// Of these, read from the vendor's prompt cache.
    pub cached_input: u64,
    /// Of these, written into the vendor's prompt cache.
    pub cache_write: u64,
    /// Of these, audio.
    pub audio_input: u64,
    /// All completion tokens.
    pub output: u64,
    /// Of these, reasoning that the client may not have seen.
    pub reasoning: u64,
    /// Of these, audio.
    pub audio_output: u64,
    /// The tier at which they were served.
    pub tier: Tier,
    /// True where the upstream gave no number and Turnpike counted.
    pub estimated: bool,
}

impl Usage {
    /// The larger of both in every kind: an estimate is never below what was seen to be streamed.
    pub fn at_least(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached_input: self.cached_input,
            cache_write: self.cache_write,
            audio_input: self.audio_input,
            output: self.output.max(other.output),
            reasoning: self.reasoning,
            audio_output: self.audio_output,
            tier: self.tier,
            estimated: self.estimated,
        }
    }
}
