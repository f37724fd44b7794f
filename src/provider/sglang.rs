//! SGLang. Its `/health` takes a second and generates a token, so `/ready` is asked; its error bodies are flat.

use super::Provider;

/// An SGLang server.
#[derive(Debug)]
pub struct Sglang;

impl Provider for Sglang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn base_url(&self, _region: Option<&str>) -> Option<&'static str> {
        None
    }

    fn key_variable(&self) -> Option<&'static str> {
        None
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/ready")
    }

    fn failed_finish(&self, finish_reason: &str) -> bool {
        finish_reason == "abort"
    }
}
