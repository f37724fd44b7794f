//! Budgets of every owner, and what a team does when one has too little left.

use serde_json::json;

use crate::{
    harness::{Gateway, Setup, chat, streamed},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// `dear` (80 USD per million tokens written) before `cheap` (8 USD) for a team `thrifty` (key `sk-thrifty`) with these
/// keys, and both upstreams.
async fn two(keys: &str) -> (Gateway, Upstream, Upstream) {
    let (dear, cheap) = (Upstream::start().await, Upstream::start().await);
    dear.always(Script::says("dear"));
    cheap.always(Script::says("cheap"));
    let gateway = Setup::new()
        .backend("cheap", &cheap.base_url())
        .backend("other", &dear.base_url())
        .model_with("dear-model", "other", "dear-upstream", "")
        .priced("backend: other, upstream: dear-upstream", "2 USD", "80 USD")
        .policies("routes: {auto: {order: [dear-model, cheap-model]}}")
        .team("thrifty", "sk-thrifty", keys)
        .start()
        .await;
    (gateway, dear, cheap)
}

fn with_cap(model: &str, tokens: u64) -> serde_json::Value {
    let mut body = chat(model);
    body["max_completion_tokens"] = json!(tokens);
    body
}

#[tokio::test]
async fn a_short_budget_is_a_402_unless_the_team_steps_down() {
    let (gateway, ..) = two("{budgets: [{name: month, limit: 0.02 USD, per: month}]}").await;
    let refused = gateway.client_with("sk-thrifty").post(PATH, &with_cap("auto", 1000)).await;
    refused.is_refused(402, "budget_exceeded");
    let error = &refused.json()["error"];
    assert_eq!(
        (&error["budget"], &error["owner"], &error["unit"]),
        (&json!("month"), &json!("team thrifty"), &json!("usd"))
    );
    assert_eq!((&error["limit"], &error["used"]), (&json!("0.02"), &json!("0")));
    assert!(error["renews_at"].as_str().is_some_and(|at| at.ends_with("T00:00:00Z")), "{error}");
    assert_eq!(refused.header("x-turnpike-budget-left-usd"), "0.02");

    let keys = "{on_empty: downgrade, budgets: [{name: month, limit: 0.02 USD, per: month}]}";
    let (gateway, dear, cheap) = two(keys).await;
    let client = gateway.client_with("sk-thrifty");
    client.post(PATH, &with_cap("auto", 100)).await.says("dear");
    let answer = client.post(PATH, &with_cap("auto", 1000)).await;
    answer.says("cheap");
    let reason = answer.header("x-turnpike-reason");
    assert!(
        reason.starts_with("the only one of 2 that the budget can still pay; dear-model: may cost up to"),
        "{reason}"
    );
    client.post(PATH, &with_cap("auto", 10_000)).await.is_refused(402, "budget_exceeded");
    assert_eq!((dear.tally().requests, cheap.tally().requests), (1, 1));
}

#[tokio::test]
async fn an_answer_is_cut_to_what_the_budget_can_pay_where_the_team_allows() {
    let keys = "{clamp_output: true, on_empty: downgrade, budgets: [{name: month, limit: 0.02 USD, per: month}]}";
    let (gateway, dear, cheap) = two(keys).await;
    let client = gateway.client_with("sk-thrifty");
    let answer = client.post(PATH, &with_cap("auto", 10_000)).await;
    answer.says("cheap");
    let cap = cheap.received()[0].json()["max_completion_tokens"].as_u64().unwrap();
    assert!((1000..2500).contains(&cap), "0.02 USD pay for less than 2,500 tokens: {cap}");
    let reason = answer.header("x-turnpike-reason");
    assert!(reason.starts_with(&format!("answer capped at {cap} tokens for its budget; ")), "{reason}");
    assert_eq!(dear.tally().requests, 0);

    // Without a downgrade the first of the route answers, as long as it can.
    let keys = "{clamp_output: true, budgets: [{name: month, limit: 0.02 USD, per: month}]}";
    let (gateway, dear, _) = two(keys).await;
    gateway.client_with("sk-thrifty").post(PATH, &with_cap("auto", 10_000)).await.says("dear");
    let cap = dear.received()[0].json()["max_completion_tokens"].as_u64().unwrap();
    assert!((100..250).contains(&cap), "{cap}");
}

#[tokio::test]
async fn a_model_without_money_leaves_the_request_to_another() {
    let (dear, cheap) = (Upstream::start().await, Upstream::start().await);
    dear.always(Script::says(&"word ".repeat(1000)));
    cheap.always(Script::says("cheap"));
    let budgets = "budgets: [{name: month, limit: 0.01 USD, per: month}]";
    let gateway = Setup::new()
        .backend("cheap", &cheap.base_url())
        .backend("dear", &dear.base_url())
        .model_with("bounded", "dear", "bounded-upstream", budgets)
        .priced("model: bounded", "2 USD", "8 USD")
        .policies("routes: {auto: {order: [bounded, cheap-model]}}")
        .start()
        .await;
    let client = gateway.client();
    assert_eq!(client.post(PATH, &with_cap("auto", 1000)).await.header("x-turnpike-model"), "bounded");
    let other = client.post(PATH, &with_cap("auto", 1000)).await;
    other.says("cheap");
    assert!(
        other.header("x-turnpike-reason").contains("budget `month` of model `bounded` has too little left"),
        "{other:?}"
    );
    let refused = client.post(PATH, &with_cap("bounded", 1000)).await;
    refused.is_refused(402, "budget_exceeded");
    assert_eq!(refused.json()["error"]["owner"], "model bounded");
}

#[tokio::test]
async fn budgets_count_tokens_and_requests_too() {
    let keys = "{budgets: [{name: trial, limit: 1 request, per: month}, {name: words, limit: 500 tokens, per: month}]}";
    let (gateway, _, cheap) = two(keys).await;
    let client = gateway.client_with("sk-thrifty");
    let refused = client.post(PATH, &with_cap("cheap-model", 600)).await;
    refused.is_refused(402, "budget_exceeded");
    assert_eq!(
        (&refused.json()["error"]["budget"], &refused.json()["error"]["limit"]),
        (&json!("words"), &json!("500"))
    );
    client.post(PATH, &with_cap("cheap-model", 100)).await.says("cheap");
    let refused = client.post(PATH, &with_cap("cheap-model", 100)).await;
    refused.is_refused(402, "budget_exceeded");
    assert_eq!(
        (&refused.json()["error"]["budget"], &refused.json()["error"]["unit"]),
        (&json!("trial"), &json!("requests"))
    );
    assert_eq!(cheap.tally().requests, 1);
}

#[tokio::test]
async fn a_stream_says_what_its_budget_had_left() {
    let (gateway, _dear, _cheap) = two("{budgets: [{name: month, limit: 1 USD, per: month}]}").await;
    let stream = gateway.client_with("sk-thrifty").post_stream(PATH, &streamed("cheap-model")).await;
    let left: f64 = stream.headers["x-turnpike-budget-left-usd"].to_str().unwrap().parse().unwrap();
    assert!((0.9..1.0).contains(&left), "what is held is taken off: {left}");
    stream.transcript().await.says("cheap");
}

#[tokio::test]
async fn a_provider_pays_from_one_budget_for_all_its_backends() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let gateway = Setup::new()
        .backend("first", &first.base_url())
        .backend("second", &second.base_url())
        .policies("providers: {openai: {budgets: [{name: month, limit: 2 requests, per: month}]}}")
        .start()
        .await;
    gateway.ask("first-model").await.says("hello");
    gateway.ask("second-model").await.says("hello");
    let refused = gateway.ask("first-model").await;
    refused.is_refused(402, "budget_exceeded");
    assert_eq!(refused.json()["error"]["owner"], "provider openai");
}
