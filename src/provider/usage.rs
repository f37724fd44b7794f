//! Readers of `usage` objects: each vendor's token counts in one inclusive form.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::usage::Usage;

/// `usage` as all OpenAI-compatible servers write it, with every vendor's further members.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// The plain form.
pub(super) fn openai(raw: &RawValue) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    counts.prompt_tokens.or(counts.completion_tokens)?;
    Some(Usage {
        input: counts.prompt_tokens.unwrap_or_default(),
        output: counts.completion_tokens.unwrap_or_default(),
        ..Usage::default()
    })
}
