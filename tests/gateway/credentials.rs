//! Credentials: the client's stay here, the operator's go to the upstream they belong to.

use crate::{
    harness::{KEY, Setup, chat, streamed},
    upstream::Upstream,
};

#[tokio::test]
async fn nothing_that_a_client_proves_itself_with_goes_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let client = gateway
        .client()
        .header("x-api-key", KEY)
        .header("cookie", "session=s3cret")
        .header("proxy-authorization", "Basic czNjcmV0")
        .header("openai-organization", "org-of-the-client")
        .header("x-forwarded-for", "10.1.2.3");
    client.post("/v1/chat/completions", &chat("one-model")).await.says("hello");
    client.post_stream("/v1/chat/completions", &streamed("one-model")).await.transcript().await.says("hello");
    for request in upstream.received() {
        assert_eq!(request.header("authorization"), Some("Bearer sk-upstream-one"));
        for name in ["x-api-key", "cookie", "proxy-authorization", "openai-organization", "x-forwarded-for"] {
            assert_eq!(request.header(name), None, "`{name}` went upstream");
        }
        let all = format!("{:?}{:?}", request.headers, request.body);
        assert!(!all.contains(KEY) && !all.contains("s3cret"), "{all}");
    }
}

#[tokio::test]
async fn a_client_cannot_name_the_upstream() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let client = gateway
        .client()
        .header("x-base-url", &other.base_url())
        .header("api-base", &other.base_url())
        .header("x-turnpike-backend", "other");
    let mut body = chat("one-model");
    body["api_base"] = other.base_url().into();
    client.post("/v1/chat/completions", &body).await.says("hello");
    assert_eq!((upstream.tally().requests, other.tally().requests), (1, 0));
}

#[tokio::test]
async fn both_headers_carry_a_key() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let by_header = crate::harness::Client::new(gateway.address()).header("x-api-key", KEY);
    by_header.post("/v1/chat/completions", &chat("one-model")).await.says("hello");
}

#[tokio::test]
async fn secrets_never_reach_the_log_or_an_error() {
    let upstream = Upstream::start().await;
    upstream.always(crate::upstream::Script::error(401, "invalid_api_key", "Incorrect API key: sk-upstream-one"));
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let answer = gateway.ask("one-model").await;
    answer.is_refused(502, "upstream_error");
    assert!(!answer.text().contains("sk-upstream-one"), "{}", answer.text());
    let wrong = gateway.client_with("sk-a-key-nobody-made").post("/v1/chat/completions", &chat("one-model")).await;
    wrong.is_refused(401, "invalid_api_key");
    let log = gateway.log();
    for secret in ["sk-upstream-one", KEY, "sk-a-key-nobody-made"] {
        assert!(!log.contains(secret), "{log}");
    }
}
