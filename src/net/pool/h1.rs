//! HTTP/1.1 connections of the pool: one request at a time, then idle for a while.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Failed, HEAD_LIMIT, Inner, SendError};
use crate::net::body::{Answer, UpstreamBody};
use crate::net::dial::Target;
use crate::net::wire::{Watch, Wire};

/// An open connection. Dropping it lets the task that drives it end in its own time.
#[derive(Debug)]
pub(super) struct Conn {
    sender: http1::SendRequest<UpstreamBody>,
    watch: Arc<Watch>,
    driver: AbortHandle,
    id: u64,
    /// It has carried a request before, so the server may close it while the next one leaves.
    used: bool,
}

/// A connection that waits for a request.
#[derive(Debug)]
pub(super) struct Idle {
    conn: Conn,
    since: Instant,
}

/// A connection in the hands of one request. Dropped before [`Lease::finish`], it is closed at once.
#[derive(Debug)]
pub(in crate::net) struct Lease {
    conn: Option<Conn>,
    origin: Arc<Inner>,
}

/// Opens HTTP/1.1 on a byte stream and spawns the task that drives it.
pub(super) async fn open(wire: Wire, origin: &Arc<Inner>, id: u64) -> Result<Lease, SendError> {
    let watch = wire.watch();
    let mut builder = http1::Builder::new();
    // hyper's default lets a buffer grow to 400 KB per connection; a stream of events needs 8 KB.
    builder.max_buf_size(HEAD_LIMIT);
    let (sender, connection) = builder.handshake(TokioIo::new(wire)).await.map_err(SendError::Protocol)?;
    let driver = tokio::spawn(drive(connection, Arc::clone(origin), id)).abort_handle();
    let conn = Conn { sender, watch, driver, id, used: false };
    Ok(Lease::new(conn, Arc::clone(origin)))
}

/// Moves the connection's bytes, and ends it when it has idled for too long.
async fn drive(connection: http1::Connection<TokioIo<Wire>, UpstreamBody>, origin: Arc<Inner>, id: u64) {
    tokio::pin!(connection);
    // Not reset by each request: when it fires, it looks how long the connection has idled and waits for the rest.
    let look = tokio::time::sleep(origin.options.h1_idle);
    tokio::pin!(look);
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => break,
            () = &mut look => match origin.expire(id, Instant::now()) {
                Some(again) => look.as_mut().reset(again),
                None => return,
            },
        }
    }
    origin.state().idle.retain(|idle| idle.conn.id != id);
}

impl Inner {
    /// Takes connection `id` off the list if it has idled for too long (`None`), or says when to look again.
    fn expire(&self, id: u64, now: Instant) -> Option<Instant> {
        let limit = self.options.h1_idle;
        let mut state = self.state();
        let Some(place) = state.idle.iter().position(|idle| idle.conn.id == id) else {
            return Some(now + limit);
        };
        let until = state.idle[place].since + limit;
        if until > now {
            return Some(until);
        }
        state.idle.remove(place);
        None
    }

    /// Puts a connection back for the next request.
    fn park(&self, mut conn: Conn) {
        if conn.sender.is_closed() {
            return;
        }
        conn.used = true;
        let mut state = self.state();
        if state.idle.len() >= self.options.max_idle {
            state.idle.remove(0);
        }
        state.idle.push(Idle { conn, since: Instant::now() });
    }
}

/// The connection that went idle last. The latest first, so that those beyond the need grow old and go.
pub(super) fn take(idle: &mut Vec<Idle>, now: Instant, limit: Duration) -> Option<Conn> {
    for place in (0..idle.len()).rev() {
        let known = &idle[place];
        if now.duration_since(known.since) >= limit {
            // All before it are older.
            idle.drain(..=place);
            return None;
        }
        if known.conn.sender.is_closed() {
            idle.remove(place);
        } else if known.conn.sender.is_ready() {
            return Some(idle.remove(place).conn);
        }
        // Neither: its answer came before the server had taken the whole request, which still leaves.
    }
    None
}

impl Lease {
    pub(super) fn new(conn: Conn, origin: Arc<Inner>) -> Lease {
        Lease { conn: Some(conn), origin }
    }

    /// The answer was read to its end.
    pub(super) fn finish(mut self) {
        if let Some(conn) = self.conn.take() {
            self.origin.park(conn);
        }
    }

    pub(super) async fn exchange(
        mut self,
        mut request: Request<UpstreamBody>,
        target: &Target,
    ) -> Result<Response<Answer>, Failed> {
        let Some(conn) = self.conn.as_mut() else {
            return Err(Failed { error: SendError::Closed { dispatched: false, source: None }, again: None });
        };
        shape(&mut request, target);
        conn.watch.rearm();
        let started = Instant::now();
        let spare = conn.used.then(|| request.clone());
        let mut failure = match conn.sender.try_send_request(request).await {
            Ok(answer) => return Ok(answer.map(|body| Answer::new(body, super::Lease::H1(self)))),
            Err(failure) => failure,
        };
        let unsent = failure.take_message();
        let dispatched = unsent.is_none() && conn.watch.written();
        let raced = !conn.watch.read() && started.elapsed() < self.origin.options.race_window;
        let source = failure.into_error();
        let error = if unsent.is_none() && (source.is_parse() || source.is_user()) {
            SendError::Protocol(source)
        } else {
            SendError::Closed { dispatched, source: Some(source) }
        };
        let again = if conn.used && raced { unsent.or(spare) } else { None };
        Err(Failed { error, again })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Not left to hyper, which would first wait until the server has taken the rest of the request.
        if let Some(conn) = self.conn.take() {
            conn.driver.abort();
        }
    }
}

/// Origin form: the path alone in the request line, the authority in `host`.
fn shape(request: &mut Request<UpstreamBody>, target: &Target) {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HOST, target.host_header.clone());
}
