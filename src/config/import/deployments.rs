//! `model_list`: LiteLLM's deployments as backends, models and prices.
//!
//! Deployments of one seller, address, key and pace become one backend. A deployment with a pace of its own (`rpm`,
//! `tpm`) gets a backend of its own, for that is whose limits it is.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use super::{
    super::{
        catalog,
        tree::{Key, Node},
        units,
    },
    Work, cost, name, prices, unique, unread, write,
};
use crate::{base::price::Rate, provider};

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

/// Keys of a deployment's `litellm_params` that are read.
const READ: [&str; 14] = [
    "model",
    "api_key",
    "api_base",
    "base_url",
    "custom_llm_provider",
    "rpm",
    "tpm",
    "rpm_limit",
    "tpm_limit",
    "max_parallel_requests",
    "timeout",
    "request_timeout",
    "stream_timeout",
    "tiered_pricing",
];
/// Keys of its `model_info` that are read.
const READ_INFO: [&str; 6] = ["id", "mode", "base_model", "max_input_tokens", "max_output_tokens", "tiered_pricing"];

/// One backend to be.
#[derive(Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// The line behind the name.
    pub line: String,
}

/// One model to be: who serves it under which name.
#[derive(Debug, Default)]
pub struct Model {
    /// (backend, upstream).
    pub served: Vec<(String, String)>,
    /// The other keys of its line.
    pub rest: Vec<(String, String)>,
    /// Where it was first named.
    pub place: String,
}

/// What comes of `model_list`.
#[derive(Debug, Default)]
pub struct Deployments {
    /// Backends in the order of the file.
    pub backends: Vec<Backend>,
    /// By what tells them apart.
    by_key: BTreeMap<String, String>,
    /// Models by name.
    pub models: BTreeMap<String, Model>,
    /// Rates, and their line of `prices:`, by (backend, upstream).
    pub prices: BTreeMap<(String, String), (Vec<Rate>, String)>,
    /// What LiteLLM's names became, where they had to change.
    pub renamed: BTreeMap<String, String>,
}

/// Reads `model_list`.
pub fn read(work: &mut Work, list: &Node) -> Deployments {
    let mut all = Deployments::default();
    for (index, node) in list.items().iter().enumerate() {
        deployment(work, &mut all, node, index);
    }
    all
}

/// Who serves it, and what they call it.
struct Seller {
    provider: &'static str,
    /// An address that the provider does not know by itself.
    base: &'static str,
    prefix: String,
    upstream: String,
}

fn deployment(work: &mut Work, all: &mut Deployments, node: &Node, index: usize) {
    let (Some(public), Some(params)) = (node.get("model_name"), node.get("litellm_params")) else {
        work.lost(node.span, "a deployment without `model_name` or `litellm_params`", "name both");
        return;
    };
    let (Some(label), Some(model)) = (public.text(), params.get("model")) else {
        work.lost(node.span, "a deployment without a model", "write `litellm_params: {model: openai/gpt-4o}`");
        return;
    };
    if label.contains('*') || model.text().is_some_and(|model| model.contains('*')) {
        work.lost(public.span, format!("the wildcard `{label}`"), "name each model that clients may ask for");
        return;
    }
    let info = node.get("model_info");
    if let Some(mode) =
        info.and_then(|info| info.get("mode")).filter(|mode| !matches!(mode.text(), Some("chat" | "responses")))
    {
        let kind = mode.text().unwrap_or_default().to_owned();
        work.lost(mode.span, format!("`{label}`, of the mode `{kind}`"), "this version serves Chat Completions");
        return;
    }
    let Some(seller) = seller(work, params, model) else { return };
    let Some(backend) = backend(work, all, params, &seller, label, index) else { return };
    let known = name(label);
    if known != label {
        work.changed(
            public.span,
            format!("the name `{label}`"),
            "becomes another",
            format!("clients ask for `{known}`"),
        );
        all.renamed.insert(label.to_owned(), known.clone());
    }
    unread(work, node, params, &seller);
    let place = work.place(public.span);
    let entry = all.models.entry(known).or_insert_with(|| Model { place, ..Model::default() });
    let pair = (backend, seller.upstream.clone());
    if entry.served.contains(&pair) {
        work.changed(
            node.span,
            format!("`{label}` has the same deployment twice"),
            "counted once",
            "several keys are `accounts:` of a backend",
        );
        return;
    }
    entry.served.push(pair.clone());
    if let Some(info) = info {
        facts(work, entry, info, label);
    }
    price(work, all, params, info, &pair);
}

/// Who serves it, by the prefix of its name.
fn seller(work: &mut Work, params: &Node, model: &Node) -> Option<Seller> {
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
pub fn filled(text: &str) -> (String, bool) {
    match text.strip_prefix("os.environ/") {
        Some(variable) => (format!("${{{variable}}}"), true),
        None => (text.to_owned(), false),
    }
}

/// The backend of a deployment, made where none like it is there.
fn backend(
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
    let mut limits = Vec::new();
    for (keys, key, unit) in [
        (["rpm", "rpm_limit"], "requests", "/min"),
        (["tpm", "tpm_limit"], "tokens", "/min"),
        (["max_parallel_requests", "max_parallel_requests"], "concurrent", ""),
    ] {
        let Some(place) = keys.iter().find_map(|key| node.get(key)) else { continue };
        if let Some(second) = node.get(keys[1]).filter(|second| second.span != place.span) {
            work.lost(second.span, format!("a further limit of {key}"), format!("`{}` counts", keys[0]));
        }
        match place.text().and_then(|text| text.parse::<u64>().ok()) {
            Some(count) if count > 0 => limits.push((key.to_owned(), format!("{count}{unit}"))),
            _ => work.lost(place.span, format!("`{}` of nothing, or no whole number", keys[0]), "write a whole number"),
        }
    }
    limits
}

/// What `model_info` tells of a model; of several deployments the first that tells anything counts.
fn facts(work: &mut Work, entry: &mut Model, info: &Node, label: &str) {
    let mut told = Vec::new();
    if let Some(base) = info.get("base_model") {
        let known = base.text().map(|base| base.rsplit('/').next().unwrap_or(base)).unwrap_or_default();
        if catalog::built_in().models.contains_key(known) {
            told.push(("catalog".to_owned(), write::scalar(known)));
        } else {
            work.lost(
                base.span,
                format!("`base_model` of `{label}`"),
                "the built-in catalog has no such model: name its facts in the model's own row",
            );
        }
    }
    for (theirs, ours) in [("max_input_tokens", "context"), ("max_output_tokens", "max_output")] {
        let Some(node) = info.get(theirs) else { continue };
        match node.text().and_then(|text| text.parse::<u64>().ok()).filter(|count| *count > 0) {
            Some(count) => told.push((ours.to_owned(), count.to_string())),
            None => {
                work.lost(node.span, format!("`{theirs}` that is no whole number"), format!("`{ours}:` of a model"))
            }
        }
    }
    if entry.rest.is_empty() {
        entry.rest = told;
    } else if told.iter().any(|fact| !entry.rest.contains(fact)) {
        work.lost(info.span, format!("other facts of `{label}`"), "the first deployment's hold for the model");
    }
}

/// A price that the configuration states for a deployment.
fn price(work: &mut Work, all: &mut Deployments, params: &Node, info: Option<&Node>, pair: &(String, String)) {
    for node in [Some(params), info].into_iter().flatten() {
        let costs = cost::costs(node);
        for key in &costs.left_out {
            let place =
                node.entries().iter().find(|(name, _)| name.text == *key).map_or(node.span, |(name, _)| name.span);
            work.lost(place, format!("the cost `{key}`"), "prices are per token, by kind, size, tier and hour");
        }
        if costs.rates.is_empty() {
            let stated = |(key, value): &&(Key, Node)| {
                let nothing = value.text().and_then(cost::per_million).is_none_or(|(nano, _)| nano == 0);
                (key.text.contains("cost") && !nothing && !costs.left_out.contains(&key.text))
                    || key.text == "tiered_pricing"
            };
            if let Some((key, _)) = node.entries().iter().find(stated) {
                work.lost(
                    key.span,
                    "a price in part",
                    "it needs both `input_cost_per_token` and `output_cost_per_token`",
                );
            }
            continue;
        }
        let source = work.place(node.span);
        if costs.rounded > 0 {
            work.changed(
                node.span,
                "a price with more than nine decimal places",
                "rounded up",
                "write it per million tokens",
            );
        }
        let line = prices::line(&pair.0, &pair.1, None, &costs.rates, &source);
        match all.prices.entry(pair.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert((costs.rates, line));
            }
            Entry::Occupied(first) if first.get().0 != costs.rates => {
                work.lost(node.span, "another price of the same model at the same backend", "the first one counts");
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// What of a deployment is not read.
fn unread(work: &mut Work, node: &Node, params: &Node, seller: &Seller) {
    unread::rest(work, node, &["model_name", "litellm_params", "model_info"], "of a deployment");
    // Costs are told of where they are read.
    let costs = |node: &Node| {
        let keys = node.entries().iter().map(|(key, _)| key.text.clone());
        keys.filter(|key| key.contains("cost")).collect::<Vec<_>>()
    };
    let own = costs(params);
    let mut read: Vec<&str> = READ.iter().copied().chain(own.iter().map(String::as_str)).collect();
    // Turnpike asks Azure by the address that needs no version.
    if seller.provider == "azure"
        && let Some(version) = params.get("api_version")
    {
        work.unread.pass(version.span, "api_version".to_owned());
        read.push("api_version");
    }
    unread::rest(work, params, &read, "of a deployment");
    if let Some(info) = node.get("model_info") {
        let own = costs(info);
        let read: Vec<&str> = READ_INFO.iter().copied().chain(own.iter().map(String::as_str)).collect();
        unread::rest(work, info, &read, "of a model");
    }
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
