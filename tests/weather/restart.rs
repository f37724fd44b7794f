//! The end of a process amid work: 200 streams end whole, a second signal ends at once, and the books balance.

use crate::{
    harness::{Stream, streamed, until},
    sky::{PATH, Sky, audited},
    upstream::{Fault, Gate, Script},
};

const STREAMS: usize = 200;
const TEXT: &str = "the whole answer";

/// Streams under way that have said their first word.
async fn streams(sky: &Sky, count: usize) -> Vec<Stream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = sky.client().post_stream(PATH, &streamed("chain")).await;
        stream.read_until("the ").await;
        open.push(stream);
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_outlive_the_signal() {
    let mut sky = Sky::new().await;
    let gate = Gate::closed();
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt).after_events(2, Fault::Wait(gate.clone())));
    let open = streams(&sky, STREAMS).await;
    sky.gateway.terminate();
    let client = sky.client();
    until("new clients are refused", async || client.try_get("/v1/models").await.is_err()).await;
    assert_eq!((sky.first.tally().hung_up, sky.first.tally().open), (0, STREAMS as u64));
    gate.release();
    for stream in open {
        let rest = stream.transcript().await;
        assert!(rest.is_done() && !rest.broken && rest.error().is_none(), "{}", rest.text());
        assert_eq!(rest.content(), "whole answer");
    }
    assert_eq!(sky.gateway.exit_code().await, Some(0), "{}", sky.gateway.log());
    audited(sky.gateway.site(), sky.billed() + sky.prompt * 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once_and_nothing_is_lost_from_the_books() {
    let mut sky = Sky::new().await;
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt).after_events(2, Fault::Stall));
    let open = streams(&sky, 20).await;
    sky.gateway.terminate();
    until("the drain has begun", async || sky.gateway.log().contains("draining")).await;
    sky.gateway.terminate();
    assert_eq!(sky.gateway.exit_code().await, Some(1), "{}", sky.gateway.log());
    for stream in open {
        let rest = stream.transcript().await;
        assert!(!rest.is_done(), "a part must not look whole: {}", rest.text());
    }
    let again = sky.gateway.site().clone().start().await;
    until("what was left open is settled", async || again.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let audit = again.site().run_with(&[("TURNPIKE_TOKEN", crate::sky::READER)], &["audit", "--json"]).json();
    assert_eq!(audit["balanced"], true, "{audit}");
    let charged = audit["charge_usd"].as_f64().unwrap() * 1e9;
    assert!(charged + 0.5 >= sky.billed() as f64, "{charged} of {}", sky.billed());
}
