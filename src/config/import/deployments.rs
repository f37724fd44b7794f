//! `model_list`: LiteLLM's deployments as backends, models and prices.
//!
//! Deployments of one seller, address, key and pace become one backend. A deployment with a pace of its own (`rpm`,
//! `tpm`) gets a backend of its own, for that is whose limits it is.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    super::{
        catalog,
        tree::{Key, Node},
    },
    Work,
    backends::{self, Backend, Seller},
    cost, name, prices, unread, write,
};
use crate::base::price::Rate;

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
    pub by_key: BTreeMap<String, String>,
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
    let Some(seller) = backends::seller(work, params, model) else { return };
    let Some(backend) = backends::backend(work, all, params, &seller, label, index) else { return };
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
            let hint = if key == "tiered_pricing" {
                "each range needs `[from, to]` in whole tokens, one after the other, and both costs: write its row of \
                 `prices:` by hand"
            } else {
                "prices are per token, by kind, size, tier and hour; a tier needs a cost of the prompt and of the answer"
            };
            work.lost(place, format!("the cost `{key}`"), hint);
        }
        for odd in &costs.odd {
            let hint = "look at its row of `prices:`, and write what is meant";
            work.changed(node.span, format!("`{}`: {odd}", pair.1), "carried over so", hint);
        }
        if costs.rates.is_empty() {
            let stated = |(key, value): &&(Key, Node)| {
                let nothing = value.text().and_then(cost::per_million).is_none_or(|(nano, _)| nano == 0);
                key.text.contains("cost") && !nothing && !costs.left_out.contains(&key.text)
            };
            let ranges = costs.left_out.iter().any(|key| key == "tiered_pricing");
            if let Some((key, _)) = node.entries().iter().find(stated).filter(|_| !ranges) {
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
    backends::unread(work, params);
}
