//! The pool over HTTP/2: streams are counted, never queued, and reset with their client.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_rustls::TlsAcceptor;
use turnpike::net::listener::Limits;
use turnpike::net::pool::{Options, Origin};

use crate::support::{AMPLE, Authority, Server, ask, post, text, within};

const BOTH: [&[u8]; 2] = [b"h2", b"http/1.1"];

async fn start(streams: u32) -> (Authority, Server, Origin) {
    let authority = Authority::new();
    let limits = Limits { h2_streams: streams, ..Limits::default() };
    let server = Server::start(Some(authority.server()), limits, AMPLE).await;
    let origin = authority.pool(&BOTH, Options::default()).origin(&server.uri("https")).unwrap();
    (authority, server, origin)
}

#[tokio::test]
async fn alpn_chooses_h2_and_streams_share_a_connection() {
    let (_authority, mut server, origin) = start(100).await;
    let sends: Vec<_> = (0..20)
        .map(|_| {
            let origin = origin.clone();
            tokio::spawn(async move { ask(&origin, "ping").await })
        })
        .collect();
    for _ in 0..20 {
        let (request, pen) = within(server.request()).await;
        assert_eq!(request.version(), http::Version::HTTP_2);
        assert_eq!(request.uri().path_and_query().unwrap(), "/v1/chat/completions?q=1");
        assert_eq!(request.uri().authority().unwrap().host(), "localhost");
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "ping");
        pen.send(Bytes::from_static(b"fine")).unwrap();
    }
    for send in sends {
        assert_eq!(within(send).await.unwrap(), "fine");
    }
    assert_eq!(origin.opened(), 1);
}

#[tokio::test]
async fn beyond_the_peers_stream_limit_another_connection_is_opened() {
    let (_authority, mut server, origin) = start(2).await;
    let sends: Vec<_> = (0..5)
        .map(|_| {
            let origin = origin.clone();
            tokio::spawn(async move { ask(&origin, "ping").await })
        })
        .collect();
    // All five are at the server at once: none waits for another's answer.
    let mut pens = Vec::new();
    for _ in 0..5 {
        pens.push(within(server.request()).await.1);
    }
    assert_eq!(origin.opened(), 3);
    drop(pens);
    for send in sends {
        within(send).await.unwrap();
    }
    // The places are free again.
    let send = tokio::spawn({
        let origin = origin.clone();
        async move { ask(&origin, "ping").await }
    });
    drop(within(server.request()).await);
    within(send).await.unwrap();
    assert_eq!(origin.opened(), 3);
}

#[tokio::test]
async fn dropping_an_answer_resets_its_stream_only() {
    let (_authority, mut server, origin) = start(100).await;
    let send = |origin: &Origin| {
        let origin = origin.clone();
        tokio::spawn(async move { origin.send(post("ping"), AMPLE).await.unwrap() })
    };
    let kept = send(&origin);
    let (_, kept_pen) = within(server.request()).await;
    let left = send(&origin);
    let (_, left_pen) = within(server.request()).await;
    kept_pen.send(Bytes::from_static(b"one ")).unwrap();
    left_pen.send(Bytes::from_static(b"one ")).unwrap();
    let mut left = within(left).await.unwrap().into_body();
    left.frame().await.unwrap().unwrap();
    drop(left);
    within(server.dropped()).await;
    kept_pen.send(Bytes::from_static(b"two")).unwrap();
    drop(kept_pen);
    assert_eq!(within(text(within(kept).await.unwrap())).await, "one two");
    assert_eq!(origin.opened(), 1);
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let authority = Authority::new();
    let mut server = Server::start(Some(authority.server()), Limits::default(), AMPLE).await;
    let options = Options { h2_idle: Duration::from_millis(5), ..Options::default() };
    let origin = authority.pool(&BOTH, options).origin(&server.uri("https")).unwrap();
    let send = tokio::spawn(async move { ask(&origin, "ping").await });
    drop(within(server.request()).await);
    within(send).await.unwrap();
    within(async {
        while server.load.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A stream that the peer refuses was never begun (RFC 9113 §8.7), so it is sent again, on another connection.
#[tokio::test]
async fn a_refused_stream_is_repeated() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let config = server_config(&authority);
    tokio::spawn(async move {
        let mut refused = false;
        while let Ok((stream, _)) = listener.accept().await {
            let stream = TlsAcceptor::from(config.clone()).accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let refuse = !std::mem::replace(&mut refused, true);
            tokio::spawn(async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if refuse {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    } else {
                        let mut body = respond.send_response(Response::new(()), false).unwrap();
                        body.send_data(Bytes::from_static(b"fine"), true).unwrap();
                    }
                }
            });
        }
    });
    let origin = authority.pool(&BOTH, Options::default()).origin(&uri.parse().unwrap()).unwrap();
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    assert_eq!(origin.opened(), 2);
}

/// What is done with the first connection of a server, once a stream on it has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// GOAWAY; what has begun goes on (RFC 9113 §6.8).
    Graceful,
    /// GOAWAY and the end of everything.
    Abrupt,
}

/// A server whose first connection ends so after its first stream has said `one `; `two` follows when it is told. All
/// else is answered with `fine`.
async fn ending(authority: &Authority, ending: Ending) -> (Origin, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let (config, (tell, told)) = (server_config(authority), oneshot::channel());
    tokio::spawn(async move {
        let mut told = Some(told);
        while let Ok((stream, _)) = listener.accept().await {
            let stream = TlsAcceptor::from(config.clone()).accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut told = told.take();
            tokio::spawn(async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    let Some(told) = told.take() else {
                        body.send_data(Bytes::from_static(b"fine"), true).unwrap();
                        continue;
                    };
                    body.send_data(Bytes::from_static(b"one "), false).unwrap();
                    match ending {
                        Ending::Graceful => connection.graceful_shutdown(),
                        Ending::Abrupt => connection.abrupt_shutdown(h2::Reason::NO_ERROR),
                    }
                    tokio::spawn(async move {
                        let _ = told.await;
                        let _ = body.send_data(Bytes::from_static(b"two"), true);
                    });
                }
            });
        }
    });
    (authority.pool(&BOTH, Options::default()).origin(&uri.parse().unwrap()).unwrap(), tell)
}

#[tokio::test]
async fn a_connection_that_is_told_to_go_lets_its_stream_end_and_takes_no_more() {
    let authority = Authority::new();
    let (origin, tell) = ending(&authority, Ending::Graceful).await;
    let begun = within(origin.send(post("ping"), AMPLE)).await.unwrap();
    // Until the word is there a request may still go on the old one, which answers it.
    within(async {
        while origin.opened() < 2 {
            assert_eq!(ask(&origin, "ping").await, "fine");
        }
    })
    .await;
    tell.send(()).unwrap();
    assert_eq!(within(text(begun)).await, "one two");
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    assert_eq!(origin.opened(), 2);
}

#[tokio::test]
async fn a_connection_that_goes_at_once_breaks_its_stream_and_no_other() {
    let authority = Authority::new();
    let (origin, _tell) = ending(&authority, Ending::Abrupt).await;
    // It may break before its head is here, or behind it; either way it is never whole.
    if let Ok(begun) = within(origin.send(post("ping"), AMPLE)).await {
        assert!(within(begun.into_body().collect()).await.is_err(), "a part passed for the whole");
    }
    for _ in 0..3 {
        assert_eq!(within(ask(&origin, "ping")).await, "fine");
    }
}

fn server_config(authority: &Authority) -> std::sync::Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let cert = CertificateDer::from_pem_file(authority.path("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path("key.pem")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    std::sync::Arc::new(config)
}
