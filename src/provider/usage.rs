//! What vendors add to OpenAI's `usage` object. Each member is absent where a vendor does not know it, so that one
//! reader serves them all.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{base::usage::Usage, wire::answer::openai_usage};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Further {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    /// DeepSeek's word for the cached share.
    prompt_cache_hit_tokens: Option<u64>,
    /// SGLang's place for it.
    reasoning_tokens: Option<u64>,
    completion_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    reasoning_tokens: Option<u64>,
}

impl Further {
    fn reasoning(&self) -> u64 {
        let details = self.completion_tokens_details.as_ref();
        details.and_then(|details| details.reasoning_tokens).or(self.reasoning_tokens).unwrap_or_default()
    }

    /// xAI counts reasoning beside `completion_tokens`: there, only all three together make up the total.
    fn reasoning_is_apart(&self) -> bool {
        let parts = [self.prompt_tokens, self.completion_tokens, Some(self.reasoning())];
        let sum = parts.into_iter().try_fold(0u64, |sum, part| sum.checked_add(part?));
        self.reasoning() > 0 && sum.is_some() && sum == self.total_tokens
    }
}

/// Tokens in a `usage` object in the inclusive form; `None` as in [`openai_usage`]. No part is larger than its whole,
/// so that a vendor's slip never turns into a negative price.
pub(super) fn read(raw: &RawValue) -> Option<Usage> {
    let mut usage = openai_usage(raw)?;
    // What the plain reader could make sense of stays, whatever the further members are.
    let Ok(further) = serde_json::from_str::<Further>(raw.get()) else { return Some(usage) };
    if let Some(hit) = further.prompt_cache_hit_tokens {
        usage.cached_input = hit.min(usage.input - usage.cache_write);
    }
    let reasoning = further.reasoning();
    if further.reasoning_is_apart() {
        usage.output += reasoning;
    }
    usage.reasoning = reasoning.min(usage.output);
    Some(usage)
}
