//! Malformed requests in great number: each is answered with a 4xx, or served; none is a 5xx, none ends the process.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{Chance, Gateway, KEY, PATIENCE, Setup},
    upstream::Upstream,
};

/// Bodies and headers over connections that stay open; `TURNPIKE_MALFORMED` says another number.
const REQUESTS: u64 = 96_000;
/// Broken HTTP, each on a connection of its own.
const BROKEN_HEADS: u64 = 4_000;
const WORKERS: u64 = 8;

/// A request that uses most of what the gateway reads.
fn good() -> Value {
    json!({
        "model": "one-model", "stream": false, "max_tokens": 16, "n": 1, "temperature": 0.5, "user": "u1",
        "stream_options": {"include_usage": true}, "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is this? \u{1f600}"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]},
            {"role": "assistant", "content": null, "reasoning_content": "hm",
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
        ],
    })
}

/// Values that break readers.
const ODD: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "-0.0",
    "1e-400",
    "99999999999999999999999999",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"one-model\"",
    "[]",
    "{}",
    "[null]",
    "[[[[[[[[]]]]]]]]",
    "{\"role\":7}",
    "{\"type\":\"image_url\"}",
    "[{\"role\":\"user\"}]",
    "[{\"role\":\"user\",\"content\":[{}]}]",
    "\"\u{fffd}\u{202e}\u{0}\"",
];

fn body(chance: &mut Chance) -> Vec<u8> {
    let text = good().to_string();
    match chance.below(8) {
        0 => chance.bytes(300),
        1 => text.as_bytes()[..chance.below(text.len())].to_vec(),
        2 => {
            let mut bytes = text.into_bytes();
            for _ in 0..=chance.below(4) {
                let at = chance.below(bytes.len());
                bytes[at] = chance.next() as u8;
            }
            bytes
        }
        3 => {
            let (from, to) = (chance.below(text.len()), chance.below(text.len()));
            let slice = text.as_bytes()[from.min(to)..from.max(to)].to_vec();
            let mut bytes = text.into_bytes();
            let at = chance.below(bytes.len());
            bytes.splice(at..at, slice);
            bytes
        }
        4 => {
            let depth = chance.below(3000);
            let (open, close) = *chance.pick(&[("[", "]"), ("{\"a\":", "}")]);
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            text.replacen("0.5", &deep, 1).into_bytes()
        }
        5 => {
            let field = *chance.pick(&["model", "messages", "stream", "max_tokens", "stream_options", "user"]);
            text.replacen('{', &format!("{{\"{field}\":{},", chance.pick(ODD)), 1).into_bytes()
        }
        _ => with_odd_value(chance, &text),
    }
}

/// One value somewhere in the request replaced by one that does not belong there.
fn with_odd_value(chance: &mut Chance, text: &str) -> Vec<u8> {
    let colons: Vec<usize> = text.match_indices("\":").map(|(at, _)| at + 2).collect();
    let start = *chance.pick(&colons);
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let end = match values.next() {
        Some(Ok(_)) => start + values.byte_offset(),
        // A `":` inside a string: what follows it is no value.
        _ => start,
    };
    format!("{}{}{}", &text[..start], chance.pick(ODD), &text[end..]).into_bytes()
}

const HEADERS: &[&str] = &[
    "x-turnpike-deadline",
    "x-stainless-read-timeout",
    "x-stainless-timeout",
    "x-turnpike-priority",
    "x-turnpike-labels",
    "x-turnpike-session",
    "x-turnpike-user",
    "x-turnpike-explain",
    "traceparent",
    "content-type",
    "accept-encoding",
    "x-request-id",
    "authorization",
];

fn request(chance: &mut Chance, host: &str) -> Request<Full<Bytes>> {
    let path = if chance.below(50) == 0 { "/v1/models/%ff%00..%2f" } else { "/v1/chat/completions" };
    let method = if chance.below(50) == 0 { "PATCH" } else { "POST" };
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    if chance.below(20) > 0 {
        request = request.header("authorization", format!("Bearer {KEY}"));
    }
    if chance.below(4) == 0 {
        let value: Vec<u8> = chance.bytes(40).into_iter().filter(|byte| *byte >= 32 && *byte != 127).collect();
        request = request.header(*chance.pick(HEADERS), value);
    }
    request.body(Full::new(body(chance).into())).unwrap()
}

async fn connect(gateway: &Gateway) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send_many(gateway: &Gateway, seed: u64, count: u64) -> u64 {
    let mut chance = Chance(seed);
    let host = gateway.address().to_string();
    let mut sender = connect(gateway).await;
    let mut served = 0;
    for number in 0..count {
        if sender.ready().await.is_err() {
            sender = connect(gateway).await;
        }
        let request = request(&mut chance, &host);
        let sent = format!("request {number} of seed {seed}: {:?} {:?}", request.headers(), request.body());
        let answering = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, answer) = match tokio::time::timeout(PATIENCE, answering).await.expect(&sent) {
            Ok(answer) => answer,
            Err(error) => panic!("{sent} got no answer: {error}"),
        };
        assert!(!status.is_server_error(), "{sent} got {status} {answer:?}");
        served += u64::from(status.is_success());
    }
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_end_nothing() {
    let upstream = Upstream::start().await;
    let gateway = std::sync::Arc::new(Setup::new().backend("one", &upstream.base_url()).start().await);
    let requests = std::env::var("TURNPIKE_MALFORMED").map_or(REQUESTS, |text| text.parse().unwrap());
    let mut sending = tokio::task::JoinSet::new();
    for seed in 0..WORKERS {
        let gateway = gateway.clone();
        sending.spawn(async move { send_many(&gateway, seed, requests / WORKERS).await });
    }
    let served: u64 = sending.join_all().await.into_iter().sum();
    println!("{served} of {requests} were good enough to be served");
    assert!(served > 0 && served < requests / 2, "the generator misses its purpose");
    gateway.ask("one-model").await.says("hello");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// Heads that are no HTTP, or HTTP that smuggles.
fn broken_head(chance: &mut Chance) -> Vec<u8> {
    const LENGTHS: &[&str] = &["-1", "+2", "2, 3", "0x2", "99999999999999999999", "2\r\ncontent-length: 3", ""];
    let length = |value: &str| {
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {value}\r\n\r\n{{}}").into_bytes()
    };
    match chance.below(9) {
        0 => chance.bytes(200),
        1 => [b"GET ".as_slice(), &chance.bytes(60), b" HTTP/1.1\r\nhost: x\r\n\r\n"].concat(),
        2 => length(chance.pick::<&str>(LENGTHS)),
        3 => b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"
            .to_vec(),
        4 => [
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(),
            &chance.bytes(40),
        ]
        .concat(),
        5 => format!("POST /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(chance.below(20_000))).into_bytes(),
        6 => {
            let headers = "x-filler: y\r\n".repeat(chance.below(400));
            format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes()
        }
        7 => [b"GET /v1/models HTTP/1.1\r\nhost: x\r\nbad header: ".as_slice(), &chance.bytes(30), b"\r\n\r\n"].concat(),
        _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied().chain(chance.bytes(60)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_http_is_refused_or_closed() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    let mut chance = Chance(7);
    for number in 0..BROKEN_HEADS {
        let bytes = broken_head(&mut chance);
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        // The gateway may close before all is written or read.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open");
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "head {number} {bytes:?}: {}", String::from_utf8_lossy(&answer));
    }
    gateway.ask("one-model").await.says("hello");
    assert_eq!(upstream.tally().requests, 1);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
