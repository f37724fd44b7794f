//! Ollama. It cuts a prompt that is longer than the context it was started with without a word: give the model's
//! `context` in the configuration, so that none is sent.
//!
//! It tells nothing of its load: `/api/ps` lists the models that are loaded, not the requests, and there is no
//! metrics page (its routes: <https://github.com/ollama/ollama/blob/main/server/routes.go>). Own counts are all there is.

use super::Provider;

/// An Ollama server.
#[derive(Debug)]
pub struct Ollama;

impl Provider for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/api/version")
    }
}
