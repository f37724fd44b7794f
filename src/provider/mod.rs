//! Layer 2, pure: one upstream's dialect a file.
//!
//! To add a provider, write one file with a unit struct that implements [`Provider`] and add it to [`TABLE`].

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use secrecy::SecretString;
use serde_json::value::RawValue;
use std::time::Duration;

use crate::{
    base::{
        catalog::{Candidate, Model},
        facts::Facts,
        usage::Usage,
    },
    wire::request::Edits,
};

pub use crate::base::failure::{Class, Fault};

/// A failed attempt as the provider reads it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where to go next.
    pub class: Class,
    /// Whose fault.
    pub fault: Fault,
    /// The upstream's own text, shortened; for the client and the log.
    pub message: String,
    /// The upstream's code or type, if any.
    pub code: Option<String>,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The prompt is too long: the client's code is `context_length_exceeded`.
    pub context_length: bool,
}

/// One upstream's dialect.
pub trait Provider: Sync + std::fmt::Debug {
    /// The word in `provider:`.
    fn name(&self) -> &'static str;

    /// The base URL when `endpoints` names none; `None` = the operator must. `region` is the vendor's site.
    fn base_url(&self, region: Option<&str>) -> Option<&'static str>;

    /// The environment variable that holds its key by custom, for `serve` without a file.
    fn key_variable(&self) -> Option<&'static str>;

    /// A self-hosted server: no key needed, a missing path means `/v1`.
    fn self_hosted(&self) -> bool {
        false
    }

    /// The path below the base URL.
    fn chat_path(&self) -> &'static str {
        "/chat/completions"
    }

    /// The path below the base URL's origin that tells whether it is ready, for self-hosted servers.
    fn ready_path(&self) -> Option<&'static str> {
        None
    }

    /// The header that carries the key.
    fn credential(&self, key: &SecretString) -> (HeaderName, HeaderValue);

    /// What changes in the body. `cap` is the bound on the answer that was held for.
    fn edits<'a>(&self, candidate: &'a Candidate, facts: &Facts, cap: u64) -> Edits<'a>;

    /// Whether this model answers streams only, so that a plain answer must be assembled.
    fn stream_only(&self, model: &Model, facts: &Facts) -> bool {
        let _ = (model, facts);
        false
    }

    /// Tokens in its `usage` object.
    fn usage(&self, raw: &RawValue) -> Option<Usage>;

    /// What a failed answer means. `body` may be an error body or an error event's data; status 200 for the latter.
    fn classify(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure;

    /// A `finish_reason` that is a failure in disguise (Zhipu's `network_error`).
    fn failed_finish(&self, finish_reason: &str) -> bool {
        finish_reason == "network_error"
    }
}

/// All providers.
pub const TABLE: &[&dyn Provider] = &[];

/// The provider of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    TABLE.iter().copied().find(|provider| provider.name() == name)
}
