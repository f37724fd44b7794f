//! Layer 2, pure: one upstream's dialect a file.
//!
//! To add a provider, write one file with a unit struct that implements [`Provider`] and add it to [`TABLE`].

mod azure;
mod deepseek;
mod endpoint;
mod error;
mod gauges;
mod llamacpp;
mod ollama;
mod openai;
mod openai_compatible;
mod qwen;
mod sglang;
#[cfg(test)]
mod tests;
mod text;
mod tgi;
mod usage;
mod vllm;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use secrecy::SecretString;
use serde_json::value::RawValue;
use std::time::Duration;

use crate::{
    base::{catalog::Candidate, facts::Facts, usage::Usage},
    wire::request::{CapField, Edits, History},
};

pub use crate::base::failure::{Class, Fault};
pub use endpoint::{BadEndpoint, check_key, normalise};
pub use error::{Said, Verdict};
pub use gauges::MAX_PAGE;

/// A failed attempt as the provider reads it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where to go next.
    pub class: Class,
    /// Whose fault.
    pub fault: Fault,
    /// The upstream's own text, at most 500 bytes on one line, keys masked; for the client. It may quote the request,
    /// so a log gets [`Self::code`] instead.
    pub message: String,
    /// The upstream's code or type, if any, at most 64 bytes.
    pub code: Option<String>,
    /// How long it asks to be left alone, at most an hour.
    pub retry_after: Option<Duration>,
    /// The prompt is too long: the client's code is `context_length_exceeded`.
    pub context_length: bool,
}

/// How a vendor keeps prompts that come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptCache {
    /// The shortest prompt that is kept, in tokens.
    pub least: u64,
    /// It is kept in pieces of so many tokens.
    pub unit: u64,
    /// How long it is kept at least without being used.
    pub lasts: Duration,
}

/// What an engine tells of its own load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineLoad {
    /// Requests that it works on.
    pub running: u64,
    /// Requests that wait, for whatever reason.
    pub waiting: u64,
    /// Those of them that wait for room: what a queue is.
    pub queue: u64,
    /// How full the memory of its prompts is, in parts per million; `None` = it does not tell.
    pub cache_used_ppm: Option<u64>,
}

/// One upstream's dialect.
///
/// The defaults are what an OpenAI-compatible server does; a provider's file says only where it differs.
pub trait Provider: Sync + std::fmt::Debug {
    /// The word in `provider:`.
    fn name(&self) -> &'static str;

    /// The base URL when `endpoints` names none; `None` = the operator must, or no such site. `region` is the
    /// vendor's site, one of [`Self::regions`]; without one, the vendor's usual site.
    fn base_url(&self, region: Option<&str>) -> Option<&'static str> {
        let _ = region;
        None
    }

    /// The sites that `region:` may name; empty = the vendor has one.
    fn regions(&self) -> &'static [&'static str] {
        &[]
    }

    /// The environment variable that holds its key by custom, for `serve` without a file; `None` = there is no custom.
    fn key_variable(&self) -> Option<&'static str> {
        None
    }

    /// The environment variable that holds its base URL by custom, for servers that have no fixed one.
    fn base_url_variable(&self) -> Option<&'static str> {
        None
    }

    /// A self-hosted server: no key needed, a missing path means `/v1`.
    fn self_hosted(&self) -> bool {
        false
    }

    /// The path that an endpoint without one gets; empty = none.
    fn default_path(&self) -> &'static str {
        if self.self_hosted() { "/v1" } else { "" }
    }

    /// The path below the base URL.
    fn chat_path(&self) -> &'static str {
        "/chat/completions"
    }

    /// Where a chat request to `endpoint` goes: its path with [`Self::chat_path`] behind it, and its query.
    fn uri(&self, endpoint: &Uri) -> Uri {
        endpoint::below(endpoint, self.chat_path())
    }

    /// The path below the base URL's origin that tells whether it is ready, for self-hosted servers: a status from 500
    /// on says that it is not.
    fn ready_path(&self) -> Option<&'static str> {
        None
    }

    /// The paths below the base URL's origin that tell its load, the best first; the next is asked where one is not
    /// served.
    fn load_paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the answer at one of [`Self::load_paths`] says; `None` = nothing.
    fn load(&self, path: &str, body: &[u8]) -> Option<EngineLoad> {
        let _ = (path, body);
        None
    }

    /// The address of a path below the origin of `endpoint`.
    fn beside(&self, endpoint: &Uri, path: &str) -> Uri {
        endpoint::beside(endpoint, path)
    }

    /// The header that carries the key, marked as sensitive. A key that no header can carry gives an empty value;
    /// [`check_key`] refuses it when the configuration is loaded.
    fn credential(&self, key: &SecretString) -> (HeaderName, HeaderValue) {
        endpoint::bearer(key)
    }

    /// Whether a stream may be asked for its usage with `stream_options.include_usage`.
    fn stream_options(&self) -> bool {
        true
    }

    /// How this model calls the cap on its answer.
    fn cap_field(&self, candidate: &Candidate) -> CapField {
        let _ = candidate;
        CapField::MaxTokens
    }

    /// What this model wants to see of its earlier reasoning.
    fn history(&self, candidate: &Candidate, facts: &Facts) -> History {
        let _ = (candidate, facts);
        History::Keep
    }

    /// What changes in the body. `cap` is the bound on the answer that was held for, in tokens.
    fn edits<'a>(&self, candidate: &'a Candidate, facts: &Facts, cap: u64) -> Edits<'a> {
        let assembled = !facts.stream && self.stream_only(candidate, facts);
        Edits {
            model: &candidate.upstream,
            cap: Some((self.cap_field(candidate), cap)),
            stream: assembled.then_some(true),
            include_usage: (facts.stream || assembled) && self.stream_options(),
            history: self.history(candidate, facts),
        }
    }

    /// Whether this model answers this request as a stream only, so that a plain answer must be assembled.
    fn stream_only(&self, candidate: &Candidate, facts: &Facts) -> bool {
        let _ = (candidate, facts);
        false
    }

    /// Whether reasoning comes in its streams as it is written. Where it does not, or nobody knows, an answer that is
    /// reasoned about is held for up to its cap.
    fn shows_reasoning(&self) -> bool {
        self.self_hosted()
    }

    /// Tokens in its `usage` object; `None` = it names neither prompt nor completion tokens, or no numbers to bill by.
    fn usage(&self, raw: &RawValue) -> Option<Usage> {
        usage::read(raw)
    }

    /// What this vendor's own codes mean; `None` = the reading that all dialects share. Whether an account is parked
    /// must be told from the status, `code` and `kind`, never from the message: that one may quote the client.
    fn verdict(&self, said: &Said) -> Option<Verdict> {
        let _ = said;
        None
    }

    /// What a failed answer means. `body` may be an error body or an error event's data; status 200 for the latter.
    fn classify(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let said = Said::read(status, body);
        let verdict = self.verdict(&said).unwrap_or_else(|| error::common(&said));
        said.into_failure(verdict, error::retry_after(headers))
    }

    /// How it keeps prompts. Without a word of the vendor: any prompt, for five minutes, which is what most vendors give.
    fn prompt_cache(&self) -> PromptCache {
        PromptCache { least: 1, unit: 1, lasts: Duration::from_secs(300) }
    }

    /// How many requests for this model one account may have in flight, where the vendor says so: beyond it the 429
    /// is certain, so the request is not sent.
    fn concurrency_cap(&self, upstream: &str) -> Option<u32> {
        let _ = upstream;
        None
    }

    /// A `finish_reason` that is a failure in disguise (Zhipu's `network_error`).
    fn failed_finish(&self, finish_reason: &str) -> bool {
        finish_reason == "network_error"
    }
}

/// All providers.
pub const TABLE: &[&dyn Provider] = &[
    &openai::OpenAi,
    &azure::Azure,
    &qwen::Qwen,
    &deepseek::DeepSeek,
    &vllm::Vllm,
    &sglang::Sglang,
    &llamacpp::LlamaCpp,
    &ollama::Ollama,
    &tgi::Tgi,
    &openai_compatible::OpenAiCompatible,
];

/// Vendors whose key variables are known but whose dialect comes later: (provider, environment variable). `serve`
/// names each that is set in one log line, so that nobody wonders why its key does nothing.
pub const LATER: &[(&str, &str)] = &[
    ("volcengine", "ARK_API_KEY"),
    ("hunyuan", "HUNYUAN_API_KEY"),
    ("qianfan", "QIANFAN_API_KEY"),
    ("anthropic", "ANTHROPIC_API_KEY"),
    ("gemini", "GEMINI_API_KEY"),
    ("mistral", "MISTRAL_API_KEY"),
    ("moonshot", "MOONSHOT_API_KEY"),
    ("zhipu", "ZHIPU_API_KEY"),
    ("together", "TOGETHER_API_KEY"),
    ("fireworks", "FIREWORKS_API_KEY"),
];

/// The provider of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    TABLE.iter().copied().find(|provider| provider.name() == name)
}
