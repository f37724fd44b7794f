//! More that a Redis does to its gateways: it becomes a replica, its network goes silent, it goes away while much is
//! leased, or while a client leaves. After every fault: books = store = the upstream's own tally.

use std::net::SocketAddr;

use super::{
    IN, OUT, PATH, READER, Site, Store, dollars, key, request,
    weather::{BUDGET, Load, PERSISTENT, after, balances, is_away},
};
use crate::{
    harness::{Proxy, Setup, until},
    redis_server::Server,
    upstream::{Fault, Gate, Script, Upstream},
};

/// What a prompt is billed at.
const PROMPT: u64 = 9;

/// Two gateways of the team `steady` with these keys of `store:`, and their Redis at that address.
async fn site(redis: Server, address: SocketAddr, store: &str, gateways: usize) -> Site {
    let upstream = Upstream::start().await;
    let team = format!("{{budgets: [{{name: month, limit: {} USD, per: month}}]}}", dollars(BUDGET));
    let setup = Setup::new()
        .backend("one", &upstream.base_url())
        .server(&format!("store: {{redis: \"redis://{address}\"{store}}}"))
        .token("reader", READER, "read")
        .team("steady", &key("steady"), &team);
    let mut started = Vec::new();
    for _ in 0..gateways {
        started.push(setup.start().await);
    }
    let site = Site { gateways: started, upstream, redis: Some(redis) };
    let up = async || site.metric("turnpike_store_up", &[]).await == gateways as f64;
    until("every gateway has its store", up).await;
    site
}

fn at(redis: &Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], redis.port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_becomes_a_replica_takes_nothing_until_it_is_none() {
    let site = Site::start_with(Store::Redis, PERSISTENT, 2, &[("steady", BUDGET, "")]).await;
    let load = Load::start(&site);
    load.served(100).await;
    // Of a master that nobody reaches: it keeps its data, answers reads and refuses writes.
    site.redis.as_ref().unwrap().tell("REPLICAOF 127.0.0.1 1").await;
    is_away(&site).await;
    site.redis.as_ref().unwrap().tell("REPLICAOF NO ONE").await;
    after("a replica for a while", &site, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_network_goes_silent_is_reached_anew() {
    let redis = Server::start(&[]).await;
    let network = Proxy::start(at(&redis), 0).await;
    let site = site(redis, network.address(), "", 2).await;
    let load = Load::start(&site);
    load.served(100).await;
    network.goes_silent();
    is_away(&site).await;
    network.clears();
    after("half open", &site, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_leases_last_nobody_notices_that_the_redis_is_gone() {
    let redis = Server::start(PERSISTENT).await;
    let address = at(&redis);
    let mut site = site(redis, address, ", lease: {share: 30%}", 2).await;
    let load = Load::start(&site);
    load.served(100).await;
    // Each gateway has what some hundred requests hold at once.
    let enough = 200.0 * (200 * IN + 5 * OUT) as f64 / 1e9;
    for gateway in &site.gateways {
        until("much is leased", async || gateway.metric("turnpike_lease_usd", &[]).await > enough).await;
    }
    site.redis.as_mut().unwrap().kill();
    is_away(&site).await;
    load.served(100).await;
    assert_eq!(load.away(), 0, "of what was leased all can be served");
    site.redis.as_mut().unwrap().run().await;
    after("killed amid leases", &site, load).await;
}

/// The store falls silent while a stream asks it for more, and the client leaves: what came is charged, here and there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_stream_is_topped_up_pays_for_what_came() {
    // Between the 307th word, at which more is asked for, and the 345th, at which the stream would wait for it.
    const WORDS: usize = 330;
    let redis = Server::start(&[]).await;
    let address = at(&redis);
    let site = site(redis, address, ", timeout: 20s, lease: {share: 0%}", 1).await;
    let client = site.gateways[0].client_with(&key("steady"));
    for _ in 0..5 {
        let gate = Gate::closed();
        let words = Script::says(&"word ".repeat(WORDS + 1)).prompt_tokens(PROMPT).behind(&gate);
        site.upstream.push(words.after_events(1 + WORDS, Fault::Stall));
        let asking = client.clone();
        let stream = tokio::spawn(async move { asking.post_stream(PATH, &request(4_000, true)).await });
        site.upstream.until(|tally| tally.open == 1).await;
        site.redis.as_ref().unwrap().signal("-STOP");
        gate.release();
        let mut stream = stream.await.unwrap();
        let mut seen = String::new();
        while seen.matches("word").count() < WORDS {
            seen.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
        drop(stream);
        site.upstream.until(|tally| tally.open == 0).await;
        site.redis.as_ref().unwrap().signal("-CONT");
        balances(&site).await;
    }
}
