//! What servers of a pool say of themselves, and what operators see of them.

use serde_json::Value;

use crate::{
    harness::{Gateway, Setup, chat, until},
    upstream::{Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

async fn upstreams(count: usize) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for _ in 0..count {
        upstreams.push(Upstream::start().await);
    }
    upstreams
}

fn policies(keys: &str, endpoints: &[String]) -> String {
    format!(
        "backends: {{gpu: {{provider: vllm, {keys}, endpoints: [{}]}}}}\nmodels: {{m: {{backends: {{gpu: m}}}}}}",
        endpoints.join(", ")
    )
}

async fn pool(keys: &str, upstreams: &[Upstream]) -> Gateway {
    let endpoints: Vec<String> = upstreams.iter().map(|upstream| format!("\"{}\"", upstream.base_url())).collect();
    Setup::new().policies(&policies(keys, &endpoints)).token("ops", "ops-token-of-tests", "read").start().await
}

async fn endpoints(gateway: &Gateway, state: &str) -> f64 {
    gateway.metric("turnpike_endpoints", &["gpu", &format!("state=\"{state}\"")]).await
}

/// What operators see of each server, in the order of the pool.
async fn seen(gateway: &Gateway) -> Vec<Value> {
    let list =
        gateway.admin().header("authorization", "Bearer ops-token-of-tests").get("/api/v1/backends").await.json();
    list["backends"][0]["endpoints"].as_array().unwrap().clone()
}

fn status(status: u16) -> Script {
    Script::raw(status, "text/plain", "")
}

fn requests(upstreams: &[Upstream]) -> Vec<u64> {
    upstreams.iter().map(|upstream| upstream.tally().requests).collect()
}

#[tokio::test]
async fn a_server_that_says_it_is_not_ready_gets_nothing_until_it_is() {
    let upstreams = upstreams(2).await;
    upstreams[0].page("/health", status(503));
    let gateway = pool("balance: round_robin", &upstreams).await;
    until("it is known", async || endpoints(&gateway, "not_ready").await == 1.0).await;
    for _ in 0..10 {
        let answer = gateway.ask("m").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-turnpike-attempts")), (200, "1"));
    }
    assert_eq!(requests(&upstreams), [0, 10]);
    upstreams[0].page("/health", status(200));
    until("it is ready", async || endpoints(&gateway, "warming").await == 1.0).await;
    let told = |line: &str| gateway.log().lines().filter(|told| told.contains(line)).count();
    assert_eq!([told("a server is left out"), told("a server takes requests again")], [1, 1], "{}", gateway.log());
    for _ in 0..10 {
        gateway.ask("m").await.says("hello");
    }
    assert_eq!(requests(&upstreams), [5, 15]);
}

#[tokio::test]
async fn what_is_running_on_a_server_ends_there_when_it_is_not_ready_any_more() {
    let upstreams = upstreams(2).await;
    let gate = Gate::closed();
    upstreams.iter().for_each(|upstream| upstream.always(Script::says("at last").behind(&gate)));
    let gateway = pool("balance: round_robin", &upstreams).await;
    let client = gateway.client();
    let running: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.post(PATH, &chat("m")).await })
        })
        .collect();
    for upstream in &upstreams {
        upstream.until(|tally| tally.open == 1).await;
    }
    upstreams[1].page("/health", status(503));
    until("it is known", async || endpoints(&gateway, "not_ready").await == 1.0).await;
    gate.release();
    for answer in running {
        answer.await.unwrap().says("at last");
    }
    assert_eq!(requests(&upstreams), [1, 1]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_after_three_silences() {
    let upstreams = upstreams(2).await;
    let gate = Gate::closed();
    upstreams[0].page("/health", status(200).behind(&gate));
    let gateway = pool("balance: round_robin", &upstreams).await;
    until("its silence is known", async || endpoints(&gateway, "not_ready").await == 1.0).await;
    gateway.ask("m").await.says("hello");
    gateway.ask("m").await.says("hello");
    assert_eq!(requests(&upstreams), [0, 2]);
    gate.release();
    until("it answers again", async || endpoints(&gateway, "not_ready").await == 0.0).await;
}

#[tokio::test]
async fn a_backend_whose_servers_are_not_ready_is_the_last_resort() {
    let (own, paid) = (Upstream::start().await, Upstream::start().await);
    own.always(Script::says("own"));
    own.page("/health", status(503));
    paid.always(Script::says("paid"));
    let gateway = Setup::new()
        .backend_with("own", &own.base_url(), "provider: llamacpp")
        .backend("paid", &paid.base_url())
        .policies("routes: {chain: {order: [own-model, paid-model]}}")
        .start()
        .await;
    let not_ready = async || gateway.metric("turnpike_endpoints", &["own", "state=\"not_ready\""]).await;
    until("it is known", async || not_ready().await == 1.0).await;
    let answer = gateway.ask("chain").await;
    answer.says("paid");
    assert_eq!(answer.header("x-turnpike-attempts"), "1", "nobody waited for it");
    gateway.ask("own-model").await.says("own");
    // It has served, whatever its health page says.
    until("its answer counts", async || not_ready().await == 0.0).await;
    gateway.ask("chain").await.says("own");
}

#[tokio::test]
async fn a_server_that_tells_of_its_load_is_believed_and_one_that_does_not_is_counted() {
    let upstreams = upstreams(2).await;
    let busy = "vllm:num_requests_running{engine=\"0\"} 40.0\nvllm:num_requests_waiting{engine=\"0\"} 10.0\n\
                vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n";
    upstreams[0].page("/metrics", Script::raw(200, "text/plain", busy));
    upstreams[0].page("/health", status(200));
    let gateway = pool("balance: least_loaded", &upstreams).await;
    until("its load is known", async || seen(&gateway).await[0]["load"]["requests"] == 50).await;
    let load = &seen(&gateway).await[0]["load"];
    assert_eq!((&load["waiting"], &load["cache_used_ppm"]), (&10.into(), &500_000.into()));
    assert_eq!(seen(&gateway).await[1]["load"], Value::Null);
    for _ in 0..10 {
        gateway.ask("m").await.says("hello");
    }
    assert_eq!(requests(&upstreams), [0, 10]);
    upstreams[0].page("/metrics", status(500));
    until("what it told is old", async || seen(&gateway).await[0]["load"] == Value::Null).await;
    for _ in 0..20 {
        gateway.ask("m").await.says("hello");
    }
    assert!(requests(&upstreams)[0] > 0, "own counts are all there is");
}

#[tokio::test]
async fn weights_part_the_requests() {
    let upstreams = upstreams(2).await;
    let gate = Gate::closed();
    upstreams.iter().for_each(|upstream| upstream.always(Script::says("at last").behind(&gate)));
    let urls = [upstreams[0].base_url(), upstreams[1].base_url()];
    let endpoints = [format!("{{url: \"{}\", weight: 3}}", urls[0]), format!("\"{}\"", urls[1])];
    let gateway = Setup::new().policies(&policies("balance: least_loaded", &endpoints)).start().await;
    let running: Vec<_> = (0..40)
        .map(|_| {
            let client = gateway.client();
            tokio::spawn(async move { client.post(PATH, &chat("m")).await })
        })
        .collect();
    until("all are under way", async || requests(&upstreams).iter().sum::<u64>() == 40).await;
    let taken = requests(&upstreams);
    assert!((28..=32).contains(&taken[0]), "{taken:?}");
    gate.release();
    for answer in running {
        answer.await.unwrap().says("at last");
    }
}

#[tokio::test]
async fn operators_see_the_backends_and_addresses_are_in_no_metric() {
    let upstreams = upstreams(2).await;
    let gateway = pool("max_in_flight: 7", &upstreams).await;
    assert_eq!(gateway.admin().get("/api/v1/backends").await.status, 401);
    let list =
        gateway.admin().header("authorization", "Bearer ops-token-of-tests").get("/api/v1/backends").await.json();
    let backend = &list["backends"][0];
    assert_eq!(
        (&backend["name"], &backend["provider"], &backend["max_in_flight"]),
        (&"gpu".into(), &"vllm".into(), &7.into())
    );
    assert_eq!(backend["accounts"][0]["parked_ms"], 0);
    assert_eq!((&backend["models"][0]["model"], &backend["models"][0]["breaker"]), (&"m".into(), &"closed".into()));
    let urls: Vec<&str> =
        backend["endpoints"].as_array().unwrap().iter().map(|it| it["url"].as_str().unwrap()).collect();
    assert_eq!(urls, [upstreams[0].base_url(), upstreams[1].base_url()]);
    let metrics = gateway.admin().get("/metrics").await.text();
    assert!(upstreams.iter().all(|upstream| !metrics.contains(&upstream.address().port().to_string())), "{metrics}");
    assert_eq!(endpoints(&gateway, "ready").await, 2.0);
}

#[tokio::test]
async fn a_server_that_comes_back_is_asked_for_its_load_again() {
    let upstreams = upstreams(1).await;
    upstreams[0].page("/metrics", status(404));
    upstreams[0].page("/health", status(503));
    let gateway = pool("balance: least_loaded", &upstreams).await;
    until("it is known", async || endpoints(&gateway, "not_ready").await == 1.0).await;
    let busy = "vllm:num_requests_running{engine=\"0\"} 7.0\nvllm:num_requests_waiting{engine=\"0\"} 0.0\n";
    upstreams[0].page("/metrics", Script::raw(200, "text/plain", busy));
    upstreams[0].page("/health", status(200));
    until("its load is known", async || seen(&gateway).await[0]["load"]["requests"] == 7).await;
}

#[tokio::test]
async fn a_server_that_ends_what_it_has_begun_is_shown_by_the_address_that_it_had() {
    let upstreams = upstreams(2).await;
    let gate = Gate::closed();
    upstreams.iter().for_each(|upstream| upstream.always(Script::says("at last").behind(&gate)));
    let gateway = pool("balance: round_robin", &upstreams).await;
    let running: Vec<_> = (0..2)
        .map(|_| {
            let client = gateway.client();
            tokio::spawn(async move { client.post(PATH, &chat("m")).await })
        })
        .collect();
    for upstream in &upstreams {
        upstream.until(|tally| tally.open == 1).await;
    }
    gateway.save_policies(&policies("balance: round_robin", &[format!("\"{}\"", upstreams[0].base_url())]));
    until("the second has left", async || endpoints(&gateway, "draining").await == 1.0).await;
    let urls: Vec<String> = seen(&gateway).await.iter().map(|line| line["url"].as_str().unwrap().to_owned()).collect();
    assert_eq!(urls, [upstreams[0].base_url(), upstreams[1].base_url()]);
    gate.release();
    for answer in running {
        answer.await.unwrap().says("at last");
    }
}
