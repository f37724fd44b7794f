//! Readers of `usage` objects: each vendor's token counts in one inclusive form.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::usage::Usage;

/// `usage` as OpenAI-compatible servers write it, with the further members of the vendors.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// SGLang's place for it.
    reasoning_tokens: Option<u64>,
    /// DeepSeek's own form of the cached share.
    prompt_cache_hit_tokens: Option<u64>,
    prompt_cache_miss_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    /// DashScope's explicit cache; already part of `prompt_tokens`.
    cache_creation_input_tokens: Option<u64>,
    /// OpenRouter's word for the same.
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

impl Counts {
    /// The object's members; `None` when it is no object or a count is no whole number.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// The inclusive form; `None` when neither prompt nor answer is counted. No part is larger than its whole, so that
    /// a vendor's slip never turns into a negative price.
    pub(super) fn usage(&self) -> Option<Usage> {
        let by_cache = self.prompt_cache_hit_tokens.zip(self.prompt_cache_miss_tokens);
        let input = self.prompt_tokens.or_else(|| by_cache.map(|(hit, miss)| hit.saturating_add(miss)));
        input.or(self.completion_tokens)?;
        let input = input.unwrap_or_default();
        let output = self.completion_tokens.unwrap_or_default();
        let prompt = self.prompt_tokens_details.as_ref();
        let answer = self.completion_tokens_details.as_ref();
        let cached = self.prompt_cache_hit_tokens.or_else(|| prompt?.cached_tokens).unwrap_or_default().min(input);
        let written = prompt.and_then(|prompt| prompt.cache_creation_input_tokens.or(prompt.cache_write_tokens));
        Some(Usage {
            input,
            cached_input: cached,
            cache_write: written.unwrap_or_default().min(input - cached),
            audio_input: prompt.and_then(|prompt| prompt.audio_tokens).unwrap_or_default().min(input),
            output,
            reasoning: self.reasoning().min(output),
            audio_output: answer.and_then(|answer| answer.audio_tokens).unwrap_or_default().min(output),
            estimated: false,
        })
    }

    /// The same for servers of which it is not known whether `completion_tokens` holds the reasoning: where only all
    /// three together make up `total_tokens`, it does not.
    pub(super) fn usage_by_total(mut self) -> Option<Usage> {
        let apart = |completion: u64| {
            let reasoning = self.reasoning();
            let sum = self.prompt_tokens?.checked_add(completion)?.checked_add(reasoning)?;
            (reasoning > 0 && self.total_tokens == Some(sum)).then(|| completion + reasoning)
        };
        if let Some(all) = self.completion_tokens.and_then(apart) {
            self.completion_tokens = Some(all);
        }
        self.usage()
    }

    fn reasoning(&self) -> u64 {
        let details = self.completion_tokens_details.as_ref();
        details.and_then(|details| details.reasoning_tokens).or(self.reasoning_tokens).unwrap_or_default()
    }
}

/// The plain form.
pub(super) fn openai(raw: &RawValue) -> Option<Usage> {
    Counts::read(raw)?.usage()
}
