//! Storms: many requests while one candidate fails as vendors fail. Clients notice nothing while a healthy one is left,
//! and the upstreams are not called more than 1.2 times a request.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    harness::{Chance, Client, chat, streamed},
    sky::{PATH, Sky},
    upstream::{Fault, Gate, Script},
};

/// Requests of a storm, half of them streams, and how many are under way at once.
const REQUESTS: u64 = 4_000;
const AT_ONCE: u64 = 40;

/// Asks `requests` times and counts who was answered whole.
async fn storm(client: &Client, requests: u64, at_once: u64) -> u64 {
    let mut workers = JoinSet::new();
    for worker in 0..at_once {
        let client = client.clone();
        workers.spawn(async move {
            let mut served = 0;
            for number in (worker..requests).step_by(at_once as usize) {
                served += u64::from(match number % 2 {
                    0 => client.post(PATH, &chat("chain")).await.status == 200,
                    _ => {
                        let stream = client.post_stream(PATH, &streamed("chain")).await.transcript().await;
                        stream.is_done() && stream.error().is_none()
                    }
                });
            }
            served
        });
    }
    workers.join_all().await.into_iter().sum()
}

/// A first candidate of which each request meets what `weather` draws for it; the second is well. At least 99.9 % are
/// served, with at most 1.2 calls a request, and the books are what was billed.
async fn passes(seed: u64, weather: impl Fn(&mut Chance) -> Option<Script> + Send + Sync + 'static) {
    let sky = Sky::new().await;
    let chance = Mutex::new(Chance(seed));
    let good = Script::says("whole answer").prompt_tokens(sky.prompt);
    sky.first.choose(move |_| weather(&mut chance.lock().unwrap()).unwrap_or_else(|| good.clone()));
    let served = storm(&sky.client(), REQUESTS, AT_ONCE).await;
    let calls = sky.calls();
    println!(
        "seed {seed}: {served} of {REQUESTS} served with {calls} calls, {} of them first",
        sky.first.tally().requests
    );
    assert!(served * 1000 >= REQUESTS * 999, "{served} of {REQUESTS} were served; {}", sky.gateway.log());
    assert!(calls * 10 <= REQUESTS * 12, "{calls} calls for {REQUESTS} requests");
    sky.balances(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_ten_fail_with_5xx() {
    passes(1, |chance| {
        let status = *chance.pick(&[500, 503, 529]);
        (chance.below(10) < 3).then(|| Script::error(status, "server_error", "no"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_ten_fails_with_5xx() {
    passes(2, |chance| (chance.below(10) < 1).then(|| Script::error(500, "server_error", "no"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_fails_with_5xx() {
    passes(3, |_| Some(Script::error(503, "overloaded", "full"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_one_too_many() {
    passes(4, |_| Some(Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "1"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_requests_are_one_too_many_without_a_word_on_when() {
    passes(5, |chance| (chance.below(3) == 0).then(|| Script::error(429, "rate_limit_exceeded", "slow down"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_break_before_an_answer() {
    passes(6, |chance| match chance.below(6) {
        0 => Some(Script::error(500, "server_error", "no")),
        1 => Some(Script::fails(200, serde_json::json!({"error": {"message": "no", "type": "server_error"}}))),
        _ => None,
    })
    .await;
}

/// All that were under way when a backend broke go elsewhere, though the budget of retries has no place for so many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_breaks_with_500_requests_under_way() {
    const UNDER_WAY: u64 = 500;
    let sky = Sky::new().await;
    let gate = Gate::closed();
    sky.first.always(Script::error(500, "server_error", "gone").behind(&gate));
    let client = sky.client();
    let asking = tokio::spawn(async move { storm(&client, UNDER_WAY, UNDER_WAY).await });
    sky.first.until(|tally| tally.open == UNDER_WAY).await;
    gate.release();
    assert_eq!(asking.await.unwrap(), UNDER_WAY);
    assert_eq!(sky.calls(), 2 * UNDER_WAY);
    // Those who come later find the breaker open.
    assert_eq!(storm(&sky.client(), 100, 10).await, 100);
    assert_eq!(sky.calls(), 2 * UNDER_WAY + 100);
    sky.balances(0).await;
}

/// With nobody healthy left there is nothing to win by asking more: the budget of retries is the end of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_fail_calls_stay_within_the_budget_of_retries() {
    let sky = Sky::new().await;
    for upstream in [&sky.first, &sky.second] {
        upstream.always(Script::error(503, "overloaded", "full"));
    }
    let began = std::time::Instant::now();
    assert_eq!(storm(&sky.client(), REQUESTS, AT_ONCE).await, 0);
    // A fifth of the requests, ten a second, a hundred saved up, and those under way when each breaker opened.
    let allowed = REQUESTS / 5 + 10 * (began.elapsed().as_secs() + 1) + 100 + 2 * AT_ONCE;
    let calls = sky.calls();
    println!("{calls} calls for {REQUESTS} requests; {allowed} retries allowed");
    assert!((REQUESTS..=REQUESTS + allowed).contains(&calls), "{calls} calls, {allowed} retries allowed");
    sky.balances(0).await;
}

/// A stream that breaks midway is its client's to know of, and nobody else is asked; what came is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_break_midway_are_told_and_charged() {
    let sky = Sky::new().await;
    let prompt = sky.prompt;
    let chance = Arc::new(Mutex::new(Chance(8)));
    sky.first.choose(move |_| {
        let chance = &mut chance.lock().unwrap();
        // A reset may lose what was sent before it: what came of it nobody can tell from the vendor's tally.
        let fault = chance.pick(&[Fault::Abort, Fault::End]).clone();
        let script = Script::says("a b c d e f g h").prompt_tokens(prompt).pace(Duration::from_millis(1));
        script.after_events(2 + chance.below(7), fault)
    });
    let mut failed = 0;
    for _ in 0..100 {
        let stream = sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await;
        assert!(!stream.broken, "{stream:?}");
        if stream.content().starts_with("whole") {
            break;
        }
        stream.ends_with_error("upstream_error");
        failed += 1;
    }
    // Five in a row open the breaker: the sixth is served elsewhere.
    assert_eq!((failed, sky.first.tally().requests), (5, 5));
    sky.balances(0).await;
}
