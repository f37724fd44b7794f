//! OpenAI's own API.

use std::time::Duration;

use super::{PromptCache, Provider, Said, Verdict};
use crate::{base::catalog::Candidate, wire::request::CapField};

/// OpenAI.
#[derive(Debug)]
pub struct OpenAi;

/// Families that still take `max_tokens`. Every later one calls it `max_completion_tokens`, and the reasoning models
/// among them answer `max_tokens` with a 400.
const MAX_TOKENS_FAMILIES: &[&str] = &["gpt-3.5", "gpt-4", "chatgpt-4"];

pub(super) const PROMPT_CACHE: PromptCache = PromptCache { least: 1024, unit: 128, lasts: Duration::from_secs(300) };

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn base_url(&self, region: Option<&str>) -> Option<&'static str> {
        region.is_none().then_some("https://api.openai.com/v1")
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("OPENAI_API_KEY")
    }

    fn cap_field(&self, candidate: &Candidate) -> CapField {
        cap_field(&candidate.upstream)
    }

    /// From 1,024 tokens on in steps of 128, for 5 to 10 minutes without use (developers.openai.com, "Prompt caching";
    /// the steps: openai-cookbook, "Prompt Caching 201").
    fn prompt_cache(&self) -> PromptCache {
        PROMPT_CACHE
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        verdict(said)
    }
}

/// How a model of this name calls the cap.
pub(super) fn cap_field(model: &str) -> CapField {
    let base = model.strip_prefix("ft:").unwrap_or(model);
    let old = MAX_TOKENS_FAMILIES.iter().any(|family| base.starts_with(family));
    if old { CapField::MaxTokens } else { CapField::MaxCompletionTokens }
}

/// OpenAI's codes, which Azure shares.
pub(super) fn verdict(said: &Said) -> Option<Verdict> {
    const BILL: &[&str] = &[
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "access_terminated",
    ];
    const POLICY: &[&str] = &["invalid_prompt", "content_policy_violation", "content_filter", "sensitive_content"];
    // One request above the account's whole rate per minute gets a 429 for ever: no reason to park the account.
    if said.status == 429 && said.message.starts_with("Request too large") {
        return Some(Verdict::TOO_BIG);
    }
    if said.is(BILL) {
        return Some(Verdict::ACCOUNT);
    }
    if said.is(POLICY) {
        return Some(Verdict::NEVER);
    }
    said.is(&["string_above_max_length"]).then_some(Verdict::CONTEXT)
}
