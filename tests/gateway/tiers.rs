//! Tiers of service: the price is that of the tier which the answer names, plain and streamed.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, Setup, chat, streamed_with_usage},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// The model `tiered` at 2 USD and 8 USD, half of it at `flex`, twice of it at `priority`; a team `thrifty` (key
/// `sk-thrifty`) with a budget. `plain` has one price.
async fn tiered(limit: &str, keys: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let team = format!("{{budgets: [{{name: month, limit: {limit}, per: month}}]}}");
    let rates = "{input: 2 USD, output: 8 USD}, {when: {tier: flex}, input: 1 USD, output: 4 USD}, \
                 {when: {tier: priority}, input: 4 USD, output: 16 USD}";
    let gateway = Setup::new()
        .backend_with("one", &upstream.base_url(), keys)
        .model_with("tiered", "one", "tiered-upstream", "")
        .price_row(&format!("{{model: tiered, rates: [{rates}]}}"))
        .policies("routes: {both: {candidates: [one-model, tiered], prefer: cheapest}}")
        .team("thrifty", "sk-thrifty", &team)
        .start()
        .await;
    (gateway, upstream)
}

/// A whole answer of 100 prompt tokens and 10 more that says at which tier it was served.
fn served_at(tier: &Value) -> Script {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    let message = json!({"role": "assistant", "content": "hello"});
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "tiered-upstream", "service_tier": tier,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage,
    });
    Script::fails(200, answer)
}

/// The same as a stream: the tier stands in every chunk but the one with the usage, as a proxy may leave it.
fn streamed_at(tier: &Value) -> Script {
    let chunk = |choices: Value| json!({"object": "chat.completion.chunk", "model": "m", "choices": choices});
    let mut said = chunk(json!([{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]));
    said["service_tier"] = tier.clone();
    let mut usage = chunk(json!([]));
    usage["usage"] = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    let event = |data: &Value| format!("data: {data}\n\n");
    Script::events([event(&said), event(&usage), "data: [DONE]\n\n".to_owned()])
}

fn asking(tier: Option<&str>) -> Value {
    let mut body = chat("tiered");
    if let Some(tier) = tier {
        body["service_tier"] = json!(tier);
    }
    body
}

#[tokio::test]
async fn the_charge_is_that_of_the_tier_that_served() {
    let (gateway, upstream) = tiered("1 USD", "provider: openai").await;
    let client = gateway.client_with("sk-thrifty");
    let (flex, standard, priority) = ("0.00014", "0.00028", "0.00056");
    for (asked, served, cost) in [
        (None, json!("default"), standard),
        (None, Value::Null, standard),
        (Some("flex"), json!("flex"), flex),
        (Some("flex"), Value::Null, flex),
        (Some("priority"), json!("priority"), priority),
        (Some("priority"), json!("default"), standard),
        (Some("auto"), json!("priority"), priority),
        (Some("default"), json!("default"), standard),
    ] {
        upstream.push(served_at(&served));
        let answer = client.post(PATH, &asking(asked)).await;
        answer.says("hello");
        assert_eq!(answer.header("x-turnpike-cost-usd"), cost, "asked {asked:?}, served {served}");
        upstream.push(streamed_at(&served));
        let mut body = streamed_with_usage("tiered");
        if let Some(asked) = asked {
            body["service_tier"] = json!(asked);
        }
        let stream = client.post_stream(PATH, &body).await.transcript().await;
        assert_eq!(stream.usage().unwrap()["cost"].to_string(), cost, "asked {asked:?}, streamed {served}");
    }
}

#[tokio::test]
async fn a_hold_covers_the_dearest_tier_that_may_serve() {
    // 1,000 tokens of answer are 0.008 USD, at priority 0.016 USD; the prompt is less than a tenth of that.
    let (gateway, upstream) = tiered("0.012 USD", "provider: openai").await;
    let client = gateway.client_with("sk-thrifty");
    let capped = |tier| {
        let mut body = asking(tier);
        body["max_completion_tokens"] = json!(1000);
        body
    };
    for tier in ["priority", "auto"] {
        client.post(PATH, &capped(Some(tier))).await.is_refused(402, "budget_exceeded");
    }
    assert_eq!(upstream.tally().requests, 0);
    for tier in [Some("flex"), None] {
        upstream.push(served_at(&json!(tier.unwrap_or("default"))));
        client.post(PATH, &capped(tier)).await.says("hello");
    }
}

#[tokio::test]
async fn a_tier_that_the_vendors_project_gives_is_expected_and_held_for() {
    let (gateway, upstream) = tiered("0.012 USD", "provider: openai, tier: priority").await;
    let client = gateway.client_with("sk-thrifty");
    let mut body = asking(None);
    body["max_completion_tokens"] = json!(1000);
    client.post(PATH, &body).await.is_refused(402, "budget_exceeded");
    body["max_completion_tokens"] = json!(100);
    upstream.push(served_at(&Value::Null));
    assert_eq!(client.post(PATH, &body).await.header("x-turnpike-cost-usd"), "0.00056");
}

#[tokio::test]
async fn a_tier_without_a_price_is_refused_to_a_team_with_a_budget() {
    let (gateway, upstream) = tiered("1 USD", "provider: openai").await;
    let client = gateway.client_with("sk-thrifty");
    let mut body = chat("one-model");
    body["service_tier"] = json!("priority");
    client.post(PATH, &body).await.is_refused(400, "model_has_no_price");
    body["service_tier"] = json!("made-up");
    client.post(PATH, &body).await.is_refused(400, "model_has_no_price");
    assert_eq!(upstream.tally().requests, 0);
    body["service_tier"] = json!("default");
    client.post(PATH, &body).await.says("hello");
    // A route goes to the candidate that has a price for the tier, though the other is as cheap.
    body["model"] = json!("both");
    body["service_tier"] = json!("priority");
    upstream.push(served_at(&json!("priority")));
    assert_eq!(client.post(PATH, &body).await.header("x-turnpike-model"), "tiered");
    // Without a budget, an unknown price is no reason to refuse.
    body["model"] = json!("one-model");
    gateway.client().post(PATH, &body).await.says("hello");
}
