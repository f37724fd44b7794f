//! Azure OpenAI: OpenAI's dialect under the operator's own resource, where a deployment's name stands for the model.

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::{PromptCache, Provider, Said, Verdict, endpoint, openai};
use crate::{
    base::catalog::{Candidate, Thinking},
    wire::request::CapField,
};

/// Azure OpenAI.
#[derive(Debug)]
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("AZURE_OPENAI_API_KEY")
    }

    fn base_url_variable(&self) -> Option<&'static str> {
        Some("AZURE_OPENAI_ENDPOINT")
    }

    fn default_path(&self) -> &'static str {
        "/openai/v1"
    }

    fn credential(&self, key: &SecretString) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static("api-key"), endpoint::sensitive(key.expose_secret()))
    }

    /// A deployment may be called anything, so the model's own names are asked first. Azure also serves other vendors'
    /// models, and those know `max_tokens`.
    fn cap_field(&self, candidate: &Candidate) -> CapField {
        let model = &candidate.model;
        let names = [model.catalog.as_deref().unwrap_or_default(), &model.name, &candidate.upstream];
        match names.into_iter().find(|name| is_openai(name)) {
            Some(name) => openai::cap_field(name),
            None if model.thinking == Thinking::Never => CapField::MaxTokens,
            None => CapField::MaxCompletionTokens,
        }
    }

    /// As OpenAI's (learn.microsoft.com, "Prompt caching with Azure OpenAI").
    fn prompt_cache(&self) -> PromptCache {
        openai::PROMPT_CACHE
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // The deployment's model does not do chat at all.
        if said.is(&["OperationNotSupported"]) {
            return Some(Verdict::UNABLE);
        }
        openai::verdict(said)
    }
}

/// Whether a model of this name is one of OpenAI's: `gpt-…`, `chatgpt-…`, `o1`, `o3-mini`.
fn is_openai(name: &str) -> bool {
    let series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
    series || (name.starts_with("gpt-") && !name.starts_with("gpt-oss")) || name.starts_with("chatgpt-")
}
