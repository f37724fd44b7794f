//! llama.cpp's own HTTP server.

use super::{Provider, Said, Verdict};

/// A llama.cpp server.
#[derive(Debug)]
pub struct LlamaCpp;

impl Provider for LlamaCpp {
    fn name(&self) -> &'static str {
        "llamacpp"
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
        Some("/health")
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // A text model answers images and audio with a 500, which would otherwise count against the server.
        (said.status == 500 && said.mentions(&["input is not supported"])).then_some(Verdict::UNABLE)
    }
}
