//! Tests of what is sent: the edits of a body, addresses, credentials.

use std::sync::Arc;

use http::HeaderValue;

use super::*;
use crate::base::catalog::{Backend, CandidateId, Model, Thinking, USUAL_PROBE};

fn candidate(provider: &'static str, model: &str, upstream: &str, thinking: Thinking) -> Candidate {
    let model = Model {
        name: model.into(),
        catalog: None,
        context: 0,
        max_output: 0,
        abilities: None,
        thinking,
        tokenizer: Default::default(),
        prior: Default::default(),
        expected_output: 0,
        fences: Arc::default(),
    };
    let backend = Backend {
        name: provider.into(),
        provider,
        endpoints: vec![],
        discover: None,
        probe: USUAL_PROBE,
        accounts: vec![],
        pick: Default::default(),
        balance: Default::default(),
        location: None,
        region: None,
        timeouts: Default::default(),
        max_in_flight: None,
        rent: None,
        spill: None,
        tier: Default::default(),
        shows_reasoning: false,
        off: None,
        fences: Arc::default(),
    };
    Candidate {
        id: CandidateId(0),
        model: Arc::new(model),
        backend: Arc::new(backend),
        upstream: upstream.into(),
        prices: vec![],
        served: vec![],
    }
}

#[test]
fn the_cap_goes_by_the_name_that_the_model_knows() {
    use CapField::{MaxCompletionTokens, MaxTokens};
    let cases = [
        ("openai", "m", "gpt-4o-2024-08-06", Thinking::Never, MaxTokens),
        ("openai", "m", "gpt-4.1-mini", Thinking::Never, MaxTokens),
        ("openai", "m", "ft:gpt-4o-mini:org::id", Thinking::Never, MaxTokens),
        ("openai", "m", "o1", Thinking::Always, MaxCompletionTokens),
        ("openai", "m", "o3-mini", Thinking::Always, MaxCompletionTokens),
        ("openai", "m", "gpt-5.4", Thinking::ByDefault, MaxCompletionTokens),
        ("openai", "m", "gpt-6-luna", Thinking::ByDefault, MaxCompletionTokens),
        ("azure", "gpt-4o", "prod-east", Thinking::Never, MaxTokens),
        ("azure", "o3-mini", "prod-east", Thinking::Never, MaxCompletionTokens),
        ("azure", "big", "gpt-5", Thinking::Never, MaxCompletionTokens),
        ("azure", "big", "prod-east", Thinking::Always, MaxCompletionTokens),
        ("azure", "llama", "Llama-3.3-70B-Instruct", Thinking::Never, MaxTokens),
        ("qwen", "m", "qwen3-max", Thinking::OnRequest, MaxTokens),
        ("deepseek", "m", "deepseek-v4-pro", Thinking::ByDefault, MaxTokens),
        ("vllm", "m", "openai/gpt-oss-120b", Thinking::Always, MaxTokens),
        ("sglang", "m", "m", Thinking::Never, MaxTokens),
        ("llamacpp", "m", "m", Thinking::Never, MaxTokens),
        ("ollama", "m", "m", Thinking::Never, MaxTokens),
        ("openai_compatible", "m", "m", Thinking::Never, MaxTokens),
    ];
    for (name, model, upstream, thinking, field) in cases {
        let candidate = candidate(name, model, upstream, thinking);
        let edits = provider(name).edits(&candidate, &Facts::default(), 77);
        assert_eq!((edits.model, edits.cap), (upstream, Some((field, 77))), "{name} {upstream}");
        assert_eq!((edits.stream, edits.include_usage), (None, false), "{name} {upstream}");
    }
}

#[test]
fn usage_is_asked_for_in_every_stream() {
    let facts = Facts { stream: true, ..Facts::default() };
    for provider in TABLE {
        let candidate = candidate(provider.name(), "m", "qwq-plus", Thinking::Always);
        let edits = provider.edits(&candidate, &facts, 1);
        assert_eq!((edits.stream, edits.include_usage), (None, true), "{}", provider.name());
    }
}

#[test]
fn stream_only_models_are_streamed_for_a_client_that_did_not_ask() {
    let qwen = provider("qwen");
    let cases = [
        ("qwq-plus", None, true),
        ("QVQ-max", Some(false), true),
        ("qwen3-omni-flash", None, true),
        ("qwen3-235b-a22b", None, true),
        ("qwen3-235b-a22b", Some(false), false),
        ("qwen3-235b-a22b-thinking-2507", Some(false), true),
        ("qwen3-235b-a22b-instruct-2507", Some(true), false),
        ("qwen3-coder-plus", None, false),
        ("qwen3-max", None, false),
        ("qwen3.8-max", None, true),
        ("qwen3.8-max", Some(false), false),
        ("qwen-plus", None, false),
        ("qwen-plus", Some(true), true),
        ("qwen-max-2025-01-25", None, false),
    ];
    for (upstream, reasoning, expected) in cases {
        let thinking = if upstream.starts_with("qwen3.8") { Thinking::ByDefault } else { Thinking::OnRequest };
        let candidate = candidate("qwen", "m", upstream, thinking);
        let facts = Facts { reasoning, ..Facts::default() };
        assert_eq!(qwen.stream_only(&candidate, &facts), expected, "{upstream} {reasoning:?}");
        let edits = qwen.edits(&candidate, &facts, 1);
        assert_eq!((edits.stream, edits.include_usage), (expected.then_some(true), expected), "{upstream}");
    }
}

#[test]
fn reasoning_history_is_what_the_backend_wants() {
    let history = |name: &'static str, upstream: &str, tools, reasoning| {
        let candidate = candidate(name, "m", upstream, Thinking::ByDefault);
        provider(name).edits(&candidate, &Facts { tools, reasoning, ..Facts::default() }, 1).history
    };
    assert_eq!(history("deepseek", "deepseek-reasoner", 0, None), History::Drop);
    assert_eq!(history("deepseek", "deepseek-chat", 2, None), History::Keep);
    assert_eq!(history("deepseek", "deepseek-flash", 2, None), History::Fill);
    assert_eq!(history("deepseek", "deepseek-v4-pro", 0, Some(true)), History::Fill);
    assert_eq!(history("deepseek", "deepseek-v4-pro", 2, Some(false)), History::Keep);
    for provider in TABLE.iter().filter(|provider| provider.name() != "deepseek") {
        assert_eq!(history(provider.name(), "deepseek-v4-pro", 2, None), History::Keep, "{}", provider.name());
    }
}

#[test]
fn sites_and_variables_are_as_the_vendors_say() {
    let qwen = provider("qwen");
    assert_eq!(qwen.base_url(None), qwen.base_url(Some("intl")));
    assert_eq!(qwen.base_url(Some("cn")), Some("https://dashscope.aliyuncs.com/compatible-mode/v1"));
    assert_eq!(qwen.base_url(Some("mars")), None);
    for provider in TABLE {
        let sites = provider.regions().iter().map(|site| provider.base_url(Some(site)));
        for url in sites.map(Option::unwrap).chain(provider.base_url(None)) {
            assert_eq!(normalise(*provider, url).unwrap().to_string().trim_end_matches('/'), url);
        }
        assert_eq!(
            provider.ready_path().is_some(),
            matches!(provider.name(), "vllm" | "sglang" | "llamacpp" | "tgi" | "ollama")
        );
    }
    assert_eq!(provider("vllm").base_url_variable(), Some("VLLM_BASE_URL"));
}

#[test]
fn keys_travel_in_the_vendors_header_and_are_hidden() {
    let key = SecretString::from("sk-123");
    for provider in TABLE {
        let (name, value) = provider.credential(&key);
        let azure = provider.name() == "azure";
        assert_eq!(name, if azure { "api-key" } else { "authorization" });
        assert_eq!(value, HeaderValue::from_static(if azure { "sk-123" } else { "Bearer sk-123" }));
        assert!(value.is_sensitive());
    }
    assert_eq!(check_key(&key), Ok(()));
    for bad in ["", "sk-1\n", "sk 1", "schlüssel"] {
        assert_eq!(check_key(&SecretString::from(bad)), Err(BadEndpoint::Key), "{bad:?}");
    }
}
