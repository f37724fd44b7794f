//! Four clocks of an attempt, and what a client hears while they run.

use std::time::Duration;

use crate::{
    harness::{Gateway, Setup, streamed, streamed_with_usage},
    upstream::{Fault, Gate, Script, Upstream},
};

/// The route `chain` over a first backend with these clocks and a second one without.
async fn chain(clocks: &str, server: &str) -> (Gateway, Upstream, Upstream) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Script::says("whole answer"));
    let gateway = Setup::new()
        .backend_with("first", &first.base_url(), &format!("provider: openai, timeouts: {{{clocks}}}"))
        .backend("second", &second.base_url())
        .policies("routes: {chain: {order: [first-model, second-model]}}")
        .server(server)
        .start()
        .await;
    (gateway, first, second)
}

#[tokio::test]
async fn no_head_in_time_fails_over() {
    let (gateway, first, _second) = chain("first_token: 150ms, total: 300ms", "").await;
    first.always(Script::stalls());
    // A plain answer has no first token to wait for: its head comes when all of it is there.
    gateway.ask("chain").await.says("whole answer");
    gateway.ask_stream("chain").await.says("whole answer");
    first.until(|tally| tally.open == 0).await;
}

#[tokio::test]
async fn no_first_token_in_time_fails_over_though_comments_come() {
    let (gateway, first, _second) = chain("first_token: 150ms", "").await;
    let chatty = Script::says("too late").led_in_by(": wait\n\n").after_events(1, Fault::Stall);
    first.always(chatty);
    let stream = gateway.ask_stream("chain").await;
    stream.says("whole answer");
    assert_eq!(stream.header("x-turnpike-attempts"), "2");
}

#[tokio::test]
async fn a_stall_between_events_ends_as_an_error() {
    let (gateway, first, second) = chain("idle: 500ms", "").await;
    first.always(Script::says("half an answer").after_events(2, Fault::Stall));
    let stream = gateway.ask_stream("chain").await;
    stream.ends_with_error("upstream_error");
    assert_eq!(stream.content(), "half ");
    assert_eq!(second.tally().requests, 0);
    first.until(|tally| tally.open == 0).await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_altogether_ends_as_an_error() {
    let (gateway, first, _second) = chain("total: 2s", "").await;
    first.always(Script::says(&"word ".repeat(500)).pace(Duration::from_millis(20)));
    let stream = gateway.ask_stream("chain").await;
    stream.ends_with_error("upstream_error");
    first.until(|tally| tally.open == 0).await;
}

#[tokio::test]
async fn a_plain_answer_that_stalls_in_its_body_fails_over() {
    let (gateway, first, _second) = chain("first_token: 300ms, idle: 300ms, total: 600ms", "").await;
    first.always(Script::says("half an answer").after_bytes(30, Fault::Stall));
    gateway.ask("chain").await.says("whole answer");
}

#[tokio::test]
async fn a_deadline_of_the_client_bounds_the_whole_request() {
    let (gateway, upstream) = swift("").await;
    upstream.always(Script::stalls());
    let client = gateway.client().header("x-turnpike-deadline", "1s");
    let answer = client.post("/v1/chat/completions", &crate::harness::chat("chain")).await;
    answer.is_refused(504, "deadline_exceeded");
    upstream.until(|tally| tally.requests == 1 && tally.open == 0).await;
}

#[tokio::test]
async fn a_deadline_that_nobody_can_keep_is_a_504() {
    let (gateway, first, second) = chain("first_token: 20s", "").await;
    first.always(Script::stalls());
    second.always(Script::stalls());
    let client = gateway.client().header("x-turnpike-deadline", "1ms");
    let answer = client.post("/v1/chat/completions", &crate::harness::chat("chain")).await;
    answer.is_refused(504, "deadline_exceeded");
}

/// A gateway over one upstream that a request of this route is expected to be served by at once.
async fn swift(server: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let fast = "speed: {first_token: 1ms, per_token: 1ms}, expected_output: 5";
    let setup = Setup::new().backend("one", &upstream.base_url());
    let setup = setup.model_with("swift", "one", "swift-upstream", fast);
    (setup.policies("routes: {chain: {order: [swift]}}").server(server).start().await, upstream)
}

#[tokio::test]
async fn the_limit_of_an_sdk_bounds_a_whole_answer_and_is_told_before_the_sdk_gives_up() {
    let (gateway, upstream) = swift("").await;
    upstream.always(Script::stalls());
    for header in ["x-stainless-read-timeout", "x-stainless-timeout"] {
        let client = gateway.client().header(header, "1");
        let answer = client.post("/v1/chat/completions", &crate::harness::chat("chain")).await;
        answer.is_refused(504, "deadline_exceeded");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    upstream.until(|tally| tally.requests == 2 && tally.open == 0).await;
    // Our own word counts before theirs.
    upstream.always(Script::says("whole answer"));
    let client = gateway.client().header("x-stainless-read-timeout", "0.001").header("x-turnpike-deadline", "20s");
    client.post("/v1/chat/completions", &crate::harness::chat("chain")).await.says("whole answer");
}

#[tokio::test]
async fn the_limit_of_an_sdk_bounds_a_streams_beginning_and_not_its_length() {
    let (gateway, upstream) = swift("").await;
    let client = gateway.client().header("x-stainless-read-timeout", "1");
    let gate = Gate::closed();
    upstream.push(Script::says("a long answer").after_events(2, Fault::Wait(gate.clone())));
    let mut stream = client.post_stream("/v1/chat/completions", &streamed("chain")).await;
    stream.read_until("a ").await;
    upstream.always(Script::stalls());
    // A request that is refused for its limit has waited for all of it: so has the stream.
    let late = client.post_stream("/v1/chat/completions", &streamed("chain")).await;
    assert_eq!(late.status, 504);
    gate.release();
    let rest = stream.transcript().await;
    assert!(rest.is_done() && rest.error().is_none(), "{}", rest.text());
}

#[tokio::test]
async fn a_stream_whose_client_hears_comments_outlasts_the_limit_of_an_sdk() {
    let (gateway, upstream) = swift("stream_commit_after: 50ms").await;
    let client = gateway.client().header("x-stainless-read-timeout", "1");
    let gate = Gate::closed();
    upstream.push(Script::says("whole answer").behind(&gate));
    let mut stream = client.post_stream("/v1/chat/completions", &streamed("chain")).await;
    stream.read_until(":").await;
    upstream.until(|tally| tally.open == 1).await;
    upstream.push(Script::stalls());
    let late = client.post("/v1/chat/completions", &crate::harness::chat("chain")).await;
    late.is_refused(504, "deadline_exceeded");
    gate.release();
    stream.transcript().await.says("whole answer");
}

#[tokio::test]
async fn a_long_wait_is_filled_with_comments_and_failover_goes_on_behind_them() {
    let (gateway, first, second) = chain("first_token: 20s", "stream_commit_after: 50ms").await;
    let gate = Gate::closed();
    first.push(Script::error(500, "server_error", "broken after all").behind(&gate));
    let body = streamed_with_usage("chain");
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &body).await;
    assert_eq!(stream.status, 200);
    for name in ["x-turnpike-model", "x-turnpike-backend", "x-turnpike-attempts"] {
        assert!(!stream.headers.contains_key(name), "`{name}` cannot be known yet");
    }
    assert!(stream.headers.contains_key("x-request-id"));
    stream.read_until(":").await;
    assert_eq!(second.tally().requests, 0);
    gate.release();
    let stream = stream.transcript().await;
    stream.says("whole answer");
    assert!(stream.text().contains("model=second-model backend=second attempts=2"), "{}", stream.text());
    assert!(stream.usage().is_some());
}

#[tokio::test]
async fn when_all_fail_behind_comments_the_stream_ends_as_an_error() {
    let (gateway, first, second) = chain("first_token: 20s", "stream_commit_after: 50ms").await;
    let gate = Gate::closed();
    first.push(Script::error(500, "server_error", "broken after all").behind(&gate));
    second.always(Script::error(503, "overloaded", "full"));
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &streamed("chain")).await;
    stream.read_until(":").await;
    gate.release();
    stream.transcript().await.ends_with_error("upstream_error");
}

#[tokio::test]
async fn a_plain_answer_is_never_committed_early() {
    let (gateway, first, _second) = chain("first_token: 20s", "stream_commit_after: 20ms").await;
    let gate = Gate::closed();
    let broken = Script::error(500, "server_error", "broken after all").behind(&gate);
    first.push(broken.clone());
    first.push(broken);
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.post("/v1/chat/completions", &crate::harness::chat("chain")).await });
    first.until(|tally| tally.open == 1).await;
    // A stream that was asked for later is committed: so the time has passed for the plain answer too.
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &streamed("chain")).await;
    stream.read_until(":").await;
    gate.release();
    stream.transcript().await.says("whole answer");
    let answer = asking.await.unwrap();
    answer.says("whole answer");
    assert_eq!(answer.header("x-turnpike-attempts"), "2");
}
