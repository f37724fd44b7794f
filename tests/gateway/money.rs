//! Money: what a request cost, and what is left of a budget, to the nano-dollar of the upstream's own tally.

use tokio::net::TcpListener;

use crate::{
    failover::chain,
    harness::{Gateway, Setup, chat, streamed, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
/// Nano-dollars in a dollar.
const NANO: f64 = 1e9;

/// A team `thrifty` (key `sk-thrifty`) with this budget for the month.
async fn budget(limit: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let team = format!("{{budgets: [{{name: month, limit: {limit}, per: month}}]}}");
    let setup = Setup::new().backend("one", &upstream.base_url()).team("thrifty", "sk-thrifty", &team);
    (setup.start().await, upstream)
}

/// What the upstream would bill, in nano-dollars: 2,000 for a token read, 8,000 for one written.
fn billed(upstream: &Upstream) -> u64 {
    upstream.tally().billed.values().map(|billed| billed.input * 2_000 + billed.output * 8_000).sum()
}

/// Waits until all that is booked is this many nano-dollars, and no hold is open.
async fn until_booked(gateway: &Gateway, nanousd: u64) {
    until(&format!("{nanousd} nano-dollars are booked"), async || {
        let open = gateway.metric("turnpike_holds_open", &[]).await;
        let booked = gateway.metric("turnpike_cost_usd_total", &[]).await;
        open == 0.0 && (booked * NANO - nanousd as f64).abs() < 0.5
    })
    .await;
}

#[tokio::test]
async fn the_cost_is_what_the_upstream_bills() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let mut sum = 0;
    for (prompt, text) in [(11, "hello"), (1, "a b c"), (123_456, "a b c d e f g"), (0, "x")] {
        upstream.push(Script::says(text).prompt_tokens(prompt));
        let answer = gateway.ask("one-model").await;
        let before = sum;
        sum = billed(&upstream);
        let nano: f64 = answer.header("x-turnpike-cost-usd").parse::<f64>().unwrap() * NANO;
        assert!((nano - (sum - before) as f64).abs() < 0.5, "{nano} of {}", sum - before);
    }
    until_booked(&gateway, sum).await;
    let written = gateway.metric("turnpike_tokens_total", &["output"]).await;
    assert_eq!(written as u64, upstream.tally().billed["one-upstream"].output);
}

#[tokio::test]
async fn a_budget_settles_exactly() {
    let (gateway, upstream) = budget("1 USD").await;
    let client = gateway.client_with("sk-thrifty");
    upstream.always(Script::says("a b c d e"));
    let first = client.post(PATH, &chat("one-model")).await;
    first.says("a b c d e");
    until_booked(&gateway, billed(&upstream)).await;
    client.post_stream(PATH, &streamed("one-model")).await.transcript().await.says("a b c d e");
    until_booked(&gateway, billed(&upstream)).await;
    let left = gateway.metric("turnpike_budget_left_usd", &["thrifty"]).await;
    assert!((left * NANO - (NANO - billed(&upstream) as f64)).abs() < 0.5, "{left}");
    let third = client.post(PATH, &chat("one-model")).await;
    assert!(third.header("x-turnpike-budget-left-usd").parse::<f64>().is_ok_and(|left| left < 1.0), "{third:?}");
}

#[tokio::test]
async fn an_empty_budget_is_a_402_that_no_sdk_retries() {
    let (gateway, upstream) = budget("0.02 USD").await;
    let client = gateway.client_with("sk-thrifty");
    let mut body = chat("one-model");
    body["max_completion_tokens"] = 1000.into();
    upstream.always(Script::says(&"word ".repeat(1000)));
    client.post(PATH, &body).await;
    client.post(PATH, &body).await;
    until_booked(&gateway, billed(&upstream)).await;
    let refused = client.post(PATH, &body).await;
    refused.is_refused(402, "budget_exceeded");
    let error = &refused.json()["error"];
    assert_eq!(error["type"], "insufficient_quota");
    for field in ["budget", "limit", "used", "renews_at"] {
        assert!(!error[field].is_null(), "`{field}` is missing: {error}");
    }
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(upstream.tally().requests, 2);
    assert!(billed(&upstream) <= 20_000_000);
    gateway.ask("one-model").await;
}

#[tokio::test]
async fn a_parents_budget_stands_above_its_childrens() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new()
        .backend("one", &upstream.base_url())
        .team("parent", "sk-parent", "{budgets: [{name: month, limit: 0.01 USD, per: month}]}")
        .team("child", "sk-child", "{parent: parent, budgets: [{name: month, limit: 100 USD, per: month}]}")
        .start()
        .await;
    let mut body = chat("one-model");
    body["max_completion_tokens"] = 10_000.into();
    gateway.client_with("sk-child").post(PATH, &body).await.is_refused(402, "budget_exceeded");
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn requests_in_flight_never_overrun_a_budget() {
    let (gateway, upstream) = budget("0.1 USD").await;
    let gate = Gate::closed();
    let text = "word ".repeat(1000);
    upstream.always(Script::says(&text).behind(&gate));
    let mut body = chat("one-model");
    body["max_completion_tokens"] = 1000.into();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (client, body) = (gateway.client_with("sk-thrifty"), body.clone());
        asking.spawn(async move { client.post(PATH, &body).await.status.as_u16() });
    }
    // Those that are refused come back at once; the others wait for the gate with all their holds open.
    let mut statuses = Vec::new();
    while statuses.len() as u64 + upstream.tally().open < 60 {
        let next = tokio::time::timeout(std::time::Duration::from_millis(20), asking.join_next()).await;
        statuses.extend(next.ok().flatten().map(|status| status.unwrap()));
    }
    gate.release();
    statuses.extend(asking.join_all().await);
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 402].contains(status)), "{statuses:?}");
    assert!((1..=12).contains(&admitted), "8 millicents each, 0.1 USD in all: {admitted} admitted");
    assert!(billed(&upstream) <= 100_000_000, "{}", billed(&upstream));
    until_booked(&gateway, billed(&upstream)).await;
}

#[tokio::test]
async fn a_failed_attempt_returns_its_hold() {
    let (gateway, upstream) = budget("0.05 USD").await;
    upstream.always(Script::error(400, "invalid_value", "wrong"));
    let client = gateway.client_with("sk-thrifty");
    for _ in 0..20 {
        assert_eq!(client.post(PATH, &chat("one-model")).await.status, 400);
    }
    until_booked(&gateway, 0).await;
    upstream.always(Script::says("hello"));
    client.post(PATH, &chat("one-model")).await.says("hello");
}

#[tokio::test]
async fn a_stream_that_breaks_is_charged_for_what_came() {
    let (gateway, upstream) = budget("1 USD").await;
    upstream.always(Script::says("a b c d e f g h").cut_after_events(6));
    let client = gateway.client_with("sk-thrifty");
    let stream = client.post_stream(PATH, &streamed("one-model")).await.transcript().await;
    stream.ends_with_error("upstream_error");
    until("something is booked", async || {
        gateway.metric("turnpike_cost_usd_total", &[]).await > 0.0
            && gateway.metric("turnpike_holds_open", &[]).await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_is_charged_for_what_came() {
    let (gateway, upstream) = budget("1 USD").await;
    upstream.always(Script::says("a b c d e f g h").after_events(5, Fault::Wait(Gate::closed())));
    let client = gateway.client_with("sk-thrifty");
    let mut stream = client.post_stream(PATH, &streamed("one-model")).await;
    stream.read_until("c ").await;
    drop(stream);
    until("something is booked", async || {
        gateway.metric("turnpike_cost_usd_total", &[]).await > 0.0
            && gateway.metric("turnpike_holds_open", &[]).await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_usage_is_charged_by_an_estimate() {
    let (gateway, upstream) = budget("1 USD").await;
    upstream.always(Script::says("a b c d e f g h").without_usage());
    let client = gateway.client_with("sk-thrifty");
    client.post_stream(PATH, &streamed("one-model")).await.transcript().await.says("a b c d e f g h");
    until("something is booked", async || {
        gateway.metric("turnpike_cost_usd_total", &[]).await > 0.0
            && gateway.metric("turnpike_holds_open", &[]).await == 0.0
    })
    .await;
}

#[tokio::test]
async fn failover_is_charged_to_who_answered() {
    let (gateway, first, second) = chain().await;
    first.always(Script::error(500, "server_error", "broken"));
    let answer = gateway.ask("chain").await;
    answer.says("whole answer");
    assert_eq!(answer.header("x-turnpike-cost-usd"), "0.000038");
    until_booked(&gateway, billed(&second)).await;
    assert_eq!(gateway.metric("turnpike_cost_usd_total", &["first"]).await, 0.0);
}

/// A gateway whose upstream takes connections and never says a word, so that TLS gets nowhere.
async fn mute() -> (Gateway, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let fast = "speed: {first_token: 1ms, per_token: 1ms}, expected_output: 5";
    let setup = Setup::new().backend("one", &url).model_with("fast", "one", "fast-upstream", fast);
    (setup.start().await, listener)
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_upstream_is_connected_to_costs_nothing() {
    let (gateway, _listener) = mute().await;
    let client = gateway.client().header("x-turnpike-deadline", "1s");
    client.post(PATH, &chat("fast")).await.is_refused(504, "deadline_exceeded");
    assert_eq!(gateway.metric("turnpike_attempts_total", &["one", "deadline"]).await, 1.0);
    until_booked(&gateway, 0).await;
    assert_eq!(gateway.metric("turnpike_tokens_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_upstream_is_connected_to_pays_nothing() {
    let (gateway, listener) = mute().await;
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.try_post(PATH, &chat("fast")).await.map(drop).is_ok() });
    let (_connection, _) = listener.accept().await.unwrap();
    asking.abort();
    let left = async || gateway.metric("turnpike_attempts_total", &["one", "abandoned"]).await == 1.0;
    until("it is seen that the client left", left).await;
    until_booked(&gateway, 0).await;
    assert_eq!(gateway.metric("turnpike_tokens_total", &[]).await, 0.0);
}
