//! One client's connection, from the first byte to the last answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::{Counted, Limits, Load, Peer, linger::Lingering, stopped};
use crate::net::wire::Transport;

/// What an HTTP/2 client without TLS says first (RFC 9113 §3.4), as far as it differs from every HTTP/1.1 method.
const H2_PREFACE: &[u8] = b"PRI";
/// What one HTTP/2 stream may send ahead of its reader, in bytes; a longer prompt waits for the service to read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of an answer may wait in memory for a slow HTTP/2 reader, per stream, in bytes.
const SEND_BUFFER: usize = 16 * 1024;

/// How long after the stop a connection may take to ask for the first time: it was open for its client before.
const LAST_WORD: Duration = Duration::from_secs(1);

/// hyper's settings, made once for all connections.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls_handshake: Duration,
    first_byte: Duration,
    reader_stall: Duration,
    load: Arc<Load>,
}

impl Protocols {
    pub(super) fn new(limits: &Limits) -> Protocols {
        let mut http1 = http1::Builder::new();
        // Without a timer the header timeout does nothing. The buffer bounds the head, and with it the memory of an
        // open stream; head and first event leave in one `writev`.
        http1.timer(TokioTimer::new());
        http1.header_read_timeout(limits.header_timeout);
        http1.max_buf_size(limits.head_bytes.max(8192));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new());
        http2.max_concurrent_streams(limits.h2_streams);
        http2.max_pending_accept_reset_streams(limits.h2_resets);
        http2.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
        http2.initial_stream_window_size(STREAM_WINDOW);
        http2.initial_connection_window_size(CONNECTION_WINDOW);
        http2.max_send_buf_size(SEND_BUFFER);
        http2.keep_alive_interval(limits.h2_ping);
        http2.keep_alive_timeout(limits.h2_ping);
        Protocols {
            http1,
            http2,
            tls_handshake: limits.tls_handshake,
            first_byte: limits.header_timeout,
            reader_stall: limits.reader_stall,
            load: Arc::clone(&limits.load),
        }
    }
}

/// Serves one connection to its end. Never fails: what a client does wrong is its own affair.
pub(super) async fn run<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    protocols: Arc<Protocols>,
    mut stop: watch::Receiver<bool>,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let opened = tokio::select! {
        biased;
        // Boxed, since a connection outlives its handshake.
        opened = Box::pin(open(stream, tls, &protocols)) => opened,
        // Nothing was asked on it yet.
        () = last_word(&mut stop) => return,
    };
    let Ok((transport, h2)) = opened else {
        return;
    };
    let load = Arc::clone(&protocols.load);
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        let open = Counted::request(&load);
        request.extensions_mut().insert(Peer(peer));
        // A request with both `content-length` and `transfer-encoding` must end its connection (RFC 9112 §6.1), or a
        // proxy before us that believed the length reads answers to requests it never saw. hyper drops the length
        // before we see it, so every chunked request does; no SDK sends one.
        let last = request.headers().contains_key(TRANSFER_ENCODING);
        // Boxed, since a connection has room for one from its beginning, and a stream outlives its head.
        let answer = Box::pin(service.call(request));
        async move {
            let mut answer = answer.await?;
            if last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Tracked { body, _open: open }))
        }
    });
    let io = TokioIo::new(Lingering::new(transport));
    // Boxed, so that a task is as large as the protocol that it speaks.
    if h2 {
        converse(Box::pin(protocols.http2.serve_connection(io, service)).as_mut(), stop, &asked).await;
    } else {
        converse(Box::pin(protocols.http1.serve_connection(io, service)).as_mut(), stop, &asked).await;
    }
}

/// The byte stream, and whether HTTP/2 is spoken on it.
async fn open(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    protocols: &Protocols,
) -> io::Result<(Transport, bool)> {
    stream.set_nodelay(true)?;
    // The clocks of an answer run while it is polled, and nobody polls for a client whose window is shut: here the
    // kernel keeps the time (TCP_USER_TIMEOUT, RFC 5482).
    SockRef::from(&stream).set_tcp_user_timeout(Some(protocols.reader_stall))?;
    let Some(tls) = tls else {
        // hyper-util's own detection has no time limit, and this one reads no byte away.
        let mut first = [0; H2_PREFACE.len()];
        let seen = timeout(protocols.first_byte, stream.peek(&mut first)).await??;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok((Transport::Plain(stream), &first[..seen] == H2_PREFACE));
    };
    let stream = timeout(protocols.tls_handshake, TlsAcceptor::from(tls).accept(stream)).await??;
    let transport = Transport::Tls(Box::new(stream.into()));
    let h2 = transport.speaks_h2();
    Ok((transport, h2))
}

/// Drives a connection, and tells it to end when `stop` turns true. One that has not `asked` yet is given the time to:
/// hyper would close it at once, with a request in its socket that the client took for sent.
async fn converse<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    mut stop: watch::Receiver<bool>,
    asked: &AtomicBool,
) {
    let probe = stop.clone();
    let (mut stopped, mut last_word) = (pin!(stopped(&mut stop)), None);
    let (mut waiting, mut stopping, mut closing) = (false, false, false);
    poll_fn(|cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // Once registered, the waiter needs no poll until the value changes: a connection is polled for every event
            // of a stream, and the waiters' lock is shared by all connections.
            if !stopping && (!waiting || !matches!(probe.has_changed(), Ok(false))) {
                waiting = true;
                stopping = stopped.as_mut().poll(cx).is_ready();
            }
            if !stopping || closing {
                return Poll::Pending;
            }
            let last_word = last_word.get_or_insert_with(|| Box::pin(sleep(LAST_WORD)));
            if !asked.load(Ordering::Relaxed) && last_word.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Resolves some time after `stop` has turned true.
async fn last_word(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    sleep(LAST_WORD).await;
}

/// A response body that counts as an open request until it is gone.
struct Tracked<B> {
    body: B,
    _open: Counted,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
