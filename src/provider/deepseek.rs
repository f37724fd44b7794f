//! DeepSeek's own API.

use super::Provider;

/// DeepSeek.
#[derive(Debug)]
pub struct DeepSeek;

impl Provider for DeepSeek {
    fn name(&self) -> &'static str {
        "deepseek"
    }

    fn base_url(&self, _region: Option<&str>) -> Option<&'static str> {
        Some("https://api.deepseek.com")
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("DEEPSEEK_API_KEY")
    }
}
