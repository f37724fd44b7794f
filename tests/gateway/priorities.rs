//! Priorities: who is let in first and who is turned away where there is too little for all.

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{Answer, Client, Gateway, Setup, chat, streamed, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
/// How many requests there is room for.
const PLACES: u64 = 20;
/// Requests of each of so many clients of each class.
const EACH: u64 = 25;

/// A gateway with these keys of `turnpike.yaml` and of its one backend, and a team that may be critical.
async fn gateway(server: &str, backend: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let setup = Setup::new()
        .backend_with("one", &upstream.base_url(), &format!("provider: openai{backend}"))
        .team("vip", "sk-vip", "{priority: critical}")
        .team("batch", "sk-batch", "{priority: sheddable}")
        .server(server);
    (setup.start().await, upstream)
}

fn of(gateway: &Gateway, class: &str) -> Client {
    gateway.client_with("sk-vip").header("x-turnpike-priority", class)
}

async fn ask(client: &Client) -> Answer {
    client.post(PATH, &chat("one-model")).await
}

/// A stream that holds a place until the gate opens.
async fn occupied(gateway: &Gateway, upstream: &Upstream, gate: &Gate) -> crate::harness::Stream {
    upstream.push(Script::says("a long answer").after_events(2, Fault::Wait(gate.clone())));
    let mut stream = gateway.client().post_stream(PATH, &streamed("one-model")).await;
    stream.read_until("a ").await;
    stream
}

fn is_overloaded(answer: &Answer) {
    answer.is_refused(503, "overloaded");
    assert_eq!(answer.header("x-should-retry"), "true");
    assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()), "{answer:?}");
}

#[tokio::test]
async fn a_low_class_is_turned_away_before_its_body_is_read() {
    let (gateway, upstream) = gateway("limits: {in_flight: 1}", "").await;
    let gate = Gate::closed();
    let stream = occupied(&gateway, &upstream, &gate).await;
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sk-batch\r\ncontent-length: 30000\r\n\r\n");
    let mut low = TcpStream::connect(gateway.address()).await.unwrap();
    low.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    low.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 503");
    is_overloaded(&ask(&gateway.client_with("sk-batch")).await);
    is_overloaded(&ask(&of(&gateway, "sheddable")).await);
    assert_eq!(upstream.tally().requests, 1);
    assert_eq!(gateway.metric("turnpike_shed_total", &["sheddable", "in_flight"]).await, 3.0);
    assert_eq!(gateway.metric("turnpike_in_flight", &[]).await, 1.0);
    gate.release();
    assert!(stream.transcript().await.is_done());
    until("the place is free", async || gateway.metric("turnpike_in_flight", &[]).await == 0.0).await;
    ask(&gateway.client_with("sk-batch")).await.says("hello");
}

/// One of each class but the lowest in line behind `stream`, the more important later: it goes first.
async fn goes_first(gateway: &Gateway, upstream: &Upstream, gate: Gate, waiting: impl AsyncFn() -> f64) {
    let stream = occupied(gateway, upstream, &gate).await;
    let mut asking = Vec::new();
    for (place, class) in ["standard", "critical"].into_iter().enumerate() {
        let client = of(gateway, class);
        asking.push(tokio::spawn(async move {
            let mut body = chat("one-model");
            body["user"] = class.into();
            client.post(PATH, &body).await
        }));
        until("it waits", async || waiting().await == place as f64 + 1.0).await;
    }
    is_overloaded(&ask(&of(gateway, "sheddable")).await);
    gate.release();
    assert!(stream.transcript().await.is_done());
    for asking in asking {
        asking.await.unwrap().says("hello");
    }
    let users: Vec<String> = upstream.received().iter().map(|request| request.json()["user"].to_string()).collect();
    assert_eq!(users, ["null", "\"critical\"", "\"standard\""]);
}

#[tokio::test]
async fn the_more_important_is_let_in_first() {
    let (gateway, upstream) = gateway("limits: {in_flight: 1, queue_wait: 30s}", "").await;
    goes_first(&gateway, &upstream, Gate::closed(), async || gateway.metric("turnpike_queued", &[]).await).await;
}

#[tokio::test]
async fn the_more_important_is_sent_first_to_a_backend_that_is_full() {
    let (gateway, upstream) = gateway("limits: {queue_wait: 30s}", ", max_in_flight: 1").await;
    goes_first(&gateway, &upstream, Gate::closed(), async || gateway.metric("turnpike_in_flight", &[]).await - 1.0)
        .await;
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    for (server, backend) in
        [("limits: {in_flight: 1, queue_wait: 50ms}", ""), ("limits: {queue_wait: 50ms}", ", max_in_flight: 1")]
    {
        let (gateway, upstream) = gateway(server, backend).await;
        let gate = Gate::closed();
        let stream = occupied(&gateway, &upstream, &gate).await;
        is_overloaded(&ask(&of(&gateway, "critical")).await);
        is_overloaded(&ask(&gateway.client()).await);
        gate.release();
        assert!(stream.transcript().await.is_done());
        until("the place is free", async || ask(&gateway.client()).await.status == 200).await;
    }
}

#[tokio::test]
async fn a_class_is_capped_by_the_team_the_key_and_the_route() {
    let upstream = Upstream::start().await;
    let hash: String = Sha256::digest(b"sk-low").iter().map(|byte| format!("{byte:02x}")).collect();
    let gateway = Setup::new()
        .backend("one", &upstream.base_url())
        .team("vip", "sk-vip", "{priority: critical}")
        .team("below", "sk-below", "{parent: batch, priority: critical}")
        .team("batch", "sk-batch", "{priority: sheddable}")
        .key_row(&format!("{{id: low, team: vip, hash: \"sha256:{hash}\", priority: sheddable}}"))
        .policies("routes: {nightly: {order: [one-model], priority: sheddable}}")
        .server("limits: {in_flight: 1}")
        .start()
        .await;
    let gate = Gate::closed();
    let stream = occupied(&gateway, &upstream, &gate).await;
    for key in ["sk-batch", "sk-below", "sk-low"] {
        let client = gateway.client_with(key).header("x-turnpike-priority", "critical");
        is_overloaded(&ask(&client).await);
    }
    let odd = ask(&of(&gateway, "urgent")).await;
    odd.is_refused(400, "invalid_request");
    assert_eq!(odd.json()["error"]["param"], "x-turnpike-priority");
    gate.release();
    assert!(stream.transcript().await.is_done());
}

/// Thrice as many clients as there is room for, a third of each class, each asking one time after the other.
async fn storm(server: &str, backend: &str) {
    let (gateway, upstream) = gateway(server, backend).await;
    upstream.always(Script::says("a b c d").pace(std::time::Duration::from_millis(1)));
    let mut clients = tokio::task::JoinSet::new();
    for class in ["sheddable", "standard", "critical"] {
        for _ in 0..PLACES {
            let client = of(&gateway, class);
            clients.spawn(async move {
                let mut counts = (class, 0, 0);
                for _ in 0..EACH {
                    let answer = ask(&client).await;
                    match answer.status.as_u16() {
                        200 => counts.1 += 1,
                        _ => {
                            is_overloaded(&answer);
                            counts.2 += 1;
                        }
                    }
                }
                counts
            });
        }
    }
    let counts = clients.join_all().await;
    let of_class = |wanted: &str| {
        let of = counts.iter().filter(|(class, ..)| *class == wanted);
        of.fold((0_u64, 0_u64), |(served, refused), (_, more, less)| (served + more, refused + less))
    };
    let [sheddable, standard, critical] = ["sheddable", "standard", "critical"].map(of_class);
    println!("served and turned away: critical {critical:?}, standard {standard:?}, sheddable {sheddable:?}");
    assert!(critical.0 * 1000 >= (critical.0 + critical.1) * 999, "{critical:?}");
    assert!(sheddable.1 > 0, "there was room for all");
    assert_eq!(upstream.tally().requests, critical.0 + standard.0 + sheddable.0, "nobody is turned away who was sent");
    until("all have left", async || gateway.metric("turnpike_in_flight", &[]).await == 0.0).await;
    assert_eq!(gateway.metric("turnpike_queued", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_three_times_what_the_gateway_takes_the_top_class_is_served() {
    storm(&format!("limits: {{in_flight: {PLACES}, queue_wait: 20s}}"), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_three_times_what_a_backend_takes_the_top_class_is_served() {
    storm("limits: {queue_wait: 20s}", &format!(", max_in_flight: {PLACES}")).await;
}
