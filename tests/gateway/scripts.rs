//! The scripted upstream itself, asked without a gateway: a fault that does not strike would prove nothing.

use crate::{
    harness::{Client, Transcript, chat, streamed_with_usage},
    upstream::{Fault, Script, Upstream},
};

async fn stream(script: Script) -> (Transcript, Upstream) {
    let upstream = Upstream::start().await;
    upstream.push(script);
    let client = Client::new(upstream.address());
    let stream = client.post_stream("/v1/chat/completions", &streamed_with_usage("m")).await.transcript().await;
    (stream, upstream)
}

#[tokio::test]
async fn a_good_answer_is_whole_and_tallied() {
    let (stream, upstream) = stream(Script::says("three small words")).await;
    stream.says("three small words");
    assert_eq!(stream.usage().unwrap()["completion_tokens"], 3);
    let plain = Client::new(upstream.address()).post("/v1/chat/completions", &chat("m")).await;
    plain.says("hello");
    let tally = upstream.until(|tally| tally.open == 0).await;
    assert_eq!((tally.requests, tally.hung_up), (2, 0));
    let billed = tally.billed["m"];
    assert_eq!((billed.answers, billed.input, billed.output), (2, 22, 4));
}

#[tokio::test]
async fn a_cut_breaks_the_connection_where_it_is_told() {
    let (stream, upstream) = stream(Script::says("three small words").cut_after_events(2)).await;
    assert!(stream.broken && stream.content() == "three ", "{stream:?}");
    let tally = upstream.until(|tally| tally.open == 0).await;
    assert_eq!((tally.hung_up, tally.billed["m"].output), (0, 1));
    for bytes in [1, 10, 200] {
        let (stream, _upstream) = self::stream(Script::says("three small words").cut_after_bytes(bytes)).await;
        assert!(stream.broken && stream.bytes.len() == bytes, "{stream:?}");
    }
}

#[tokio::test]
async fn an_early_end_looks_like_a_good_one() {
    let (stream, _upstream) = stream(Script::says("three small words").after_events(2, Fault::End)).await;
    assert!(!stream.broken && !stream.is_done() && stream.content() == "three ", "{stream:?}");
}

#[tokio::test]
async fn a_reset_is_no_orderly_close() {
    let upstream = Upstream::start().await;
    upstream.push(Script::resets());
    let failed = Client::new(upstream.address()).try_get("/").await.unwrap_err();
    let mut causes = std::iter::successors(Some(&*failed as &dyn std::error::Error), |error| error.source());
    let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(causes.any(|cause| cause.downcast_ref().is_some_and(is_reset)), "{failed:?}");
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("three small words").after_events(2, Fault::Stall));
    let mut stream = Client::new(upstream.address()).post_stream("/", &streamed_with_usage("m")).await;
    stream.read_until("three").await;
    assert_eq!(upstream.tally().hung_up, 0);
    drop(stream);
    upstream.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
}

#[tokio::test]
async fn lines_end_and_pieces_split_as_told() {
    for end in ["\n", "\r\n", "\r"] {
        let (stream, _upstream) = stream(Script::says("gr\u{fc}n").line_end(end).in_pieces_of(1)).await;
        stream.says("gr\u{fc}n");
        assert!(stream.text().contains(&format!("[DONE]{end}{end}")), "{}", stream.text());
    }
}
