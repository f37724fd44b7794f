//! Bombs: small requests and answers that want to become large. They are refused or passed over, in bounded memory.

use std::fmt::Write as _;

use crate::{
    harness::{Answer, streamed, until},
    sky::{PATH, PAYER, Sky},
    slow::resident,
    upstream::Script,
};

/// What a bomb of a few MB may add to the gateway's memory, in bytes.
const ROOM: u64 = 160 << 20;

/// Sees the gateway well after `bombs`.
async fn survives(sky: &Sky, before: u64) {
    let grown = resident(sky.gateway.pid()).saturating_sub(before);
    println!("{} KiB more", grown >> 10);
    assert!(grown < ROOM, "{grown} bytes more");
    assert_eq!(sky.ask().await.status, 200);
    assert!(!sky.gateway.log().contains("panicked"), "{}", sky.gateway.log());
    until("all is settled", async || sky.gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
}

#[tokio::test]
async fn compressed_bodies_are_not_opened() {
    let sky = Sky::new().await;
    let before = resident(sky.gateway.pid());
    // gzip's magic, and what would be zeros without end.
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    bomb.resize(1 << 20, 0);
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "GZIP", "x"] {
        let client = sky.client().header("content-encoding", encoding);
        let answer = client.post_bytes(PATH, bomb.clone()).await;
        assert!(answer.status.is_client_error(), "{encoding}: {answer:?}");
    }
    assert_eq!(sky.calls(), 0);
    survives(&sky, before).await;
    sky.balances(0).await;
}

/// A chat request with `text` as one of its values.
fn with(text: &str) -> String {
    format!(r#"{{"model": "chain", "messages": [{{"role": "user", "content": "hi"}}], "metadata": {text}}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_and_wide_bodies_are_refused_or_borne() {
    let sky = Sky::new().await;
    let before = resident(sky.gateway.pid());
    let deep = |open: &str, close: &str| with(&format!("{}1{}", open.repeat(200_000), close.repeat(200_000)));
    for body in [deep("[", "]"), deep("{\"a\":", "}"), deep("[{\"a\":", "}]"), with(&"[".repeat(1_000_000))] {
        let answer = sky.client().post_bytes(PATH, body).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    assert_eq!(sky.calls(), 0);
    let mut keys = String::from("{");
    for number in 0..100_000 {
        write!(keys, "\"k{number}\":0,").unwrap();
    }
    keys.push_str("\"k\":0}");
    let number = "9".repeat(1_000_000);
    for body in [with(&keys), with(&number), with(&format!("[{}0]", "0,".repeat(500_000)))] {
        let answer: Answer = sky.client().post_bytes(PATH, body).await;
        assert!(answer.status == 200 || answer.status.is_client_error(), "{answer:?}");
    }
    let messages = format!(
        r#"{{"model": "chain", "messages": [{}{{"role": "user", "content": "hi"}}]}}"#,
        r#"{"role": "user", "content": "hi"},"#.repeat(50_000)
    );
    let answer = sky.client().post_bytes(PATH, messages).await;
    assert!(answer.status == 200 || answer.status.is_client_error(), "{answer:?}");
    survives(&sky, before).await;
    sky.balances(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_limit_is_refused_whatever_its_length_says() {
    let sky = Sky::new().await;
    let before = resident(sky.gateway.pid());
    let answer = sky.client().post_bytes(PATH, vec![b' '; (32 << 20) + 1]).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(sky.calls(), 0);
    survives(&sky, before).await;
    sky.balances(0).await;
}

/// Upstreams throw bombs, too: each is passed over, for the second candidate is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_bombs_are_passed_over() {
    let sky = Sky::new().await;
    let before = resident(sky.gateway.pid());
    let deep = format!("{{\"choices\": {}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let gzip = Script::raw(200, "application/json", vec![0x1f, 0x8b, 8, 0]).header("content-encoding", "gzip");
    let plain = [
        Script::raw(200, "application/json", deep),
        gzip,
        Script::raw(200, "application/json", vec![b' '; (64 << 20) + 1]),
        Script::raw(500, "application/json", vec![b'x'; 8 << 20]),
    ];
    // Four failures: the breaker opens at the fifth, which the streams below need.
    for script in plain {
        sky.first.push(script);
        sky.ask().await.says("whole answer");
    }
    survives(&sky, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_bombs_are_passed_over() {
    let sky = Sky::new().await;
    let before = resident(sky.gateway.pid());
    let deep = format!("data: {{\"choices\": {}1{}}}\n\n", "[".repeat(100_000), "]".repeat(100_000));
    let streams = [
        // One event that never ends, comments that never end, empty events that never end.
        Script::raw(200, "text/event-stream", format!("data: {}", "x".repeat(20 << 20))),
        Script::raw(200, "text/event-stream", ": wait\n".repeat(400_000)),
        Script::raw(200, "text/event-stream", "data: {\"choices\":[]}\n\n".repeat(100_000)),
        Script::raw(200, "text/event-stream", deep),
    ];
    for script in streams {
        sky.first.push(script);
        let client = sky.gateway.client_with(PAYER);
        client.post_stream(PATH, &streamed("chain")).await.transcript().await.says("whole answer");
    }
    survives(&sky, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_no_answer() {
    let sky = Sky::new().await;
    let mut script = Script::says("hello");
    for number in 0..200 {
        script = script.header(&format!("x-filler-{number}"), &"x".repeat(200));
    }
    sky.first.always(script);
    let answer = sky.ask().await;
    answer.says("whole answer");
    assert_eq!(answer.header("x-turnpike-attempts"), "2");
}
