//! HTTP/2 connections of the pool: shared by streams, as many as the peer allows.

use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::{Failed, HEAD_LIMIT, Inner, SendError};
use crate::net::body::{Answer, UpstreamBody};
use crate::net::dial::Target;
use crate::net::wire::{Watch, Wire};

/// What one stream may have unread before its upstream must wait, in bytes: bounds the memory of a slow client, and
/// carries 2.5 MB/s at 100 ms round trip.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What of a request's body may lie in h2's buffer, per stream, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// How often a connection with open streams is asked whether it lives, and how long it has to answer: a long thought
/// without a byte must not hide a dead path.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(10);

type Connection = http2::Connection<TokioIo<Wire>, UpstreamBody, TokioExecutor>;

/// A connection that several requests use at once.
#[derive(Debug)]
pub(super) struct Shared {
    sender: http2::SendRequest<UpstreamBody>,
    /// The streams that the peer allows: 1 until its SETTINGS have come.
    limit: AtomicUsize,
    active: AtomicUsize,
    /// Streams ever reserved: tells the driver whether it was used between two looks.
    uses: AtomicU64,
    /// The peer takes no new streams.
    retired: AtomicBool,
}

/// A stream's place on a connection, given back when dropped.
#[derive(Debug)]
pub(in crate::net) struct Slot(Arc<Shared>);

/// A place on the first connection that has one. Called under the origin's lock, which makes the count exact.
pub(super) fn reserve(connections: &[Arc<Shared>], most: usize) -> Option<Slot> {
    connections
        .iter()
        .find(|shared| {
            !shared.retired.load(Ordering::Relaxed)
                && shared.active.load(Ordering::Acquire) < shared.limit.load(Ordering::Acquire).min(most)
                && !shared.sender.is_closed()
        })
        .map(|shared| {
            shared.active.fetch_add(1, Ordering::AcqRel);
            shared.uses.fetch_add(1, Ordering::Relaxed);
            Slot(Arc::clone(shared))
        })
}

/// Opens HTTP/2 on a byte stream, spawns the task that drives it, and returns the first place on it. Others find it
/// once its stream limit is known; then the `gate` opens too.
pub(super) async fn open(
    wire: Wire,
    origin: &Arc<Inner>,
    gate: Option<OwnedMutexGuard<()>>,
) -> Result<Slot, SendError> {
    let watch = wire.watch();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // The peer's SETTINGS replace it; until then one stream is all that surely will not queue.
        .initial_max_send_streams(1)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEAD_LIMIT as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(SendError::Protocol)?;
    let shared = Arc::new(Shared {
        sender,
        limit: AtomicUsize::new(1),
        active: AtomicUsize::new(1),
        uses: AtomicU64::new(1),
        retired: AtomicBool::new(false),
    });
    tokio::spawn(drive(connection, Arc::clone(&shared), Arc::clone(origin), watch, gate));
    Ok(Slot(shared))
}

/// Moves requests onto the connection, follows its stream limit, and ends it when it has idled for too long.
async fn drive(
    connection: Connection,
    shared: Arc<Shared>,
    origin: Arc<Inner>,
    watch: Arc<Watch>,
    mut gate: Option<OwnedMutexGuard<()>>,
) {
    let mut connection = pin!(connection);
    let mut settled = pin!(watch.settled.notified());
    let mut published = false;
    let period = origin.options.h2_idle;
    let mut look = pin!(tokio::time::sleep(period));
    let mut seen = 0;
    poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        shared.limit.store(connection.current_max_send_streams(), Ordering::Release);
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if !published && settled.as_mut().poll(cx).is_ready() {
            published = true;
            shared.limit.store(connection.current_max_send_streams(), Ordering::Release);
            origin.state().shared.push(Arc::clone(&shared));
            gate = None;
        }
        while look.as_mut().poll(cx).is_ready() {
            if origin.retire_unused(&shared, seen) {
                return Poll::Ready(());
            }
            seen = shared.uses.load(Ordering::Relaxed);
            look.as_mut().reset(Instant::now() + period);
        }
        Poll::Pending
    })
    .await;
    origin.retire(&shared);
}

impl Inner {
    /// No new streams on this connection; those open go on.
    fn retire(&self, shared: &Arc<Shared>) {
        shared.retired.store(true, Ordering::Relaxed);
        self.state().shared.retain(|known| !Arc::ptr_eq(known, shared));
    }

    /// Takes a connection off the list that has no stream and has had none since `seen` was counted.
    fn retire_unused(&self, shared: &Arc<Shared>, seen: u64) -> bool {
        let mut state = self.state();
        let unused = shared.active.load(Ordering::Acquire) == 0 && shared.uses.load(Ordering::Relaxed) == seen;
        if unused {
            state.shared.retain(|known| !Arc::ptr_eq(known, shared));
        }
        unused
    }
}

impl Slot {
    pub(super) async fn exchange(
        self,
        mut request: Request<UpstreamBody>,
        target: &Target,
    ) -> Result<Response<Answer>, Failed> {
        shape(&mut request, target);
        let spare = request.clone();
        let mut sender = self.0.sender.clone();
        let mut failure = match sender.try_send_request(request).await {
            Ok(answer) => return Ok(answer.map(|body| Answer::new(body, super::Lease::H2(self)))),
            Err(failure) => failure,
        };
        let unsent = failure.take_message();
        let source = failure.into_error();
        let untouched = unsent.is_some() || says_unprocessed(&source);
        if untouched {
            self.0.retired.store(true, Ordering::Relaxed);
        }
        let again = untouched.then(|| unsent.unwrap_or(spare));
        Err(Failed { error: SendError::Closed { dispatched: !untouched, source: Some(source) }, again })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the peer itself says that it has not begun with the stream: refused (RFC 9113 §8.7), or above the last
/// stream of its GOAWAY (§6.8; h2 gives a remote GOAWAY to those streams only).
fn says_unprocessed(error: &hyper::Error) -> bool {
    let Some(cause) = error.source().and_then(|source| source.downcast_ref::<::h2::Error>()) else {
        return false;
    };
    let refused = cause.is_reset() && cause.reason() == Some(::h2::Reason::REFUSED_STREAM);
    cause.is_remote() && (refused || cause.is_go_away())
}

/// Scheme and authority into the URI, where `:scheme` and `:authority` are made from; no `host`.
fn shape(request: &mut Request<UpstreamBody>, target: &Target) {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(target.scheme.clone());
    parts.authority = Some(target.authority.clone());
    parts.path_and_query = Some(path);
    // Cannot fail: scheme, authority and path are all there.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
}
