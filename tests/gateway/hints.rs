//! Two gateways with one store: what one learns of an upstream, the other hears, and neither needs.

use crate::{
    harness::{Gateway, Setup, until},
    redis_server::Server,
    upstream::{Script, Upstream},
};

struct Pair {
    redis: Server,
    upstream: Upstream,
    spare: Upstream,
    a: Gateway,
    b: Gateway,
}

impl Pair {
    async fn start() -> Self {
        let (redis, upstream, spare) = (Server::start(&[]).await, Upstream::start().await, Upstream::start().await);
        let accounts = "accounts: [{name: a, api_key: sk-a}, {name: b, api_key: sk-b}]";
        let two = format!("{{provider: openai, {accounts}, endpoints: [\"{}\"]}}", upstream.base_url());
        let other = format!("{{provider: openai, api_key: sk-c, endpoints: [\"{}\"]}}", spare.base_url());
        let setup = Setup::new().server(&format!("store: {{redis: \"{}\"}}", redis.url())).policies(&format!(
            "backends: {{two: {two}, other: {other}}}\nmodels: {{m: {{backends: {{two: up}}}}, n: {{backends: {{other: up}}}}}}\n\
             routes: {{chain: {{order: [m, n]}}}}"
        ));
        let sites = [setup.site(), setup.site()];
        let (a, b) = tokio::join!(sites[0].start(), sites[1].start());
        for gateway in [&a, &b] {
            until("the store is up", async || gateway.metric("turnpike_store_up", &[]).await == 1.0).await;
        }
        Self { redis, upstream, spare, a, b }
    }
}

async fn parked(gateway: &Gateway, account: &str) -> f64 {
    gateway.metric("turnpike_account_parked_seconds", &["two", &format!("\"{account}\"")]).await
}

async fn breaker(gateway: &Gateway) -> f64 {
    gateway.metric("turnpike_breaker_state", &["two"]).await
}

#[tokio::test]
async fn an_account_that_was_turned_away_at_one_is_left_alone_at_the_other() {
    let pair = Pair::start().await;
    pair.upstream.push(Script::error(401, "invalid_api_key", "no"));
    pair.a.ask("m").await.says("hello");
    until("the other has heard", async || parked(&pair.b, "a").await > 0.0).await;
    let before = pair.upstream.tally().requests;
    let answer = pair.b.ask("m").await;
    assert_eq!((answer.header("x-turnpike-account"), answer.header("x-turnpike-attempts")), ("b", "1"));
    assert_eq!((pair.upstream.tally().requests, parked(&pair.b, "b").await), (before + 1, 0.0));
}

#[tokio::test]
async fn a_refusal_for_load_at_one_lowers_what_the_other_sends_at_once() {
    let pair = Pair::start().await;
    pair.upstream.push(Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "20"));
    pair.a.ask("m").await.says("hello");
    let limit = async |gateway: &Gateway| gateway.metric("turnpike_concurrency_limit", &["two", "\"a\""]).await;
    assert_eq!(limit(&pair.a).await, 1.0);
    until("the other has heard", async || limit(&pair.b).await == 1.0).await;
    assert!(parked(&pair.b, "a").await > 0.0);
}

#[tokio::test]
async fn a_breaker_that_opens_at_one_opens_at_the_other_and_a_sole_candidate_is_tried_all_the_same() {
    let pair = Pair::start().await;
    pair.spare.always(Script::says("spare"));
    pair.upstream.always(Script::error(500, "server_error", "out of memory"));
    until("its breaker is open", async || {
        pair.a.ask("chain").await.says("spare");
        breaker(&pair.a).await == 2.0
    })
    .await;
    assert_eq!(pair.a.log().matches("a breaker opened").count(), 1, "{}", pair.a.log());
    until("the other has heard", async || breaker(&pair.b).await == 2.0).await;
    let before = pair.upstream.tally().requests;
    let answer = pair.b.ask("chain").await;
    answer.says("spare");
    assert_eq!((answer.header("x-turnpike-attempts"), pair.upstream.tally().requests), ("1", before));
    // It has got well: who has nobody else tries it at once, and that closes the breaker here.
    pair.upstream.always(Script::says("well again"));
    pair.b.ask("m").await.says("well again");
    assert_eq!(breaker(&pair.b).await, 0.0);
    until("it is told", async || pair.b.log().contains("a breaker closed")).await;
    pair.b.ask("chain").await.says("well again");
}

#[tokio::test]
async fn without_the_store_each_learns_by_itself() {
    let mut pair = Pair::start().await;
    pair.redis.kill();
    for gateway in [&pair.a, &pair.b] {
        pair.upstream.push(Script::error(401, "invalid_api_key", "no"));
        let answer = gateway.ask("m").await;
        answer.says("hello");
        assert_eq!(answer.header("x-turnpike-attempts"), "2");
    }
}
