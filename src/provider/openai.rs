//! OpenAI's own API.

use super::Provider;

/// OpenAI.
#[derive(Debug)]
pub struct OpenAi;

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn base_url(&self, _region: Option<&str>) -> Option<&'static str> {
        Some("https://api.openai.com/v1")
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("OPENAI_API_KEY")
    }
}
