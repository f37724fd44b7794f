//! One upstream that stumbles, in each of the ways of the fault table: the second candidate answers, or the error is
//! clear; and what is charged is what was billed.

use crate::{
    harness::{Transcript, streamed},
    sky::{PATH, Sky, balances},
    upstream::{Fault, Script},
};

const CLOCKS: &str = "first_token: 200ms, idle: 200ms, total: 2s";

async fn stream(sky: &Sky) -> Transcript {
    sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await
}

/// A first candidate that answers so is passed over; `unbilled` of its two attempts (plain and streamed) are on the books
/// with a prompt that it did not bill.
async fn is_passed_over(script: impl FnOnce(u64) -> Script, unbilled: u64) {
    let sky = Sky::with(CLOCKS, "").await;
    sky.first.always(script(sky.prompt));
    let answer = sky.ask().await;
    answer.says("whole answer");
    assert_eq!(answer.header("x-turnpike-attempts"), "2");
    stream(&sky).await.says("whole answer");
    assert_eq!(sky.calls(), 4);
    sky.balances(unbilled).await;
}

/// The same for what a stream alone can do.
async fn its_stream_is_passed_over(script: impl FnOnce(u64) -> Script, unbilled: u64) {
    let sky = Sky::with(CLOCKS, "").await;
    sky.first.always(script(sky.prompt));
    stream(&sky).await.says("whole answer");
    assert_eq!(sky.calls(), 2);
    sky.balances(unbilled).await;
}

#[tokio::test]
async fn a_stall_before_the_head() {
    is_passed_over(|_| Script::stalls(), 2).await;
}

#[tokio::test]
async fn a_stall_before_the_first_event() {
    its_stream_is_passed_over(|prompt| Script::says("late").prompt_tokens(prompt).after_events(0, Fault::Stall), 0)
        .await;
}

#[tokio::test]
async fn a_stall_behind_comments_only() {
    let chatty =
        |prompt| Script::says("late").prompt_tokens(prompt).led_in_by(": wait\n\n").after_events(1, Fault::Stall);
    its_stream_is_passed_over(chatty, 0).await;
}

#[tokio::test]
async fn a_stall_midway() {
    let sky = Sky::with(CLOCKS, "").await;
    sky.first.always(Script::says("a b c d").prompt_tokens(sky.prompt).after_events(4, Fault::Stall));
    let stream = stream(&sky).await;
    stream.ends_with_error("upstream_error");
    assert_eq!((stream.content().as_str(), sky.calls()), ("a b c ", 1));
    sky.balances(0).await;
}

#[tokio::test]
async fn a_200_with_an_error() {
    let error = serde_json::json!({"error": {"message": "no", "type": "server_error", "code": null}});
    is_passed_over(move |_| Script::fails(200, error), 0).await;
}

#[tokio::test]
async fn a_stream_that_is_an_error() {
    let event = "data: {\"error\": {\"message\": \"no\", \"type\": \"server_error\"}}\n\n";
    its_stream_is_passed_over(move |_| Script::raw(200, "text/event-stream", event), 0).await;
}

#[tokio::test]
async fn an_empty_200() {
    is_passed_over(|_| Script::raw(200, "application/json", ""), 2).await;
}

#[tokio::test]
async fn an_empty_completion() {
    is_passed_over(|prompt| Script::says("").prompt_tokens(prompt), 0).await;
}

#[tokio::test]
async fn an_empty_stream() {
    its_stream_is_passed_over(|_| Script::raw(200, "text/event-stream", ""), 1).await;
}

#[tokio::test]
async fn garbage_instead_of_events() {
    its_stream_is_passed_over(|_| Script::raw(200, "text/event-stream", "data: {\"choi\n\ndata: ]]\n\n"), 1).await;
}

#[tokio::test]
async fn garbage_instead_of_an_answer() {
    is_passed_over(|_| Script::raw(200, "application/json", "{\"id\": \"x\", \"choices\": ["), 2).await;
}

#[tokio::test]
async fn bytes_that_are_no_text() {
    let noise: Vec<u8> = (0..=255).cycle().take(4096).collect();
    is_passed_over(move |_| Script::raw(200, "application/json", noise), 2).await;
}

#[tokio::test]
async fn garbage_midway() {
    let sky = Sky::with(CLOCKS, "").await;
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n";
    sky.first.always(Script::events([event, "data: {\"cho\n\n"]).prompt_tokens(sky.prompt));
    let stream = stream(&sky).await;
    stream.ends_with_error("upstream_error");
    assert_eq!((stream.content().as_str(), sky.calls()), ("half", 1));
    // The tally counts the garbage for a token, too.
    balances(&sky.gateway, sky.billed() + sky.prompt * 2_000 - 8_000).await;
}

#[tokio::test]
async fn a_connection_that_closes_or_is_reset_instead_of_an_answer() {
    is_passed_over(|_| Script::hangs_up(), 2).await;
    is_passed_over(|_| Script::resets(), 2).await;
}

#[tokio::test]
async fn a_gateways_time_out_is_charged_as_nobody_knows_what_it_hides() {
    is_passed_over(|_| Script::raw(504, "text/html", "<html>gateway time-out</html>"), 2).await;
}
