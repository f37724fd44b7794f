//! Limits: requests and tokens a minute, requests at once; of teams, users, keys, models.
//!
//! Windows are cut by the clock, so every limit here is by the month: a test does not see one end.

use serde_json::json;

use crate::{
    harness::{Answer, Client, Gateway, Setup, chat, streamed, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// A team `brisk` (key `sk-brisk`) with these keys.
async fn team(keys: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let setup = Setup::new().backend("one", &upstream.base_url()).team("brisk", "sk-brisk", keys);
    (setup.start().await, upstream)
}

async fn ask(client: &Client) -> Answer {
    client.post(PATH, &chat("one-model")).await
}

#[tokio::test]
async fn requests_beyond_the_limit_come_again_when_its_window_ends() {
    let (gateway, upstream) = team("{limits: {requests: 2/month}}").await;
    let client = gateway.client_with("sk-brisk");
    let first = ask(&client).await;
    first.says("hello");
    assert_eq!(first.header("x-ratelimit-limit-requests"), "2");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
    assert!(first.header("x-ratelimit-reset-requests").ends_with('s'), "{first:?}");
    let stream = client.post_stream(PATH, &streamed("one-model")).await;
    assert_eq!(stream.headers["x-ratelimit-remaining-requests"], "0");
    stream.transcript().await.says("hello");
    let refused = ask(&client).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert!(
        refused.message().contains("limit `requests/month` of team `brisk` allows 2 requests a month"),
        "{refused:?}"
    );
    assert_eq!(refused.json()["error"]["limit"], "requests/month");
    assert_eq!(refused.json()["error"]["owner"], "team brisk");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()), "{refused:?}");
    assert!((1..=60_000).contains(&refused.header("retry-after-ms").parse::<u64>().unwrap()), "{refused:?}");
    assert_eq!(upstream.tally().requests, 2);
    let counted = gateway.metric("turnpike_refusals_total", &["brisk", "rate_limit_exceeded"]).await;
    assert_eq!(counted, 1.0);
    gateway.ask("one-model").await.says("hello");
}

#[tokio::test]
async fn the_sdks_retry_a_limit_of_the_minute() {
    let (gateway, _upstream) = team("{limits: {requests: 1/min}}").await;
    let client = gateway.client_with("sk-brisk");
    // Three requests touch two windows at most, so that one of them is beyond a limit of one.
    let answers = [ask(&client).await, ask(&client).await, ask(&client).await];
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!(refused.header("x-should-retry"), "true");
}

#[tokio::test]
async fn tokens_are_estimated_first_and_charged_as_used() {
    let (gateway, upstream) = team("{limits: {tokens: 1000/month}}").await;
    let client = gateway.client_with("sk-brisk");
    let mut body = chat("one-model");
    body["max_completion_tokens"] = json!(600);
    upstream.always(Script::says("a b c d").prompt_tokens(6));
    // The cap of each is 600 tokens, the use 10: only what is under way counts by its cap.
    for _ in 0..3 {
        let answer = client.post(PATH, &body).await;
        answer.says("a b c d");
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), "1000");
    }
    upstream.always(Script::says(&"word ".repeat(590)).prompt_tokens(10));
    client.post(PATH, &body).await;
    let refused = client.post(PATH, &body).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["limit"], "tokens/month");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), (1000 - 30 - 600).to_string());
    body["max_completion_tokens"] = json!(100);
    client.post(PATH, &body).await;
}

#[tokio::test]
async fn a_request_larger_than_its_limit_is_not_worth_another_try() {
    let (gateway, upstream) = team("{limits: {tokens: 500/month}}").await;
    let mut body = chat("one-model");
    body["max_completion_tokens"] = json!(600);
    let refused = gateway.client_with("sk-brisk").post(PATH, &body).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!(refused.header("x-should-retry"), "false");
    assert!(refused.message().contains("this request alone may need"), "{refused:?}");
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn a_place_is_free_again_when_its_stream_ends_or_its_client_leaves() {
    let (gateway, upstream) = team("{limits: {concurrent: 1}}").await;
    let client = gateway.client_with("sk-brisk");
    let gate = Gate::closed();
    upstream.push(Script::says("a b c d e f").after_events(3, Fault::Wait(gate.clone())));
    let mut stream = client.post_stream(PATH, &streamed("one-model")).await;
    stream.read_until("b ").await;
    let refused = ask(&client).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("1", "true"));
    gate.release();
    stream.transcript().await.says("c d e f");
    ask(&client).await.says("hello");

    upstream.push(Script::says("a b c d e f").after_events(3, Fault::Wait(Gate::closed())));
    let mut stream = client.post_stream(PATH, &streamed("one-model")).await;
    stream.read_until("b ").await;
    ask(&client).await.is_refused(429, "rate_limit_exceeded");
    drop(stream);
    until("the place is free", async || ask(&client).await.status == 200).await;
}

#[tokio::test]
async fn users_have_their_own_limits_wherever_they_are_named() {
    let keys = "{per_user: {limits: {requests: 1/month}}, user_from: [header:x-turnpike-user, body:safety_identifier, \
                body:account, body:user]}";
    let (gateway, upstream) = team(keys).await;
    let client = gateway.client_with("sk-brisk");
    let with = |fields: serde_json::Value| {
        let mut body = chat("one-model");
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let status = async |client: &Client, fields| client.post(PATH, &with(fields)).await.status.as_u16();
    assert_eq!(status(&client, json!({"user": "ann"})).await, 200);
    assert_eq!(status(&client, json!({"user": "ann"})).await, 429);
    assert_eq!(status(&client, json!({"user": "ann", "safety_identifier": "bob"})).await, 200);
    assert_eq!(status(&client, json!({"safety_identifier": "bob"})).await, 429);
    assert_eq!(status(&client, json!({"user": "ann", "account": "cy"})).await, 200);
    assert_eq!(status(&client, json!({"account": "cy"})).await, 429);
    let dora = client.clone().header("x-turnpike-user", "dora");
    assert_eq!(status(&dora, json!({"user": "ann", "safety_identifier": "bob"})).await, 200);
    let refused = dora.post(PATH, &chat("one-model")).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert!(!refused.text().contains("dora"), "{refused:?}");
    assert_eq!(refused.json()["error"]["owner"], "user of team brisk");
    // Nobody is nobody's user.
    assert_eq!(status(&client, json!({})).await, 200);
    assert_eq!(status(&client, json!({})).await, 200);
    let nameless = client.clone().header("x-turnpike-user", &"x".repeat(300));
    nameless.post(PATH, &chat("one-model")).await.is_refused(400, "invalid_request");
    assert_eq!(upstream.tally().requests, 6);
}

#[tokio::test]
async fn a_key_has_its_own_limits() {
    let upstream = Upstream::start().await;
    let hash = |key: &str| {
        use sha2::{Digest, Sha256};
        Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mut setup = Setup::new().backend("one", &upstream.base_url());
    for (id, limits) in [("slow", "limits: {requests: 1/month}"), ("free", "explain: false")] {
        setup = setup
            .key_row(&format!("{{id: {id}, team: test, hash: \"sha256:{}\", {limits}}}", hash(&format!("sk-{id}"))));
    }
    let gateway = setup.start().await;
    let (slow, free) = (gateway.client_with("sk-slow"), gateway.client_with("sk-free"));
    ask(&slow).await.says("hello");
    let refused = ask(&slow).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["owner"], "key slow");
    ask(&free).await.says("hello");
    ask(&free).await.says("hello");
}

#[tokio::test]
async fn a_model_at_its_limit_leaves_the_request_to_another() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(Script::says("first"));
    second.always(Script::says("second"));
    let gateway = Setup::new()
        .backend_with("first", &first.base_url(), "provider: openai, limits: {requests: 1/month}")
        .backend("second", &second.base_url())
        .policies("routes: {chain: {order: [first-model, second-model]}}")
        .start()
        .await;
    gateway.ask("chain").await.says("first");
    let other = gateway.ask("chain").await;
    other.says("second");
    assert!(other.header("x-turnpike-reason").contains("limit `requests/month` of backend `first`"), "{other:?}");
    let refused = gateway.ask("first-model").await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["owner"], "backend first");
    assert_eq!(first.tally().requests, 1);
}

#[tokio::test]
async fn a_failover_is_inside_the_next_ones_limits() {
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let [broken, busy, idle] = &upstreams;
    broken.always(Script::error(500, "server_error", "broken"));
    busy.always(Script::says("busy"));
    idle.always(Script::says("idle"));
    let gateway = Setup::new()
        .backend("broken", &broken.base_url())
        .backend_with("busy", &busy.base_url(), "provider: openai, limits: {requests: 1/month}")
        .backend("idle", &idle.base_url())
        .policies("routes: {chain: {order: [broken-model, busy-model, idle-model]}}")
        .start()
        .await;
    gateway.ask("chain").await.says("busy");
    gateway.ask("chain").await.says("idle");
    assert_eq!(busy.tally().requests, 1);
}

#[tokio::test]
async fn an_arm_of_a_split_keeps_its_own_limits() {
    let upstream = Upstream::start().await;
    let routes =
        "routes: {whole: {split: {narrow: 1}}, narrow: {candidates: [one-model], limits: {requests: 1/month}}}";
    let gateway = Setup::new().backend("one", &upstream.base_url()).policies(routes).start().await;
    gateway.ask("whole").await.says("hello");
    for route in ["whole", "narrow"] {
        let refused = gateway.ask(route).await;
        refused.is_refused(429, "rate_limit_exceeded");
        assert_eq!(refused.json()["error"]["owner"], "route narrow");
    }
}
