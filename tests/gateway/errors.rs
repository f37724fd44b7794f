//! Refusals: each with the status, code and shape that the README promises.

use serde_json::json;

use crate::{
    harness::{Client, Gateway, KEY, Setup, chat, streamed},
    upstream::Upstream,
};

const PATH: &str = "/v1/chat/completions";

async fn one(setup: Setup) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let gateway = setup.backend("one", &upstream.base_url()).start().await;
    (gateway, upstream)
}

#[tokio::test]
async fn a_faulty_body_is_a_400_that_names_the_field() {
    let (gateway, upstream) = one(Setup::new()).await;
    let client = gateway.client();
    for (body, param) in [
        (r#"{"messages":[{"role":"user","content":"hi"}]}"#, Some("model")),
        (r#"{"model":"one-model"}"#, Some("messages")),
        (r#"{"model":7,"messages":[]}"#, Some("model")),
        (r#"{"model":"one-model","messages":"hi"}"#, Some("messages")),
        (r#"{"model":"one-model","messages":[{"role":"user","content":"hi"}],"stream":"yes"}"#, Some("stream")),
        (r#"{"model":"one-model","model":"other","messages":[]}"#, Some("model")),
        ("[]", None),
        ("{\"model\":", None),
        ("", None),
    ] {
        let answer = client.post_bytes(PATH, body).await;
        answer.is_refused(400, "invalid_request");
        assert_eq!(answer.json()["error"]["param"].as_str(), param, "{body} gave {answer:?}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn no_key_and_an_unknown_key_are_a_401() {
    let (gateway, upstream) = one(Setup::new()).await;
    let nobody = Client::new(gateway.address());
    for client in [nobody.clone(), nobody.clone().header("authorization", "Basic eDp5"), gateway.client_with("sk-no")] {
        client.post(PATH, &chat("one-model")).await.is_refused(401, "invalid_api_key");
        client.post(PATH, &streamed("one-model")).await.is_refused(401, "invalid_api_key");
        client.get("/v1/models").await.is_refused(401, "invalid_api_key");
    }
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn a_model_outside_the_allow_list_is_a_403() {
    let setup = Setup::new().team("fenced", "sk-fenced", "{may_use: [chain]}");
    let (gateway, _upstream) = one(setup.policies("routes: {chain: {order: [one-model]}}")).await;
    let client = gateway.client_with("sk-fenced");
    client.post(PATH, &chat("one-model")).await.is_refused(403, "model_not_allowed");
    client.post(PATH, &chat("chain")).await.says("hello");
}

#[tokio::test]
async fn a_childs_fence_never_widens_its_parents() {
    let setup = Setup::new().team("parent", "sk-parent", "{may_use: [chain]}").team(
        "child",
        "sk-child",
        "{parent: parent, may_use: [chain, one-model]}",
    );
    let (gateway, _upstream) = one(setup.policies("routes: {chain: {order: [one-model]}}")).await;
    let client = gateway.client_with("sk-child");
    client.post(PATH, &chat("one-model")).await.is_refused(403, "model_not_allowed");
    client.post(PATH, &chat("chain")).await.says("hello");
}

#[tokio::test]
async fn data_never_leaves_its_locations() {
    let (eu, cn) = (Upstream::start().await, Upstream::start().await);
    let gateway = Setup::new()
        .backend_with("eu", &eu.base_url(), "provider: openai, location: eu")
        .backend_with("cn", &cn.base_url(), "provider: openai, location: cn")
        .backend("nowhere", &cn.base_url())
        .team("fenced", "sk-fenced", "{locations: [eu]}")
        .policies("routes: {chain: {order: [cn-model, nowhere-model, eu-model]}}")
        .start()
        .await;
    let client = gateway.client_with("sk-fenced");
    for model in ["cn-model", "nowhere-model"] {
        client.post(PATH, &chat(model)).await.is_refused(403, "location_not_allowed");
    }
    client.post(PATH, &chat("chain")).await.says("hello");
    eu.always(crate::upstream::Script::error(500, "server_error", "broken"));
    client.post(PATH, &chat("chain")).await.is_refused(502, "upstream_error");
    assert_eq!(cn.tally().requests, 0);
}

#[tokio::test]
async fn an_unknown_model_is_a_404_that_names_what_comes_close() {
    let (gateway, _upstream) = one(Setup::new()).await;
    let answer = gateway.ask("one-modle").await;
    answer.is_refused(404, "model_not_found");
    assert!(answer.message().contains("one-model"), "{answer:?}");
}

#[tokio::test]
async fn close_matches_name_nothing_that_the_team_may_not_use() {
    let setup = Setup::new().team("fenced", "sk-fenced", "{may_use: [chain]}");
    let (gateway, _upstream) = one(setup.policies("routes: {chain: {order: [one-model]}}")).await;
    let answer = gateway.client_with("sk-fenced").post(PATH, &chat("one-modle")).await;
    assert!(!answer.text().contains("one-model"), "{answer:?}");
}

#[tokio::test]
async fn other_paths_are_a_404() {
    let (gateway, _upstream) = one(Setup::new()).await;
    for path in ["/v1/audio/speech", "/v1/chat/completions/", "/", "/v2/chat/completions", "/v1/chat/completions/x"] {
        gateway.client().post(path, &chat("one-model")).await.is_refused(404, "endpoint_not_supported");
    }
    gateway.client().get("/v1/files").await.is_refused(404, "endpoint_not_supported");
    let wrong_method = gateway.client().get(PATH).await;
    assert!([404, 405].contains(&wrong_method.status.as_u16()), "{wrong_method:?}");
}

#[tokio::test]
async fn too_large_a_body_is_a_413() {
    let (gateway, upstream) = one(Setup::new().server("limits: {body: 4KiB}")).await;
    let mut body = chat("one-model");
    body["messages"][0]["content"] = json!("x".repeat(5000));
    gateway.client().post(PATH, &body).await.is_refused(413, "request_too_large");
    body["messages"][0]["content"] = json!("x".repeat(3000));
    gateway.client().post(PATH, &body).await.says("hello");
    assert_eq!(upstream.tally().requests, 1);
}

#[tokio::test]
async fn no_candidate_is_a_503_that_says_why_for_each() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new()
        .backend_with("off", &upstream.base_url(), "provider: openai, off: maintenance until noon")
        .backend("small", &upstream.base_url())
        .model_with("tiny", "small", "tiny", "context: 100")
        .policies("routes: {chain: {order: [off-model, tiny]}}")
        .start()
        .await;
    let mut body = chat("chain");
    body["messages"][0]["content"] = json!("word ".repeat(500));
    let answer = gateway.client().post(PATH, &body).await;
    answer.is_refused(503, "no_candidate");
    for part in ["off-model", "tiny"] {
        assert!(answer.text().contains(part), "`{part}` is missing: {}", answer.text());
    }
    assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{answer:?}");
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn an_unpriced_model_is_refused_to_a_team_with_a_budget() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new()
        .backend("one", &upstream.base_url())
        .model_with("unpriced", "one", "unpriced-upstream", "")
        .team("thrifty", "sk-thrifty", "{budgets: [{name: month, limit: 5 USD, per: month}]}")
        .start()
        .await;
    let refused = gateway.client_with("sk-thrifty").post(PATH, &chat("unpriced")).await;
    refused.is_refused(400, "model_has_no_price");
    gateway.ask("unpriced").await.says("hello");
    assert_eq!(upstream.tally().requests, 1);
}

#[tokio::test]
async fn a_prompt_too_long_for_the_model_is_the_clients_to_know() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new()
        .backend("small", &upstream.base_url())
        .model_with("tiny", "small", "tiny", "context: 100")
        .start()
        .await;
    let mut body = chat("tiny");
    body["messages"][0]["content"] = json!("word ".repeat(500));
    gateway.client().post(PATH, &body).await.is_refused(400, "context_length_exceeded");
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn no_error_repeats_the_prompt() {
    let (gateway, upstream) = one(Setup::new()).await;
    let secret = "xylophone-in-the-prompt";
    let echo = format!("invalid message: {secret}");
    upstream.always(crate::upstream::Script::error(500, "server_error", &echo));
    let mut body = chat("one-model");
    body["messages"][0]["content"] = json!(secret);
    gateway.client().post(PATH, &body).await.is_refused(502, "upstream_error");
    body["messages"][0]["role"] = json!({"wrong": secret});
    let faulty = gateway.client().post(PATH, &body).await;
    assert!(!faulty.text().contains(secret), "{faulty:?}");
    assert!(!gateway.log().contains(secret), "{}", gateway.log());
}

#[tokio::test]
async fn a_key_that_has_expired_is_a_401() {
    let upstream = Upstream::start().await;
    let policies = Setup::new().backend("one", &upstream.base_url()).policy_file();
    let expired = policies.replace("team: test, hash", "team: test, expires: 2020-01-01, hash");
    assert_ne!(policies, expired);
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    gateway.ask("one-model").await.says("hello");
    gateway.save_policies(&expired);
    crate::harness::until("the key has expired", async || gateway.ask("one-model").await.status == 401).await;
    assert!(!gateway.log().contains(KEY));
}
