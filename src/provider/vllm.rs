//! vLLM.

use super::{Provider, Said, Verdict};

/// A vLLM server.
#[derive(Debug)]
pub struct Vllm;

impl Provider for Vllm {
    fn name(&self) -> &'static str {
        "vllm"
    }

    fn base_url(&self, _region: Option<&str>) -> Option<&'static str> {
        None
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("VLLM_API_KEY")
    }

    fn base_url_variable(&self) -> Option<&'static str> {
        Some("VLLM_BASE_URL")
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/health")
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // Older servers subtract the prompt from the context and complain of what is left.
        if said.mentions(&["max_tokens must be at least 1, got -"]) {
            return Some(Verdict::CONTEXT);
        }
        said.mentions(&["--enable-auto-tool-choice"]).then_some(Verdict::UNABLE)
    }

    fn failed_finish(&self, finish_reason: &str) -> bool {
        matches!(finish_reason, "abort" | "error")
    }
}
