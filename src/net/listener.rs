//! The clients' door: accepts connections, serves HTTP/1.1 and HTTP/2 on them, and closes without cutting anyone off.
//!
//! Every step before a request is whole has its time limit: the TLS handshake, the first byte, the head. The time for
//! a request's *body* and the size of it belong to the service, which knows whose request it is.
//!
//! A client that goes away drops its service future or response body at once (hyper watches for the end of the stream
//! while an answer is under way), and with it whatever the service holds upstream.

mod linger;
mod session;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::tls::ServerTls;

/// Connections that the kernel may hold for us before `accept`.
const BACKLOG: u32 = 1024;
/// How often the certificate's files are read again; Kubernetes exchanges a mounted secret within a minute.
const RELOAD_EVERY: Duration = Duration::from_secs(30);
/// How long to wait when the process has no file descriptor left for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// What a plain client beyond the limit reads.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    x-should-retry: true\r\nconnection: close\r\ncontent-length: 125\r\n\r\n\
    {\"error\":{\"message\":\"this gateway has no connection left; try again\",\"type\":\"server_error\",\
    \"param\":null,\"code\":\"overloaded\"}}";

/// The client's address, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What a client may take, and how long it may take for it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; the next is answered 503 (plain) or closed (TLS).
    pub connections: usize,
    /// From the end of an answer, or the connection's begin, to the end of the next request's head. Thus also how
    /// long an idle connection is kept.
    pub header_timeout: Duration,
    /// From the connection's begin to the end of the TLS handshake.
    pub tls_handshake: Duration,
    /// The head of a request, in bytes; more is 431. Also the largest piece in which a body is read. Not below 8192.
    pub head_bytes: usize,
    /// Streams at once on one HTTP/2 connection.
    pub h2_streams: u32,
    /// Streams that an HTTP/2 client may reset before they are accepted; more ends the connection (rapid reset).
    pub h2_resets: usize,
    /// How often an HTTP/2 client is asked whether it lives; it has the same time to answer.
    pub h2_ping: Duration,
    /// How long what was sent may stay untaken: a client that stops reading is let go, and with it what the service
    /// holds upstream.
    pub reader_stall: Duration,
    /// Where [`serve`] counts. Keep a clone to read it.
    pub load: Arc<Load>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            header_timeout: Duration::from_secs(30),
            tls_handshake: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            h2_streams: 128,
            h2_resets: 20,
            h2_ping: Duration::from_secs(20),
            reader_stall: Duration::from_secs(60),
            load: Arc::default(),
        }
    }
}

/// What is open now.
#[derive(Debug, Default)]
pub struct Load {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Load {
    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests whose answer has not ended.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// One unit of [`Load`], taken back when dropped.
#[derive(Debug)]
struct Counted {
    load: Arc<Load>,
    which: fn(&Load) -> &AtomicUsize,
}

impl Counted {
    fn connection(load: &Arc<Load>) -> Counted {
        Counted::enter(load, |load| &load.connections)
    }

    fn request(load: &Arc<Load>) -> Counted {
        Counted::enter(load, |load| &load.requests)
    }

    fn enter(load: &Arc<Load>, which: fn(&Load) -> &AtomicUsize) -> Counted {
        which(load).fetch_add(1, Ordering::Relaxed);
        Counted { load: Arc::clone(load), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.load).fetch_sub(1, Ordering::Relaxed);
    }
}

/// How [`serve`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open when the drain time was over, and were cut.
    pub cut: usize,
}

/// Listens on `addr`; port 0 takes a free one. Must run inside a tokio runtime.
///
/// # Errors
/// The system's error, with the address in its text.
pub async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the last connections' TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| io::Error::new(error.kind(), format!("cannot listen on `{addr}`: {error}")))
}

/// Serves connections until `shutdown` turns true (or its sender is gone) and then until they are drained: idle ones
/// close at once, others after the request under way (HTTP/2: GOAWAY), and what is left after `drain` is cut. A connection
/// that is open for its client and has not asked yet, accepted or not, has a second to do so.
///
/// The certificate's files are looked at again every 30 seconds. A task is spawned per connection; none outlives this
/// future.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    drain: Duration,
    service: S,
) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let protocols = Arc::new(session::Protocols::new(&limits));
    let stop = shutdown.clone();
    let mut sessions = JoinSet::new();
    let enter = |sessions: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr| {
        if limits.load.connections() >= limits.connections {
            refuse(&stream, tls.is_some());
            return;
        }
        let open = Counted::connection(&limits.load);
        let tls = tls.as_ref().map(|tls| tls.current());
        let (protocols, stop, service) = (Arc::clone(&protocols), stop.clone(), service.clone());
        // Called in the task: a future that is handed over lies twice in it.
        sessions.spawn(async move {
            session::run(stream, peer, tls, protocols, stop, service).await;
            drop(open);
        });
    };
    let mut reload = interval_at(Instant::now() + RELOAD_EVERY, RELOAD_EVERY);
    reload.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(ended) = sessions.join_next() => report(ended),
            _ = reload.tick(), if tls.is_some() => reload_certificate(tls.clone()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => enter(&mut sessions, stream, peer),
                Err(error) => pause_after(&error).await,
            },
        }
    }
    for (stream, peer) in last_comers(listener) {
        enter(&mut sessions, stream, peer);
    }
    let drained = timeout(drain, async { while sessions.join_next().await.is_some() {} }).await;
    let cut = if drained.is_ok() { 0 } else { sessions.len() };
    sessions.shutdown().await;
    Drained { cut }
}

/// Closes the listener and gives the connections that it had taken without us: for their clients they are open, and
/// closing it resets them. What completes its handshake in the microseconds between the last look and the close is reset
/// all the same; there is no call that does both.
fn last_comers(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut waiting = Vec::new();
    while let Ok(accepted) = listener.accept() {
        waiting.push(accepted);
    }
    drop(listener);
    let nonblocking = |(stream, peer): (std::net::TcpStream, SocketAddr)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    waiting.into_iter().filter_map(nonblocking).collect()
}

/// Resolves when the value turns true, or when nobody is left to turn it.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// A session never fails; a panic in one is a fault of ours that must not pass in silence.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a client's connection ended in a panic");
    }
}

fn refuse(stream: &TcpStream, tls: bool) {
    if !tls {
        // One try: a client that we cannot serve is not worth waiting for.
        let _ = stream.try_write(OVERLOADED);
    }
}

/// An error of `accept` is either one client's, gone before we came, or the want of a descriptor, which only time
/// mends.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

fn reload_certificate(tls: Option<Arc<ServerTls>>) {
    // Off the reactor, since it reads files.
    tokio::task::spawn_blocking(move || match tls.as_deref().map(ServerTls::reload) {
        Some(Ok(true)) => tracing::info!("the listener has a new certificate"),
        Some(Err(error)) => tracing::warn!(%error, "the listener keeps its certificate"),
        Some(Ok(false)) | None => {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overload_answer_has_the_length_that_it_claims() {
        let text = std::str::from_utf8(OVERLOADED).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "body has {} bytes", body.len());
        let error: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(error["error"]["code"], "overloaded");
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_error() {
        let held = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = held.local_addr().unwrap();
        let error = bind(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on `{addr}`: ")));
    }
}
