//! Guarded splits: an arm that is surely worse than its control is withdrawn by itself, everywhere, and says why.

mod together;

use serde_json::{Value, json};

use crate::{
    harness::{Client, Gateway, Setup, chat, streamed, until},
    notices::Receiver,
    redis_server::Server,
    upstream::{Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
const OPS: &str = "token-of-the-operators";
const GUARD: &str = "guard: {error_rate: 5%, cost: +50%, first_token_p95: 2s, min_requests: 40}";

/// A split by request over two models, half and half, so that both arms are soon seen enough.
fn setup(old: &Upstream, new: &Upstream) -> Setup {
    Setup::new()
        .backend("old", &old.base_url())
        .backend("new", &new.base_url())
        .token("ops", OPS, "read, switch")
        .policies(&split("60", "40"))
}

fn split(old: &str, new: &str) -> String {
    format!("routes:\n  canary: {{split: {{old-model: {old}, new-model: {new}}}, by: request, {GUARD}}}")
}

async fn upstreams() -> (Upstream, Upstream) {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    old.always(Script::says("old"));
    new.always(Script::says("new"));
    (old, new)
}

/// Asks until the new arm is withdrawn.
async fn until_withdrawn(gateway: &Gateway) {
    for asked in 1..1_000 {
        gateway.client().post(PATH, &chat("canary")).await;
        if asked % 10 == 0 && is_withdrawn(gateway).await {
            return;
        }
    }
    panic!("the arm stays:\n{}", gateway.log());
}

async fn is_withdrawn(gateway: &Gateway) -> bool {
    gateway.metric("turnpike_rollout_withdrawn", &["route=\"canary\"", "arm=\"new-model\""]).await == 1.0
}

/// Which arms a few requests are dealt to.
async fn arms(gateway: &Gateway) -> Vec<String> {
    let mut arms = Vec::new();
    for _ in 0..30 {
        let answer = gateway.client().post(PATH, &chat("canary")).await;
        arms.push(answer.header("x-turnpike-arm").to_owned());
    }
    arms.sort();
    arms.dedup();
    arms
}

fn ops(gateway: &Gateway) -> Client {
    gateway.admin().header("authorization", &format!("Bearer {OPS}"))
}

#[tokio::test]
async fn a_failing_arm_is_withdrawn_told_of_and_booked_and_an_operator_may_try_it_again() {
    let (old, new) = upstreams().await;
    let receiver = Receiver::start(&[]).await;
    let notify = format!("notify: [{{webhook: \"{}\", on: [rollout_withdrawn]}}]", receiver.address);
    let gateway = setup(&old, &new).policies(&notify).start().await;
    assert_eq!(arms(&gateway).await, ["new-model", "old-model"]);
    assert!(!is_withdrawn(&gateway).await);
    new.always(Script::error(500, "internal", "down"));
    until_withdrawn(&gateway).await;
    assert_eq!(arms(&gateway).await, ["old-model"]);
    let log = gateway.log();
    let told = log.lines().find(|line| line.contains("rollout withdrawn")).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("error rate") && told.contains("the guard allows 5 %"), "{told}");
    until("the receiver is told", async || receiver.taken().len() == 1).await;
    let notice = &receiver.taken()[0];
    assert_eq!((&notice["event"], &notice["arm"]), (&json!("rollout_withdrawn"), &json!("new-model")));
    assert!(notice["requests"].as_u64() >= Some(40) && notice["gateways"] == 1, "{notice}");
    let listed: Value = ops(&gateway).get("/api/v1/switches").await.json();
    assert_eq!(
        (&listed["switches"][0]["target"], &listed["switches"][0]["who"]),
        (&json!("arm:new-model@canary"), &json!("guard"))
    );

    new.always(Script::says("new"));
    let on = json!({"target": "arm:new-model@canary", "off": false, "why": "mended"});
    assert_eq!(ops(&gateway).post("/api/v1/switches", &on).await.status, 201);
    assert_eq!(arms(&gateway).await, ["new-model", "old-model"]);
    assert!(!is_withdrawn(&gateway).await);

    let rows = gateway.site().run(&["usage", "--by", "arm", "--json", "-c", "turnpike.yaml"]);
    let rows = rows.json().to_string();
    assert!(rows.contains("old-model") && rows.contains("new-model"), "{rows}");
}

#[tokio::test]
async fn a_dear_arm_and_a_slow_arm_are_withdrawn_and_the_reason_says_which() {
    let (old, new) = upstreams().await;
    let gateway = setup(&old, &new).start().await;
    new.always(Script::says(&"word ".repeat(200)));
    until_withdrawn(&gateway).await;
    assert!(gateway.log().contains("a request costs"), "{}", gateway.log());

    // Edited, so it begins anew.
    let stalling = std::time::Duration::from_millis(800);
    let slow = "routes:
  canary: {split: {old-model: 50, new-model: 51}, by: request, guard: {first_token_p95: 400ms, min_requests: 40}}";
    gateway.save_policies(&Setup::policies(setup(&old, &new), "").policy_file().replace(&split("60", "40"), slow));
    until("it is in force", async || !is_withdrawn(&gateway).await).await;
    old.always(Script::says("old").led_in_by(": wait\n\n").pace(stalling));
    new.always(Script::says("new"));
    until("the slow arm is withdrawn", async || {
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let client = gateway.client();
            asking.spawn(async move { client.post_stream(PATH, &streamed("canary")).await.transcript().await });
        }
        asking.join_all().await;
        gateway.metric("turnpike_rollout_withdrawn", &["arm=\"old-model\""]).await == 1.0
    })
    .await;
    assert!(gateway.log().contains("first token later than 0.4 s"), "{}", gateway.log());
}

#[tokio::test]
async fn an_arm_whose_backend_is_full_has_failed_and_its_refusals_bear_its_name() {
    let (old, new) = upstreams().await;
    let setup = Setup::new()
        .backend("old", &old.base_url())
        .backend_with("new", &new.base_url(), "provider: openai, max_in_flight: 1")
        .policies(&split("60", "40"));
    let gateway = setup.server("limits: {queue_wait: 10ms}").start().await;
    let gate = Gate::closed();
    new.always(Script::says("new").behind(&gate));
    let mut held = tokio::task::JoinSet::new();
    while new.tally().requests == 0 {
        let client = gateway.client();
        held.spawn(async move { client.post(PATH, &chat("canary")).await });
        until("it is answered or held", async || new.tally().requests == 1 || held.try_join_next().is_some()).await;
    }
    let refused = async || loop {
        let answer = gateway.client().post(PATH, &chat("canary")).await;
        if answer.status != 200 {
            return answer;
        }
    };
    let answer = refused().await;
    answer.is_refused(503, "overloaded");
    assert_eq!(answer.header("x-turnpike-arm"), "new-model");
    until_withdrawn(&gateway).await;
    assert!(gateway.log().contains("error rate"), "{}", gateway.log());
    gate.release();
    held.join_all().await;
}

#[tokio::test]
async fn a_withdrawal_outlives_a_restart_and_ends_with_an_edit_of_the_split() {
    let (old, new) = upstreams().await;
    new.always(Script::error(500, "internal", "down"));
    let site = setup(&old, &new).site();
    let mut gateway = site.start().await;
    until_withdrawn(&gateway).await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    let gateway = site.start().await;
    assert!(is_withdrawn(&gateway).await);
    assert_eq!(arms(&gateway).await, ["old-model"]);
    // An edit of something else changes nothing.
    let file = setup(&old, &new).policy_file();
    gateway.save_policies(&format!("{file}aliases: {{other: canary}}\n"));
    until("the alias is there", async || gateway.ask("other").await.status == 200).await;
    assert!(is_withdrawn(&gateway).await);
    new.always(Script::says("new"));
    gateway.save_policies(&file.replace(&split("60", "40"), &split("60", "41")));
    until("the arm is back", async || !is_withdrawn(&gateway).await).await;
    assert_eq!(arms(&gateway).await, ["new-model", "old-model"]);
    let listed: Value = ops(&gateway).get("/api/v1/switches").await.json();
    assert_eq!(listed["switches"], json!([]));
}

#[tokio::test]
async fn what_one_gateway_withdraws_is_withdrawn_at_the_other() {
    let (old, new) = upstreams().await;
    new.always(Script::error(500, "internal", "down"));
    let redis = Server::start(&[]).await;
    let setup = setup(&old, &new).server(&format!("store: {{redis: \"{}\"}}", redis.url()));
    let (one, two) = (setup.start().await, setup.start().await);
    assert_eq!(arms(&two).await.len(), 2);
    until_withdrawn(&one).await;
    until("the other knows", async || is_withdrawn(&two).await).await;
    assert_eq!(arms(&two).await, ["old-model"]);
}

#[tokio::test]
async fn an_arm_that_is_mended_and_switched_while_its_gateway_is_down_begins_anew() {
    let (old, new) = upstreams().await;
    new.always(Script::error(500, "internal", "down"));
    let site = setup(&old, &new).site();
    let mut gateway = site.start().await;
    // The failures, too, say which arm they are of.
    deal(&gateway, 30).await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    assert_eq!(kept(&gateway), 30);
    drop(gateway);
    for (act, why) in [("off", "being mended"), ("on", "mended")] {
        site.run(&[act, "arm:new-model@canary", "--why", why]).done();
    }
    new.always(Script::says("new"));
    let gateway = site.start().await;
    deal(&gateway, 20).await;
    assert!(!is_withdrawn(&gateway).await, "{}", gateway.log());
    until("what is kept is of after the switch", async || kept(&gateway) == 20).await;
}

/// The requests of the new arm that the guard has seen, by what is kept of them.
fn kept(gateway: &Gateway) -> u64 {
    let text = std::fs::read_to_string(gateway.site().path().join("data/rollouts.json")).unwrap_or_default();
    let kept: Value = serde_json::from_str(&text).unwrap_or_default();
    let slots = kept["splits"][0]["arms"][0]["slots"].as_array().cloned().unwrap_or_default();
    slots.iter().map(|slot| slot[1][0][0].as_u64().unwrap()).sum()
}

/// Asks until so many requests were dealt to the new arm, which is judged from 40 on.
async fn deal(gateway: &Gateway, mut wanted: u32) -> Vec<String> {
    let mut arms = Vec::new();
    while wanted > 0 {
        let answer = gateway.client().post(PATH, &chat("canary")).await;
        let arm = answer.header("x-turnpike-arm").to_owned();
        wanted -= u32::from(arm == "new-model");
        arms.push(arm);
    }
    arms
}

#[tokio::test]
async fn what_a_guard_has_seen_outlives_restarts_and_kills() {
    let (old, new) = upstreams().await;
    new.always(Script::says(&"word ".repeat(200)));
    let mut gateway = setup(&old, &new).start().await;
    let site = gateway.site().clone();
    deal(&gateway, 15).await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    assert_eq!(kept(&gateway), 15);
    drop(gateway);

    let gateway = site.start().await;
    deal(&gateway, 15).await;
    until("all is kept", async || kept(&gateway) == 30).await;
    // Dropping it kills it.
    drop(gateway);

    let gateway = site.start().await;
    assert!(!is_withdrawn(&gateway).await);
    deal(&gateway, 10).await;
    assert!(is_withdrawn(&gateway).await, "{}", gateway.log());
    assert!(gateway.log().contains("USD on average of 40, control"), "{}", gateway.log());
    drop(gateway);

    // A split that was edited meanwhile begins anew, and so does one whose file is damaged.
    new.always(Script::says("new"));
    site.save_policies(&setup(&old, &new).policy_file().replace(&split("60", "40"), &split("60", "41")));
    let mut gateway = site.start().await;
    assert!(!is_withdrawn(&gateway).await);
    deal(&gateway, 3).await;
    gateway.terminate();
    gateway.exit_code().await;
    assert_eq!(kept(&gateway), 3);
    std::fs::write(site.path().join("data/rollouts.json"), "{\"v\": 2, \"splits\": [{\"route\": 7}]}").unwrap();
    let gateway = site.start().await;
    deal(&gateway, 1).await;
}
