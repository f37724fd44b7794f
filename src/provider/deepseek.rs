//! DeepSeek's own API. While a request waits it sends comments into a stream and empty lines before a plain answer;
//! usage rides in the last chunk with choices.

use std::time::Duration;

use super::{PromptCache, Provider, Said, Verdict};
use crate::{
    base::{catalog::Candidate, facts::Facts},
    wire::request::History,
};

/// DeepSeek.
#[derive(Debug)]
pub struct DeepSeek;

impl Provider for DeepSeek {
    fn name(&self) -> &'static str {
        "deepseek"
    }

    fn base_url(&self, region: Option<&str>) -> Option<&'static str> {
        region.is_none().then_some("https://api.deepseek.com")
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("DEEPSEEK_API_KEY")
    }

    /// R1's name (`deepseek-reasoner`, to July 2026) refused `reasoning_content` in the history; the models since V4
    /// think unless told not to, and then refuse a tool call without it. `deepseek-chat` never thought.
    fn history(&self, candidate: &Candidate, facts: &Facts) -> History {
        match &*candidate.upstream {
            "deepseek-reasoner" => History::Drop,
            "deepseek-chat" => History::Keep,
            _ if facts.reasoning == Some(false) => History::Keep,
            _ => History::Fill,
        }
    }

    /// As `reasoning_content`.
    fn shows_reasoning(&self) -> bool {
        true
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // All of its 400s have one code, so the sentence has to tell; whole sentences, since others quote the request.
        match said.message.trim().trim_end_matches('.') {
            "Content Exists Risk" => return Some(Verdict::NEVER),
            "Model Not Exist" => return Some(Verdict::BACKEND),
            _ => {}
        }
        // Reasoning that is missing, and roles or parts that only others know: the fault is the pair's, not the
        // request's.
        let foreign = ["must be passed back to the api", "unknown variant"];
        (matches!(said.status.as_u16(), 400 | 422) && said.mentions(&foreign)).then_some(Verdict::UNABLE)
    }

    /// In units of 64 tokens, for "a few hours to a few days" (api-docs.deepseek.com/guides/kv_cache as of 2025; that of
    /// 2026 names no unit): an hour is what is counted on.
    fn prompt_cache(&self) -> PromptCache {
        PromptCache { least: 64, unit: 64, lasts: Duration::from_secs(3600) }
    }

    /// Per account and model, whatever the key (api-docs.deepseek.com/quick_start/rate_limit, November 2026).
    fn concurrency_cap(&self, upstream: &str) -> Option<u32> {
        match upstream {
            "deepseek-flash" | "deepseek-v4-flash" => Some(2500),
            "deepseek-v4-pro" => Some(500),
            _ => None,
        }
    }

    fn failed_finish(&self, finish_reason: &str) -> bool {
        matches!(finish_reason, "insufficient_system_resource" | "network_error")
    }
}
