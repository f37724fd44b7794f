//! Failures that a client must see: as one clear error, and never as a short answer that looks whole.

use serde_json::json;

use crate::{
    failover::chain,
    harness::{Gateway, Setup, chat, streamed},
    upstream::{Fault, Gate, Script, Upstream},
};

const TWENTY: &str = "a b c d e f g h i j k l m n o p q r s t u v w x y z";

/// A stream of the route `chain` whose first candidate answers so.
async fn first_says(script: Script) -> crate::harness::Transcript {
    let (gateway, first, second) = chain().await;
    first.push(script);
    let stream = gateway.ask_stream("chain").await;
    assert_eq!((first.tally().requests, second.tally().requests), (1, 0), "nothing may follow what is committed");
    stream
}

#[tokio::test]
async fn a_stream_cut_after_its_first_token_ends_as_an_error() {
    let stream = first_says(Script::says(TWENTY).cut_after_events(2)).await;
    stream.ends_with_error("upstream_error");
    assert_eq!((stream.content().as_str(), stream.finish_reason()), ("a ", None));
}

#[tokio::test]
async fn a_stream_cut_after_twenty_events_ends_as_an_error() {
    let stream = first_says(Script::says(TWENTY).cut_after_events(20)).await;
    stream.ends_with_error("upstream_error");
    assert_eq!(stream.content().len(), 38);
}

#[tokio::test]
async fn a_stream_reset_after_twenty_events_ends_as_an_error() {
    first_says(Script::says(TWENTY).after_events(20, Fault::Reset)).await.ends_with_error("upstream_error");
}

#[tokio::test]
async fn a_stream_that_ends_in_order_without_done_ends_as_an_error() {
    for events in [2, 20, 27] {
        let stream = first_says(Script::says(TWENTY).after_events(events, Fault::End)).await;
        stream.ends_with_error("upstream_error");
    }
}

#[tokio::test]
async fn an_error_event_in_the_middle_ends_the_stream() {
    let error = json!({"error": {"message": "out of memory", "type": "server_error", "code": 500}});
    let events = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n".to_owned(),
        format!("data: {error}\n\n"),
        "data: [DONE]\n\n".to_owned(),
    ];
    let stream = first_says(Script::events(events)).await;
    stream.ends_with_error("upstream_error");
    assert_eq!(stream.content(), "half");
}

#[tokio::test]
async fn a_garbage_line_in_the_middle_ends_the_stream() {
    let events = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"cont\n\n",
        "data: [DONE]\n\n",
    ];
    first_says(Script::events(events)).await.ends_with_error("upstream_error");
}

#[tokio::test]
async fn a_finish_reason_that_is_a_failure_is_never_passed_on_as_an_end() {
    let stream = first_says(Script::says("half an answer").finish_reason("network_error")).await;
    stream.ends_with_error("upstream_error");
    assert_eq!(stream.finish_reason(), None);
}

#[tokio::test]
async fn when_all_fail_every_attempt_is_listed() {
    let (gateway, first, second) = chain().await;
    first.always(Script::error(500, "server_error", "the first broke"));
    second.always(Script::error(503, "overloaded", "the second is full"));
    let answer = gateway.ask("chain").await;
    answer.is_refused(502, "upstream_error");
    for part in ["first", "500", "second", "503"] {
        assert!(answer.text().contains(part), "`{part}` is missing: {}", answer.text());
    }
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(answer.json()["error"]["attempts"].as_array().is_some_and(|attempts| attempts.len() >= 2), "{answer:?}");
    let client = gateway.client();
    let stream = client.post_stream("/v1/chat/completions", &streamed("second-model")).await.transcript().await;
    assert_eq!(stream.status, 502, "{stream:?}");
}

#[tokio::test]
async fn attempts_stop_at_the_routes_number() {
    let upstream = Upstream::start().await;
    upstream.always(Script::error(500, "server_error", "broken"));
    let mut setup = Setup::new();
    for name in ["a", "b", "c", "d"] {
        setup = setup.backend(name, &upstream.base_url());
    }
    let policies = "routes: {chain: {order: [a-model, b-model, c-model, d-model], attempts: 3}}";
    let gateway = setup.policies(policies).start().await;
    gateway.ask("chain").await.is_refused(502, "upstream_error");
    assert_eq!(upstream.tally().requests, 3);
}

#[tokio::test]
async fn a_fault_of_the_request_reaches_the_client_and_nobody_else() {
    let (gateway, first, second) = chain().await;
    let message = "Invalid schema for response_format 'x': 'required' is required";
    first.always(Script::fails(
        400,
        json!({"error": {"message": message, "type": "invalid_request_error", "param": "response_format", "code": null}}),
    ));
    let answer = gateway.ask("chain").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.message().contains(message), "{answer:?}");
    assert_eq!(answer.json()["error"]["param"], "response_format");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert_eq!(second.tally().requests, 0);
}

#[tokio::test]
async fn a_content_verdict_reaches_the_client_and_nobody_else() {
    let (gateway, first, second) = chain().await;
    first.always(Script::error(400, "content_policy_violation", "rejected by the safety system"));
    let answer = gateway.ask("chain").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(second.tally().requests, 0);
}

#[tokio::test]
async fn our_own_credential_is_never_the_clients_fault() {
    for status in [401, 402, 403] {
        let upstream = Upstream::start().await;
        upstream.always(Script::error(status, "invalid_api_key", "Incorrect API key provided"));
        let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
        gateway.ask("one-model").await.is_refused(502, "upstream_error");
    }
}

#[tokio::test]
async fn a_prompt_too_long_for_all_is_the_clients_to_know() {
    let (gateway, first, second) = chain().await;
    for upstream in [&first, &second] {
        upstream.always(Script::error(400, "context_length_exceeded", "maximum context length is 8192 tokens"));
    }
    gateway.ask("chain").await.is_refused(400, "context_length_exceeded");
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_closes_the_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let gate = Gate::closed();
    upstream.push(Script::says(TWENTY).after_events(5, Fault::Wait(gate)));
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &streamed("one-model")).await;
    stream.read_until("c ").await;
    drop(stream);
    upstream.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_closes_the_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    upstream.always(Script::stalls());
    for body in [chat("one-model"), streamed("one-model")] {
        let open = upstream.tally().hung_up;
        let client = gateway.client();
        let asking = tokio::spawn(async move { client.post_stream("/v1/chat/completions", &body).await.status });
        upstream.until(|tally| tally.open == 1).await;
        asking.abort();
        upstream.until(|tally| tally.hung_up == open + 1).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_make_the_gateway_try_others() {
    let (gateway, first, second) = chain().await;
    first.always(Script::stalls());
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.post("/v1/chat/completions", &chat("chain")).await.status });
    first.until(|tally| tally.open == 1).await;
    asking.abort();
    first.until(|tally| tally.hung_up == 1).await;
    // A request behind the first one proves that the gateway has moved on.
    gateway.ask("second-model").await.says("whole answer");
    assert_eq!(second.tally().requests, 1);
}

/// A slow reader must not make the gateway hold a whole long answer.
#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back() {
    let upstream = Upstream::start().await;
    let gateway: Gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let word = "x".repeat(64 * 1024);
    let text = vec![word; 512].join(" ");
    upstream.push(Script::says(&text));
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &streamed("one-model")).await;
    stream.read_until("xxx").await;
    let produced = |tally: &crate::upstream::Tally| tally.billed.values().map(|billed| billed.output).sum::<u64>();
    // While another request comes and goes, 32 MiB would have passed a gateway that does not hold back.
    for _ in 0..20 {
        gateway.ask("one-model").await.says("hello");
    }
    assert!(produced(&upstream.tally()) < 512, "the whole answer was read ahead");
    drop(stream);
    upstream.until(|tally| tally.hung_up == 1).await;
}
