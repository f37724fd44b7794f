//! Alibaba Cloud's DashScope (Model Studio) in its OpenAI-compatible mode.

use std::time::Duration;

use super::{PromptCache, Provider, Said, Verdict};
use crate::base::{
    catalog::{Candidate, Thinking},
    facts::Facts,
};

/// DashScope.
#[derive(Debug)]
pub struct Qwen;

/// The sites and their base URLs; a key works at its own site only. The first is the usual one.
const SITES: [(&str, &str); 4] = [
    ("intl", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
    ("cn", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    ("us", "https://dashscope-us.aliyuncs.com/compatible-mode/v1"),
    ("hk", "https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1"),
];

impl Provider for Qwen {
    fn name(&self) -> &'static str {
        "qwen"
    }

    fn base_url(&self, region: Option<&str>) -> Option<&'static str> {
        let region = region.unwrap_or(SITES[0].0);
        SITES.iter().find(|(site, _)| *site == region).map(|(_, url)| *url)
    }

    fn regions(&self) -> &'static [&'static str] {
        &["intl", "cn", "us", "hk"]
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("DASHSCOPE_API_KEY")
    }

    fn stream_only(&self, candidate: &Candidate, facts: &Facts) -> bool {
        stream_only(&candidate.upstream.to_ascii_lowercase(), candidate.model.thinking, facts.reasoning)
    }

    /// As `reasoning_content`.
    fn shows_reasoning(&self) -> bool {
        true
    }

    /// The implicit cache: from 256 tokens on, for a time that is not promised (alibabacloud.com/help/model-studio/
    /// context-cache); that of the explicit one is counted on, 5 minutes.
    fn prompt_cache(&self) -> PromptCache {
        PromptCache { least: 256, unit: 1, lasts: Duration::from_secs(300) }
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // The compatible mode calls an exhausted rate of tokens `insufficient_quota`, OpenAI's word for an unpaid bill.
        if said.status == 429 || said.begins("Throttling") {
            return Some(Verdict::QUOTA);
        }
        if said.is(&["Arrearage", "InvalidApiKey"]) || said.begins("AllocationQuota.FreeTierOnly") {
            return Some(Verdict::ACCOUNT);
        }
        if said.is(&["DataInspectionFailed", "data_inspection_failed"]) {
            return Some(Verdict::NEVER);
        }
        let bad_parameter = said.is(&["InvalidParameter", "invalid_parameter_error"]);
        let limits = ["only support stream", "non-streaming calls", "range of max_tokens", "thinking_budget"];
        (bad_parameter && said.mentions(&limits)).then_some(Verdict::UNABLE)
    }
}

/// Whether DashScope answers this model (its name in lower case) only as a stream: QwQ, QVQ and the Omni models
/// always, the open Qwen3 models and all others while they think, be it by default or because they were asked to. A stream where none was needed costs nothing but the assembling, so doubt counts as yes.
fn stream_only(model: &str, thinking: Thinking, reasoning: Option<bool>) -> bool {
    let always = ["qwq", "qvq"].iter().any(|family| model.starts_with(family)) || model.contains("omni");
    let never_thinks = ["instruct", "coder"].iter().any(|mark| model.contains(mark));
    if always || never_thinks {
        return always;
    }
    if model.contains("thinking") {
        return true;
    }
    let open =
        model.strip_prefix("qwen3-").is_some_and(|size| size.starts_with(|letter: char| letter.is_ascii_digit()));
    reasoning.unwrap_or(open || matches!(thinking, Thinking::ByDefault | Thinking::Always))
}
