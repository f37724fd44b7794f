//! Usage in its plain OpenAI form, which most vendors' own forms extend.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::usage::Usage;

/// No answer has a million million tokens: a larger number is a fault, not a usage.
const MAX_TOKENS: u64 = 1 << 40;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Plain<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<Prompt<'a>>,
    #[serde(borrow)]
    completion_tokens_details: Option<Completion<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Prompt<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    audio_tokens: Option<&'a RawValue>,
    /// OpenAI since 2026 and OpenRouter.
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
    /// DashScope's explicit cache, and gateways before Anthropic.
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Completion<'a> {
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    audio_tokens: Option<&'a RawValue>,
}

/// Reads a `usage` object in OpenAI's form.
///
/// Null is absence. A total gives the one of prompt and completion that is missing; what cannot be known so is 0 with
/// [`Usage::estimated`] set, for the caller to raise ([`Usage::at_least`]). Details never exceed what they are part of.
/// `None` when it says neither prompt nor completion, or a number is negative, broken or above 2^40: a usage like that
/// is not to be billed.
pub fn openai_usage(usage: &RawValue) -> Option<Usage> {
    if !usage.get().starts_with('{') {
        return None;
    }
    let plain: Plain<'_> = serde_json::from_str(usage.get()).ok()?;
    let total = number(plain.total_tokens)?;
    let (prompt, completion) = (number(plain.prompt_tokens)?, number(plain.completion_tokens)?);
    if prompt.is_none() && completion.is_none() {
        return None;
    }
    let rest = |known: Option<u64>| total?.checked_sub(known?);
    let (input, output) = (prompt.or_else(|| rest(completion)), completion.or_else(|| rest(prompt)));
    let details = plain.prompt_tokens_details.unwrap_or_default();
    let written = number(details.cache_write_tokens)?
        .or(number(details.cache_creation_input_tokens)?)
        .or(number(details.cache_creation_tokens)?);
    let cached = number(details.cached_tokens)?.unwrap_or(0);
    let audio_input = number(details.audio_tokens)?.unwrap_or(0);
    let details = plain.completion_tokens_details.unwrap_or_default();
    let reasoning = number(details.reasoning_tokens)?.unwrap_or(0);
    let audio_output = number(details.audio_tokens)?.unwrap_or(0);
    let estimated = input.is_none() || output.is_none();
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    let cached_input = cached.min(input);
    Some(Usage {
        input,
        cached_input,
        cache_write: written.unwrap_or(0).min(input - cached_input),
        audio_input: audio_input.min(input),
        output,
        reasoning: reasoning.min(output),
        audio_output: audio_output.min(output),
        estimated,
        ..Usage::default()
    })
}

/// `Some(None)` for absence, `None` for a number that cannot be.
fn number(raw: Option<&RawValue>) -> Option<Option<u64>> {
    let Some(raw) = raw else { return Some(None) };
    // Some gateways go through floats and write `12.0`.
    let digits = raw.get().strip_suffix(".0").unwrap_or(raw.get());
    let number = digits.parse().ok().filter(|&number: &u64| number <= MAX_TOKENS)?;
    Some(Some(number))
}
