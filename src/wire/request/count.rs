//! Prompt tokens: an estimate that needs no vocabulary, and a count that does.

use super::{ChatRequest, Places};
use crate::{
    base::catalog::Tokenizer,
    wire::{json, tokens},
};

/// Bytes of text a token, for the estimate. English has 4 to 4.5 in the vocabularies of today, program text 3 to 3.5,
/// Chinese 3 to 4 (three bytes a character), so natural text rarely comes out lower; random digits do (2 and less).
const BYTES_PER_TOKEN: u64 = 3;
/// What `\u6e2f` takes in a body.
const ESCAPE_BYTES: usize = 6;
/// Tokens that frame each message, its role included: 3 and 1 in OpenAI's cookbook, "How to count tokens with tiktoken".
const PER_MESSAGE: u64 = 4;
/// What a `name` costs beside its text (same source).
const PER_NAME: u64 = 1;
/// Every answer is primed with this many (same source).
const PRIMING: u64 = 3;
/// What a list of tools costs beside its text (`func_end`, same source).
const PER_TOOLS: u64 = 12;
/// An image at the dearest size of GPT-4o's scheme: 85 + 8 tiles × 170 (OpenAI, "Images and vision", high detail).
const PER_IMAGE: u64 = 85 + 8 * 170;
/// Bytes of base64 audio a token: OpenAI bills 10 tokens a second, and MP3 at 24 kbit/s has 4,000 such bytes in one.
const AUDIO_BYTES_PER_TOKEN: u64 = 400;

/// Prompt tokens without a vocabulary: bytes of text (escapes as they stand) ÷ [`BYTES_PER_TOKEN`], with the same
/// additions as [`ChatRequest::count_tokens`].
pub(super) fn estimate(places: &Places) -> u64 {
    let spans = places.talk.texts.iter().chain(&places.schemas);
    let bytes: u64 = spans.map(|span| u64::from(span.end - span.start)).sum();
    bytes.div_ceil(BYTES_PER_TOKEN) + additions(places)
}

/// How much of the prompt's text is written beyond ASCII, in millionths of its bytes. An escape such as `\u6e2f` is
/// one such character.
pub(super) fn other_script_ppm(places: &Places, body: &str) -> u32 {
    let (mut other, mut all) = (0_u64, 0_u64);
    for span in places.talk.texts.iter().chain(&places.schemas) {
        let text = span.text(body.as_bytes()).as_bytes();
        let beyond = if text.is_ascii() { 0 } else { text.iter().filter(|byte| !byte.is_ascii()).count() };
        let escaped = memchr::memmem::find_iter(text, b"\\u").count();
        other += (beyond + escaped * ESCAPE_BYTES).min(text.len()) as u64;
        all += text.len() as u64;
    }
    u32::try_from(other * 1_000_000 / all.max(1)).unwrap_or(1_000_000)
}

/// Everything but text.
fn additions(places: &Places) -> u64 {
    let talk = &places.talk;
    let tools = if places.schemas.is_empty() { 0 } else { PER_TOOLS };
    PRIMING
        + PER_MESSAGE * talk.messages
        + PER_NAME * talk.names
        + PER_IMAGE * talk.images
        + talk.audio_bytes.div_ceil(AUDIO_BYTES_PER_TOKEN)
        + talk.other_bytes.div_ceil(BYTES_PER_TOKEN)
        + tools
}

impl ChatRequest {
    /// Counts prompt tokens with a vocabulary (see [`tokens::count`], which loads it if need be).
    ///
    /// `3 + Σ messages (4 + texts + name + 1 if named) + tools JSON + 12 if any + 1,445 an image + audio`, as OpenAI's
    /// cookbook counts chats ("How to count tokens with tiktoken"). Tools and JSON schemas count as the JSON stands,
    /// which is a little more than the form that OpenAI shows to its models and what Qwen and DeepSeek show to theirs.
    /// Files and videos count a token for three bytes.
    pub fn count_tokens(&self, tokenizer: Tokenizer) -> u64 {
        let spans = self.places.talk.texts.iter().chain(&self.places.schemas);
        let texts: u64 = spans.map(|span| tokens::count(tokenizer, &json::text(span.text(&self.body)))).sum();
        texts + additions(&self.places)
    }
}
