//! A gateway that is killed: nothing that was settled is lost, and what was under way is charged as it was held.

use std::{fs, io::Write};

use crate::{
    harness::{Gateway, Setup, Site, chat, streamed, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
/// Nano-dollars in a dollar.
const NANO: f64 = 1e9;
const LIMIT: u64 = 50_000_000_000;

async fn site() -> (Site, Upstream) {
    let upstream = Upstream::start().await;
    let team = "{budgets: [{name: month, limit: 50 USD, per: month}]}";
    let setup = Setup::new().backend("one", &upstream.base_url()).team("thrifty", "sk-thrifty", team);
    (setup.site(), upstream)
}

/// What the upstream would bill, in nano-dollars: 2,000 for a token read, 8,000 for one written.
fn billed(upstream: &Upstream) -> u64 {
    upstream.tally().billed.values().map(|billed| billed.input * 2_000 + billed.output * 8_000).sum()
}

/// What stands against the budget, holds included.
async fn used(gateway: &Gateway) -> u64 {
    let left = gateway.metric("turnpike_budget_left_usd", &["thrifty"]).await;
    LIMIT - (left * NANO).round() as u64
}

async fn until_nothing_is_held(gateway: &Gateway) {
    until("no hold is open", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
}

#[tokio::test]
async fn a_gateway_killed_amid_200_streams_keeps_what_was_settled_and_sweeps_the_rest() {
    let (site, upstream) = site().await;
    let gateway = site.start().await;
    upstream.always(Script::says("a b c d e"));
    for _ in 0..20 {
        assert_eq!(gateway.client_with("sk-thrifty").post(PATH, &chat("one-model")).await.status, 200);
    }
    until_nothing_is_held(&gateway).await;
    let settled = used(&gateway).await;
    assert_eq!(settled, billed(&upstream));

    let gate = Gate::closed();
    upstream.always(Script::says("a b c d e").after_events(3, Fault::Wait(gate.clone())));
    let mut streams = Vec::new();
    for _ in 0..200 {
        let client = gateway.client_with("sk-thrifty");
        streams.push(client.post_stream(PATH, &streamed("one-model")).await);
    }
    assert_eq!(gateway.metric("turnpike_holds_open", &[]).await, 200.0);
    let before = used(&gateway).await;
    drop(gateway);
    gate.release();

    let gateway = site.start().await;
    assert!(gateway.log().contains("charged as they were held"), "{}", gateway.log());
    assert_eq!(gateway.metric("turnpike_holds_open", &[]).await, 0.0);
    // What was held is charged, and that is no less than what the upstream bills.
    assert_eq!(used(&gateway).await, before);
    assert!(before >= billed(&upstream), "{before} of {}", billed(&upstream));
    drop(gateway);

    let gateway = site.start().await;
    assert_eq!(used(&gateway).await, before, "a second start sweeps nothing twice");
    let swept = used(&gateway).await - settled;
    upstream.always(Script::says("a b c d e"));
    let earlier = billed(&upstream);
    assert_eq!(gateway.client_with("sk-thrifty").post(PATH, &chat("one-model")).await.status, 200);
    until_nothing_is_held(&gateway).await;
    assert_eq!(used(&gateway).await, settled + swept + billed(&upstream) - earlier);
}

#[tokio::test]
async fn a_torn_journal_costs_the_torn_entry_and_no_other() {
    let (site, upstream) = site().await;
    let gateway = site.start().await;
    upstream.always(Script::says("a b c d e"));
    for _ in 0..5 {
        assert_eq!(gateway.client_with("sk-thrifty").post(PATH, &chat("one-model")).await.status, 200);
    }
    until_nothing_is_held(&gateway).await;
    drop(gateway);
    let segment = site.path().join("data/books/books-0000000001.seg");
    let mut file = fs::OpenOptions::new().append(true).open(segment).unwrap();
    file.write_all(&[200, 0, 0, 0, 1, 2, 3, 4, b'{']).unwrap();
    let gateway = site.start().await;
    assert!(gateway.log().contains("torn"), "{}", gateway.log());
    assert_eq!(used(&gateway).await, billed(&upstream));
    assert_eq!(gateway.client_with("sk-thrifty").post(PATH, &chat("one-model")).await.status, 200);
    until_nothing_is_held(&gateway).await;
    drop(gateway);
    assert_eq!(used(&site.start().await).await, billed(&upstream));
}
