//! Bad networks on both sides of the gateway, by the fault proxy: whole answers or clear errors, never a part that looks
//! whole, and books that are what was billed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    harness::{Blow, Client, Gateway, Proxy, Way, Weather, chat, streamed, until},
    sky::{PATH, PAYER, Sky, balances, setup},
    upstream::{Script, Upstream},
};

const TEXT: &str = "one two three four five six seven eight nine ten";

/// The first upstream behind a proxy.
async fn behind_a_proxy(seed: u64, clocks: &str) -> (Sky, Proxy) {
    let first = Upstream::start().await;
    let proxy = Proxy::start(first.address(), seed).await;
    let url = proxy.base_url();
    let sky = Sky::behind(first, &url, clocks, "").await;
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt));
    sky.second.always(Script::says(TEXT).prompt_tokens(sky.prompt));
    (sky, proxy)
}

#[tokio::test]
async fn delay_and_jitter_and_small_pieces_change_nothing() {
    let (sky, proxy) = behind_a_proxy(11, "").await;
    let uneven = Way { delay: Duration::from_millis(1), jitter: Duration::from_millis(3), piece: 64, at: None };
    proxy.set(Weather { up: uneven, down: uneven, half_open: false });
    for _ in 0..5 {
        sky.ask().await.says(TEXT);
        sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await.says(TEXT);
    }
    assert_eq!(sky.calls(), 10);
    sky.balances(0).await;
}

/// Bytes from one place of a cut to the next, and places.
const STEP: u64 = 37;
const PLACES: u64 = 60;

/// A gateway with a route `r0`, `r1` … for each of [`PLACES`], whose first candidate is behind a proxy and its own: no
/// other place opens its breaker. No connection is used twice.
async fn places(seed: u64) -> (Gateway, Proxy, [Upstream; 2]) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let proxy = Proxy::start(first.address(), seed).await;
    let clocks = "provider: openai, timeouts: {first_token: 500ms, idle: 500ms, total: 500ms}";
    let mut setup = setup().backend_with("first", &proxy.base_url(), clocks).backend("second", &second.base_url());
    let mut routes = String::from("routes:\n");
    for place in 0..PLACES {
        setup = setup.model(&format!("m{place}"), "first", &format!("u{place}"));
        routes += &format!("  r{place}: {{order: [m{place}, second-model]}}\n");
    }
    for upstream in [&first, &second] {
        upstream.always(Script::says(TEXT).header("connection", "close"));
    }
    (setup.policies(&routes).start().await, proxy, [first, second])
}

/// Whatever byte the connection ends at: a plain answer is another's whole one, and a stream is whole or an error.
async fn ends_at_any_byte(seed: u64, blow: Blow) {
    let (gateway, proxy, upstreams) = places(seed).await;
    let offset = std::sync::Arc::new(AtomicU64::new(0));
    let at = offset.clone();
    proxy.choose(move |_, _| Weather { down: Way::struck(at.load(Ordering::SeqCst), blow), ..Weather::FAIR });
    let (client, mut broken) = (gateway.client_with(PAYER), 0);
    for place in 0..PLACES {
        offset.store(place * STEP, Ordering::SeqCst);
        client.post(PATH, &chat(&format!("r{place}"))).await.says(TEXT);
        let stream = client.post_stream(PATH, &streamed(&format!("r{place}"))).await.transcript().await;
        match stream.error() {
            Some(_) => {
                broken += 1;
                stream.ends_with_error("upstream_error");
                assert!(TEXT.starts_with(stream.content().as_str()), "{}", stream.text());
            }
            None => stream.says(TEXT),
        }
    }
    println!("{blow:?}: {} blows, {broken} streams told of one", proxy.struck());
    assert!(proxy.struck() >= PLACES && broken >= PLACES / 2, "{} blows, {broken} told", proxy.struck());
    let calls: u64 = upstreams.iter().map(|upstream| upstream.tally().requests).sum();
    assert!(calls <= 4 * PLACES, "{calls} calls");
    agrees(&gateway).await;
}

/// What came through a bad network nobody can tell from the vendors' tallies; the books agree with themselves, the budget
/// and the metrics.
async fn agrees(gateway: &Gateway) {
    until("all is settled", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let booked = (gateway.metric("turnpike_cost_usd_total", &[]).await * 1e9).round() as u64;
    assert!(booked > 0);
    balances(gateway, booked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_connection_that_closes_at_any_byte() {
    ends_at_any_byte(12, Blow::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_connection_that_is_reset_at_any_byte() {
    ends_at_any_byte(13, Blow::Reset).await;
}

/// A byte that turns over is no crime that a gateway without TLS can always see; it must survive it, and a head or an
/// event that no longer parses must not pass for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_turn_over_on_the_way() {
    let (gateway, proxy, _upstreams) = places(14).await;
    proxy.choose(|chance, _| {
        let way = Way::struck(chance.below(1_500) as u64, Blow::Corrupt);
        if chance.below(3) == 0 { Weather { up: way, ..Weather::FAIR } } else { Weather { down: way, ..Weather::FAIR } }
    });
    let client = gateway.client_with(PAYER);
    for place in 0..PLACES {
        let answer = client.post(PATH, &chat(&format!("r{place}"))).await;
        assert!(matches!(answer.status.as_u16(), 200 | 400 | 502), "{answer:?}");
        let stream = client.post_stream(PATH, &streamed(&format!("r{place}"))).await.transcript().await;
        let ends_well = stream.is_done() != stream.error().is_some() && !stream.broken;
        assert!(
            if stream.status == 200 { ends_well } else { [400, 502].contains(&stream.status.as_u16()) },
            "{stream:?}"
        );
    }
    assert!(proxy.struck() >= PLACES / 2, "{} blows", proxy.struck());
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    agrees(&gateway).await;
}

#[tokio::test]
async fn an_upstream_that_takes_connections_and_answers_none() {
    let (sky, proxy) = behind_a_proxy(15, "first_token: 200ms, total: 200ms").await;
    proxy.set(Weather { half_open: true, ..Weather::FAIR });
    sky.ask().await.says(TEXT);
    sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await.says(TEXT);
    assert_eq!((proxy.struck(), sky.first.tally().requests), (2, 0));
    // Sent is sent: nobody can know whether the vendor read it.
    sky.balances(2).await;
}

#[tokio::test]
async fn an_upstream_whose_network_goes_silent_midway() {
    let (sky, proxy) = behind_a_proxy(16, "first_token: 500ms, idle: 200ms, total: 5s").await;
    proxy.set(Weather { down: Way::struck(900, Blow::Swallow), ..Weather::FAIR });
    let stream = sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await;
    stream.ends_with_error("upstream_error");
    assert!(stream.content().starts_with("one"), "{}", stream.text());
    sky.first.until(|tally| tally.open == 0).await;
    agrees(&sky.gateway).await;
}

/// The same between client and gateway: whatever breaks there reaches no other client, and the upstream is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_behind_a_bad_network() {
    let sky = Sky::new().await;
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt).pace(Duration::from_millis(1)));
    let proxy = Proxy::start(sky.gateway.address(), 17).await;
    proxy.choose(|chance, _| {
        let blow = *chance.pick(&[Blow::Cut, Blow::Reset, Blow::Corrupt]);
        let way = Way { jitter: Duration::from_millis(1), piece: 200, ..Way::struck(chance.below(3_000) as u64, blow) };
        if chance.below(3) == 0 { Weather { up: way, ..Weather::FAIR } } else { Weather { down: way, ..Weather::FAIR } }
    });
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..300_u64 {
        let client = Client::new(proxy.address()).header("authorization", &format!("Bearer {PAYER}"));
        asking.spawn(async move {
            let body = if number % 2 == 0 { chat("chain") } else { streamed("chain") };
            client.try_post(PATH, &body).await.is_ok_and(|answer| answer.status == 200)
        });
        if asking.len() >= 16 {
            asking.join_next().await;
        }
    }
    let rest = asking.join_all().await;
    println!(
        "{} blows, {} of the last {} served",
        proxy.struck(),
        rest.iter().filter(|served| **served).count(),
        rest.len()
    );
    sky.first.until(|tally| tally.open == 0).await;
    sky.ask().await.says(TEXT);
    assert!(!sky.gateway.log().contains("panicked"), "{}", sky.gateway.log());
    agrees(&sky.gateway).await;
}
