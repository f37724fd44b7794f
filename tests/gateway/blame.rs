//! Who is blamed for what: no client's wish and no single server takes a backend away from everyone else.

use serde_json::json;

use crate::{
    harness::{Setup, chat, free_address, streamed, streamed_with_usage, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_clients_deadline_is_not_the_backends_fault() {
    let upstream = Upstream::start().await;
    let fast = "speed: {first_token: 1ms, per_token: 1ms}, expected_output: 5";
    let setup = Setup::new().backend("one", &upstream.base_url());
    let gateway = setup.model_with("fast", "one", "fast-upstream", fast).start().await;
    upstream.always(Script::says("half an answer").after_events(2, Fault::Stall));
    // Twice as many in a row as open a breaker.
    for _ in 0..10 {
        let client = gateway.client().header("x-turnpike-deadline", "1s");
        let stream = client.post_stream(PATH, &streamed("fast")).await.transcript().await;
        stream.ends_with_error("deadline_exceeded");
    }
    assert_eq!(gateway.metric("turnpike_breaker_state", &["fast"]).await, 0.0);
    assert_eq!(gateway.metric("turnpike_attempts_total", &["one", "deadline"]).await, 10.0);
}

#[tokio::test]
async fn a_dead_server_of_a_pool_is_passed_by() {
    let alive = Upstream::start().await;
    alive.always(Script::says("alive"));
    let pool = format!("provider: vllm, endpoints: [\"http://{}/v1\", \"{}\"]", free_address(), alive.base_url());
    let gateway = Setup::new()
        .policies(&format!("backends: {{pool: {{{pool}}}}}\nmodels: {{m: {{backends: {{pool: up}}}}}}"))
        .start()
        .await;
    let mut attempts = 0;
    for _ in 0..40 {
        let answer = gateway.ask("m").await;
        answer.says("alive");
        attempts += answer.header("x-turnpike-attempts").parse::<u32>().unwrap();
    }
    assert!(attempts <= 44, "{attempts} attempts for 40 requests");
    assert_eq!(gateway.metric("turnpike_breaker_state", &["pool"]).await, 0.0);
}

#[tokio::test]
async fn a_request_beyond_what_a_backend_takes_at_once_goes_elsewhere_unsent() {
    let (small, large) = (Upstream::start().await, Upstream::start().await);
    let gate = Gate::closed();
    small.always(Script::says("small").behind(&gate));
    large.always(Script::says("large"));
    let gateway = Setup::new()
        .backend_with("small", &small.base_url(), "provider: openai, max_in_flight: 1")
        .backend("large", &large.base_url())
        .policies("routes: {chain: {order: [small-model, large-model]}}")
        .start()
        .await;
    let client = gateway.client();
    let first = tokio::spawn(async move { client.post(PATH, &chat("chain")).await });
    small.until(|tally| tally.requests == 1).await;
    let second = gateway.ask("chain").await;
    second.says("large");
    assert_eq!((second.header("x-turnpike-attempts"), small.tally().requests), ("1", 1));
    gate.release();
    first.await.unwrap().says("small");
}

#[tokio::test]
async fn spread_accounts_take_turns() {
    let upstream = Upstream::start().await;
    let accounts = "accounts: [{name: a, api_key: sk-a}, {name: b, api_key: sk-b}], pick: spread";
    let backend = format!("{{provider: openai, {accounts}, endpoints: [\"{}\"]}}", upstream.base_url());
    let gateway = Setup::new()
        .policies(&format!("backends: {{two: {backend}}}\nmodels: {{m: {{backends: {{two: up}}}}}}"))
        .start()
        .await;
    let mut used = Vec::new();
    for _ in 0..4 {
        used.push(gateway.ask("m").await.header("x-turnpike-account").to_owned());
    }
    used.sort();
    assert_eq!(used, ["a", "a", "b", "b"]);
}

#[tokio::test]
async fn a_reload_without_keys_does_not_open_the_gateway() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().backend("one", &upstream.base_url());
    let gateway = setup.start().await;
    let keyless = setup.policy_file().split("keys:").next().unwrap().to_owned();
    gateway.save_policies(&keyless);
    until("the key is gone", async || gateway.ask("one-model").await.status == 401).await;
    let before = upstream.tally().requests;
    let nobody = gateway.client_with("").post(PATH, &chat("one-model")).await;
    nobody.is_refused(401, "invalid_api_key");
    assert_eq!(upstream.tally().requests, before);
}

#[tokio::test]
async fn a_reload_without_any_backend_changes_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    gateway.save_policies("");
    until("the empty file is seen", async || {
        gateway.metric("turnpike_config_last_reload_successful", &[]).await == 0.0
    })
    .await;
    gateway.ask("one-model").await.says("hello");
}

#[tokio::test]
async fn usage_of_one_half_does_not_make_the_other_free() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let answer = json!({
        "id": "1", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x".repeat(1000)}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000},
    });
    upstream.push(Script::raw(200, "application/json", answer.to_string()));
    // 1,000 tokens read at 2,000 nano-dollars, and one written at 8,000 for five of 1,000 bytes.
    assert_eq!(gateway.ask("one-model").await.header("x-turnpike-cost-usd"), "0.0036");
}

#[tokio::test]
async fn a_usage_from_before_the_text_is_not_the_last_word() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let early = json!({
        "choices": [{"index": 0, "delta": {"role": "assistant"}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 0},
    });
    let word = json!({"choices": [{"index": 0, "delta": {"content": "word "}}]});
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let mut events = vec![format!("data: {early}\n\n")];
    events.extend(std::iter::repeat_n(format!("data: {word}\n\n"), 50));
    events.push(format!("data: {end}\n\n"));
    events.push("data: [DONE]\n\n".to_owned());
    upstream.push(Script::events(events));
    assert!(gateway.ask_stream("one-model").await.is_done());
    // 8 tokens read at 2,000 nano-dollars, 50 written at 8,000.
    until("all of it is charged", async || gateway.metric("turnpike_cost_usd_total", &[]).await == 0.000_416).await;
}

#[tokio::test]
async fn a_usage_chunk_over_several_lines_stays_readable() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let word = json!({"choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": "stop"}]});
    let usage =
        "data: {\"choices\": [],\ndata:  \"usage\": {\"prompt_tokens\": 1,\ndata:  \"completion_tokens\": 1}}\n\n";
    upstream.push(Script::events([format!("data: {word}\n\n"), usage.to_owned(), "data: [DONE]\n\n".to_owned()]));
    let stream = gateway.client().post_stream(PATH, &streamed_with_usage("one-model")).await.transcript().await;
    assert!(stream.is_done(), "{}", stream.text());
    assert!(stream.text().lines().all(|line| line.is_empty() || line.starts_with("data:")), "{}", stream.text());
    assert!(stream.text().contains("\"cost\":0.00001"), "{}", stream.text());
}

#[tokio::test]
async fn a_vendors_words_about_our_credential_stay_here() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    upstream.always(Script::error(401, "invalid_api_key", "bad key ECHOED-SECRET"));
    let answer = gateway.ask("one-model").await;
    answer.is_refused(502, "upstream_error");
    assert!(!answer.text().contains("ECHOED-SECRET"), "{}", answer.text());
}

#[tokio::test]
async fn upstreams_at_their_limit_are_a_503_that_says_when() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    upstream.always(Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "7"));
    let answer = gateway.ask("one-model").await;
    answer.is_refused(503, "no_candidate");
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("7", "true"));
}
