//! What a load gives for files that hold no fault.

use super::*;
use crate::{
    base::{
        money::Money,
        tenants::{Midstream, OnEmpty, OnStoreLoss, UserSource},
    },
    policy::{Choice, Floor, Prefer, StickyBy},
};

const EARLY_2025: &str = r#"
backends:
  openai:
    provider: openai
    accounts:
      - {name: main, api_key: "${OPENAI_A}"}
      - {name: spare, api_key: "${OPENAI_B}"}
    pick: order
  qwen:     {provider: qwen, api_key: "${DASHSCOPE_API_KEY}", region: cn, location: cn}
  deepseek: {provider: deepseek, api_key: "${DEEPSEEK_API_KEY}", location: cn, timeouts: {connect: 2s, first_token: 15 s, idle: 30s, total: 600s}}
  gpu:
    provider: vllm
    endpoints: ["http://10.0.0.11:8000", "http://10.0.0.12:8000"]
    location: eu
    balance: round_robin
models:
  gpt-4o:      {backends: {openai: gpt-4o-2024-08-06}}
  qwen-max:    {backends: {qwen: qwen-max-2025-01-25}}
  deepseek-v3: {backends: {deepseek: deepseek-chat}}
  llama-405b:  {backends: {gpu: meta-llama/Llama-3.1-405B-Instruct}, context: 128k, abilities: [tools, json]}
aliases: {openai/gpt-4o: gpt-4o}
currencies:
  CNY: [{rate: 0.1389 USD, from: 2025-01-01}, {rate: 0.1378 USD, from: 2025-03-01}]
prices:
  - {model: deepseek-v3, from: 2025-02-09T00:00+08:00, input: 2 CNY, cached_input: 0.5 CNY, output: 8 CNY, source: "x"}
  - backend: gpu
    upstream: meta-llama/Llama-3.1-405B-Instruct
    rates:
      - {when: {input_upto: 128k, thinking: false}, input: 0.8 CNY, output: 2 CNY}
      - {input: 0.8 CNY, output: 8 CNY}
    calendar:
      - {zone: Asia/Shanghai, days: [mon-fri], not_on: cn-holidays, hours: "22:00-06:00", factor: 0.5}
trust: {vendor: 0.5, independent: 1, half_life: 365d}
routes:
  auto:
    candidates: [qwen-max, deepseek-v3, gpt-4o, llama-405b@gpu]
    prefer: {right_answer: 0.02 USD, second: 0.001 USD}
    category: auto
    require: {right: {at_least: 95%, of: gpt-4o}, max_cost: 0.05 USD, first_token_p95: 3s}
    attempts: 2
    rules:
      - {when: 'request.images > 0', candidates: [gpt-4o]}
      - {when: 'budget.used > 0.8', prefer: cheapest, require: {max_cost: 0.01 USD}}
  cheap: {candidates: [deepseek-v3, llama-405b], prefer: cheapest}
  chain: {order: [llama-405b, deepseek-v3, gpt-4o]}
  canary: {split: {auto: 95, cheap: 5}, by: session}
defaults: {team: {labels: {cost_center: "1"}}}
teams:
  product: {locations: [eu, cn, us]}
  search:
    parent: product
    may_use: [auto, cheap, gpt-4o]
    locations: [eu, ca]
    budgets:
      - {name: month, limit: 500 USD, per: month, zone: Europe/Berlin}
    labels: {cost_center: "4711"}
keys:
  - {id: k7Qm2x, team: search, hash: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", name: ci, expires: 2027-01-01}
"#;

fn load_text(text: &str) -> Loaded {
    let env = |name: &str| Some(format!("secret-of-{name}"));
    let now = "2025-02-15T00:00:00Z".parse().unwrap();
    let files = [(PathBuf::from("policies/all.yaml"), text.to_owned())];
    from_texts(&files, &env, now).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_example_of_the_interface_is_lowered_whole() {
    let loaded = load_text(EARLY_2025);
    let policies = &loaded.policies;
    assert_eq!(policies.hash.len(), 12);
    assert_eq!(policies.candidates.len(), 4);
    let labels: Vec<String> = policies.candidates.iter().map(|candidate| candidate.label()).collect();
    assert_eq!(labels, ["deepseek-v3@deepseek", "gpt-4o@openai", "llama-405b@gpu", "qwen-max@qwen"]);
    assert_eq!(policies.backends["openai"].accounts.len(), 2);
    assert_eq!(policies.backends["gpu"].endpoints[1].url.to_string(), "http://10.0.0.12:8000/v1");
    let auto = policies.route("auto").unwrap();
    let Choice::Value { candidates, prefer } = &auto.choice else { panic!("not by value") };
    assert_eq!(candidates.iter().map(|id| id.0).collect::<Vec<_>>(), [3, 0, 1, 2]);
    assert_eq!(
        *prefer,
        Prefer::Worth { right_answer: Money::from_nanousd(20_000_000), second: Money::from_nanousd(1_000_000) }
    );
    assert_eq!(auto.require.right, Some(Floor::Of { at_least_ppm: 950_000, model: "gpt-4o".into() }));
    assert_eq!((auto.attempts, auto.max_output, auto.rules.len()), (2, 4096, 2));
    assert!(policies.route("openai/gpt-4o").unwrap().implicit);
    assert!(matches!(policies.route("canary").unwrap().choice, Choice::Split { by: StickyBy::Session, .. }));
}

#[test]
fn teams_inherit_fences_and_defaults() {
    let loaded = load_text(EARLY_2025);
    let search = &loaded.policies.teams["search"];
    assert_eq!(search.locations.as_deref(), Some(["eu".into()].as_slice()));
    assert_eq!((search.fences[0].cap, &*search.fences[0].id), (500_000_000_000, "team/search/month"));
    assert_eq!(search.labels["cost_center"], "4711");
    assert_eq!(loaded.policies.teams["product"].labels["cost_center"], "1");
    assert!(loaded.policies.teams.contains_key("default"));
    assert_eq!(loaded.policies.keys["k7Qm2x"].hash[..2], [0x9f, 0x86]);
}

#[test]
fn an_operators_price_takes_the_place_of_the_catalogs() {
    let loaded = load_text(EARLY_2025);
    let deepseek = &loaded.policies.candidates[0];
    let at: Timestamp = "2025-03-01T00:00:00Z".parse().unwrap();
    let row = crate::base::price::in_force(&deepseek.prices, at).unwrap();
    assert_eq!((row.currency.as_str(), row.rates[0].output), ("CNY", 8_000_000_000));
    let before: Timestamp = "2025-02-01T00:00:00Z".parse().unwrap();
    let row = crate::base::price::in_force(&deepseek.prices, before).unwrap();
    assert_eq!(row.currency.as_str(), "USD");
    assert!(deepseek.prices.windows(2).all(|two| two[0].until.is_some_and(|until| until <= two[1].from)));
}

#[test]
fn the_catalog_fills_in_what_the_operator_left_out() {
    let loaded = load_text(EARLY_2025);
    let gpt = &loaded.policies.models["gpt-4o"];
    assert_eq!(gpt.catalog.as_deref(), Some("gpt-4o"));
    assert_eq!((gpt.context, gpt.max_output), (128_000, 16_384));
    assert_eq!(loaded.policies.models["llama-405b"].context, 128_000);
}

#[test]
fn keys_in_the_environment_are_enough_to_serve() {
    let env = |name: &str| matches!(name, "OPENAI_API_KEY" | "DEEPSEEK_API_KEY" | "ARK_API_KEY").then(|| "sk-1".into());
    let loaded = from_environment(&env).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.policies.backends.len(), 2);
    assert_eq!(loaded.later, [("volcengine", "ARK_API_KEY")]);
    for route in ["auto", "cheap", "fast", "best"] {
        assert!(loaded.policies.route(route).is_some_and(|route| !route.implicit), "{route}");
    }
    let now = Timestamp::now();
    assert!(loaded.policies.candidates.len() >= 2);
    assert!(loaded.policies.candidates.iter().all(|candidate| candidate.retired(now).is_none()));
    assert_eq!(loaded.warnings.iter().map(Diagnostic::summary).collect::<Vec<_>>(), Vec::<String>::new());
    assert!(loaded.policies.teams.contains_key("default"));
}

#[test]
fn a_server_of_ones_own_is_named_by_its_address_and_models() {
    let env = |name: &str| match name {
        "VLLM_BASE_URL" => Some("http://10.0.0.1:8000".into()),
        "VLLM_MODEL" => Some("meta-llama/Llama-3.1-405B-Instruct".into()),
        _ => None,
    };
    let loaded = from_environment(&env).unwrap_or_else(|faults| panic!("{faults}"));
    let candidate = &loaded.policies.candidates[0];
    assert_eq!(candidate.label(), "meta-llama/Llama-3.1-405B-Instruct@vllm");
    assert_eq!(candidate.model.catalog.as_deref(), Some("llama-3.1-405b"));
}

#[test]
fn an_address_without_a_model_is_told_of() {
    let env = |name: &str| match name {
        "VLLM_BASE_URL" => Some("http://10.0.0.1:8000".to_owned()),
        "OPENAI_API_KEY" => Some("sk-1".to_owned()),
        _ => None,
    };
    let loaded = from_environment(&env).unwrap_or_else(|faults| panic!("{faults}"));
    let told: Vec<String> = loaded.warnings.iter().map(Diagnostic::summary).collect();
    assert_eq!(told, ["`VLLM_BASE_URL` is set, but its server is not used until `VLLM_MODEL` is set too"]);
    let Err(error) = from_environment(&|name| env(name).filter(|_| name == "VLLM_BASE_URL")) else { panic!("loaded") };
    assert!(error.to_string().ends_with(&format!("; {}", told[0])), "{error}");
}

#[test]
fn without_any_key_it_says_what_to_set() {
    let Err(error) = from_environment(&|_| None) else { panic!("loaded") };
    let text = error.to_string();
    assert!(text.contains("`OPENAI_API_KEY`") && text.contains("`turnpike demo`"), "{text}");
}

/// A fence in one line: `team/search/month 500000000000 usd`.
fn fences(fences: &[Arc<crate::base::fences::Fence>]) -> Vec<String> {
    fences.iter().map(|fence| format!("{} {} {}", fence.id, fence.cap, fence.unit.as_str())).collect()
}

#[test]
fn every_owner_has_its_budgets_and_limits() {
    let policies = load_text(
        r#"
backends:
  one: {provider: openai, api_key: "${OPENAI_A}", limits: {concurrent: 4}}
  two: {provider: openai, api_key: "${OPENAI_A}"}
models:
  m: {backends: {one: m, two: m}, budgets: [{name: day, limit: 2M tokens, per: day}]}
routes: {auto: {candidates: [m], limits: {requests: 100/hour}}}
providers: {openai: {budgets: [{name: month, limit: 900 USD, per: month}]}}
defaults:
  team:
    limits: {requests: 600/min, concurrent: 64}
    per_user: {limits: {requests: 30/min}}
    on_empty: downgrade
teams:
  a:
    budgets: [{name: month, limit: 5 USD, per: month, zone: Europe/Berlin, warn: [95%, 80%]}]
    limits: {tokens: 400k/min, requests: 10/min}
    user_from: [header:X-Turnpike-User]
    clamp_output: true
    on_store_loss: open(20 USD)
  b: {on_empty: refuse, midstream: finish}
keys: [{id: k, team: a, hash: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", budgets: [{name: once, limit: 10k requests, per: week}]}]
"#,
    )
    .policies;
    let (a, b) = (&policies.teams["a"], &policies.teams["b"]);
    assert_eq!(
        fences(&a.fences),
        [
            "team/a/month 5000000000 usd",
            "team/a/requests/minute 10 requests",
            "team/a/tokens/minute 400000 tokens",
            "team/a/concurrent 64 concurrent"
        ]
    );
    assert_eq!(*a.fences[0].warn_ppm, [800_000, 950_000]);
    assert_eq!(a.fences[0].zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(fences(&b.fences), ["team/b/requests/minute 600 requests", "team/b/concurrent 64 concurrent"]);
    assert_eq!((a.on_empty, b.on_empty), (OnEmpty::Downgrade, OnEmpty::Refuse));
    assert_eq!((a.clamp_output, b.clamp_output), (true, false));
    assert_eq!((a.midstream, b.midstream), (Midstream::Cut, Midstream::Finish));
    assert_eq!(a.on_store_loss, OnStoreLoss::Open(Money::from_nanousd(20_000_000_000)));
    assert_eq!(*a.user_from, [UserSource::Header("x-turnpike-user".into())]);
    assert_eq!((b.user_from.len(), a.per_user.is_some()), (3, true));
    assert_eq!(fences(&policies.key_fences["k"]), ["key/k/once 10000 requests"]);
    assert_eq!(fences(&policies.routes["auto"].fences), ["route/auto/requests/hour 100 requests"]);
    assert!(policies.routes["m"].fences.is_empty());
    let around = |backend: &str| {
        let found = policies.candidates.iter().find(|candidate| candidate.backend.name.as_str() == backend).unwrap();
        fences(&found.fences().cloned().collect::<Vec<_>>())
    };
    let (day, month) = ("model/m/day 2000000 tokens", "provider/openai/month 900000000000 usd");
    assert_eq!(around("one"), [day, "backend/one/concurrent 4 concurrent", month]);
    assert_eq!(around("two"), [day, month]);
}

/// Titles of the warnings of a load at `now`.
fn warned(files: &[(&str, &str)], now: &str) -> Vec<String> {
    let files: Vec<(PathBuf, String)> =
        files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
    let loaded = from_texts(&files, &|_| Some("sk-1".to_owned()), now.parse().unwrap());
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
    loaded.warnings.iter().map(|warning| warning.title.clone()).collect()
}

const FLASH: &str = "
backends: {deepseek: {provider: deepseek, api_key: \"${KEY}\"}}
models: {deepseek-v4-flash: {backends: {deepseek: deepseek-v4-flash}}}
";

#[test]
fn a_price_that_the_catalog_announces_is_told_of_beside_the_operators_own() {
    let own =
        format!("{FLASH}prices: [{{model: deepseek-v4-flash, from: 2026-05-01, input: 0.1 USD, output: 0.2 USD}}]");
    let title = |word| format!("the catalog has another price for `deepseek-v4-flash@deepseek` {word}");
    assert_eq!(warned(&[("a.yaml", &own)], "2026-08-01T00:00Z"), [title("from 2026-08-16")]);
    assert_eq!(warned(&[("a.yaml", &own)], "2026-08-20T00:00Z"), [title("since 2026-08-16")]);
    let ended = own.replace("from: 2026-05-01", "from: 2026-05-01, until: 2026-08-10");
    assert!(warned(&[("a.yaml", &ended)], "2026-08-01T00:00Z").is_empty(), "it ends before");
}

#[test]
fn a_pinned_catalog_goes_on_with_its_last_price_and_says_what_it_hides() {
    let pinned = [("turnpike.yaml", "catalog: 2026-08-01"), ("a.yaml", FLASH)];
    let load = |files: &[(&str, &str)], now: &str| {
        let files: Vec<(PathBuf, String)> =
            files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        from_texts(&files, &|_| Some("sk-1".to_owned()), now.parse().unwrap()).unwrap()
    };
    let price = |loaded: &Loaded, at: &str| {
        let row = crate::base::price::in_force(&loaded.policies.candidates[0].prices, at.parse().unwrap()).cloned();
        row.map(|row| (row.rates[0].input, row.own))
    };
    let (now, hides) =
        ("2026-11-23T00:00Z", "`catalog: 2026-08-01` hides newer prices of `deepseek-v4-flash@deepseek`");
    assert_eq!(price(&load(&pinned, now), now), Some((140_000_000, false)), "that of before 2026-08-16");
    assert_eq!(price(&load(&pinned[1..], now), now), Some((150_000_000, false)));
    assert_eq!(warned(&pinned, now), [hides]);
    assert!(warned(&pinned, "2026-08-10T00:00Z").is_empty());
    assert!(warned(&pinned[1..], now).is_empty());
    let moved = at_catalog(&load(&pinned, now), None, &|_| Some("sk-1".to_owned()), now.parse().unwrap()).unwrap();
    assert_eq!(price(&moved, now), Some((150_000_000, false)));
}
