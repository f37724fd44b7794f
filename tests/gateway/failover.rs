//! Before the first meaningful event nothing is committed: whatever fails there goes to the next candidate.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, Setup, chat, streamed},
    upstream::{Fault, Script, Upstream},
};

/// A gateway with the route `chain` over two candidates, of which the second says `whole answer`.
pub async fn chain() -> (Gateway, Upstream, Upstream) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Script::says("whole answer"));
    let gateway = Setup::new()
        .backend("first", &first.base_url())
        .backend("second", &second.base_url())
        .policies("routes: {chain: {order: [first-model, second-model]}}")
        .start()
        .await;
    (gateway, first, second)
}

/// A first candidate that answers so is passed over, in plain answers and in streams.
async fn fails_over(script: Script) {
    let (gateway, first, second) = chain().await;
    first.always(script);
    let answer = gateway.ask("chain").await;
    answer.says("whole answer");
    assert_eq!(answer.header("x-turnpike-attempts"), "2");
    assert_eq!((answer.header("x-turnpike-backend"), answer.header("x-turnpike-model")), ("second", "second-model"));
    assert_eq!((first.tally().requests, second.tally().requests), (1, 1));
    drop(gateway);
    stream_fails_over(first, second).await;
}

async fn stream_fails_over(first: Upstream, second: Upstream) {
    let before = first.tally().requests;
    let gateway = Setup::new()
        .backend("first", &first.base_url())
        .backend("second", &second.base_url())
        .policies("routes: {chain: {order: [first-model, second-model]}}")
        .start()
        .await;
    let stream = gateway.ask_stream("chain").await;
    stream.says("whole answer");
    assert_eq!(stream.header("x-turnpike-attempts"), "2");
    assert_eq!(stream.header("x-turnpike-backend"), "second");
    assert_eq!(first.tally().requests, before + 1);
}

/// The same for what can only go wrong in a stream.
async fn only_a_stream_fails_over(script: Script) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Script::says("whole answer"));
    first.always(script);
    stream_fails_over(first, second).await;
}

fn openai_error() -> Value {
    json!({"error": {"message": "The server had an error", "type": "server_error", "param": null, "code": null}})
}

#[tokio::test]
async fn a_200_whose_body_is_an_error() {
    fails_over(Script::fails(200, openai_error())).await;
}

#[tokio::test]
async fn a_200_whose_body_is_a_flat_error() {
    fails_over(Script::fails(200, json!({"object": "error", "message": "busy", "type": "Busy", "code": 503}))).await;
}

#[tokio::test]
async fn an_empty_200() {
    fails_over(Script::raw(200, "application/json", "")).await;
}

#[tokio::test]
async fn an_empty_stream() {
    only_a_stream_fails_over(Script::raw(200, "text/event-stream", "")).await;
}

#[tokio::test]
async fn an_empty_completion() {
    fails_over(Script::says("")).await;
}

#[tokio::test]
async fn malformed_json() {
    fails_over(Script::raw(200, "application/json", "{\"id\": \"x\", \"choices\": [")).await;
}

#[tokio::test]
async fn a_wrong_content_type() {
    fails_over(Script::raw(200, "text/html", "<html><body>Sign in to the hotel's network</body></html>")).await;
}

#[tokio::test]
async fn a_stream_whose_first_event_is_an_error() {
    only_a_stream_fails_over(Script::events([format!("data: {}\n\n", openai_error())])).await;
}

#[tokio::test]
async fn a_stream_that_begins_with_done() {
    only_a_stream_fails_over(Script::events(["data: [DONE]\n\n"])).await;
}

#[tokio::test]
async fn a_garbage_line_before_the_first_token() {
    only_a_stream_fails_over(Script::events(["data: {\"choices\": [{\"delta\": \n\n"])).await;
}

#[tokio::test]
async fn a_stream_cut_before_its_first_event() {
    only_a_stream_fails_over(Script::says("a short answer").cut_after_events(0)).await;
}

#[tokio::test]
async fn a_stream_cut_after_an_event_without_content() {
    only_a_stream_fails_over(Script::says("a short answer").cut_after_events(1)).await;
}

#[tokio::test]
async fn a_stream_that_ends_in_order_but_without_content() {
    only_a_stream_fails_over(Script::says("a short answer").after_events(1, Fault::End)).await;
}

#[tokio::test]
async fn a_plain_answer_cut_in_the_middle() {
    let (gateway, first, second) = chain().await;
    first.always(Script::says("a short answer").cut_after_bytes(40));
    gateway.ask("chain").await.says("whole answer");
    assert_eq!((first.tally().requests, second.tally().requests), (1, 1));
}

#[tokio::test]
async fn a_connection_closed_instead_of_an_answer() {
    let (gateway, first, _second) = chain().await;
    first.always(Script::hangs_up());
    gateway.ask("chain").await.says("whole answer");
    gateway.ask_stream("chain").await.says("whole answer");
}

#[tokio::test]
async fn a_connection_reset_instead_of_an_answer() {
    let (gateway, first, _second) = chain().await;
    first.always(Script::resets());
    gateway.ask("chain").await.says("whole answer");
    gateway.ask_stream("chain").await.says("whole answer");
}

#[tokio::test]
async fn a_closed_port() {
    let second = Upstream::start().await;
    let gateway = Setup::new()
        .backend("first", &format!("http://{}/v1", crate::harness::free_address()))
        .backend("second", &second.base_url())
        .policies("routes: {chain: {order: [first-model, second-model]}}")
        .start()
        .await;
    let answer = gateway.ask("chain").await;
    answer.says("hello");
    assert_eq!(answer.header("x-turnpike-attempts"), "2");
}

#[tokio::test]
async fn statuses_that_mean_elsewhere() {
    for status in [401, 402, 403, 408, 429, 500, 502, 503, 504, 529] {
        println!("status {status}");
        fails_over(Script::error(status, "some_error", "not here, not now")).await;
    }
}

#[tokio::test]
async fn a_finish_reason_that_is_a_failure() {
    let (gateway, first, second) = chain().await;
    first.always(Script::says("").finish_reason("network_error"));
    gateway.ask("chain").await.says("whole answer");
    assert_eq!((first.tally().requests, second.tally().requests), (1, 1));
}

#[tokio::test]
async fn a_prompt_too_long_for_one_goes_to_one_that_can() {
    let (gateway, first, second) = chain().await;
    first.always(Script::error(400, "context_length_exceeded", "maximum context length is 8192 tokens"));
    let answer = gateway.ask("chain").await;
    answer.says("whole answer");
    assert_eq!((first.tally().requests, second.tally().requests), (1, 1));
}

#[tokio::test]
async fn an_open_breaker_spares_the_broken_candidate() {
    let (gateway, first, _second) = chain().await;
    first.always(Script::error(500, "server_error", "broken"));
    for _ in 0..60 {
        gateway.ask("chain").await.says("whole answer");
    }
    let asked = first.tally().requests;
    assert!(asked < 60, "a candidate that always fails was asked {asked} times of 60");
    assert!(gateway.metric("turnpike_breaker_state", &["first"]).await > 0.0);
}

#[tokio::test]
async fn thirty_percent_of_errors_reach_no_client() {
    let (gateway, first, _second) = chain().await;
    let count = std::sync::atomic::AtomicU64::new(0);
    first.choose(move |request| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 7 % 10 {
        0 => Script::error(500, "server_error", "broken"),
        1 => Script::error(503, "overloaded", "busy"),
        2 if request.wants_stream() => Script::says("half").cut_after_events(1),
        2 => Script::says("half").cut_after_bytes(20),
        _ => Script::says("whole answer"),
    });
    for _ in 0..10 {
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..20 {
            let client = gateway.client();
            asking.spawn(async move {
                if number % 2 == 0 {
                    client.post("/v1/chat/completions", &chat("chain")).await.says("whole answer");
                } else {
                    let stream = client.post_stream("/v1/chat/completions", &streamed("chain")).await;
                    stream.transcript().await.says("whole answer");
                }
            });
        }
        asking.join_all().await;
    }
}

#[tokio::test]
async fn a_storm_of_429_parks_the_account_for_as_long_as_it_asks() {
    let (gateway, first, second) = chain().await;
    first.always(Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "600"));
    for _ in 0..20 {
        gateway.ask("chain").await.says("whole answer");
    }
    assert_eq!((first.tally().requests, second.tally().requests), (1, 20));
    let alone = gateway.ask("first-model").await;
    alone.is_refused(503, "no_candidate");
    let seconds: u64 = alone.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "an SDK ignores more than 60 s: {alone:?}");
    assert_eq!(first.tally().requests, 1);
}

#[tokio::test]
async fn a_second_account_serves_when_the_first_is_refused() {
    let upstream = Upstream::start().await;
    upstream.choose(|request| match request.header("authorization") {
        Some("Bearer sk-main") => Script::error(429, "insufficient_quota", "You exceeded your current quota"),
        _ => Script::says("whole answer"),
    });
    let backend = format!(
        "backends: {{one: {{provider: openai, endpoints: [\"{}\"], accounts: [{{name: main, api_key: sk-main}}, \
         {{name: spare, api_key: sk-spare}}]}}}}\nmodels: {{one-model: {{backends: {{one: one-upstream}}}}}}",
        upstream.base_url()
    );
    let gateway = Setup::new().policies(&backend).start().await;
    for _ in 0..5 {
        let answer = gateway.ask("one-model").await;
        answer.says("whole answer");
        assert_eq!(answer.header("x-turnpike-account"), "spare");
    }
    assert_eq!(upstream.tally().requests, 6);
}

#[tokio::test]
async fn another_endpoint_serves_when_one_is_closed() {
    let upstream = Upstream::start().await;
    let closed = crate::harness::free_address();
    let backend = format!(
        "backends: {{pool: {{provider: vllm, endpoints: [\"http://{closed}\", \"http://{}\"]}}}}\n\
         models: {{pool-model: {{backends: {{pool: pool-upstream}}}}}}",
        upstream.address()
    );
    let gateway = Setup::new().policies(&backend).start().await;
    for _ in 0..10 {
        gateway.ask("pool-model").await.says("hello");
    }
    assert_eq!(upstream.tally().requests, 10);
}
