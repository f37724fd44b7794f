//! The backend of a deployment: who serves it, by the prefix of LiteLLM's name, at which address, with which key, how fast
//! and how long.

use std::time::Duration;

use super::{
    super::{tree::Node, units},
    Work, cost,
    deployments::Deployments,
    name, unique, write,
};
use crate::provider;

/// What a prefix of LiteLLM's model names is: (prefix, provider, base URL where Turnpike's provider knows none). The
/// addresses are those of the vendors' own documentation (data of November 2026).
const SELLERS: &[(&str, &str, &str)] = &[
    ("openai", "openai", ""),
    ("azure", "azure", ""),
    ("deepseek", "deepseek", ""),
    ("dashscope", "qwen", ""),
    ("hosted_vllm", "vllm", ""),
    ("vllm", "vllm", ""),
    ("ollama", "ollama", ""),
    ("ollama_chat", "ollama", ""),
    ("llamafile", "llamacpp", ""),
    ("anthropic", "anthropic", ""),
    ("gemini", "gemini", ""),
    ("mistral", "mistral", "https://api.mistral.ai/v1"),
    ("moonshot", "moonshot", "https://api.moonshot.ai/v1"),
    ("volcengine", "volcengine", "https://ark.cn-beijing.volces.com/api/v3"),
    ("zai", "zhipu", "https://api.z.ai/api/paas/v4"),
    ("together_ai", "together", "https://api.together.xyz/v1"),
    ("fireworks_ai", "fireworks", "https://api.fireworks.ai/inference/v1"),
    ("openai_like", "openai_compatible", ""),
    ("custom_openai", "openai_compatible", ""),
    ("lm_studio", "openai_compatible", ""),
    ("litellm_proxy", "openai_compatible", ""),
];

/// One backend to be.
#[derive(Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// The line behind the name.
    pub line: String,
}

/// Who serves it, and what they call it.
pub struct Seller {
    /// Turnpike's name of who serves it.
    pub provider: &'static str,
    /// An address that the provider does not know by itself.
    base: &'static str,
    prefix: String,
    /// The model's name there.
    pub upstream: String,
}

/// Who serves it, by the prefix of its name.
pub fn seller(work: &mut Work, params: &Node, model: &Node) -> Option<Seller> {
    let text = model.text()?;
    let custom = params.word("custom_llm_provider");
    let (prefix, upstream) = match (custom, text.split_once('/')) {
        (Some(custom), Some((prefix, rest))) if prefix == custom => (custom, rest),
        (Some(custom), _) => (custom, text),
        (None, Some((prefix, rest))) => (prefix, rest),
        // LiteLLM knows the vendors' own names without a prefix.
        (None, None) if text.starts_with("claude") => ("anthropic", text),
        (None, None) => ("openai", text),
    };
    let found = SELLERS.iter().find(|(known, ..)| *known == prefix);
    let Some((_, provider, base)) = found else {
        work.lost(
            model.span,
            format!("a model of the provider `{prefix}`"),
            "a server that speaks OpenAI's dialect can be named as `openai_compatible` with its `endpoints`",
        );
        return None;
    };
    let has_base = params.get("api_base").or_else(|| params.get("base_url")).is_some();
    let own = provider::by_name(provider).map(|dialect| dialect.name());
    let provider = match own {
        // OpenAI's dialect at another address is somebody else's server.
        Some("openai") if has_base => "openai_compatible",
        Some(own) => own,
        None if !base.is_empty() || has_base => "openai_compatible",
        None => {
            work.lost(model.span, format!("a model of the provider `{prefix}`"), "this version has no such provider");
            return None;
        }
    };
    if upstream.is_empty() {
        work.lost(model.span, "a model without a name", "name the vendor's model behind the slash");
        return None;
    }
    let base = if own.is_some() { "" } else { base };
    Some(Seller { provider, base, prefix: prefix.to_owned(), upstream: upstream.to_owned() })
}

/// `${NAME}` for `os.environ/NAME`; the text itself otherwise.
fn filled(text: &str) -> (String, bool) {
    match text.strip_prefix("os.environ/") {
        Some(variable) => (format!("${{{variable}}}"), true),
        None => (text.to_owned(), false),
    }
}

/// The backend of a deployment, made where none like it is there.
pub fn backend(
    work: &mut Work,
    all: &mut Deployments,
    params: &Node,
    seller: &Seller,
    label: &str,
    index: usize,
) -> Option<String> {
    let address = params.get("api_base").or_else(|| params.get("base_url"));
    let (base, _) = filled(address.and_then(Node::text).unwrap_or(seller.base));
    let mut fields = vec![("provider".to_owned(), seller.provider.to_owned())];
    let region = region(seller.provider, &base);
    match region {
        Some(region) => fields.push(("region".to_owned(), region.to_owned())),
        None if !base.is_empty() => {
            fields.push((
                "endpoints".to_owned(),
                format!("[{}]", serde_json::Value::from(endpoint(seller.provider, &base))),
            ));
        }
        None => {
            let dialect = provider::by_name(seller.provider)?;
            if dialect.base_url(None).is_none() {
                work.lost(params.span, format!("`{label}`, whose address is not stated"), "name its `api_base`");
                return None;
            }
        }
    }
    let pace = pace(work, params);
    let own = if pace.is_empty() { String::new() } else { format!(" #{index}") };
    let credential = params.get("api_key").and_then(Node::text).unwrap_or_default();
    // A key in the clear tells backends apart and is not kept: its digest is not needed beyond this map.
    let key = format!("{} {base} {credential} {:?}{own}", seller.provider, timeouts(params));
    let taken = all.models.get(&name(label)).is_some_and(|model| {
        let known = all.by_key.get(&key);
        model.served.iter().any(|(backend, upstream)| Some(backend) == known && *upstream != seller.upstream)
    });
    // One backend calls a model by one name only; a second name needs a second backend.
    let key = if taken { format!("{key} {}", seller.upstream) } else { key };
    if let Some(known) = all.by_key.get(&key) {
        return Some(known.clone());
    }
    let host = base.split_once("://").map(|(_, rest)| rest).and_then(|rest| rest.split(['.', ':', '/']).next());
    let host =
        host.filter(|host| region.is_none() && !host.is_empty() && address.is_some() && !host.contains(['$', '{']));
    let named = host
        .map_or_else(|| seller.prefix.replace('_', "-"), |host| format!("{}-{host}", seller.prefix.replace('_', "-")));
    let made = unique(&name(&named), |name| all.backends.iter().any(|backend| backend.name == name));
    fields.extend(api_key(work, params, seller, &made));
    fields.extend(timeouts(params));
    fields.extend(pace);
    let line = format!("{}: {}    # {}", write::scalar(&made), write::map(&fields), work.place(params.span));
    all.backends.push(Backend { name: made.clone(), line });
    all.by_key.insert(key, made.clone());
    Some(made)
}

/// The vendor's site that an address is.
fn region(provider: &str, base: &str) -> Option<&'static str> {
    let dialect = provider::by_name(provider)?;
    let trimmed = base.trim_end_matches('/');
    let known = |region: &&&str| dialect.base_url(Some(region)).is_some_and(|url| url.trim_end_matches('/') == trimmed);
    (!base.is_empty()).then(|| dialect.regions().iter().find(known).copied())?
}

/// An address as Turnpike's provider wants it: LiteLLM names Ollama's and Azure's without their paths.
fn endpoint(provider: &str, base: &str) -> String {
    let trimmed = base.trim_end_matches('/');
    if provider == "azure" { trimmed.split("/openai").next().unwrap_or(trimmed).to_owned() } else { trimmed.to_owned() }
}

fn api_key(work: &mut Work, params: &Node, seller: &Seller, backend: &str) -> Vec<(String, String)> {
    let dialect = provider::by_name(seller.provider);
    let custom = dialect.and_then(|dialect| dialect.key_variable());
    let made: String = format!("{backend}_api_key")
        .to_ascii_uppercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .collect();
    let reference = match params.get("api_key") {
        Some(node) => match filled(node.text().unwrap_or_default()) {
            (reference, true) => reference,
            (_, false) => {
                work.report.hide(node.span);
                work.changed(
                    node.span,
                    format!("the key of `{backend}`, which stands in the clear"),
                    "not copied",
                    format!("set `{made}` in the environment"),
                );
                format!("${{{made}}}")
            }
        },
        None => match custom {
            // A server of one's own asks for none unless it was told to.
            Some(variable) if !dialect.is_some_and(|dialect| dialect.self_hosted()) => format!("${{{variable}}}"),
            Some(_) | None => return Vec::new(),
        },
    };
    vec![
        ("api_key".to_owned(), serde_json::Value::from(reference).to_string()),
        ("if_missing_secret".to_owned(), "off".to_owned()),
    ]
}

/// What bounds the whole attempt, in either word, and the wait for the first token of a stream.
const TIMEOUTS: [&str; 3] = ["timeout", "request_timeout", "stream_timeout"];

/// A plain number of seconds.
fn seconds(node: &Node) -> Option<Duration> {
    let text = node.text()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| units::duration(&format!("{text}s")).ok()).flatten()
}

fn timeouts(params: &Node) -> Vec<(String, String)> {
    let [total, second, first] = TIMEOUTS.map(|key| params.get(key));
    let total = total.or(second).and_then(seconds);
    let first = first.and_then(seconds);
    let first = first.filter(|first| total.is_none_or(|total| *first <= total));
    let parts = [("first_token", first), ("total", total)].into_iter();
    let parts: Vec<(String, String)> = parts
        .filter_map(|(key, length)| {
            Some((key.to_owned(), format!("{}ms", length.filter(|length| !length.is_zero())?.as_millis())))
        })
        .collect();
    if parts.is_empty() { Vec::new() } else { vec![("timeouts".to_owned(), write::map(&parts))] }
}

/// `rpm`, `tpm` and `max_parallel_requests` of one deployment.
fn pace(work: &mut Work, params: &Node) -> Vec<(String, String)> {
    let limits = limits(work, params);
    if limits.is_empty() { Vec::new() } else { vec![("limits".to_owned(), write::map(&limits))] }
}

/// `rpm`, `tpm` (or `rpm_limit`, `tpm_limit`) and `max_parallel_requests` as `limits`.
pub fn limits(work: &mut Work, node: &Node) -> Vec<(String, String)> {
    let (mut limits, mut nothing) = (Vec::new(), None);
    for (keys, key, unit) in [
        (["rpm", "rpm_limit"], "requests", "/min"),
        (["tpm", "tpm_limit"], "tokens", "/min"),
        (["max_parallel_requests", "max_parallel_requests"], "concurrent", ""),
    ] {
        let Some(place) = keys.iter().find_map(|key| node.get(key)) else { continue };
        if let Some(second) = node.get(keys[1]).filter(|second| second.span != place.span) {
            work.lost(second.span, format!("a further limit of {key}"), format!("`{}` counts", keys[0]));
        }
        match place.text().and_then(cost::whole) {
            Some(0) => nothing = Some((place.span, keys[0])),
            Some(count) => limits.push((key.to_owned(), format!("{count}{unit}"))),
            None if place.text().is_none() => {}
            None => work.lost(place.span, format!("`{}` that is no whole number", keys[0]), "write a whole number"),
        }
    }
    if let Some((span, key)) = nothing {
        let hint = "no request is so short, so nothing passes; `turnpike off` says so plainly";
        work.changed(span, format!("`{key}` of nothing"), "becomes `tokens: 1/min`", hint);
        limits = vec![("tokens".to_owned(), "1/min".to_owned())];
    }
    limits
}

/// What of the keys that are read here is not carried over.
pub fn unread(work: &mut Work, params: &Node) {
    if let Some(second) = params.get("base_url").filter(|_| params.get("api_base").is_some()) {
        work.lost(second.span, "a second address of a deployment", "`api_base` counts");
    }
    for (key, length) in TIMEOUTS.iter().map(|key| (*key, params.get(key))) {
        if let Some(node) = length.filter(|node| seconds(node).is_none()) {
            work.lost(node.span, format!("`{key}` that is no number of seconds"), "`timeouts:` of a backend");
        }
    }
    let [total, second, first] = TIMEOUTS.map(|key| params.get(key));
    if let Some(second) = second.filter(|_| total.is_some()) {
        work.lost(second.span, "a second time limit of a deployment", "`timeout` counts");
    }
    if let (Some(first), Some(total)) = (first, total.or(second))
        && seconds(total).is_some_and(|total| seconds(first) > Some(total))
    {
        work.lost(
            first.span,
            "`stream_timeout` beyond the whole `timeout`",
            "`timeouts: {first_token: …}` of a backend",
        );
    }
}
