//! The listener: limits, what it refuses to parse, how it drains, how its certificate changes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use turnpike::net::body::UpstreamBody;
use turnpike::net::listener::{Drained, Limits, Peer};
use turnpike::net::pool::{Options, SendError};

use crate::support::{AMPLE, Authority, EAGER, Server, post, read_to_close, text, within};

const GET: &[u8] = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn start(limits: Limits) -> Server {
    Server::start(None, limits, AMPLE).await
}

async fn connect(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_dawdles_over_its_head_is_cut() {
    let server = start(Limits { header_timeout: Duration::from_millis(10), ..Limits::default() }).await;
    for begun in [&b""[..], b"G", b"GET / HTTP/1.1\r\nhost: local"] {
        let mut stream = connect(&server, begun).await;
        within(read_to_close(&mut stream)).await;
    }
}

#[tokio::test]
async fn a_client_that_dawdles_over_tls_is_cut() {
    let limits = Limits { tls_handshake: Duration::from_millis(10), ..Limits::default() };
    let server = Server::start(Some(Authority::new().server()), limits, AMPLE).await;
    let mut stream = connect(&server, b"\x16").await;
    within(read_to_close(&mut stream)).await;
}

#[tokio::test]
async fn one_connection_too_many_reads_503() {
    let mut server = start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = connect(&server, GET).await;
    let (request, pen) = within(server.request()).await;
    assert_eq!(request.extensions().get(), Some(&Peer(first.local_addr().unwrap())));
    assert_eq!((server.load.connections(), server.load.requests()), (1, 1));

    let mut second = TcpStream::connect(server.address).await.unwrap();
    let refusal = shown(&within(read_to_close(&mut second)).await);
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\"overloaded\""), "{refusal}");

    drop(pen);
    server.stop.send(true).unwrap();
    within(read_to_close(&mut first)).await;
    assert_eq!(within(server.ended).await.unwrap(), Drained { cut: 0 });
    assert_eq!((server.load.connections(), server.load.requests()), (0, 0));
}

#[tokio::test]
async fn head_and_first_event_arrive_together() {
    let mut server = start(Limits::default()).await;
    let mut stream = connect(&server, format!("GET {EAGER} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
    let (_, _pen) = within(server.request()).await;
    let mut first = vec![0; 4096];
    let length = within(stream.read(&mut first)).await.unwrap();
    let first = shown(&first[..length]);
    assert!(first.starts_with("HTTP/1.1 200 OK") && first.contains("data: eager"), "{first}");
}

#[tokio::test]
async fn a_client_that_hangs_up_drops_its_answer() {
    let mut server = start(Limits::default()).await;
    let stream = connect(&server, GET).await;
    let (_, _pen) = within(server.request()).await;
    drop(stream);
    within(server.dropped()).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go() {
    let mut server = start(Limits { reader_stall: Duration::from_millis(300), ..Limits::default() }).await;
    let stream = connect(&server, GET).await;
    let (_, pen) = within(server.request()).await;
    // More than both sockets take in, and nobody reads it.
    for _ in 0..512 {
        pen.send(Bytes::from_static(&[b'x'; 64 * 1024])).unwrap();
    }
    within(server.dropped()).await;
    drop(stream);
}

#[tokio::test]
async fn ambiguous_framing_is_refused_or_ends_the_connection() {
    let mut server = start(Limits::default()).await;
    for malformed in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n",
    ] {
        let mut stream = connect(&server, malformed.as_bytes()).await;
        let answer = shown(&within(read_to_close(&mut stream)).await);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{malformed:?} got {answer:?}");
    }

    // Length and chunks at once: hyper goes by the chunks. What a proxy that went by the length took for part of the
    // body must not be read as a request, so the connection ends.
    let both = "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 48\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
        GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut stream = connect(&server, both.as_bytes()).await;
    let (request, pen) = within(server.request()).await;
    assert_eq!(request.uri().path(), "/first");
    drop(pen);
    let answer = shown(&within(read_to_close(&mut stream)).await);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// A client that has much to say hears a refusal that came before it was done, not a reset.
#[tokio::test]
async fn an_answer_before_the_body_is_read_reaches_a_client_that_is_still_sending() {
    let mut server = start(Limits::default()).await;
    for _ in 0..20 {
        let body = vec![b'x'; 8 << 20];
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut stream = connect(&server, head.as_bytes()).await;
        let (request, pen) = within(server.request()).await;
        drop((request, pen));
        within(stream.write_all(&body)).await.unwrap();
        let answer = shown(&within(read_to_close(&mut stream)).await);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_431() {
    let server = start(Limits { head_bytes: 8192, ..Limits::default() }).await;
    let filler = "x".repeat(9000);
    let mut stream = connect(&server, format!("GET / HTTP/1.1\r\nx: {filler}\r\n\r\n").as_bytes()).await;
    let answer = shown(&within(read_to_close(&mut stream)).await);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

#[tokio::test]
async fn http2_without_tls_is_understood() {
    let mut server = start(Limits::default()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://localhost/v1/models").body(UpstreamBody::empty()).unwrap();
    let sending = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
    let (request, pen) = within(server.request()).await;
    assert_eq!(request.version(), http::Version::HTTP_2);
    drop(pen);
    assert_eq!(within(sending).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_drain_lets_an_open_answer_end_and_closes_idle_connections() {
    let mut server = start(Limits::default()).await;
    let mut idle = connect(&server, GET).await;
    drop(within(server.request()).await);
    within(server.dropped()).await;
    let mut busy = connect(&server, GET).await;
    let (_, pen) = within(server.request()).await;
    pen.send(Bytes::from_static(b"data: 1\n\n")).unwrap();

    server.stop.send(true).unwrap();
    within(read_to_close(&mut idle)).await;
    pen.send(Bytes::from_static(b"data: 2\n\n")).unwrap();
    drop(pen);
    let answer = shown(&within(read_to_close(&mut busy)).await);
    assert!(answer.contains("data: 1") && answer.contains("data: 2") && answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(within(server.ended).await.unwrap(), Drained { cut: 0 });
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn whoever_is_connected_when_the_stop_comes_may_ask_once() {
    let mut server = start(Limits::default()).await;
    // One that has said nothing, one amid its head; to their clients both are open.
    let mut silent = connect(&server, b"").await;
    let (begun, rest) = GET.split_at(20);
    let mut begun = connect(&server, begun).await;
    server.stop.send(true).unwrap();
    silent.write_all(GET).await.unwrap();
    begun.write_all(rest).await.unwrap();
    for _ in 0..2 {
        drop(within(server.request()).await);
    }
    for stream in [&mut silent, &mut begun] {
        let answer = shown(&within(read_to_close(stream)).await);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    assert_eq!(within(server.ended).await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn a_drain_lets_an_open_h2_stream_end() {
    let authority = Authority::new();
    let mut server = Server::start(Some(authority.server()), Limits::default(), AMPLE).await;
    let origin = authority.pool(&[b"h2"], Options::default()).origin(&server.uri("https")).unwrap();
    let sending = tokio::spawn(async move { origin.send(post("ping"), AMPLE).await.unwrap() });
    let (_, pen) = within(server.request()).await;
    pen.send(Bytes::from_static(b"one ")).unwrap();
    let answer = within(sending).await.unwrap();
    server.stop.send(true).unwrap();
    pen.send(Bytes::from_static(b"two")).unwrap();
    drop(pen);
    assert_eq!(within(text(answer)).await, "one two");
    assert_eq!(within(server.ended).await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut() {
    let mut server = Server::start(None, Limits::default(), Duration::from_millis(10)).await;
    let mut stream = connect(&server, GET).await;
    let (_, _pen) = within(server.request()).await;
    server.stop.send(true).unwrap();
    assert_eq!(within(&mut server.ended).await.unwrap(), Drained { cut: 1 });
    let answer = shown(&within(read_to_close(&mut stream)).await);
    assert!(!answer.ends_with("0\r\n\r\n"), "a cut answer must not look whole: {answer}");
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_a_bad_one_changes_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = old.server();
    let mut server = Server::start(Some(tls.clone()), Limits::default(), AMPLE).await;
    assert!(!tls.reload().unwrap(), "the same files are no new certificate");

    std::fs::write(old.path("cert.pem"), "not PEM").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("cert.pem"));
    let trusting_old = old.pool(&[b"http/1.1"], Options::default()).origin(&server.uri("https")).unwrap();
    let sending = tokio::spawn({
        let origin = trusting_old.clone();
        async move { origin.send(post("ping"), AMPLE).await.map(drop) }
    });
    drop(within(server.request()).await);
    within(sending).await.unwrap().unwrap();

    std::fs::copy(new.path("cert.pem"), old.path("cert.pem")).unwrap();
    assert!(tls.reload().is_err(), "a certificate without its key");
    std::fs::copy(new.path("key.pem"), old.path("key.pem")).unwrap();
    assert!(tls.reload().unwrap());
    let error = within(trusting_old.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(matches!(error, SendError::Tls(_)), "{error:?}");
    let trusting_new = new.pool(&[b"h2"], Options::default()).origin(&server.uri("https")).unwrap();
    let sending = tokio::spawn(async move { trusting_new.send(post("ping"), AMPLE).await.unwrap() });
    drop(within(server.request()).await);
    within(within(sending).await.unwrap().into_body().collect()).await.unwrap();
}
