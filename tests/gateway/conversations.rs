//! Conversations: the next turn stays where its prompt is cached, unless leaving pays.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, Setup},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// `warm` costs 2 USD per million prompt tokens and a tenth of that for cached ones, `near` 1.50 USD, `far` 0.10 USD.
/// The route `close` is over the first two, the route `wide` over all; both take the cheapest.
async fn three() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("hello").prompt_tokens(2_000));
    let mut setup = Setup::new()
        .backend("one", &upstream.base_url())
        .team("other", "sk-other", "{}")
        .policies("routes: {close: {candidates: [warm, near], prefer: cheapest}, wide: {candidates: [warm, near, far], prefer: cheapest}}");
    for (model, price) in [("warm", "2 USD, cached_input: 0.2 USD"), ("near", "1.5 USD"), ("far", "0.1 USD")] {
        setup = setup.model_with(model, "one", &format!("{model}-upstream"), "expected_output: 1");
        setup = setup.price_row(&format!("{{model: {model}, input: {price}, output: 8 USD}}"));
    }
    (setup.start().await, upstream)
}

/// A conversation about `topic` with so many answers behind it; each turn begins as the one before it.
fn turn(model: &str, topic: &str, answers: usize) -> Value {
    let mut messages = vec![json!({"role": "user", "content": format!("{topic} {}", "word ".repeat(1_250))})];
    for _ in 0..answers {
        messages.push(json!({"role": "assistant", "content": "hello"}));
        messages.push(json!({"role": "user", "content": "go on"}));
    }
    json!({"model": model, "messages": messages})
}

#[tokio::test]
async fn a_conversation_stays_where_its_prompt_is_cached() {
    let (gateway, _upstream) = three().await;
    let served = async |body: &Value| {
        let answer = gateway.client().post(PATH, body).await;
        (answer.header("x-turnpike-model").to_owned(), answer.header("x-turnpike-reason").to_owned())
    };
    assert_eq!(served(&turn("close", "ships", 0)).await.0, "near", "nothing is cached yet");
    assert_eq!(served(&turn("warm", "ropes", 0)).await.0, "warm", "asked for by name");
    let (model, reason) = served(&turn("close", "ropes", 1)).await;
    assert_eq!(model, "warm", "1,920 cached tokens at a tenth of the price beat three quarters of it");
    assert!(reason.contains("1920 tokens are warm there"), "{reason}");
    assert_eq!(served(&turn("close", "ropes", 2)).await.0, "warm", "and the turn after that");
    assert_eq!(served(&turn("close", "bells", 1)).await.0, "near", "another conversation is not cached");
    let foreign = gateway.client_with("sk-other").post(PATH, &turn("close", "ropes", 1)).await;
    assert_eq!(foreign.header("x-turnpike-model"), "near", "nor is that of another team");
}

#[tokio::test]
async fn a_conversation_leaves_when_that_pays() {
    let (gateway, _upstream) = three().await;
    let served = async |body: &Value| gateway.client().post(PATH, body).await.header("x-turnpike-model").to_owned();
    assert_eq!(served(&turn("warm", "ropes", 0)).await, "warm");
    assert_eq!(served(&turn("wide", "ropes", 1)).await, "far", "0.10 USD for all of it is less than the cached price");
}

#[tokio::test]
async fn a_named_session_is_a_conversation_whatever_is_said() {
    let (gateway, _upstream) = three().await;
    let session = |name: &str| gateway.client().header("x-turnpike-session", name);
    assert_eq!(session("s").post(PATH, &turn("warm", "ropes", 0)).await.header("x-turnpike-model"), "warm");
    assert_eq!(session("s").post(PATH, &turn("close", "bells", 0)).await.header("x-turnpike-model"), "warm");
    assert_eq!(session("t").post(PATH, &turn("close", "bells", 0)).await.header("x-turnpike-model"), "near");
}
