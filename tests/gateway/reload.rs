//! Policies change while the gateway runs; a bad file changes nothing.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::service::service_fn;
use jiff::SignedDuration;
use tokio::{sync::watch, task::JoinSet};
use turnpike::{
    config,
    ledger::keys::KeySnapshot,
    net::{listener, pool::Pool, tls},
    policy::Policies,
    proxy::{self, Gateway, Settings},
};

use crate::{
    harness::{Client, Setup, chat, until},
    upstream::{Script, Upstream},
};

#[tokio::test]
async fn a_saved_policy_takes_effect_and_a_bad_one_does_not() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    old.always(Script::says("old"));
    new.always(Script::says("new"));
    let setup = Setup::new().backend("old", &old.base_url()).backend("new", &new.base_url());
    let before = setup.clone().policies("routes: {chain: {order: [old-model]}}");
    let after = setup.clone().policies("routes: {chain: {order: [new-model]}}").policy_file();
    let bad = setup.policies("routes: {chain: {order: [no-such-model]}}").policy_file();
    let gateway = before.start().await;
    let first = gateway.ask("chain").await;
    first.says("old");
    assert_eq!(gateway.metric("turnpike_config_last_reload_successful", &[]).await, 1.0);

    gateway.save_policies(&bad);
    until("the bad file is seen", async || gateway.metric("turnpike_config_last_reload_successful", &[]).await == 0.0)
        .await;
    until("the log names the fault", async || gateway.log().contains("no-such-model")).await;
    let still = gateway.ask("chain").await;
    still.says("old");
    assert_eq!(still.header("x-turnpike-policy"), first.header("x-turnpike-policy"));

    gateway.save_policies(&after);
    until("the good file is in force", async || gateway.ask("chain").await.content() == "new").await;
    // It serves a moment before it says so.
    until("it is told", async || gateway.metric("turnpike_config_last_reload_successful", &[]).await == 1.0).await;
    assert_ne!(gateway.ask("chain").await.header("x-turnpike-policy"), first.header("x-turnpike-policy"));
    assert_eq!(gateway.admin().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_stream_outlives_the_policy_that_it_began_under() {
    let upstream = Upstream::start().await;
    let gate = crate::upstream::Gate::closed();
    upstream.push(Script::says("long lived").after_events(2, crate::upstream::Fault::Wait(gate.clone())));
    let setup = Setup::new().backend("one", &upstream.base_url());
    let gateway = setup.start().await;
    let body = crate::harness::streamed("one-model");
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &body).await;
    let begun = stream.read_until("long").await;
    gateway.save_policies(&setup.policy_file().replace("one-model", "renamed-model"));
    until("the model has gone", async || gateway.ask("one-model").await.status == 404).await;
    gate.release();
    let rest = stream.transcript().await;
    assert!(rest.is_done() && !rest.broken, "{begun} {}", rest.text());
}

/// Policies of which every version has another backend and another model, so that a request under way loses both.
fn version(n: usize, urls: &[String; 2]) -> String {
    let (name, url) = (["even", "odd"][n % 2], &urls[n % 2]);
    format!(
        "backends: {{{name}: {{provider: openai_compatible, endpoints: [\"{url}\"]}}}}\n\
         models: {{{name}-{n}: {{backends: {{{name}: m}}}}}}\n\
         prices: [{{backend: {name}, upstream: m, from: 2025-01-01, input: 2 USD, output: 8 USD}}]\n\
         routes: {{chain: {{order: [{name}-{n}]}}}}\nteams: {{default: {{}}}}\n"
    )
}

/// A gateway of this process at an address of its own.
async fn in_process(policies: Arc<Policies>) -> (Arc<Gateway>, SocketAddr, watch::Sender<bool>) {
    let settings = Settings {
        bounds: turnpike::proxy::Bounds::default(),
        body_limit: 1 << 20,
        stream_commit_after: Duration::from_secs(15),
        operation: "chat",
        clock_offset: SignedDuration::ZERO,
    };
    let pool = Pool::new(tls::client_config(None).unwrap());
    let gateway = Gateway::new(settings, policies, KeySnapshot::default(), Arc::default(), pool).unwrap();
    let door = listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (address, serving) = (door.local_addr().unwrap(), Arc::clone(&gateway));
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(proxy::serve(gateway, request).await) }
    });
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(listener::serve(door, None, listener::Limits::default(), stopped, Duration::from_secs(30), service));
    (gateway, address, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_reloads_under_load_of_which_200_are_bad_fail_no_request() {
    const RELOADS: usize = 1_000;
    let (even, odd) = (Upstream::start().await, Upstream::start().await);
    even.always(Script::says("even all the way").pace(Duration::from_millis(1)));
    odd.always(Script::says("odd all the way").pace(Duration::from_millis(1)));
    let urls = [even.base_url(), odd.base_url()];
    let load = |n: usize, bad: bool| {
        let text = version(n, &urls) + if bad { "aliases: {x: no-such-model}\n" } else { "" };
        config::from_texts(&[(PathBuf::from("a.yaml"), text)], &|_| None, jiff::Timestamp::now())
    };
    let first = load(0, false).unwrap().policies;
    let words = Arc::new(Mutex::new(HashMap::from([(first.hash.to_string(), "even")])));
    let (gateway, address, stop) = in_process(first).await;
    let (served, counted) = watch::channel(0_usize);
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let (words, served, mut over) = (Arc::clone(&words), served.clone(), stop.subscribe());
        clients.spawn(async move {
            let client = Client::new(address);
            while !*over.borrow_and_update() {
                let (policy, text) = if number % 2 == 0 {
                    let answer = client.post("/v1/chat/completions", &chat("chain")).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    (answer.header("x-turnpike-policy").to_owned(), answer.content())
                } else {
                    let stream = client.post_stream("/v1/chat/completions", &crate::harness::streamed("chain")).await;
                    let whole = stream.transcript().await;
                    assert!(whole.is_done() && !whole.broken, "{}", whole.text());
                    (whole.header("x-turnpike-policy").to_owned(), whole.content())
                };
                // Who answered is whom the policies named that the request began under.
                let word = words.lock().unwrap()[&policy];
                assert!(text.starts_with(word), "{text} under {policy}, of {word}");
                served.send_modify(|served| *served += 1);
            }
        });
    }
    drop(served);
    let mut counted = counted;
    for n in 1..=RELOADS {
        let before = gateway.policies().hash.clone();
        match load(n, n % 5 == 0) {
            Ok(loaded) => {
                assert_ne!(n % 5, 0);
                words.lock().unwrap().insert(loaded.policies.hash.to_string(), ["even", "odd"][n % 2]);
                gateway.reload(loaded.policies);
            }
            Err(_) => {
                assert_eq!(n % 5, 0);
                gateway.reload_failed();
                assert_eq!(gateway.policies().hash, before);
            }
        }
        let served = *counted.borrow_and_update();
        counted.wait_for(|now| *now > served).await.unwrap();
    }
    stop.send(true).unwrap();
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let total = even.tally().requests + odd.tally().requests;
    assert!(total >= 1_000, "{total}");
    assert_eq!(even.tally().hung_up + odd.tally().hung_up, 0);
    assert_eq!(booked(&gateway), billed(&even) + billed(&odd), "the books are the vendors' tallies");
}

/// What a gateway of this process has booked, in nano-dollars.
fn booked(gateway: &Gateway) -> u64 {
    let metrics = gateway.render_metrics();
    let costs = metrics.lines().filter(|line| line.starts_with("turnpike_cost_usd_total{"));
    let booked: f64 = costs.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    (booked * 1e9).round() as u64
}

/// What an upstream would bill for its model `m`, in nano-dollars.
fn billed(upstream: &Upstream) -> u64 {
    let billed = upstream.tally().billed["m"];
    billed.input * 2_000 + billed.output * 8_000
}
