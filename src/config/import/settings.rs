//! `router_settings`, `litellm_settings` and `general_settings`: fallbacks as routes, aliases, and a word on the rest.

use std::collections::BTreeMap;

use super::{
    super::{diagnostic::Span, tree::Node},
    Work,
    deployments::Deployments,
    name, unread, write,
};

/// What comes of the settings.
#[derive(Debug, Default)]
pub struct Settings {
    /// Lines of `routes:`.
    pub routes: Vec<String>,
    /// Lines of `aliases:`.
    pub aliases: Vec<String>,
    /// Names of both, for `may_use`.
    pub names: Vec<String>,
}

/// Keys of all three sections that are read.
const READ: [&str; 7] = [
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "model_group_alias",
    "num_retries",
    "routing_strategy",
    "master_key",
];
/// The sections, each with what is read in it alone.
const SECTIONS: [(&str, &[&str]); 3] = [
    ("litellm_settings", &["max_budget", "budget_duration", "soft_budget"]),
    ("router_settings", &[]),
    ("general_settings", &[]),
];

/// Reads the settings of the configuration's root.
pub fn read(work: &mut Work, root: &Node, models: &Deployments) -> Settings {
    let mut settings = Settings::default();
    let nodes: Vec<&Node> = SECTIONS.iter().filter_map(|(section, _)| root.get(section)).collect();
    let chains = chains(work, &nodes, models);
    let attempts = only(work, &nodes, "num_retries").and_then(|node| attempts(work, node));
    let strategy = only(work, &nodes, "routing_strategy");
    let prefer = strategy.and_then(|node| strategy_of(work, node));
    for (model, known) in &models.models {
        let chain = chains.get(model);
        let mut fields = match (chain, prefer) {
            (Some((chain, _)), _) => vec![("order".to_owned(), write::list(chain.iter().map(String::as_str)))],
            (None, Some(prefer)) if known.served.len() > 1 => {
                vec![("candidates".to_owned(), write::list([model.as_str()])), ("prefer".to_owned(), prefer.to_owned())]
            }
            (None, _) => continue,
        };
        fields.extend(attempts.map(|(attempts, _)| ("attempts".to_owned(), attempts.to_string())));
        let place = chain
            .map_or_else(|| strategy.map(|node| work.place(node.span)).unwrap_or_default(), |(_, place)| place.clone());
        settings.routes.push(format!("{}: {}    # {place}", write::scalar(model), write::map(&fields)));
    }
    if let Some((_, span)) = attempts.filter(|_| settings.routes.len() < models.models.len()) {
        let hint = "other models are asked by Turnpike's own `attempts`; a route of a model's name may state others";
        work.changed(span, "`num_retries` of models without a route", "of the routes alone", hint);
    }
    aliases(work, &nodes, models, &mut settings);
    for (section, read) in SECTIONS {
        let Some(node) = root.get(section) else { continue };
        master_key(work, node);
        unread::rest(work, node, &[&READ, read].concat(), "");
    }
    let known: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).chain(["model_list"]).collect();
    unread::rest(work, root, &known, "");
    settings
}

/// The value under a key that may stand in any section; a further one is told of.
fn only<'n>(work: &mut Work, nodes: &[&'n Node], key: &str) -> Option<&'n Node> {
    let mut found = nodes.iter().filter_map(|node| node.get(key));
    let first = found.next()?;
    for further in found {
        work.lost(further.span, format!("a further `{key}`"), "the first one counts");
    }
    Some(first)
}

/// Attempts for so many retries, and where they stand.
fn attempts(work: &mut Work, node: &Node) -> Option<(u64, Span)> {
    let retries = node.text().and_then(|text| text.parse::<u64>().ok());
    if retries.is_none() {
        work.lost(node.span, "`num_retries` that is no whole number", "`attempts:` of a route");
    }
    Some((retries?.saturating_add(1).clamp(1, 20), node.span))
}

/// A chain of names, and where it stands.
type Chain = (Vec<String>, String);

/// By model: itself, then what LiteLLM would fall back to, in its order.
fn chains(work: &mut Work, nodes: &[&Node], models: &Deployments) -> BTreeMap<String, Chain> {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for key in ["fallbacks", "context_window_fallbacks"] {
        for list in nodes.iter().filter_map(|node| node.get(key)) {
            let odd = list.items().iter().find(|item| item.entries().is_empty());
            if let Some(odd) = odd.or_else(|| list.items().is_empty().then_some(list)) {
                work.lost(odd.span, format!("`{key}` of no model"), "write them as `[{gpt-4o: [gpt-4o-mini]}]`");
            }
            for (from, to) in list.items().iter().flat_map(Node::entries) {
                let own = name(&from.text);
                if from.text == "*" || !models.models.contains_key(&own) {
                    work.lost(
                        from.span,
                        format!("the fallbacks of `{}`", from.text),
                        "no such model came of `model_list`",
                    );
                    continue;
                }
                let place = work.place(from.span);
                let chain = chains.entry(own.clone()).or_insert_with(|| (vec![own], place));
                // One model alone is no list.
                let wanted = if to.text().is_some() { std::slice::from_ref(to) } else { to.items() };
                wanted.iter().for_each(|next| extend(work, chain, next, models));
                if key == "context_window_fallbacks" {
                    work.changed(
                        from.span,
                        format!("`{key}` of `{}`", from.text),
                        "serve any failure",
                        "a prompt that is too long goes on to the next that can take it, and so does a failed attempt",
                    );
                }
            }
        }
    }
    let usual: Vec<&Node> =
        nodes.iter().filter_map(|node| node.get("default_fallbacks")).flat_map(Node::items).collect();
    if let Some(first) = usual.first() {
        let place = work.place(first.span);
        for model in models.models.keys() {
            let chain = chains.entry(model.clone()).or_insert_with(|| (vec![model.clone()], place.clone()));
            usual.iter().for_each(|next| extend(work, chain, next, models));
        }
        chains.retain(|_, (chain, _)| chain.len() > 1);
    }
    chains
}

fn extend(work: &mut Work, chain: &mut Chain, next: &Node, models: &Deployments) {
    let Some(text) = next.text() else {
        work.lost(next.span, "a fallback with parameters of its own", "name the model alone");
        return;
    };
    let known = name(text);
    if !models.models.contains_key(&known) {
        work.lost(next.span, format!("the fallback `{text}`"), "no such model came of `model_list`");
    } else if !chain.0.contains(&known) {
        chain.0.push(known);
    }
}

fn strategy_of(work: &mut Work, node: &Node) -> Option<&'static str> {
    let text = node.text()?.to_owned();
    match text.as_str() {
        "latency-based-routing" => Some("fastest"),
        "cost-based-routing" => Some("cheapest"),
        _ => {
            work.changed(
                node.span,
                format!("the strategy `{text}`"),
                "becomes `balanced`",
                "Turnpike chooses by expected value; say `prefer:` in a route to choose otherwise",
            );
            None
        }
    }
}

fn aliases(work: &mut Work, nodes: &[&Node], models: &Deployments, settings: &mut Settings) {
    for (alias, target) in nodes.iter().filter_map(|node| node.get("model_group_alias")).flat_map(Node::entries) {
        let text = target.text().or_else(|| target.word("model")).unwrap_or_default();
        unread::rest(work, target, &["model"], &format!("of the alias `{}`", alias.text));
        let known = name(text);
        if !models.models.contains_key(&known) {
            work.lost(
                alias.span,
                format!("the alias `{}`", alias.text),
                format!("no model `{text}` came of `model_list`"),
            );
        } else if models.models.contains_key(&name(&alias.text)) {
            work.lost(alias.span, format!("the alias `{}`", alias.text), "a model has that name");
        } else {
            let place = work.place(alias.span);
            settings.names.push(name(&alias.text));
            settings.aliases.push(format!(
                "{}: {}    # {place}",
                write::scalar(&name(&alias.text)),
                write::scalar(&known)
            ));
        }
    }
}

/// The key of everything: there is none here.
fn master_key(work: &mut Work, node: &Node) {
    if let Some(key) = node.get("master_key") {
        work.report.hide(key.span);
        work.lost(
            key.span,
            "the master key",
            "make client keys with `turnpike key create`, and tokens for operators under `admin.tokens`",
        );
    }
}
