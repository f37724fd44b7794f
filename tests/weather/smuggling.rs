//! Requests that two readers read differently: refused, or read once and the connection closed behind it. What is
//! hidden in one never reaches an upstream.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{PATIENCE, chat},
    sky::{PATH, PAYER, Sky},
};

/// A request with a valid key: if it is ever read as one, the upstream is called.
fn hidden() -> String {
    let body = chat("chain").to_string();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PAYER}\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

/// The status lines of all answers until the gateway closes; a client that `hushes` says that it will send no more.
async fn answers(sky: &Sky, bytes: &[u8], hushes: bool) -> Vec<String> {
    let mut stream = TcpStream::connect(sky.gateway.address()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    if hushes {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open");
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.match_indices("HTTP/1.1 ").map(|(at, _)| text[at + 9..at + 12].to_owned()).collect()
}

/// Heads without a key that frame a body of which `{hidden}` is a part, or is what follows it, depending on the reader.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("CL.TE", "content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
    ("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{hidden}"),
    ("TE.TE", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{hidden}"),
    ("TE.TE, one unknown", "transfer-encoding: chunked\r\ntransfer-encoding: cow\r\n\r\n0\r\n\r\n{hidden}"),
    ("TE with a prefix", "content-length: {length}\r\ntransfer-encoding: xchunked\r\n\r\n{hidden}"),
    ("TE twice in one", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n{hidden}"),
    ("TE behind a tab", "content-length: 4\r\ntransfer-encoding:\x0bchunked\r\n\r\n{hidden}"),
    ("TE before a blank", "content-length: 4\r\ntransfer-encoding : chunked\r\n\r\n{hidden}"),
    ("TE folded", "content-length: 4\r\ntransfer-encoding:\r\n chunked\r\n\r\n{hidden}"),
    ("folded header", "x: y\r\n z\r\ncontent-length: 0\r\n\r\n{hidden}"),
    ("CL twice", "content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"),
    ("CL list", "content-length: 0, {length}\r\n\r\n{hidden}"),
    ("CL signed", "content-length: +{length}\r\n\r\n{hidden}"),
    ("CL negative", "content-length: -1\r\n\r\n{hidden}"),
    ("CL in hex", "content-length: 0x10\r\n\r\n{hidden}"),
    ("CL too large", "content-length: 99999999999999999999\r\n\r\n{hidden}"),
    ("CL with a blank inside", "content-length: 1 0\r\n\r\n{hidden}"),
    ("chunk size too large", "transfer-encoding: chunked\r\n\r\nfffffffffffffffff1\r\n{hidden}"),
    ("chunk size signed", "transfer-encoding: chunked\r\n\r\n+0\r\n\r\n{hidden}"),
    ("chunk size in 0x", "transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n{hidden}"),
    ("chunk without its end", "transfer-encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n{hidden}"),
    ("chunk ended by LF", "transfer-encoding: chunked\r\n\r\n0\n\n{hidden}"),
    ("chunk extension with LF", "transfer-encoding: chunked\r\n\r\n2;a=\n\r\n{}\r\n0\r\n\r\n{hidden}"),
    ("chunked with trailers", "transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 9\r\n\r\n{hidden}"),
    ("header without a name", ": x\r\ncontent-length: 0\r\n\r\n{hidden}"),
    ("NUL in a header", "x: a\0b\r\ncontent-length: 0\r\n\r\n{hidden}"),
    ("CR alone in a header", "x: a\rcontent-length: 0\r\n\r\n{hidden}"),
    ("NUL in a name", "content\0-length: 0\r\n\r\n{hidden}"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_framed_twice_is_read_once_at_most() {
    let sky = Sky::new().await;
    let hidden = hidden();
    for (name, framing) in AMBIGUOUS {
        let framing = framing.replace("{length}", &(hidden.len() + 5).to_string()).replace("{hidden}", &hidden);
        for key in ["", "authorization: Bearer sk-payer\r\n"] {
            let request = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\n{key}{framing}");
            let statuses = answers(&sky, request.as_bytes(), true).await;
            assert!(
                statuses.len() <= 1 && statuses.iter().all(|status| status.starts_with('4')),
                "{name}: {statuses:?}"
            );
            assert_eq!(sky.calls(), 0, "{name} reached an upstream");
        }
    }
    assert_eq!(sky.ask().await.status, 200);
    sky.balances(0).await;
}

/// Request lines that proxies have disagreed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_request_lines_reach_nobody() {
    let sky = Sky::new().await;
    let auth = format!("authorization: Bearer {PAYER}\r\n");
    for line in [
        "POST  /v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1 ",
        "POST /v1/chat/completions\0 HTTP/1.1",
        "POST /v1/chat/completions HTTP/9.9",
        "POST /v1/chat/completions http/1.1",
        "POST /v1/chat/completions",
        "P\x01ST /v1/chat/completions HTTP/1.1",
        "POST /v1/../admin HTTP/1.1",
        "POST //v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions/ HTTP/1.1",
        "POST http://other.example/v1/chat HTTP/1.1",
        "CONNECT other.example:443 HTTP/1.1",
        "TRACE /v1/chat/completions HTTP/1.1",
    ] {
        let statuses =
            answers(&sky, format!("{line}\r\nhost: a\r\n{auth}content-length: 2\r\n\r\n{{}}").as_bytes(), true).await;
        assert!(statuses.iter().all(|status| status.starts_with('4')), "{line:?}: {statuses:?}");
    }
    assert_eq!(sky.calls(), 0);
    sky.balances(0).await;
}

/// What HTTP allows stays allowed: pipelined requests and chunks with extensions are read as what they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unambiguous_framing_is_read_as_it_says() {
    let sky = Sky::new().await;
    let (one, body) = (hidden(), chat("chain").to_string());
    let last = one.replacen("host: a\r\n", "host: a\r\nconnection: close\r\n", 1);
    assert_eq!(answers(&sky, format!("{one}{last}").as_bytes(), false).await, ["200", "200"]);
    assert_eq!(sky.calls(), 2);
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PAYER}\r\n");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x};name=\"v\"\r\n{body}\r\n0\r\n\r\n", body.len());
    assert_eq!(answers(&sky, chunked.as_bytes(), false).await, ["200"]);
    assert_eq!(sky.calls(), 3);
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n2;{}", "x".repeat(1 << 20));
    let refused = answers(&sky, endless.as_bytes(), true).await;
    assert!(refused.len() <= 1 && refused.iter().all(|status| status.starts_with('4')), "{refused:?}");
    sky.balances(0).await;
}
