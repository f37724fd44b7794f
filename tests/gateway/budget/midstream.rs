//! Streams that outgrow what their budget can pay, or what their upstream was asked for.

use super::{IN, OUT, PATH, Site, Store, key, prompt_bound, request};
use crate::{
    harness::Transcript,
    upstream::{Script, Tally},
};
use serde_json::json;
use std::time::Duration;

/// What the gateway estimates the prompt `hi` at, where the upstream tells no number.
const HI: u64 = 9;

/// An answer of so many words, a token each, slow enough for a refusal to reach the upstream.
fn words(count: u64) -> Script {
    Script::says(&"word ".repeat(count as usize)).prompt_tokens(HI).pace(Duration::from_millis(1))
}

/// A site with the team `thrifty`, whose budget pays for the prompt and so many completion tokens.
async fn site(tokens: u64, keys: &str) -> Site {
    let budget = prompt_bound(&request(4_000, true)) * IN + tokens * OUT;
    Site::start(Store::Embedded, 1, &[("thrifty", budget, keys)]).await
}

async fn ask(site: &Site, cap: u64) -> Transcript {
    site.gateways[0].client_with(&key("thrifty")).post_stream(PATH, &request(cap, true)).await.transcript().await
}

async fn gone(site: &Site) -> Tally {
    site.upstream.until(|tally| tally.open == 0).await
}

/// Tokens that have come, a word each.
fn came(stream: &Transcript) -> u64 {
    stream.content().split_whitespace().count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outgrows_its_budget_ends_with_an_error_after_what_was_paid_for() {
    let site = site(800, "").await;
    site.upstream.always(words(3_000));
    let stream = ask(&site, 4_000).await;
    stream.ends_with_error("budget_exceeded");
    assert_eq!((stream.status.as_u16(), stream.finish_reason()), (200, None));
    let error = stream.error().unwrap();
    assert_eq!((&error["type"], &error["budget"]), (&json!("insufficient_quota"), &json!("month")), "{error}");
    assert!(error["limit"].is_string() && error["used"].is_string() && error["renews_at"].is_string(), "{error}");
    let tokens = came(&stream);
    assert!((400..800).contains(&tokens), "{tokens} of 800 tokens came");
    let charged = HI * IN + tokens * OUT;
    assert_eq!(site.settled().await, charged, "exactly what came is charged");
    assert_eq!(gone(&site).await.hung_up, 1, "the upstream is cancelled");
    // What it wrote before it noticed is within the guard of 64 tokens.
    assert!(site.billed() <= charged + 64 * OUT, "{} for {charged}", site.billed());
    assert_eq!(site.metric("turnpike_budget_overspend_usd_total", &[]).await, 0.0);
    assert_eq!(site.metric("turnpike_attempts_total", &["budget"]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_is_paid_for_slice_by_slice() {
    let site = site(3_700, "").await;
    site.upstream.always(words(2_000).pace(Duration::ZERO));
    let stream = ask(&site, 3_700).await;
    stream.says(&"word ".repeat(2_000));
    assert_eq!(site.settled().await, HI * IN + 2_000 * OUT);
    assert_eq!(site.settled().await, site.billed());
    assert_eq!(site.metric("turnpike_budget_overspend_usd_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_may_let_its_streams_finish_and_sees_by_how_much() {
    let site = site(800, ", midstream: finish").await;
    site.upstream.always(words(1_500).pace(Duration::ZERO));
    let stream = ask(&site, 4_000).await;
    stream.says(&"word ".repeat(1_500));
    let charged = HI * IN + 1_500 * OUT;
    assert_eq!((site.settled().await, site.billed()), (charged, charged));
    let overdraft = site.nanousd("turnpike_budget_overdraft_usd_total", &[]).await;
    assert!(overdraft > 600 * OUT && overdraft < 1_000 * OUT, "{overdraft}");
    assert_eq!(site.metric("turnpike_budget_overspend_usd_total", &[]).await, 0.0);
    assert_eq!(ask(&site, 4_000).await.status, 402, "and the next one is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_ignores_the_cap_is_cut_and_booked_in_full() {
    let site = site(4_000, "").await;
    site.upstream.always(words(2_000));
    let stream = ask(&site, 100).await;
    stream.ends_with_error("upstream_error");
    let tokens = came(&stream);
    assert!((164..300).contains(&tokens), "100 and the guard: {tokens}");
    assert_eq!(site.settled().await, HI * IN + tokens * OUT);
    assert!(gone(&site).await.hung_up == 1 && site.metric("turnpike_attempts_total", &["past_cap"]).await == 1.0);
    assert!(site.metric("turnpike_budget_overspend_usd_total", &[]).await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_stream_whose_tokens_can_be_told_begins_with_less_than_its_cap() {
    let site = site(1_000, "").await;
    let client = site.gateways[0].client_with(&key("thrifty"));
    client.post(PATH, &request(4_000, false)).await.is_refused(402, "budget_exceeded");
    let mut several = request(2_000, true);
    several["n"] = json!(2);
    client.post(PATH, &several).await.is_refused(402, "budget_exceeded");
    assert_eq!(site.upstream.tally().requests, 0);
    site.upstream.always(words(5));
    ask(&site, 4_000).await.says(&"word ".repeat(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_stay_short_let_more_streams_in_at_once() {
    let site = site(8_000, "").await;
    site.upstream.always(words(10).pace(Duration::ZERO));
    for _ in 0..20 {
        ask(&site, 4_000).await.says(&"word ".repeat(10));
    }
    let gate = crate::upstream::Gate::closed();
    site.upstream.always(words(10).behind(&gate));
    // Holds for 11 tokens and the guard, with a slice of 256 for each, leave room for all; holds for 576 would not.
    let client = site.gateways[0].client_with(&key("thrifty"));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        asking.spawn(async move { client.post_stream(PATH, &request(4_000, true)).await.transcript().await });
    }
    site.upstream.until(|tally| tally.open == 20).await;
    gate.release();
    asking.join_all().await.iter().for_each(|stream| stream.says(&"word ".repeat(10)));
}
