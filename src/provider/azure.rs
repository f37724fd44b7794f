//! Azure OpenAI: OpenAI's dialect under the operator's own resource, where a deployment's name stands for the model.

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::{Provider, endpoint};

/// Azure OpenAI.
#[derive(Debug)]
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn base_url(&self, _region: Option<&str>) -> Option<&'static str> {
        None
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
}
