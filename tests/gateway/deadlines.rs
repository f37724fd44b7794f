//! Deadlines of clients: nobody is refused for what is only expected, and a stalled upstream leaves time for the next.

use crate::{
    harness::{Setup, chat, streamed},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_fresh_gateway_asks_who_is_expected_too_late_by_its_prior_alone() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("at once"));
    let slow = "speed: {first_token: 300s, per_token: 1s}";
    let gateway = Setup::new()
        .backend("one", &upstream.base_url())
        .model_with("slow", "one", "slow-upstream", slow)
        .policies("routes: {chain: {order: [slow, one-model]}}")
        .start()
        .await;
    let client = gateway.client().header("x-stainless-read-timeout", "60");
    let answer = client.post(PATH, &chat("chain")).await;
    answer.says("at once");
    assert_eq!(answer.header("x-turnpike-model"), "slow");
    let client = gateway.client().header("x-turnpike-deadline", "60s");
    client.post_stream(PATH, &streamed("slow")).await.transcript().await.says("at once");
}

#[tokio::test]
async fn after_a_slow_spell_it_learns_that_all_is_well_again() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    // Three failures count as five seconds each.
    upstream.always(Script::error(500, "server_error", "broken"));
    gateway.ask_stream("one-model").await;
    assert_eq!(upstream.tally().requests, 3);
    upstream.always(Script::says("quick again"));
    let ask = async || {
        let client = gateway.client().header("x-turnpike-deadline", "4500ms");
        let stream = client.post_stream(PATH, &streamed("one-model")).await.transcript().await;
        stream.says("quick again");
        stream.header("x-turnpike-reason").to_owned()
    };
    assert!(ask().await.starts_with("expected late, nobody is in time; "));
    assert_eq!(ask().await, "the only candidate");
}
