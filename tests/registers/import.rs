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
