//! Any other server that speaks Chat Completions.

use super::Provider;

/// Any other server that speaks Chat Completions.
#[derive(Debug)]
pub struct OpenAiCompatible;

impl Provider for OpenAiCompatible {
    fn name(&self) -> &'static str {
        "openai_compatible"
    }

    /// It may be anybody's server, so neither a key nor a path is demanded.
    fn self_hosted(&self) -> bool {
        true
    }

    fn shows_reasoning(&self) -> bool {
        false
    }
}
