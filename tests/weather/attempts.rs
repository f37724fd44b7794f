//! Every setting of `attempts` against every kind of failure, whole answers and hedged streams: exactly so many calls reach
//! the upstreams.
//!
//! The table below is the one in ARCHITECTURE.md ("Calls of a failing request").

use serde_json::Value;

use crate::{
    harness::{Gateway, Setup, chat, streamed, until},
    sky::{PATH, PAYER, setup},
    upstream::{Script, Upstream},
};

/// Who there is: a name, how many candidates with one model each, and how many servers the first one has.
const POOLS: [(&str, usize, usize); 4] = [("sole", 1, 1), ("two", 2, 1), ("six", 6, 1), ("replicas", 2, 3)];

type Kind = (&'static str, fn() -> Script);

const KINDS: [Kind; 8] = [
    ("500", || Script::error(500, "server_error", "no")),
    ("closed", Script::hangs_up),
    ("error200", || Script::fails(200, serde_json::json!({"error": {"message": "no", "type": "server_error"}}))),
    ("429", || Script::error(429, "rate_limit_exceeded", "slow down")),
    ("401", || Script::error(401, "invalid_api_key", "who")),
    ("empty", || Script::says("")),
    ("context", || Script::error(400, "context_length_exceeded", "maximum context length is 8192 tokens")),
    ("400", || Script::error(400, "invalid_value", "wrong")),
];

/// Calls for 1 to 5 attempts.
type Calls = [u64; 5];
const ALL: Calls = [1, 2, 3, 4, 5];
const ONE: Calls = [1; 5];
const TWO: Calls = [1, 2, 2, 2, 2];
/// Each of three servers, and the second candidate.
const FOUR: Calls = [1, 2, 3, 4, 4];

/// A row for each of [`KINDS`], a column for each of [`POOLS`].
const TABLE: [[Calls; 4]; 8] = [
    [ALL, ALL, ALL, ALL],
    [ALL, ALL, ALL, ALL],
    [ALL, ALL, ALL, ALL],
    [ONE, TWO, ALL, FOUR],
    [ONE, TWO, ALL, FOUR],
    [ONE, TWO, ALL, TWO],
    [ONE, TWO, ALL, TWO],
    [ONE, ONE, ONE, ONE],
];

/// Backends and a route of their own for one cell, so that no breaker and no parked account of another is met.
fn cell(
    mut setup: Setup,
    url: &str,
    cell: &str,
    (_, candidates, servers): (&str, usize, usize),
    more: &str,
) -> (Setup, String) {
    let paths: Vec<String> = (0..servers).map(|server| format!("{}/s{server}", url.trim_end_matches("/v1"))).collect();
    let mut models = Vec::new();
    for candidate in 0..candidates {
        let name = format!("{cell}-c{candidate}");
        let urls = if candidate == 0 { paths.join("\", \"") } else { url.to_owned() };
        setup = setup.backend(&name, &urls);
        models.push(format!("{name}-model"));
    }
    let attempts = &cell[cell.len() - 1..];
    (setup, format!("  {cell}: {{order: [{}], attempts: {attempts}{more}}}\n", models.join(", ")))
}

/// One gateway with a route for each cell: `POOL-KIND-ATTEMPTS`, each with these keys more.
async fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    let mut setup = setup();
    let mut routes = String::from("routes:\n");
    for pool in POOLS {
        for (kind, _) in KINDS {
            for attempts in 1..=5 {
                let route;
                (setup, route) =
                    cell(setup, &upstream.base_url(), &format!("{}-{kind}-{attempts}", pool.0), pool, more);
                routes.push_str(&route);
            }
        }
    }
    setup.policies(&routes).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_calls_is_that_of_the_table() {
    is_that_of_the_table("", chat).await;
}

/// What fails at once is never overdue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_calls_of_hedged_streams_is_that_of_the_table() {
    is_that_of_the_table(", hedge: {after: 30s, spend: 100%}", streamed).await;
}

async fn is_that_of_the_table(more: &str, body: fn(&str) -> Value) {
    let upstream = Upstream::start().await;
    upstream.choose(|request| {
        let model = request.model();
        let kind = model.split('-').nth(1).unwrap_or_default();
        let script =
            KINDS.iter().find(|(name, _)| *name == kind).map_or_else(|| Script::says("lost"), |(_, script)| script());
        // A connection that is kept and found closed earns a repetition of its own.
        script.header("connection", "close")
    });
    let gateway = gateway(&upstream, more).await;
    let mut asking = tokio::task::JoinSet::new();
    for (pool, ..) in POOLS {
        for (kind, _) in KINDS {
            for attempts in 1..=5 {
                let client = gateway.client_with(PAYER);
                asking.spawn(async move {
                    let answer = client.post(PATH, &body(&format!("{pool}-{kind}-{attempts}"))).await;
                    assert!(answer.status.as_u16() >= 400, "{answer:?}");
                });
            }
        }
    }
    asking.join_all().await;
    until("all is settled", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let received = upstream.received();
    for ((kind, _), expected) in KINDS.iter().zip(TABLE) {
        let counted = POOLS.map(|(pool, ..)| {
            [1, 2, 3, 4, 5].map(|attempts| {
                let cell = format!("{pool}-{kind}-{attempts}-");
                received.iter().filter(|request| request.model().starts_with(&cell)).count() as u64
            })
        });
        println!("{kind}: {counted:?}");
        assert_eq!(counted, expected, "{kind}");
    }
}
