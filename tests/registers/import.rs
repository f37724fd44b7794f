//! `turnpike import`: a LiteLLM proxy and LiteLLM's price map as policies, with a word on what was not carried over.

use std::path::{Path, PathBuf};

use super::{POLICIES, Ran, json, policies, run};

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/litellm");
    folder.join(name).display().to_string()
}

fn import(folder: &Path, more: &[&str]) -> Ran {
    let (config, teams, keys) = (fixture("config.yaml"), fixture("teams.json"), fixture("keys.json"));
    run(folder, &[&["import", "litellm", &config, "--teams", &teams, "--keys", &keys], more].concat())
}

#[test]
fn what_comes_of_a_litellm_proxy_passes_the_check_and_keeps_its_places() {
    let folder = tempfile::tempdir().unwrap();
    let ran = import(folder.path(), &["--out", "policies"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let text = std::fs::read_to_string(folder.path().join("policies/litellm.yaml")).unwrap();
    let checked = run(folder.path(), &["check", "-c", "policies"]);
    assert_eq!(checked.code, 0, "{}\n{text}", checked.stderr);
    for line in [
        "azure-acme-eu: {provider: azure, endpoints: [\"https://acme-eu.openai.azure.com\"], api_key: \"${AZURE_API_KEY_EU}\", if_missing_secret: off, limits: {requests: 480/min, tokens: 240000/min}}    # config.yaml:",
        "openai: {provider: openai, api_key: \"${OPENAI_API_KEY}\", if_missing_secret: off, timeouts: {first_token: 60000ms, total: 300000ms}}",
        "dashscope: {provider: qwen, region: cn, ",
        "hosted-vllm-10: {provider: vllm, endpoints: [\"http://10.0.0.11:8000/v1\"]}",
        "gpt-4o: {backends: {azure-acme-eu: gpt-4o-eu, openai: gpt-4o}, catalog: gpt-4o}",
        "deepseek-chat: {backends: {deepseek: deepseek-v4-flash}}",
        "gpt-4: gpt-4o",
        "gpt-3.5-turbo: gpt-4o-mini",
        "input: 0.6 USD, output: 1.8 USD",
        "gpt-4o: {order: [gpt-4o, gpt-4o-mini], attempts: 3}",
        "gpt-4o-mini: {order: [gpt-4o-mini, llama-405b], attempts: 3}",
        "everyone: {budgets: [{name: month, limit: 2500.5 USD, per: month}]}",
        "Search-Team: {parent: everyone, may_use: [gpt-4o, gpt-4o-mini], budgets: [{name: month, limit: 500 USD, per: month, warn: [80%]}], limits: {requests: 600/min, tokens: 400000/min}}",
        "Search-Team.dashboard: {parent: Search-Team, may_use: [gpt-4o-mini]}",
        "team: Search-Team, hash: \"sha256:88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b\", name: ci, expires: \"2027-01-01T00:00:00Z\"",
        "budgets: [{name: day, limit: 5 USD, per: day}], limits: {requests: 10/min}",
        "team: litellm, hash: \"sha256:60303ae2",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let again = import(folder.path(), &["--out", "policies"]);
    assert!(again.code == 1 && again.stderr.contains("cannot be written"), "nothing is overwritten: {}", again.stderr);
}

#[test]
fn what_is_not_carried_over_is_told_with_its_place_and_no_secret_is_shown_or_copied() {
    let folder = tempfile::tempdir().unwrap();
    let ran = import(folder.path(), &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for told in [
        "a model of the provider `bedrock`",
        "the wildcard `*`",
        "`embeddings`, of the mode `embedding`",
        "the fallback `claude`",
        "the alias `claude-3`",
        "`weight` of a deployment",
        "`organization` of a deployment",
        "the cost `input_cost_per_second`",
        "the name `deepseek chat`",
        "the key of `openai-llm`, which stands in the clear",
        "the master key",
        "`cache`",
        "`drop_params`",
        "`hidden` of the alias `gpt-3.5-turbo`",
        "`num_retries` of models without a route",
        "`spend` of a team",
        "`members_with_roles` of a team",
        "`callbacks`",
        "`environment_variables`",
        "the right to use `embeddings`",
        "a budget that never begins anew",
        "a key that is no SHA-256",
        "a key that is blocked",
        "`metadata`",
    ] {
        assert!(ran.stderr.contains(told), "no `{told}` in\n{}", ran.stderr);
    }
    for secret in ["not-a-real-key", "1234-master", "this-is-the-key-itself"] {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{secret} is shown");
    }
    let told: Vec<&str> = ran.stderr.split("\n\n").filter(|told| told.starts_with("warning")).collect();
    assert!(told.iter().all(|told| told.contains("-->") && told.contains("hint: ")), "{}", ran.stderr);
}

/// Words that a test looks for, each at another place of a configuration and of the exports.
const ODD: &str = r#"
model_list:
  - model_name: m
    odd_1: x
    litellm_params: {model: openai/m, api_key: os.environ/K, odd_2: x, max_tokens: 100, api_version: v1, timeout: soon,
      stream_timeout: 60, input_cost_per_token: 1e-6, use_in_pass_through: true, rpm: 4, rpm_limit: 3}
    model_info: {odd_3: x, base_model: nobody/knows, max_input_tokens: many, supports_vision: true}
  - model_name: m
    litellm_params: {model: openai/m2, api_base: "https://a.example/v1", base_url: "https://b.example/v1", timeout: 5,
      request_timeout: 6, stream_timeout: 9, input_cost_per_token: 1e-6, output_cost_per_token: 2e-6}
    model_info: {max_input_tokens: 5, input_cost_per_token: 1e-6, output_cost_per_token: 3e-6}
  - model_name: other
    litellm_params: {model: openai/other, api_key: os.environ/K}
    model_info: {max_output_tokens: 10}
  - model_name: other
    litellm_params: {model: openai/other, api_key: os.environ/L}
    model_info: {max_output_tokens: 20}
litellm_settings: {odd_4: x, drop_params: true, set_verbose: true, json_logs: false, fallbacks: [{m: other}], num_retries: few,
  context_window_fallbacks: {}, budget_duration: 30d}
router_settings: {odd_5: x, num_retries: 3, max_budget: 7, odd_6: false, odd_7: [], enable_pre_call_checks: true,
  model_group_alias: {o: {model: m, odd_8: x}}, fallbacks: [other]}
general_settings: {store_model_in_db: true, database_url: "postgres://u:hush@db/x", odd_9: {a: b}, default_team_settings: [{team_id: t}]}
odd_10: {a: b}
"#;
const ODD_TEAMS: &str = r#"{"teams": [{"team_id": "t", "odd_11": "x", "spend": 0.0, "budget_duration": "1d"}, {"odd_12": 1},
  {"team_id": "u", "odd_13": "x", "max_budget": 10, "soft_budget": 99}], "total_pages": 3, "odd_14": "x"}"#;
const ODD_KEYS: &str = r#"[{"token": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b", "odd_15": "x", "spend": 3,
  "key_type": "management", "user_id": "ann", "created_at": "2026-01-01", "config": {}}]"#;

#[test]
fn no_key_of_a_litellm_file_is_dropped_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("config.yaml", ODD), ("teams.json", ODD_TEAMS), ("keys.json", ODD_KEYS)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let ran = run(folder.path(), &["import", "litellm", "config.yaml", "--teams", "teams.json", "--keys", "keys.json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let titles: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    let odd = (1..=15).filter(|number| *number != 12).map(|number| format!("`odd_{number}`"));
    let told = [
        "`max_tokens` of a deployment",
        "`api_version` of a deployment",
        "`timeout` that is no number of seconds",
        "`use_in_pass_through` of a deployment",
        "a further limit of requests",
        "a price in part",
        "`base_model` of `m`",
        "`max_input_tokens` that is no whole number",
        "`supports_vision` of a model",
        "a second address of a deployment",
        "a second time limit of a deployment",
        "`stream_timeout` beyond the whole `timeout`",
        "another price of the same model at the same backend",
        "other facts of `other`",
        "`drop_params`",
        "`set_verbose`",
        "`json_logs`",
        "`num_retries` that is no whole number",
        "a further `num_retries`",
        "`context_window_fallbacks` of no model",
        "`fallbacks` of no model",
        "`max_budget`",
        "`enable_pre_call_checks`",
        "`store_model_in_db`",
        "`database_url`",
        "`default_team_settings`",
        "a budget without `max_budget`",
        "a row without `team_id` or `token`",
        "a soft budget beyond the budget",
        "the other pages of an export",
        "`spend` of a key",
        "the kind of a key",
        "`user_id` of a key",
        "`created_at`",
        "`config`",
    ];
    for told in odd.chain(told.map(str::to_owned)) {
        assert!(titles.iter().any(|title| title.contains(&told)), "no {told} in\n{}", titles.join("\n"));
    }
    let without = titles.iter().filter(|title| **title == "a budget without `max_budget`").count();
    assert_eq!(without, 2, "of the proxy, and of a team");
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    // One model alone is a list of one.
    assert!(ran.stdout.contains("m: {order: [m, other]}"), "{}", ran.stdout);
}

/// Runs the importer on these texts.
fn imported(config: &str, teams: &str, keys: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("config.yaml", config), ("teams.json", teams), ("keys.json", keys)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let ran = run(folder.path(), &["import", "litellm", "config.yaml", "--teams", "teams.json", "--keys", "keys.json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

#[test]
fn prices_by_ranges_keep_the_ends_of_their_ranges_and_parts_of_prices_are_told_of() {
    let ran = imported(
        r#"
model_list:
  - model_name: tiers
    litellm_params: {model: dashscope/qwen-flash, api_key: os.environ/K, tiered_pricing: [
      {input_cost_per_token: 5e-08, output_cost_per_token: 4e-07, range: [0, 256000.0]},
      {input_cost_per_token: 2.5e-07, output_cost_per_token: 2e-06, range: [256000.0, 1000000.0]}]}
  - model_name: odd
    litellm_params: {model: dashscope/odd, api_key: os.environ/K, tiered_pricing: [
      {input_cost_per_token: 5e-08, output_cost_per_token: 4e-07, range: [0, many]}]}
  - model_name: turned
    litellm_params: {model: dashscope/turned, api_key: os.environ/K, tiered_pricing: [
      {input_cost_per_token: 2e-06, output_cost_per_token: 4e-06, range: [1000]},
      {input_cost_per_token: 1e-06, output_cost_per_token: 3e-06, range: [0, 1000]}]}
  - model_name: half
    litellm_params: {model: openai/half, api_key: os.environ/K}
    model_info: {input_cost_per_token: 2.7e-7}
  - model_name: batches
    litellm_params: {model: openai/batches, api_key: os.environ/K}
    model_info: {input_cost_per_token: 2e-6, output_cost_per_token: 4e-6, input_cost_per_token_batches: 1e-6, max_tokens: 9}
  - model_name: free
    litellm_params: {model: openai/free, api_key: os.environ/K, input_cost_per_token: 0, output_cost_per_token: 0.0}
"#,
        "[]",
        "[]",
    );
    for line in [
        "upstream: qwen-flash, rates: [{when: {input_upto: 256000}, input: 0.05 USD, output: 0.4 USD}, \
         {input: 0.25 USD, output: 2 USD}]",
        "upstream: turned, rates: [{when: {input_upto: 1000}, input: 1 USD, output: 3 USD}, {input: 2 USD, output: 4 USD}]",
        "upstream: batches, input: 2 USD, output: 4 USD,",
        "upstream: free, input: 0 USD, output: 0 USD,",
    ] {
        assert!(ran.stdout.contains(line), "no `{line}` in\n{}", ran.stdout);
    }
    assert_eq!(ran.stdout.matches("source: ").count(), 4, "{}", ran.stdout);
    for told in [
        "the cost `tiered_pricing`",
        "`turned`: the ranges of `tiered_pricing` are out of order",
        "a price in part",
        "the cost `input_cost_per_token_batches`",
        "`max_tokens` of a model",
        "`free`: free",
    ] {
        assert_eq!(ran.stderr.matches(&format!("warning: {told}")).count(), 1, "{told}: {}", ran.stderr);
    }
}

#[test]
fn no_budget_limit_or_block_is_loosened() {
    let ran = imported(
        "model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: os.environ/K}}]\n\
         litellm_settings: {max_budget: 1e3, budget_duration: 30d}",
        r#"[{"team_id": "a", "team_alias": "zero", "max_budget": 0, "budget_duration": "1d"},
            {"team_id": "b", "team_alias": "tiny", "max_budget": 1e-05, "budget_duration": "1d", "soft_budget": 5e-6},
            {"team_id": "c", "team_alias": "huge", "max_budget": 1e7, "budget_duration": "1d"},
            {"team_id": "d", "team_alias": "less", "max_budget": 1e-12, "budget_duration": "7d"},
            {"team_id": "e", "team_alias": "word", "max_budget": "os.environ/B", "budget_duration": "1h"},
            {"team_id": "f", "team_alias": "long", "max_budget": 0.30000000000000004, "budget_duration": "1d"},
            {"team_id": "g", "team_alias": "none", "max_budget": null, "budget_duration": null, "rpm_limit": null},
            {"team_id": "h", "team_alias": "shut", "rpm_limit": 0, "tpm_limit": 100000.0},
            {"team_id": "i", "team_alias": "gone", "blocked": true}]"#,
        r#"[{"token": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b", "team_id": "a", "max_budget": 0.0,
             "budget_duration": "1d"},
            {"token": "99dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b", "team_id": "i"}]"#,
    );
    for line in [
        "everyone: {budgets: [{name: month, limit: 1000 USD, per: month}]}",
        "zero: {parent: everyone, budgets: [{name: day, limit: 0.000000001 USD, per: day}]}",
        "tiny: {parent: everyone, budgets: [{name: day, limit: 0.00001 USD, per: day, warn: [50%]}]}",
        "huge: {parent: everyone, budgets: [{name: day, limit: 9007199.254740992 USD, per: day}]}",
        "less: {parent: everyone, budgets: [{name: week, limit: 0.000000001 USD, per: week}]}",
        "word: {parent: everyone, budgets: [{name: hour, limit: 0.000000001 USD, per: hour}]}",
        "long: {parent: everyone, budgets: [{name: day, limit: 0.3 USD, per: day}]}",
        "none: {parent: everyone}",
        "shut: {parent: everyone, limits: {tokens: 1/min}}",
        "team: zero, hash: \"sha256:88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b\", \
         budgets: [{name: day, limit: 0.000000001 USD, per: day}]",
    ] {
        assert!(ran.stdout.contains(line), "no `{line}` in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("99dc28d0"), "a blocked team's key opens nothing: {}", ran.stdout);
    for (told, times) in [
        ("a budget of nothing", 3),
        ("a budget beyond what one can hold", 1),
        ("a budget that is no amount", 1),
        ("a budget with more than nine decimal places", 1),
        ("`rpm` of nothing", 1),
        ("team `gone` is blocked", 1),
        ("a key of a team that is blocked", 1),
        ("a budget without `max_budget`", 0),
    ] {
        assert_eq!(ran.stderr.matches(&format!("warning: {told}")).count(), times, "{told}: {}", ran.stderr);
    }
    // LiteLLM's own word for no budget of the whole proxy.
    let none = imported(
        "model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: os.environ/K}}]\n\
         litellm_settings: {max_budget: 0}",
        "[]",
        "[]",
    );
    assert!(!none.stdout.contains("everyone") && none.stderr.contains("`max_budget`"), "{none:?}");
}

#[test]
fn a_file_that_is_something_else_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.yaml");
    for (text, told) in [("a: [1, 2", "not YAML"), ("services: {web: {}}", "no `model_list`"), ("", "no `model_list`")]
    {
        std::fs::write(&file, text).unwrap();
        let ran = run(folder.path(), &["import", "litellm", "other.yaml"]);
        assert!(ran.code == 1 && ran.stderr.contains(told), "{text}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    let ran = run(folder.path(), &["import", "litellm", "nowhere.yaml"]);
    assert!(ran.code == 1 && ran.stderr.contains("cannot be read"), "{}", ran.stderr);
}

#[test]
fn the_price_map_is_laid_beside_what_is_charged_and_only_what_differs_becomes_rows() {
    let folder = policies(POLICIES);
    let map = fixture("prices.json");
    let compared = json(folder.path(), &["import", "litellm-prices", &map, "--from", "2026-12-01"]);
    let of = |upstream: &str| {
        let rows = compared["prices"].as_array().unwrap();
        rows.iter().find(|row| row["upstream"] == upstream).unwrap().clone()
    };
    assert_eq!(of("gpt-4o")["verdict"], "same", "{compared}");
    assert_eq!(of("deepseek-v4-flash")["verdict"], "same", "the peak's price is twice the row's: {compared}");
    assert_eq!(of("deepseek-v4-flash")["left_out"], serde_json::json!(["off_peak_pricing"]));
    assert_eq!(of("qwen-plus")["verdict"], "in another currency", "{compared}");
    let mini = of("gpt-4.1-mini");
    assert_eq!((&mini["verdict"], &mini["after"]), (&"differs".into(), &"0.375 in, 0.125 cached, 1.6 out USD".into()));
    assert_eq!(mini["source"], "https://example.org/prices, as read in litellm prices.json:6 `gpt-4.1-mini`");
    let rows = run(folder.path(), &["import", "litellm-prices", &map, "--from", "2026-12-01"]);
    assert_eq!(rows.stdout.matches("- {").count(), 1, "{}", rows.stdout);
    assert!(
        rows.stderr.contains("3 of 4 prices are the same") || rows.stderr.contains("2 of 4 prices are the same"),
        "{}",
        rows.stderr
    );
    // What is printed is a policy file that changes just this price from then on.
    std::fs::write(folder.path().join("policies/b.yaml"), &rows.stdout).unwrap();
    assert_eq!(run(folder.path(), &["check", "-c", "policies"]).code, 0);
    let after = json(folder.path(), &["prices", "mini", "--at", "2026-12-02"]);
    let rows = after["prices"][0]["rows"].as_array().unwrap();
    let held = rows.iter().find(|row| row["state"] == "in force").unwrap();
    assert_eq!((&held["by"], &held["rates"][0]["per_million"]["input"]), (&"operator".into(), &"0.375".into()));
}

#[test]
fn a_price_of_nothing_in_the_map_is_told_to_be_free() {
    let folder = policies(POLICIES);
    let free =
        r#"{"gpt-4.1-mini": {"litellm_provider": "openai", "input_cost_per_token": 0, "output_cost_per_token": 0}}"#;
    std::fs::write(folder.path().join("map.json"), free).unwrap();
    let ran = run(folder.path(), &["import", "litellm-prices", "map.json", "--from", "2026-12-01"]);
    assert!(ran.stdout.contains("input: 0 USD, output: 0 USD"), "{}", ran.stdout);
    assert!(ran.stderr.contains("free: a budget never ends by it"), "{}", ran.stderr);
    let told = json(folder.path(), &["import", "litellm-prices", "map.json"]);
    let rows = told["prices"].as_array().unwrap();
    let row = rows.iter().find(|row| row["upstream"] == "gpt-4.1-mini").unwrap();
    assert_eq!(row["odd"], serde_json::json!(["free: a budget never ends by it"]));
}

#[test]
fn without_policies_the_rows_are_the_catalogs() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["import", "litellm-prices", &fixture("prices.json"), "--from", "2026-12-01"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("- {provider: openai, upstream: gpt-4.1-mini, from: 2026-12-01, input: 0.375 USD"),
        "{}",
        ran.stdout
    );
    assert!(!PathBuf::from("policies").join("litellm.yaml").exists());
}
