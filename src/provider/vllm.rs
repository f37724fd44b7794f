//! vLLM.

use super::Provider;

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
        None
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
}
