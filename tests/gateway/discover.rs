//! Pools whose servers are found by name.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    harness::{Gateway, Setup, chat, free_address, until},
    names::{Names, Reply},
    upstream::{Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// Servers on addresses of their own, all with one port.
async fn servers(count: u8) -> (u16, Vec<Upstream>) {
    let port = free_address().port();
    let mut servers = Vec::new();
    for last in 1..=count {
        servers.push(Upstream::start_at(SocketAddr::from((ip(last), port))).await);
        servers.last().unwrap().always(Script::says(&format!("{last}")));
    }
    (port, servers)
}

async fn gateway(names: &Names, discover: &str) -> Gateway {
    let discover = format!("{{{discover}, refresh: 1s, server: \"{}\"}}", names.address());
    let backend = format!(
        "backends: {{gpu: {{provider: vllm, balance: round_robin, discover: {discover}}}}}\nmodels: {{m: {{backends: {{gpu: m}}}}}}"
    );
    Setup::new().policies(&backend).token("ops", "ops-token-of-tests", "read").start().await
}

async fn endpoints(gateway: &Gateway, state: &str) -> f64 {
    gateway.metric("turnpike_endpoints", &["gpu", &format!("state=\"{state}\"")]).await
}

/// Servers that take requests.
async fn serving(gateway: &Gateway) -> f64 {
    endpoints(gateway, "ready").await + endpoints(gateway, "warming").await
}

fn requests(servers: &[Upstream]) -> Vec<u64> {
    servers.iter().map(|server| server.tally().requests).collect()
}

#[tokio::test]
async fn servers_come_and_go_with_the_addresses_of_a_name() {
    let ((port, servers), names) = (servers(3).await, Names::start().await);
    names.set("vllm.ml.svc", Reply::Addresses(vec![ip(1), ip(2)]));
    let gateway = gateway(&names, &format!("dns: vllm.ml.svc, port: {port}")).await;
    until("two servers are found", async || serving(&gateway).await == 2.0).await;
    for _ in 0..10 {
        assert_eq!(gateway.ask("m").await.status, 200);
    }
    assert_eq!(requests(&servers), [5, 5, 0]);

    let gate = Gate::closed();
    servers[0].always(Script::says("1 at last").behind(&gate));
    let client = gateway.client();
    let running = (0..2).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.post(PATH, &chat("m")).await })
    });
    let running: Vec<_> = running.collect();
    servers[0].until(|tally| tally.open > 0).await;
    names.set("vllm.ml.svc", Reply::Addresses(vec![ip(2), ip(3)]));
    until("the first has left", async || endpoints(&gateway, "draining").await == 1.0).await;
    assert_eq!((serving(&gateway).await, endpoints(&gateway, "warming").await), (2.0, 1.0), "the third is new");
    let before = requests(&servers);
    for _ in 0..10 {
        assert_eq!(gateway.ask("m").await.status, 200);
    }
    let after = requests(&servers);
    assert_eq!(after[0], before[0], "nothing new goes to a server that left");
    assert!(after[1] > before[1] && after[2] > before[2], "{before:?} {after:?}");
    gate.release();
    for answer in running {
        assert_eq!(answer.await.unwrap().status, 200, "what it had begun ends");
    }
    until("it is gone", async || endpoints(&gateway, "draining").await == 0.0).await;
}

#[tokio::test]
async fn what_is_known_stays_while_the_name_server_fails_or_says_nothing() {
    let ((port, servers), names) = (servers(1).await, Names::start().await);
    names.set("vllm.ml.svc", Reply::Addresses(vec![ip(1)]));
    let gateway = gateway(&names, &format!("dns: vllm.ml.svc, port: {port}")).await;
    until("it is found", async || serving(&gateway).await == 1.0).await;
    for (reply, outcome) in [(Reply::Nothing, "empty"), (Reply::Failure, "failed"), (Reply::Silence, "failed")] {
        names.set("vllm.ml.svc", reply.clone());
        let count = async || gateway.metric("turnpike_discoveries_total", &["gpu", outcome]).await;
        let before = count().await;
        until(&format!("{reply:?} is noticed"), async || count().await > before).await;
        gateway.ask("m").await.says("1");
    }
    let told =
        gateway.admin().header("authorization", "Bearer ops-token-of-tests").get("/api/v1/backends").await.json();
    let discover = &told["backends"][0]["discover"];
    assert_eq!(discover["dns"], "vllm.ml.svc");
    assert!(discover["trouble"].as_str().is_some_and(|trouble| !trouble.is_empty()), "{told}");
    assert_eq!(gateway.log().matches("servers cannot be found").count(), 1, "it is said once");
    names.set("vllm.ml.svc", Reply::Addresses(vec![ip(1)]));
    until("it is said that it is over", async || gateway.log().contains("servers can be found again")).await;
    assert_eq!(servers[0].tally().requests, 3);
}

#[tokio::test]
async fn a_pool_that_is_not_found_yet_has_no_candidate_and_then_one() {
    let ((port, _servers), names) = (servers(1).await, Names::start().await);
    let gateway = gateway(&names, &format!("dns: vllm.ml.svc, port: {port}")).await;
    until("the name was asked for", async || names.asked("vllm.ml.svc") > 0).await;
    let refused = gateway.ask("m").await;
    refused.is_refused(503, "no_candidate");
    assert!(refused.message().contains("none is found"), "{}", refused.message());
    assert!(!refused.header("retry-after").is_empty());
    names.set("vllm.ml.svc", Reply::Addresses(vec![ip(1)]));
    until("it is found", async || serving(&gateway).await == 1.0).await;
    gateway.ask("m").await.says("1");
}

#[tokio::test]
async fn service_records_tell_ports_weights_and_who_stands_by() {
    let mut servers = Vec::new();
    for name in ["heavy", "light", "spare"] {
        servers.push(Upstream::start().await);
        servers.last().unwrap().always(Script::says(name));
    }
    let port = |place: usize| servers[place].address().port();
    let names = Names::start().await;
    names.set("host.ml.svc", Reply::Addresses(vec![ip(1)]));
    let services =
        vec![(0, 30, port(0), "host.ml.svc."), (0, 10, port(1), "host.ml.svc."), (5, 10, port(2), "host.ml.svc.")];
    names.set("_http._tcp.vllm.ml.svc", Reply::Services(services));
    let gateway = gateway(&names, "dns: _http._tcp.vllm.ml.svc").await;
    until("three servers are found", async || serving(&gateway).await == 3.0).await;
    let told =
        gateway.admin().header("authorization", "Bearer ops-token-of-tests").get("/api/v1/backends").await.json();
    let weights: Vec<u64> = told["backends"][0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| endpoint["weight_milli"].as_u64().unwrap())
        .collect();
    assert_eq!(
        {
            let mut weights = weights.clone();
            weights.sort_unstable();
            weights
        },
        [500, 1_000, 1_500]
    );
    for _ in 0..10 {
        assert_eq!(gateway.ask("m").await.status, 200);
    }
    assert_eq!(requests(&servers), [5, 5, 0], "the one that stands by is not asked");
    for place in [0, 1] {
        servers[place].page("/health", Script::raw(503, "text/plain", ""));
    }
    until("both say that they are not ready", async || endpoints(&gateway, "not_ready").await == 2.0).await;
    gateway.ask("m").await.says("spare");
}

/// TLS in front of `upstream`: its port, and the names that were asked for in handshakes which succeeded.
async fn terminator(
    certified: &rcgen::CertifiedKey<rcgen::KeyPair>,
    upstream: SocketAddr,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let (acceptor, named) = (TlsAcceptor::from(Arc::new(config)), Arc::new(Mutex::new(Vec::new())));
    let listener = TcpListener::bind(SocketAddr::from((ip(1), 0))).await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::clone(&named));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake: that is what one test is for.
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                asked.lock().unwrap().push(tls.get_ref().1.server_name().unwrap_or_default().to_owned());
                let mut behind = TcpStream::connect(upstream).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut behind).await;
            });
        }
    });
    (port, named)
}

#[tokio::test]
async fn with_tls_a_found_server_has_to_have_a_certificate_for_the_name() {
    let upstream = Upstream::start().await;
    let certified = rcgen::generate_simple_self_signed(["vllm.ml.svc".to_owned()]).unwrap();
    let (port, asked) = terminator(&certified, upstream.address()).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certified.cert.pem()).unwrap();
    let names = Names::start().await;
    names.set("vllm.ml.svc", Reply::Addresses(vec![ip(1)]));
    names.set("_https._tcp.vllm.ml.svc", Reply::Services(vec![(0, 1, port, "host.ml.svc.")]));
    names.set("other.ml.svc", Reply::Addresses(vec![ip(1)]));
    names.set("host.ml.svc", Reply::Addresses(vec![ip(1)]));
    let start = async |discover: &str| {
        let discover = format!("{{{discover}, tls: true, refresh: 1s, server: \"{}\"}}", names.address());
        let backend = format!(
            "backends: {{gpu: {{provider: vllm, discover: {discover}}}}}\nmodels: {{m: {{backends: {{gpu: m}}}}}}"
        );
        let roots = roots.to_str().unwrap();
        Setup::new().policies(&backend).env("SSL_CERT_FILE", roots).start().await
    };
    let known = async |gateway: &Gateway, state: &str| {
        until(&format!("a server is {state}"), async || endpoints(gateway, state).await == 1.0).await;
    };

    let by_address = start(&format!("dns: vllm.ml.svc, port: {port}")).await;
    known(&by_address, "ready").await;
    by_address.ask("m").await.says("hello");
    assert_eq!(upstream.only_request().headers["host"], format!("vllm.ml.svc:{port}"));

    // Who answers for a service may be told by anybody who can answer for a name server: its own name is not believed.
    let by_service = start("dns: _https._tcp.vllm.ml.svc").await;
    known(&by_service, "ready").await;
    by_service.ask("m").await.says("hello");
    assert!(asked.lock().unwrap().iter().all(|name| name == "vllm.ml.svc"), "{asked:?}");

    let other = start(&format!("dns: other.ml.svc, port: {port}")).await;
    known(&other, "not_ready").await;
    other.ask("m").await.is_refused(502, "upstream_error");
    assert_eq!(upstream.tally().requests, 2, "nothing is said to a stranger");
}
