//! Any other server that speaks Chat Completions.

use super::Provider;

/// Any other server that speaks Chat Completions.
#[derive(Debug)]
pub struct OpenAiCompatible;

impl Provider for OpenAiCompatible {
    fn name(&self) -> &'static str {
        "openai_compatible"
    }

    fn base_url(&self, _region: Option<&str>) -> Option<&'static str> {
        None
    }

    fn key_variable(&self) -> Option<&'static str> {
        None
    }

    /// It may be anybody's server, so neither a key nor a path is demanded.
    fn self_hosted(&self) -> bool {
        true
    }

    fn shows_reasoning(&self) -> bool {
        false
    }
}
