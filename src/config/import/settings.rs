//! `router_settings`, `litellm_settings` and `general_settings`: fallbacks as routes, aliases, and a word on the rest.

use std::collections::BTreeMap;

use super::{
    super::tree::{Node, Value},
    Work,
    deployments::Deployments,
    name, write,
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

/// Keys that are read elsewhere or mean nothing to a gateway.
const SILENT: &[&str] = &[
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "model_group_alias",
    "num_retries",
    "routing_strategy",
    "set_verbose",
    "drop_params",
    "telemetry",
    "json_logs",
    "master_key",
    "database_url",
    "max_budget",
    "budget_duration",
    "default_team_settings",
    "store_model_in_db",
    "proxy_batch_write_at",
    "database_connection_pool_limit",
    "database_connection_timeout",
    "proxy_budget_rescheduler_min_time",
    "proxy_budget_rescheduler_max_time",
    "enable_pre_call_checks",
    "turn_off_message_logging",
    "disable_spend_logs",
    "store_prompts_in_spend_logs",
];

/// Reads the settings of the configuration's root.
pub fn read(work: &mut Work, root: &Node, models: &Deployments) -> Settings {
    let mut settings = Settings::default();
    let sections = ["litellm_settings", "router_settings", "general_settings"];
    let nodes: Vec<&Node> = sections.iter().filter_map(|section| root.get(section)).collect();
    let chains = chains(work, &nodes, models);
    let attempts = nodes.iter().find_map(|node| node.word("num_retries")).and_then(|text| text.parse::<u64>().ok());
    let attempts = attempts.map(|retries| retries.saturating_add(1).clamp(1, 20));
    let strategy = nodes.iter().find_map(|node| node.get("routing_strategy"));
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
        fields.extend(attempts.map(|attempts| ("attempts".to_owned(), attempts.to_string())));
        let place = chain
            .map_or_else(|| strategy.map(|node| work.place(node.span)).unwrap_or_default(), |(_, place)| place.clone());
        settings.routes.push(format!("{}: {}    # {place}", write::scalar(model), write::map(&fields)));
    }
    aliases(work, &nodes, models, &mut settings);
    for node in &nodes {
        rest(work, node);
    }
    for key in [
        "environment_variables",
        "include",
        "finetune_settings",
        "files_settings",
        "mcp_servers",
        "guardrails",
        "vector_store_registry",
    ] {
        if let Some((place, _)) = root.entries().iter().find(|(name, _)| name.text == key) {
            work.lost(place.span, format!("`{key}`"), hint(key));
        }
    }
    settings
}

/// A chain of names, and where it stands.
type Chain = (Vec<String>, String);

/// By model: itself, then what LiteLLM would fall back to, in its order.
fn chains(work: &mut Work, nodes: &[&Node], models: &Deployments) -> BTreeMap<String, Chain> {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for key in ["fallbacks", "context_window_fallbacks"] {
        for list in nodes.iter().filter_map(|node| node.get(key)) {
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
                let wanted: Vec<&Node> = to.items().iter().collect();
                wanted.into_iter().for_each(|next| extend(work, chain, next, models));
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

/// What of a section is not understood.
fn rest(work: &mut Work, node: &Node) {
    let told = node.entries().iter().filter(|(key, value)| {
        let off = matches!(value.value, Value::Null) || value.text() == Some("false");
        !SILENT.contains(&key.text.as_str()) && !off
    });
    let told: Vec<_> = told.map(|(key, _)| (key.span, key.text.clone())).collect();
    for (span, key) in told {
        work.lost(span, format!("`{key}`"), hint(&key));
    }
    if let Some(key) = node.get("master_key") {
        work.report.hide(key.span);
        work.lost(
            key.span,
            "the master key",
            "make client keys with `turnpike key create`, and tokens for operators under `admin.tokens`",
        );
    }
}

fn hint(key: &str) -> &'static str {
    match key {
        "redis_host" | "redis_port" | "redis_password" | "redis_url" => {
            "several gateways share `store: {redis: \"redis://…\"}` in turnpike.yaml"
        }
        "cache" | "cache_params" => "Turnpike keeps no answers; vendors' prompt caches count in the cost",
        "success_callback" | "failure_callback" | "callbacks" | "service_callbacks" => {
            "see /metrics and the request log"
        }
        "alerting" | "alerting_threshold" | "alert_types" => "`notify:` tells webhooks",
        "content_policy_fallbacks" => "a vendor's verdict on content goes to the client as it is",
        "allowed_fails" | "cooldown_time" | "retry_policy" | "allowed_fails_policy" | "retry_after" => {
            "breakers and retries are Turnpike's own"
        }
        "request_timeout" | "timeout" | "stream_timeout" => "`timeouts:` of a backend",
        "max_end_user_budget" | "max_internal_user_budget" | "default_internal_user_params" => {
            "`per_user:` of a team, or of `defaults: {team: …}`"
        }
        "global_max_parallel_requests" | "max_parallel_requests" => "`limits: {concurrent: …}` of a team",
        "environment_variables" => "set them where Turnpike runs",
        "include" => "import each file by itself",
        _ => "Turnpike has nothing like it",
    }
}
