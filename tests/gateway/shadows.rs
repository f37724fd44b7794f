//! Shadows: another model answers a share of the requests unseen, at the operator's expense and within its limit.

use serde_json::Value;

use crate::{
    harness::{Gateway, KEY, Setup, chat, streamed, until},
    upstream::{Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// A route over `one` whose every request has a shadow at `two`.
fn setup(one: &Upstream, two: &Upstream, shadow: &str) -> Setup {
    let budget = "{locations: [eu], budgets: [{name: month, limit: 1 USD, per: month}]}";
    Setup::new()
        .backend_with("one", &one.base_url(), "provider: openai, location: eu")
        .backend_with("two", &two.base_url(), "provider: openai, location: eu")
        .team("thrifty", "sk-thrifty", budget)
        .policies(&format!("routes:\n  auto: {{order: [one-model], shadow: {shadow}}}"))
}

async fn upstreams() -> (Upstream, Upstream) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    one.always(Script::says("seen by the client"));
    two.always(Script::says("seen by nobody at all").prompt_tokens(13));
    (one, two)
}

async fn shadows(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("turnpike_shadows_total", &["route=\"auto\"", &format!("outcome=\"{outcome}\"")]).await
}

fn billed(upstream: &Upstream) -> u64 {
    upstream.tally().billed.values().map(|billed| billed.input * 2_000 + billed.output * 8_000).sum()
}

/// What the books say of a team, in nano-dollars.
fn booked(usage: &Value, team: &str) -> u64 {
    let lines = usage["lines"].as_array().unwrap_or_else(|| panic!("{usage}"));
    let line = lines.iter().find(|line| line["group"]["team"] == team).unwrap_or_else(|| panic!("{team}: {usage}"));
    let cost = line["charge_usd"].to_string();
    (cost.trim_matches('"').parse::<f64>().unwrap() * 1e9).round() as u64
}

#[tokio::test]
async fn the_operator_pays_what_the_shadows_vendor_tallies_and_the_team_nothing() {
    let (one, two) = upstreams().await;
    let gateway = setup(&one, &two, "{to: two-model, share: 100%, limit: 1 USD/day}").start().await;
    let client = gateway.client_with("sk-thrifty");
    for n in 0..20 {
        if n % 2 == 0 {
            client.post(PATH, &chat("auto")).await.says("seen by the client");
        } else {
            client.post_stream(PATH, &streamed("auto")).await.transcript().await.says("seen by the client");
        }
    }
    until("all shadows are over", async || shadows(&gateway, "served").await == 20.0).await;
    assert_eq!((one.tally().requests, two.tally().requests), (20, 20));
    assert!(two.received().iter().all(|request| request.model() == "two-upstream"));
    let usage = gateway.site().run(&["usage", "--by", "team,operation", "--json", "-c", "turnpike.yaml"]).json();
    assert_eq!((booked(&usage, "thrifty"), booked(&usage, "@shadow")), (billed(&one), billed(&two)), "{usage}");
    let left = gateway.metric("turnpike_budget_left_usd", &["team=\"thrifty\""]).await;
    assert_eq!(((1.0 - left) * 1e9).round() as u64, billed(&one));
    assert_eq!(gateway.metric("turnpike_holds_open", &[]).await, 0.0);
    assert!(!gateway.log().contains("seen by nobody"));
}

#[tokio::test]
async fn nothing_goes_beyond_the_limit() {
    let (one, two) = upstreams().await;
    // Held for up to 4,096 tokens at 8,000 nano-dollars.
    let gateway = setup(&one, &two, "{to: two-model, share: 100%, limit: 0.04 USD/day}").start().await;
    for _ in 0..200 {
        gateway.ask("auto").await.says("seen by the client");
    }
    until("it is refused", async || shadows(&gateway, "budget_exceeded").await > 0.0).await;
    let outcomes = async || {
        let mut sum = 0.0;
        for outcome in ["served", "budget_exceeded", "busy"] {
            sum += shadows(&gateway, outcome).await;
        }
        sum
    };
    until("all are accounted for", async || outcomes().await == 200.0).await;
    assert!(billed(&two) <= 40_000_000, "{}", billed(&two));
    assert_eq!(two.tally().requests as f64, shadows(&gateway, "served").await);
}

#[tokio::test]
async fn a_shadow_goes_only_where_the_teams_data_may() {
    let (one, two) = upstreams().await;
    let file = setup(&one, &two, "{to: two-model, share: 100%, limit: 1 USD/day}");
    let gateway = file.start().await;
    let text = file.policy_file();
    let (begin, end) = text.split_once("  two: {provider: openai, location: eu").unwrap();
    gateway.save_policies(&format!("{begin}  two: {{provider: openai, location: us{end}"));
    let client = gateway.client_with("sk-thrifty");
    until("its place is refused", async || {
        client.post(PATH, &chat("auto")).await.says("seen by the client");
        shadows(&gateway, "location_not_allowed").await > 0.0
    })
    .await;
    until("no shadow is under way", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let asked = two.tally().requests;
    client.post(PATH, &chat("auto")).await.says("seen by the client");
    // A team without a fence may send it there.
    gateway.ask("auto").await.says("seen by the client");
    two.until(|tally| tally.requests == asked + 1).await;
}

#[tokio::test]
async fn a_shadow_that_hangs_delays_nobody_and_the_end_waits_for_it() {
    let (one, two) = upstreams().await;
    let gate = Gate::closed();
    two.always(Script::says("late").behind(&gate));
    let mut gateway = setup(&one, &two, "{to: two-model, share: 100%, limit: 10 USD/day}").start().await;
    for _ in 0..40 {
        gateway.client_with(KEY).post(PATH, &chat("auto")).await.says("seen by the client");
    }
    two.until(|tally| tally.requests == 32).await;
    assert_eq!(shadows(&gateway, "busy").await, 8.0);
    gateway.terminate();
    until("it drains", async || gateway.log().contains("draining")).await;
    gate.release();
    assert_eq!(gateway.exit_code().await, Some(0));
    let usage = gateway.site().run(&["usage", "--by", "team", "--json", "-c", "turnpike.yaml"]).json();
    assert_eq!(booked(&usage, "@shadow"), billed(&two), "{usage}");
}

#[tokio::test]
async fn why_shows_what_a_shadow_came_to_in_numbers_and_a_replay_passes_it_over() {
    let (one, two) = upstreams().await;
    let gateway = setup(&one, &two, "{to: two-model, share: 100%, limit: 1 USD/day}").start().await;
    let answer = gateway.client_with("sk-thrifty").post(PATH, &chat("auto")).await;
    until("both are recorded", async || gateway.metric("turnpike_records_total", &[]).await == 2.0).await;
    let id = answer.header("x-request-id");
    let site = gateway.site();
    let mut told = Value::Null;
    until("both are in the file", async || {
        told = site.run(&["why", id, "--json"]).json();
        told["shadow"].is_object()
    })
    .await;
    let shadow = &told["shadow"];
    assert_eq!((&shadow["served"], &shadow["status"]), (&"two-model@two".into(), &200.into()), "{told}");
    assert_eq!(shadow["cost_nanousd"].as_u64(), Some(billed(&two)));
    assert_eq!(shadow["attempts"][0]["input"], 13);
    assert_eq!(told["outcome"]["cost_nanousd"].as_u64(), Some(billed(&one)), "what it costs is not the team's");
    let own = site.run(&["why", shadow["id"].as_str().unwrap(), "--json"]).json();
    assert_eq!((&own["shadow_of"], &own["team"]), (&id.into(), &"@shadow".into()));
    assert_eq!(own["decisions"][0]["decided"]["ranked"][0]["candidate"], "two-model@two");
    let text = site.run(&["why", id]).done();
    assert!(text.contains("its shadow, at the operator's expense") && text.contains("two-model@two"), "{text}");
    assert!(!text.contains("seen by"), "{text}");
    let replayed = site.run(&["replay", "--policies", "policies", "data/records", "--json"]).json();
    assert_eq!((&replayed["requests"], &replayed["shadows"]), (&1.into(), &1.into()), "{replayed}");
    assert_eq!(replayed["old"]["cost_nanousd"].as_u64(), Some(billed(&one)));
    let text = site.run(&["replay", "--policies", "policies", "data/records"]).done();
    assert!(text.contains("are left out: 1"), "{text}");
}
