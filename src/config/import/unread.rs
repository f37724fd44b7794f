//! What of LiteLLM's files is not read: every key is told of. Most are told one by one, each at its place; those that
//! change nothing here (LiteLLM's own process, what is off or empty) in one note for each file.
//!
//! Names as of LiteLLM's documentation of October 2026 (docs.litellm.ai/docs/proxy/config_settings); a name that is not
//! known here is told of as any other.

use std::collections::BTreeMap;

use super::{
    super::{
        diagnostic::Span,
        tree::{Node, Value},
    },
    Work,
};

/// Keys of LiteLLM's own process, of its own tables and of its own pages: nothing of them is missed here.
const OWN: &[&str] = &[
    "set_verbose",
    "json_logs",
    "telemetry",
    "proxy_batch_write_at",
    "database_connection_pool_limit",
    "database_connection_timeout",
    "proxy_budget_rescheduler_min_time",
    "proxy_budget_rescheduler_max_time",
    "key_name",
    "created_at",
    "created_by",
    "created_by_user",
    "updated_at",
    "updated_by",
    "budget_reset_at",
    "soft_budget_cooldown",
    "last_active",
    "last_refreshed_at",
    "rotation_count",
    "key_rotation_at",
    "model_id",
    "db_model",
];

/// Keys that stand in each of many rows and mean the same in all: the first is told of.
const ONCE: &[&str] =
    &["spend", "model_spend", "members", "members_with_roles", "admins", "user_id", "user", "team_memberships", "keys"];

/// Keys that are of no account here, by file; told at the end.
#[derive(Debug, Default)]
pub struct Unread {
    /// The first place, and the names in the order of the alphabet.
    own: BTreeMap<usize, (Span, Vec<String>)>,
    /// Keys of [`ONCE`] that were told of.
    told: Vec<String>,
}

/// Tells of each key of `node` but those that are `read`. `what` says whose they are: `of a deployment`, or nothing.
pub fn rest(work: &mut Work, node: &Node, read: &[&str], what: &str) {
    let entries: Vec<(Span, String, bool)> = node
        .entries()
        .iter()
        .filter(|(key, value)| !read.contains(&key.text.as_str()) && !matches!(value.value, Value::Null))
        .map(|(key, value)| (key.span, key.text.clone(), says_something(value)))
        .collect();
    for (span, key, meant) in entries {
        if !meant || OWN.contains(&key.as_str()) {
            work.unread.pass(span, key);
        } else if !(ONCE.contains(&key.as_str()) && work.unread.told.contains(&key)) {
            let title = if what.is_empty() { format!("`{key}`") } else { format!("`{key}` {what}") };
            work.lost(span, title, hint(&key));
            work.unread.told.push(key);
        }
    }
}

/// Whether a value is anything but off, empty or nothing.
fn says_something(value: &Node) -> bool {
    match &value.value {
        Value::Null => false,
        Value::Scalar(text) => !matches!(text.as_str(), "" | "false" | "False" | "0" | "0.0"),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
    }
}

impl Unread {
    /// Notes a key of no account.
    pub fn pass(&mut self, span: Span, key: String) {
        let (_, names) = self.own.entry(span.begins().0).or_insert_with(|| (span, Vec::new()));
        if let Err(at) = names.binary_search(&key) {
            names.insert(at, key);
        }
    }

    /// The notes on them: a place and the keys of each file.
    pub fn finish(self) -> impl Iterator<Item = (Span, String)> {
        let quoted = |names: Vec<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        self.own.into_values().map(move |(span, names)| (span, quoted(names)))
    }
}

/// What there is in the place of a key.
fn hint(key: &str) -> &'static str {
    of_settings(key)
        .or_else(|| of_deployments(key))
        .or_else(|| of_people(key))
        .unwrap_or("Turnpike has nothing like it")
}

fn of_settings(key: &str) -> Option<&'static str> {
    Some(match key {
        "drop_params" | "additional_drop_params" => {
            "nothing that a client sent is dropped: who cannot take a parameter is passed over, and a vendor's 400 goes to \
             the client if nobody can"
        }
        "modify_params" => "a body goes to the vendor as it came",
        "redis_host" | "redis_port" | "redis_password" | "redis_url" => {
            "several gateways share `store: {redis: \"redis://…\"}` in turnpike.yaml"
        }
        "database_url" => "the books are in the `journal` folder; `turnpike books ship` brings them into PostgreSQL",
        "store_model_in_db" => "models that stand in its database alone are not in this file: add them to it first",
        "cache" | "cache_params" => "Turnpike keeps no answers; vendors' prompt caches count in the cost",
        "success_callback" | "failure_callback" | "callbacks" | "service_callbacks" | "callback_settings" => {
            "see /metrics and the request log"
        }
        "turn_off_message_logging" | "redact_messages_in_exceptions" => {
            "no prompt is logged unless `records: {content: …}` says so"
        }
        "store_prompts_in_spend_logs" => "`records: {content: 16KiB}` in turnpike.yaml keeps the beginning of prompts",
        "disable_spend_logs" | "disable_spend_updates" => {
            "every charge is booked; `records: off` leaves out the records alone"
        }
        "maximum_spend_logs_retention_period" | "maximum_spend_logs_retention_interval" => {
            "`records: {keep: 4GiB}` bounds the records; the books are kept"
        }
        "alerting" | "alerting_threshold" | "alert_types" | "alerting_args" => "`notify:` tells webhooks",
        "content_policy_fallbacks" => "a vendor's verdict on content goes to the client as it is",
        "allowed_fails"
        | "cooldown_time"
        | "disable_cooldowns"
        | "retry_policy"
        | "allowed_fails_policy"
        | "retry_after"
        | "model_group_retry_policy" => "breakers and retries are Turnpike's own",
        "request_timeout" | "timeout" | "stream_timeout" => "`timeouts:` of a backend, in seconds as in `30s`",
        "enable_pre_call_checks" => "a model whose context is too short is always passed over",
        "enforce_user_param" => "`user_from:` of a team says where a request names its user",
        "max_end_user_budget"
        | "max_internal_user_budget"
        | "default_internal_user_params"
        | "max_end_user_budget_id" => "`per_user:` of a team, or of `defaults: {team: …}`",
        "default_team_settings" | "default_team_params" => "`defaults: {team: …}` holds for every team",
        "max_budget" | "budget_duration" => "`budgets:` of a team, key or model",
        "global_max_parallel_requests" => "`limits: {in_flight: …}` of turnpike.yaml",
        "allow_requests_on_db_unavailable" => "`on_store_loss:` of a team",
        "enable_tag_filtering" | "tag_filtering_match_any" => "rules in CEL choose by `caller.labels`",
        "environment_variables" => "set them where Turnpike runs",
        "include" => "import each file by itself",
        "background_health_checks" | "health_check_interval" => "`probe: {every: 5s}` of a backend of own servers",
        "enable_jwt_auth" | "litellm_jwtauth" | "custom_auth" => "clients have keys; see `turnpike key create`",
        _ => return None,
    })
}

fn of_deployments(key: &str) -> Option<&'static str> {
    Some(match key {
        "weight" => "a route of `split: {a: 90, b: 10}` deals by weights",
        "order" => "a route of `order: [a, b]` tries one after the other",
        "max_tokens" => "`max_output:` of a route caps answers whose client names no maximum, that of a model all",
        "temperature" | "top_p" | "max_completion_tokens" | "reasoning_effort" | "seed" | "stop" | "extra_body" => {
            "clients send their own parameters"
        }
        "tags" => "rules in CEL choose by `caller.labels`",
        "organization" | "extra_headers" | "headers" => "upstreams get Turnpike's own headers only",
        "aws_region_name" | "vertex_project" | "vertex_location" => "this version has no such provider",
        "max_retries" | "num_retries" => "`attempts:` of a route",
        "max_budget" | "budget_duration" => "`budgets:` of a team, key or model",
        "base_model" => "the built-in catalog has no such model: name its facts in the model's own row",
        "input_cost_per_token" | "output_cost_per_token" => "a price needs both, as numbers in dollars for one token",
        "access_groups" | "team_id" => "`may_use:` of a team",
        _ if key.starts_with("supports_") => "`abilities:` of a model",
        _ => return None,
    })
}

fn of_people(key: &str) -> Option<&'static str> {
    Some(match key {
        "spend" | "model_spend" => "budgets begin at nothing: lower the first limit where what was spent matters",
        "members" | "members_with_roles" | "admins" | "user_id" | "user" | "team_memberships" => {
            "its users and their budgets are in no export; `per_user:` of a team bounds each of its users"
        }
        "keys" => "give the export of `GET /key/list` with `--keys`",
        "metadata" => "`labels:` of a team are booked with every row",
        "model_max_budget" => "`budgets:` of a model bind all who use it",
        "organization_id" | "org_id" => "a team may have a `parent`, whose budgets bind too",
        "model_aliases" | "aliases" => "`aliases:` hold for everybody",
        "budget_id" | "litellm_budget_table" => {
            "the amounts of its table are not in the export: write them as `budgets:`"
        }
        "soft_budget" => "`warn: [80%]` of a budget, which needs a limit",
        "rpm_limit" | "tpm_limit" | "rpm" | "tpm" => "`limits:` of a team, key or account",
        _ => return None,
    })
}
