//! `turnpike off` and `on`, and their API: what is off is not asked and not let in, and says so.

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Client, Gateway, KEY, Setup, chat, streamed, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
const API: &str = "/api/v1/switches";
const OPS: &str = "token-of-the-operators";
const READER: &str = "token-of-a-dashboard";

/// Two backends of two providers, and a route over both; a team below another.
fn setup(one: &Upstream, two: &Upstream) -> Setup {
    Setup::new()
        .backend("one", &one.base_url())
        .backend_with("two", &two.base_url(), "provider: deepseek")
        .policies("routes:\n  both: {order: [one-model, two-model]}")
        .team("product", "sk-product", "{}")
        .team("search", "sk-search", "{parent: product}")
        .token("ops", OPS, "read, switch")
        .token("reader", READER, "read, keys, budgets")
}

async fn start() -> (Upstream, Upstream, Gateway) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    one.always(Script::says("one"));
    two.always(Script::says("two"));
    let gateway = setup(&one, &two).start().await;
    (one, two, gateway)
}

fn with(gateway: &Gateway, token: &str) -> Client {
    gateway.admin().header("authorization", &format!("Bearer {token}"))
}

async fn switch(gateway: &Gateway, target: &str, off: bool) -> Answer {
    switch_with(gateway, json!({"target": target, "off": off, "why": "an incident"})).await
}

async fn switch_with(gateway: &Gateway, body: Value) -> Answer {
    let done = with(gateway, OPS).post(API, &body).await;
    assert_eq!(done.status, 201, "{done:?}");
    done
}

async fn ask(gateway: &Gateway, key: &str, model: &str) -> Answer {
    gateway.client_with(key).post(PATH, &chat(model)).await
}

#[tokio::test]
async fn what_is_off_is_passed_over_and_named_with_who_and_why() {
    let (_one, _two, gateway) = start().await;
    for target in ["backend:one", "provider:openai", "model:one-model"] {
        ask(&gateway, KEY, "both").await.says("one");
        let done = switch(&gateway, target, true).await.json();
        assert_eq!((&done["target"], &done["who"], &done["off"]), (&json!(target), &json!("ops"), &json!(true)));
        ask(&gateway, KEY, "both").await.says("two");
        let refused = ask(&gateway, KEY, "one-model").await;
        refused.is_refused(503, "no_candidate");
        let words = format!("switched off: {}: an incident (by ops)", target.replace(':', " "));
        assert!(refused.message().contains(&words), "{}", refused.message());
        let (kind, name) = target.split_once(':').unwrap();
        let labels = [&*format!("kind=\"{kind}\""), &*format!("name=\"{name}\"")];
        assert_eq!(gateway.metric("turnpike_switched_off", &labels).await, 1.0);
        switch(&gateway, target, false).await;
        assert_eq!(gateway.metric("turnpike_switched_off", &labels).await, 0.0);
    }
    ask(&gateway, KEY, "both").await.says("one");
}

#[tokio::test]
async fn a_team_and_those_below_it_and_a_key_are_not_let_in() {
    let (one, _two, gateway) = start().await;
    for (target, kept_out, let_in) in [
        ("team:product", vec!["sk-product", "sk-search"], vec![KEY]),
        ("team:search", vec!["sk-search"], vec![KEY, "sk-product"]),
        ("key:testkey", vec![KEY], vec!["sk-product", "sk-search"]),
    ] {
        switch(&gateway, target, true).await;
        let asked = one.tally().requests;
        for key in &kept_out {
            let refused = ask(&gateway, key, "both").await;
            refused.is_refused(403, "switched_off");
            assert_eq!(refused.header("x-should-retry"), "false");
            let (kind, name) = target.split_once(':').unwrap();
            let words = format!("{kind} `{name}` is switched off: an incident (by ops)");
            assert_eq!(refused.message(), words);
            gateway.client_with(key).get("/v1/models").await.is_refused(403, "switched_off");
        }
        assert_eq!(one.tally().requests, asked);
        for key in let_in {
            ask(&gateway, key, "both").await.says("one");
        }
        switch(&gateway, target, false).await;
        for key in kept_out {
            ask(&gateway, key, "both").await.says("one");
        }
    }
    // No metric names a key.
    switch(&gateway, "key:testkey", true).await;
    assert_eq!(gateway.metric("turnpike_switched_off", &["kind=\"key\"", "name=\"\""]).await, 1.0);
}

#[tokio::test]
async fn a_switch_ends_by_itself_and_outlives_restarts_until_then() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let site = setup(&one, &two).site();
    let mut gateway = site.start().await;
    switch(&gateway, "backend:one", true).await;
    switch(&gateway, "team:product", true).await;
    switch(&gateway, "team:product", false).await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(700);
    switch_with(&gateway, json!({"target": "backend:two", "off": true, "until": soon, "why": "a moment"})).await;
    ask(&gateway, KEY, "two-model").await.is_refused(503, "no_candidate");
    until("it is over", async || ask(&gateway, KEY, "two-model").await.status == 200).await;
    assert!(jiff::Timestamp::now() >= soon);
    gateway.terminate();
    gateway.exit_code().await;
    drop(gateway);
    let gateway = site.start().await;
    ask(&gateway, KEY, "one-model").await.is_refused(503, "no_candidate");
    ask(&gateway, "sk-product", "two-model").await.says("hello");
    let list = with(&gateway, READER).get(API).await.json();
    let targets: Vec<&str> =
        list["switches"].as_array().unwrap().iter().map(|line| line["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["backend:one"]);
}

#[tokio::test]
async fn with_cut_what_is_under_way_ends_and_what_has_not_begun_goes_elsewhere() {
    let (one, two, gateway) = start().await;
    let gate = Gate::closed();
    one.push(Script::says("a long answer").after_events(3, Fault::Wait(gate.clone())));
    let mut running = gateway.client().post_stream(PATH, &streamed("both")).await;
    running.read_until("long").await;
    one.push(Script::stalls());
    let waiting = tokio::spawn({
        let client = gateway.client();
        async move { client.post(PATH, &chat("both")).await }
    });
    one.until(|tally| tally.requests == 2).await;
    two.push(Script::says("a long answer").after_events(3, Fault::Wait(gate.clone())));
    let mut other = gateway.client_with("sk-search").post_stream(PATH, &streamed("two-model")).await;
    other.read_until("long").await;
    // Without `cut` they go on.
    switch(&gateway, "backend:one", true).await;
    assert!(!waiting.is_finished());
    switch_with(&gateway, json!({"target": "backend:one", "off": true, "cut": true, "why": "an incident"})).await;
    let transcript = running.transcript().await;
    transcript.ends_with_error("switched_off");
    assert!(transcript.text().contains("backend `one` is switched off: an incident (by ops)"), "{}", transcript.text());
    waiting.await.unwrap().says("two");
    // Of a team it ends whatever is under way for it; others go on.
    two.push(Script::stalls());
    let mine = tokio::spawn({
        let client = gateway.client();
        async move { client.post(PATH, &chat("both")).await }
    });
    two.until(|tally| tally.requests == 3).await;
    switch_with(&gateway, json!({"target": "team:product", "off": true, "cut": true, "why": "over its head"})).await;
    other.transcript().await.ends_with_error("switched_off");
    assert!(!mine.is_finished());
    switch_with(&gateway, json!({"target": "team:test", "off": true, "cut": true, "why": "over its head"})).await;
    mine.await.unwrap().is_refused(403, "switched_off");
    until("nothing is held", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
}

#[tokio::test]
async fn only_who_may_switches_and_only_what_there_is() {
    let (_one, _two, gateway) = start().await;
    let off = |target: &str, why: &str| json!({"target": target, "off": true, "why": why});
    assert_eq!(with(&gateway, READER).post(API, &off("backend:one", "x")).await.status, 403);
    assert_eq!(gateway.admin().post(API, &off("backend:one", "x")).await.status, 401);
    let ops = with(&gateway, OPS);
    for (body, status, told) in [
        (off("backend:on", "x"), 404, "did you mean `one`"),
        (off("key:nobody", "x"), 404, "turnpike key list"),
        (off("one", "x"), 400, "backend:X"),
        (off("backend:one", " "), 400, "a reason"),
        (json!({"target": "backend:one", "off": false, "why": "x"}), 409, "is not switched off"),
        (json!({"target": "backend:one", "off": true, "why": "x", "until": "2020-01-01T00:00:00Z"}), 400, "past"),
    ] {
        let refused = ops.post(API, &body).await;
        assert!(refused.status == status && refused.message().contains(told), "{body}: {refused:?}");
    }
    ask(&gateway, KEY, "both").await.says("one");
}

#[tokio::test]
async fn the_commands_work_with_a_gateway_and_without_one() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let site = setup(&one, &two).site();
    let token = [("TURNPIKE_TOKEN", OPS)];
    let run = |arguments: &[&str]| site.run_with(&token, arguments);
    run(&["off", "backend:one"]).failed(2, &["--why"]);
    run(&["off"]).failed(2, &["`turnpike off --list`"]);
    run(&["off", "backend:three", "--why", "x"]).failed(1, &["there is no backend `three`"]);
    run(&["off", "backend:one", "--why", "before it runs"]).done();
    run(&["off", "key:testkey", "--why", "x", "--for", "4x"]).failed(2, &["--for"]);
    let gateway = site.start().await;
    ask(&gateway, KEY, "one-model").await.is_refused(503, "no_candidate");
    let said = run(&["off", "team:search", "--for", "4h", "--why", "while it runs"]);
    assert!(said.stderr.contains("team:search is switched off until"), "{said:?}");
    said.done();
    ask(&gateway, "sk-search", "two-model").await.is_refused(403, "switched_off");
    let table = run(&["off", "--list"]).done();
    for part in ["backend:one", "team:search", "while it runs", "ops"] {
        assert!(table.contains(part), "`{part}` is missing:\n{table}");
    }
    let list = run(&["off", "--list", "--json"]).json();
    assert_eq!(list["switches"].as_array().unwrap().len(), 2, "{list}");
    assert_ne!(list["switches"][0]["who"], "ops", "{list}");
    let at = |name: &str| list["switches"][1][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // Who books it says from when to when: the clocks of operators differ.
    assert_eq!(at("until").duration_since(at("since")), jiff::SignedDuration::from_hours(4), "{list}");
    run(&["on", "backend:one", "--why", "over"]).done();
    run(&["on", "backend:one", "--why", "over"]).failed(1, &["is not switched off"]);
    ask(&gateway, KEY, "one-model").await.says("hello");
}
