//! Connections to upstreams, kept and shared per origin.
//!
//! hyper's stock client opens one HTTP/2 connection per host and queues in silence at its stream limit; answers of
//! language models are long, so a queued request would wait for minutes. This pool counts the streams and opens
//! another connection instead. An HTTP/1.1 connection serves one request at a time and comes back when its answer has
//! been read to the end; which of the two is spoken the TLS handshake decides (ALPN), plain `http://` is HTTP/1.1.
//!
//! **The one repetition.** An upstream may close an idle connection in the moment in which a request leaves on it.
//! The pool, and nobody above it, repeats such a request, once, on a connection that is not from the idle list, if
//! - the connection had been used before, and no byte of an answer came, and
//! - the request surely never reached the server, or the connection broke within [`Options::race_window`] of the dispatch:
//!   an upstream that dies after thinking for longer has begun the work, and a repetition might be billed twice.
//!
//! On HTTP/2 only what the peer itself calls unprocessed (REFUSED_STREAM, above the GOAWAY's last stream) is repeated.
//!
//! Time limits: `connect` covers look-up, TCP, TLS and the wait for a connection. The wait for an answer's head and
//! body belongs to the caller, who drops the future or the [`Answer`]: that closes the connection or resets the stream.

mod h1;
mod h2;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::body::{Answer, UpstreamBody};
pub use super::dial::OriginError;
use super::dial::{Target, dial};

/// The most that the head of an answer may take, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: nothing was sent, nothing is billed.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// No connection within the `connect` limit.
    #[error("no connection within the time limit")]
    Timeout,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// The connection broke before the head of an answer was complete.
    #[error("the connection closed before the answer")]
    Closed {
        /// Whether a byte of the request may have reached the server.
        dispatched: bool,
        /// What hyper saw, if it saw anything.
        source: Option<hyper::Error>,
    },
    /// The upstream answered with something that is not HTTP, or broke its rules.
    #[error("the answer breaks the protocol: {0}")]
    Protocol(#[source] hyper::Error),
    /// The request's URI names no origin; only [`Pool::send`] finds this out.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

impl SendError {
    /// `false` if surely nothing reached the server, so that nothing can have been billed.
    pub fn dispatched(&self) -> bool {
        match self {
            SendError::Connect(_) | SendError::Timeout | SendError::Tls(_) | SendError::Origin(_) => false,
            SendError::Closed { dispatched, .. } => *dispatched,
            SendError::Protocol(_) => true,
        }
    }
}

/// How a pool keeps its connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// An HTTP/1.1 connection idle for longer is closed. Below the 5 s after which many servers close theirs.
    pub h1_idle: Duration,
    /// An HTTP/2 connection without a stream is closed after between once and twice this time.
    pub h2_idle: Duration,
    /// The most idle HTTP/1.1 connections per origin; the oldest goes.
    pub max_idle: usize,
    /// The most streams on one HTTP/2 connection, where the peer allows more.
    pub h2_streams: usize,
    /// How soon after the dispatch on a used connection a break passes as a keep-alive race.
    pub race_window: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            h1_idle: Duration::from_secs(4),
            h2_idle: Duration::from_secs(60),
            max_idle: 1024,
            h2_streams: 100,
            race_window: Duration::from_secs(1),
        }
    }
}

/// Scheme, name and port, and the host that is dialled.
type Key = (Scheme, Authority, Box<str>);

/// All origins of the process. A clone is the same pool.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tls: Arc<ClientConfig>,
    options: Options,
    // Weak, so that an endpoint that has left the policies (or DNS) goes with its last connection.
    origins: Mutex<HashMap<Key, Weak<Inner>>>,
}

impl Pool {
    /// A pool with the usual [`Options`].
    pub fn new(tls: Arc<ClientConfig>) -> Pool {
        Pool::with_options(tls, Options::default())
    }

    /// A pool with these options.
    pub fn with_options(tls: Arc<ClientConfig>, options: Options) -> Pool {
        Pool(Arc::new(Shared { tls, options, origins: Mutex::default() }))
    }

    /// The origin of `uri`, whose path is ignored. Resolve it when policies load and keep it: sending on it looks
    /// nothing up. Two calls for the same origin give the same connections.
    ///
    /// # Errors
    /// [`OriginError`] if the URI has no host, or a scheme other than `http` and `https`.
    pub fn origin(&self, uri: &Uri) -> Result<Origin, OriginError> {
        self.origin_called(uri, None)
    }

    /// The same for a server that is called `name`: the address of `uri` is dialled, and the name is what its certificate
    /// has to be for and what it is told as the host.
    ///
    /// # Errors
    /// As [`Pool::origin`]; also if no host can have that name.
    pub fn origin_called(&self, uri: &Uri, name: Option<&str>) -> Result<Origin, OriginError> {
        let target = Target::from_uri(uri)?;
        let target = if let Some(name) = name { target.called(name)? } else { target };
        let mut origins = lock(&self.0.origins);
        let key = (target.scheme.clone(), target.authority.clone(), target.host().into());
        if let Some(known) = origins.get(&key).and_then(Weak::upgrade) {
            return Ok(Origin(known));
        }
        origins.retain(|_, origin| origin.strong_count() > 0);
        let made = Arc::new(Inner {
            target,
            tls: Arc::clone(&self.0.tls),
            options: self.0.options.clone(),
            state: Mutex::default(),
            gate: Arc::default(),
            opened: AtomicU64::new(0),
        });
        origins.insert(key, Arc::downgrade(&made));
        Ok(Origin(made))
    }

    /// Sends one request to the origin of its URI and resolves with the head of the answer.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, request: Request<UpstreamBody>, connect: Duration) -> Result<Response<Answer>, SendError> {
        let origin = self.origin(request.uri())?;
        origin.send(request, connect).await
    }
}

/// One origin and its connections. A clone is the same origin.
#[derive(Clone, Debug)]
pub struct Origin(Arc<Inner>);

impl Origin {
    /// Sends one request and resolves with the head of the answer. Of the request's URI only path and query count,
    /// and `host` is set here; no other header is touched. `connect` limits the way to a connection, not the answer.
    ///
    /// Dropping the future cancels the request at the upstream.
    ///
    /// # Errors
    /// [`SendError`], after the one repetition that the module describes.
    pub async fn send(&self, request: Request<UpstreamBody>, connect: Duration) -> Result<Response<Answer>, SendError> {
        self.send_noting(request, connect, || ()).await
    }

    /// The same; `begins` is called whenever there is a connection, right before anything is written on it. Whoever
    /// drops the future before then has sent nothing.
    ///
    /// # Errors
    /// As [`Origin::send`].
    pub async fn send_noting(
        &self,
        request: Request<UpstreamBody>,
        connect: Duration,
        mut begins: impl FnMut(),
    ) -> Result<Response<Answer>, SendError> {
        let mut left = request;
        let mut fresh = false;
        loop {
            let link = match self.0.take(fresh) {
                Some(link) => link,
                // Boxed, as it is rare and large, and would be a part of every request's future.
                None => Box::pin(self.0.connect(fresh, connect)).await?,
            };
            begins();
            match link.exchange(left, &self.0.target).await {
                Ok(answer) => return Ok(answer),
                Err(Failed { again: Some(again), .. }) if !fresh => (left, fresh) = (again, true),
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Connections opened since the origin was made.
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// HTTP/1.1 connections that wait for a request now.
    pub fn idle(&self) -> usize {
        lock(&self.0.state).idle.len()
    }
}

/// An exchange that brought no answer.
#[derive(Debug)]
struct Failed {
    error: SendError,
    /// The request, if it may be sent once more.
    again: Option<Request<UpstreamBody>>,
}

/// A connection, or a stream's place on one, taken for one request.
#[derive(Debug)]
enum Link {
    H1(h1::Lease),
    H2(h2::Slot),
}

impl Link {
    async fn exchange(self, request: Request<UpstreamBody>, target: &Target) -> Result<Response<Answer>, Failed> {
        match self {
            Link::H1(lease) => lease.exchange(request, target).await,
            Link::H2(slot) => slot.exchange(request, target).await,
        }
    }
}

/// What an answer's body holds of its connection until its end.
#[derive(Debug)]
pub(super) enum Lease {
    H1(h1::Lease),
    H2(h2::Slot),
}

impl Lease {
    /// The answer was read to its end.
    pub(super) fn finish(self) {
        match self {
            Lease::H1(lease) => lease.finish(),
            Lease::H2(slot) => drop(slot),
        }
    }
}

#[derive(Debug)]
struct Inner {
    target: Target,
    tls: Arc<ClientConfig>,
    options: Options,
    state: Mutex<State>,
    /// Held by whoever opens a connection that may become HTTP/2, until its stream limit is known: those who come
    /// meanwhile wait and share it, where they would each have opened one.
    gate: Arc<tokio::sync::Mutex<()>>,
    opened: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Idle HTTP/1.1 connections, the latest at the end.
    idle: Vec<h1::Idle>,
    /// HTTP/2 connections that take streams.
    shared: Vec<Arc<h2::Shared>>,
    /// The origin has been seen to choose HTTP/1.1, so nobody need wait at the gate.
    h1_only: bool,
}

impl Inner {
    /// A new connection for one request, within `limit`.
    async fn connect(self: &Arc<Inner>, fresh: bool, limit: Duration) -> Result<Link, SendError> {
        match tokio::time::timeout(limit, self.open(fresh)).await {
            Ok(opened) => opened,
            Err(_) => Err(SendError::Timeout),
        }
    }

    /// A connection that is there. `fresh` passes over the idle list.
    fn take(self: &Arc<Inner>, fresh: bool) -> Option<Link> {
        let mut state = lock(&self.state);
        if let Some(slot) = h2::reserve(&state.shared, self.options.h2_streams) {
            return Some(Link::H2(slot));
        }
        if fresh {
            return None;
        }
        let conn = h1::take(&mut state.idle, Instant::now(), self.options.h1_idle)?;
        drop(state);
        Some(Link::H1(h1::Lease::new(conn, Arc::clone(self))))
    }

    async fn open(self: &Arc<Inner>, fresh: bool) -> Result<Link, SendError> {
        let gate = if self.target.is_tls() && !lock(&self.state).h1_only {
            let held = Arc::clone(&self.gate).lock_owned().await;
            if let Some(link) = self.take(fresh) {
                return Ok(link);
            }
            Some(held).filter(|_| !lock(&self.state).h1_only)
        } else {
            None
        };
        let wire = dial(&self.target, &self.tls).await?;
        let id = self.opened.fetch_add(1, Ordering::Relaxed);
        if wire.speaks_h2() {
            return Ok(Link::H2(h2::open(wire, self, gate).await?));
        }
        lock(&self.state).h1_only = true;
        Ok(Link::H1(h1::open(wire, self, id).await?))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A lock that a panic elsewhere does not poison: what it guards are lists, whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
