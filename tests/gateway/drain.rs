//! The end: running answers end whole, nothing new begins.

use crate::{
    harness::{Setup, streamed, until},
    upstream::{Fault, Gate, Script, Upstream},
};

#[tokio::test]
async fn a_terminated_gateway_ends_its_streams_and_takes_no_more() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    upstream.always(Script::says("the whole answer").after_events(2, Fault::Wait(gate.clone())));
    let mut gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &streamed("one-model")).await;
    stream.read_until("the ").await;

    gateway.terminate();
    until("new clients are refused", async || gateway.client().try_get("/v1/models").await.is_err()).await;
    let ready = gateway.admin().try_get("/readyz").await;
    assert!(ready.is_err() || ready.is_ok_and(|answer| answer.status == 503));
    assert_eq!(upstream.tally().hung_up, 0);

    gate.release();
    let rest = stream.transcript().await;
    assert!(rest.is_done() && !rest.broken, "{}", rest.text());
    assert_eq!(rest.content(), "whole answer");
    assert_eq!(gateway.exit_code().await, Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let upstream = Upstream::start().await;
    let mut gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    gateway.ask("one-model").await.says("hello");
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("never whole").after_events(2, Fault::Stall));
    let setup = Setup::new().backend("one", &upstream.base_url()).server("drain: 200ms");
    let mut gateway = setup.start().await;
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &streamed("one-model")).await;
    stream.read_until("never ").await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0), "{}", gateway.log());
    stream.transcript().await.ends_with_error("overloaded");
    // What was streamed is settled, and charged as any other stream that is cut.
    let said = gateway.site().run(&["usage", "--by", "outcome", "--json"]).json();
    assert_eq!(said["lines"][0]["group"]["outcome"], "stopped", "{said}");
    assert_eq!(said["lines"][0]["swept_usd"], 0, "{said}");
}
