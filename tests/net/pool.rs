//! The pool over HTTP/1.1: reuse, the keep-alive race, and connections that close with their client.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use turnpike::net::body::UpstreamBody;
use turnpike::net::listener::Limits;
use turnpike::net::pool::{Options, SendError};

use crate::support::{
    AMPLE, Authority, Server, answer, ask, plain_pool, post, read_request, read_to_close, scripted, serve_each, within,
};

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_was_read() {
    let (listener, uri) = scripted().await;
    let count = serve_each(listener, |_, mut stream| async move {
        while let Some(request) = read_request(&mut stream, 4).await {
            assert!(request.starts_with("POST /v1/chat/completions?q=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("host: 127.0.0.1:") && request.contains("content-length: 4"), "{request}");
            answer(&mut stream, "fine").await;
        }
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    for _ in 0..5 {
        assert_eq!(within(ask(&origin, "ping")).await, "fine");
    }
    assert_eq!((count.load(Ordering::SeqCst), origin.opened(), origin.idle()), (1, 1, 1));
}

/// The last byte of an answer reaches its reader a moment before the connection is ready again; on two threads the
/// next request may come in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_as_many_connections() {
    let (listener, uri) = scripted().await;
    let count = serve_each(listener, |_, mut stream| async move {
        while read_request(&mut stream, 4).await.is_some() {
            answer(&mut stream, "fine").await;
        }
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    let askers: Vec<_> = (0..32)
        .map(|_| {
            let origin = origin.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    assert_eq!(ask(&origin, "ping").await, "fine");
                }
            })
        })
        .collect();
    for asker in askers {
        within(asker).await.unwrap();
    }
    let opened = count.load(Ordering::SeqCst);
    assert!(opened <= 64, "3200 requests took {opened} connections");
}

#[tokio::test]
async fn the_pieces_of_a_body_arrive_as_one() {
    let (listener, uri) = scripted().await;
    let pool = plain_pool(Options::default());
    let pieces = vec![Bytes::from_static(b"{\"model\":"), Bytes::from(vec![b'x'; 300_000]), Bytes::from_static(b"}")];
    let total: usize = pieces.iter().map(Bytes::len).sum();
    let mut request = Request::post(uri).body(UpstreamBody::new(pieces)).unwrap();
    request.headers_mut().insert("host", "evil.example".parse().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream, total).await.unwrap();
        answer(&mut stream, "fine").await;
        request
    });
    within(pool.send(request, AMPLE)).await.unwrap();
    let request = within(server).await.unwrap();
    assert!(request.contains(&format!("content-length: {total}\r\n")));
    assert!(!request.contains("evil.example"));
    assert!(request.ends_with("xxx}"));
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_is_repeated_once() {
    let (listener, uri) = scripted().await;
    let count = serve_each(listener, |_, mut stream| async move {
        read_request(&mut stream, 4).await.unwrap();
        answer(&mut stream, "fine").await;
        // The second request on a connection finds it closing.
        let _ = stream.read(&mut [0; 16]).await;
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_an_error_and_no_repetition() {
    let (listener, uri) = scripted().await;
    let count = serve_each(listener, |_, mut stream| async move {
        read_request(&mut stream, 4).await;
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    let error = within(origin.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(matches!(error, SendError::Closed { dispatched: true, .. }), "{error:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_repeated() {
    let (listener, uri) = scripted().await;
    let count = serve_each(listener, |_, mut stream| async move {
        read_request(&mut stream, 4).await.unwrap();
        answer(&mut stream, "fine").await;
        read_request(&mut stream, 4).await.unwrap();
        stream.write_all(b"HTTP/1.1 2").await.unwrap();
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    let error = within(origin.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(error.dispatched(), "{error:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_race_window_is_not_repeated() {
    let (listener, uri) = scripted().await;
    let count = serve_each(listener, |_, mut stream| async move {
        read_request(&mut stream, 4).await.unwrap();
        answer(&mut stream, "fine").await;
        read_request(&mut stream, 4).await;
    });
    let options = Options { race_window: Duration::ZERO, ..Options::default() };
    let origin = plain_pool(options).origin(&uri.parse().unwrap()).unwrap();
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    let error = within(origin.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(matches!(error, SendError::Closed { dispatched: true, .. }), "{error:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closes_is_noticed() {
    let (listener, uri) = scripted().await;
    serve_each(listener, |_, mut stream| async move {
        read_request(&mut stream, 4).await.unwrap();
        answer(&mut stream, "fine").await;
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    within(async {
        while origin.idle() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let (listener, uri) = scripted().await;
    let (closed, is_closed) = oneshot::channel();
    let mut closed = Some(closed);
    serve_each(listener, move |_, mut stream| {
        let closed = closed.take();
        async move {
            read_request(&mut stream, 4).await.unwrap();
            answer(&mut stream, "fine").await;
            read_to_close(&mut stream).await;
            closed.unwrap().send(()).unwrap();
        }
    });
    let options = Options { h1_idle: Duration::from_millis(5), ..Options::default() };
    let origin = plain_pool(options).origin(&uri.parse().unwrap()).unwrap();
    assert_eq!(within(ask(&origin, "ping")).await, "fine");
    within(is_closed).await.unwrap();
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn dropping_an_unfinished_answer_closes_the_upstream() {
    let (listener, uri) = scripted().await;
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    let sending = tokio::spawn({
        let origin = origin.clone();
        async move { origin.send(post("ping"), AMPLE).await.unwrap() }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    read_request(&mut stream, 4).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n").await.unwrap();
    let mut answer = sending.await.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "data:");
    drop(answer);
    within(read_to_close(&mut stream)).await;
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn dropping_the_wait_for_an_answer_closes_the_upstream() {
    let (listener, uri) = scripted().await;
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    let sending = tokio::spawn(async move { origin.send(post("ping"), AMPLE).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    read_request(&mut stream, 4).await.unwrap();
    sending.abort();
    assert!(within(read_to_close(&mut stream)).await.is_empty());
}

#[tokio::test]
async fn an_upload_that_the_server_does_not_take_ends_with_its_answer() {
    let (listener, uri) = scripted().await;
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    const LENGTH: usize = 64 << 20;
    let body = UpstreamBody::from(Bytes::from(vec![b'x'; LENGTH]));
    let request = Request::post("/upload").body(body).unwrap();
    let sending = tokio::spawn(async move { origin.send(request, AMPLE).await.unwrap() });
    let (mut stream, _) = listener.accept().await.unwrap();
    let taken = read_request(&mut stream, 0).await.unwrap().len();
    answer(&mut stream, "too large").await;
    // Left to hyper, the rest of the body would still be sent.
    drop(within(sending).await.unwrap());
    assert!(taken + within(read_to_close(&mut stream)).await.len() < LENGTH);
}

#[tokio::test]
async fn errors_before_the_dispatch_say_so() {
    let (listener, uri) = scripted().await;
    let pool = plain_pool(Options::default());
    let tls = pool.origin(&uri.replace("http:", "https:").parse().unwrap()).unwrap();
    // The kernel accepts, nobody shakes hands.
    let silent = within(tls.send(post("ping"), Duration::from_millis(10))).await.unwrap_err();
    assert!(matches!(silent, SendError::Timeout), "{silent:?}");
    assert!(!silent.dispatched());
    drop(listener);
    let plain = pool.origin(&uri.parse().unwrap()).unwrap();
    let refused = within(plain.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(matches!(refused, SendError::Connect(_)), "{refused:?}");
    assert!(!refused.dispatched());
}

#[tokio::test]
async fn what_is_not_http_is_a_breach_of_protocol() {
    for reply in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\nx: y\r\nno colon\r\n\r\n"] {
        let (listener, uri) = scripted().await;
        serve_each(listener, move |_, mut stream| async move {
            read_request(&mut stream, 4).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
        });
        let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
        let error = within(origin.send(post("ping"), AMPLE)).await.unwrap_err();
        assert!(matches!(error, SendError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_endless_head_is_given_up() {
    let (listener, uri) = scripted().await;
    serve_each(listener, |_, mut stream| async move {
        read_request(&mut stream, 4).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"x-filler: 0123456789abcdef0123456789abcdef\r\n").await.is_ok() {}
    });
    let origin = plain_pool(Options::default()).origin(&uri.parse().unwrap()).unwrap();
    let error = within(origin.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(matches!(error, SendError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn tls_without_h2_is_http_1_1_and_reused() {
    let authority = Authority::new();
    let mut server = Server::start(Some(authority.server()), Limits::default(), AMPLE).await;
    let pool = authority.pool(&[b"http/1.1"], Options::default());
    let origin = pool.origin(&server.uri("https")).unwrap();
    for _ in 0..3 {
        let (reply, ()) = within(async { tokio::join!(ask(&origin, "ping"), reply(&mut server)) }).await;
        assert_eq!(reply, "HTTP/1.1");
    }
    assert_eq!(origin.opened(), 1);
}

/// Answers the next request with the version that it came in.
async fn reply(server: &mut Server) {
    let (request, pen) = server.request().await;
    pen.send(Bytes::from(format!("{:?}", request.version()))).unwrap();
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let authority = Authority::new();
    let server = Server::start(Some(authority.server()), Limits::default(), AMPLE).await;
    let stranger = Authority::new().pool(&[b"h2"], Options::default());
    let origin = stranger.origin(&server.uri("https")).unwrap();
    let error = within(origin.send(post("ping"), AMPLE)).await.unwrap_err();
    assert!(matches!(error, SendError::Tls(_)), "{error:?}");
    assert!(!error.dispatched());
}
