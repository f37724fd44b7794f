//! Own servers that are rented: what teams pay, who is chosen, and who does not wait.

use jiff::{Timestamp, ToSpan};
use turnpike::ledger::{Books, Rented};

use crate::{
    harness::{Gateway, Setup, chat, streamed, until},
    upstream::{Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// Own servers at 16.80 USD an hour beside an API that costs next to nothing.
async fn start(own: &Upstream, api: &Upstream, keys: &str) -> Gateway {
    own.always(Script::says("own"));
    api.always(Script::says("api"));
    let rent = "rent: {gpu_hour: 2.10 USD, gpus: 8, tokens_per_hour: {input: 40M, output: 6M}}";
    Setup::new()
        .backend("api", &api.base_url())
        .backend_with("gpu", &own.base_url(), &format!("provider: vllm, {rent}{keys}"))
        .model_with("bargain", "api", "bargain", "")
        .priced("backend: api, upstream: bargain", "0.01 USD", "0.01 USD")
        .model_with("mine", "gpu", "mine", "")
        .policies(
            "routes:\n  cheap: {candidates: [bargain, mine], prefer: cheapest}\n  chain: {order: [mine, bargain]}",
        )
        .team("poor", "sk-poor", "{budgets: [{name: day, limit: 1 USD, per: day}]}")
        .token("ops", "ops-token-of-tests", "read")
        .start()
        .await
}

#[tokio::test]
async fn idle_servers_cost_nothing_more_and_teams_pay_their_share() {
    let (own, api) = (Upstream::start().await, Upstream::start().await);
    let gateway = start(&own, &api, "").await;
    // 11 tokens read at 0.42 USD a million, one written at 2.80.
    for client in [gateway.client(), gateway.client_with("sk-poor")] {
        let answer = client.post(PATH, &chat("cheap")).await;
        answer.says("own");
        assert_eq!(answer.header("x-turnpike-cost-usd"), "0.00000742");
    }
    assert_eq!(gateway.metric("turnpike_rent_usd_per_hour", &["gpu"]).await, 16.8);
    assert_eq!(gateway.metric("turnpike_queue_wait_seconds", &["gpu"]).await, 0.0);
    assert!(gateway.metric("turnpike_break_even_tokens_per_hour", &["mine", "gpu"]).await > 0.0);
}

#[tokio::test]
async fn what_would_wait_too_long_goes_elsewhere_also_by_an_order() {
    let (own, api) = (Upstream::start().await, Upstream::start().await);
    let gateway = start(&own, &api, ", spill: {queue_wait: 200ms}").await;
    gateway.ask_stream("chain").await.says("own");
    let gate = Gate::closed();
    own.always(Script::says("own").behind(&gate));
    let client = gateway.client();
    let first = tokio::spawn(async move { client.post_stream(PATH, &streamed("chain")).await.transcript().await });
    own.until(|tally| tally.requests == 2).await;
    until("the queue is long", async || gateway.metric("turnpike_queue_wait_seconds", &["gpu"]).await > 0.2).await;
    for route in ["chain", "cheap"] {
        gateway.ask(route).await.says("api");
    }
    let refused = gateway.ask("mine").await;
    refused.is_refused(503, "no_candidate");
    assert!(refused.message().contains("for its turn, at most 0.20 s is allowed"), "{}", refused.message());
    assert!(!refused.header("retry-after").is_empty());
    gate.release();
    first.await.unwrap().says("own");
    until("the queue is over", async || gateway.metric("turnpike_queue_wait_seconds", &["gpu"]).await == 0.0).await;
    gateway.ask("mine").await.says("own");
}

#[tokio::test]
async fn a_queue_of_other_gateways_is_seen_by_one_that_has_sent_nothing() {
    let (own, api) = (Upstream::start().await, Upstream::start().await);
    let waiting = |count: u32| {
        let page = format!("vllm:num_requests_running 2.0\nvllm:num_requests_waiting {count}.0\n");
        Script::raw(200, "text/plain", page)
    };
    own.page("/metrics", waiting(40));
    let gateway = start(&own, &api, ", probe: {every: 100ms}, spill: {queue_wait: 200ms}").await;
    let told = async || {
        let admin = gateway.admin().header("authorization", "Bearer ops-token-of-tests");
        let list = admin.get("/api/v1/backends").await.json();
        let gpu = list["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == "gpu").unwrap().clone();
        gpu["endpoints"][0]["load"]["waiting"].clone()
    };
    let wait = async || gateway.metric("turnpike_queue_wait_seconds", &["gpu"]).await;
    until("the engine tells", async || told().await == 40).await;
    // How long each of them takes it learns from its own first.
    let gate = Gate::closed();
    own.always(Script::says("own").behind(&gate));
    let client = gateway.client();
    let first = tokio::spawn(async move { client.post_stream(PATH, &streamed("chain")).await.transcript().await });
    until("the first waits", async || wait().await > 0.5).await;
    gateway.ask("chain").await.says("api");
    gate.release();
    first.await.unwrap().says("own");
    assert!(wait().await > 0.2, "it has nothing there, and yet a queue is before it");
    gateway.ask("chain").await.says("api");
    own.page("/metrics", waiting(0));
    until("the queue is gone", async || wait().await == 0.0).await;
    gateway.ask("chain").await.says("own");
}

#[tokio::test]
async fn what_no_request_paid_of_an_hour_is_in_usage_and_in_the_audit() {
    let own = Upstream::start().await;
    let site = Setup::new()
        .backend_with("gpu", &own.base_url(), "provider: vllm, rent: {gpu_hour: 2.10 USD, gpus: 8}")
        .token("ops", "ops-token-of-tests", "read")
        .site();
    // As a gateway leaves it that was killed three hours ago.
    let (folder, begun) = (site.path().join("data/books"), Timestamp::now() - 3.hours());
    let (books, _) = Books::open(&folder, begun).unwrap();
    let (rent_nano, exchange_nanousd) = (16_800_000_000, 1_000_000_000);
    let rented =
        Rented { backend: "gpu".into(), provider: "vllm".into(), servers: Some(1), rent_nano, exchange_nanousd };
    books.note_rent(&rented, begun).unwrap();
    drop(books);
    let gateway = site.start().await;
    let environment = [("TURNPIKE_TOKEN", "ops-token-of-tests")];
    let run = |arguments: &[&str]| site.run_with(&environment, arguments);
    let usage = || run(&["usage", "--json", "--by", "team,backend,operation", "--since", "2026-01-01"]).json();
    until("the hour is booked", async || usage()["lines"][0]["unallocated_usd"] == 16.8).await;
    let line = &usage()["lines"][0];
    assert_eq!((&line["charge_usd"], &line["requests"], &line["attempts"]), (&16.8.into(), &0.into(), &0.into()));
    assert_eq!(line["group"], serde_json::json!({"team": "", "backend": "gpu", "operation": "rent"}));
    let table = run(&["usage", "--by", "team", "--since", "2026-01-01"]);
    assert!(
        table.stdout.contains("(unallocated)") && table.stderr.contains("16.8 USD of it are rent"),
        "{}{}",
        table.stdout,
        table.stderr
    );
    let audit = run(&["audit", "--json"]).json();
    assert_eq!((&audit["balanced"], &audit["rents"]), (&true.into(), &1.into()), "{audit}");
    assert_eq!((&audit["rent_usd"], &audit["unallocated_usd"]), (&16.8.into(), &16.8.into()));
    drop(gateway);
    assert_eq!(run(&["audit", "--json"]).json()["rents"], 1);
}
