//! The scripted upstream: an OpenAI-compatible server that answers, paces, stalls, cuts and lies as a test tells it.
//!
//! It listens on a free port of 127.0.0.1, speaks HTTP/1.1 and HTTP/2 (without TLS), records every request, keeps its
//! own tally of what it would have billed, and notices when its client goes away.
//!
//! ```ignore
//! let upstream = Upstream::start().await;
//! upstream.push(Script::says("half an answer").cut_after_events(3));
//! upstream.always(Script::says("a whole answer"));
//! ```

#![allow(dead_code, reason = "each target that includes the module uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod body;
mod script;
mod tally;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub use script::{Fault, Script};
pub use tally::{Received, Tally};

use body::{Aborted, Play};
use script::Head;
use tally::Bill;

/// Where engines are asked how they are.
const PAGES: &[&str] = &["/health", "/ready", "/api/version", "/metrics", "/slots"];

type Chooser = dyn Fn(&Received) -> Script + Send + Sync;

/// A running scripted upstream. Dropping it closes its port and its connections.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

/// What its connections share.
struct Shared {
    queue: Mutex<VecDeque<Script>>,
    otherwise: Mutex<Arc<Chooser>>,
    received: Mutex<Vec<Received>>,
    /// What a GET of a path is answered with; the others of [`PAGES`] are 404.
    pages: Mutex<HashMap<String, Script>>,
    tally: watch::Sender<Tally>,
}

impl Upstream {
    /// Starts one that answers `hello` until told otherwise.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts one at that address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            otherwise: Mutex::new(Arc::new(|_| Script::says("hello"))),
            received: Mutex::default(),
            pages: Mutex::default(),
            tally: watch::Sender::new(Tally::default()),
        });
        let listener = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, listener }
    }

    /// The base URL as an SDK takes it.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request that no earlier push has claimed is answered so.
    pub fn push(&self, script: Script) {
        self.shared.queue.lock().unwrap().push_back(script);
    }

    /// Requests are answered so whenever nothing is pushed.
    pub fn always(&self, script: Script) {
        self.choose(move |_| script.clone());
    }

    /// Requests are answered as `chooser` says whenever nothing is pushed.
    pub fn choose(&self, chooser: impl Fn(&Received) -> Script + Send + Sync + 'static) {
        *self.shared.otherwise.lock().unwrap() = Arc::new(chooser);
    }

    /// A GET of this path is answered so from now on; it is in no tally.
    pub fn page(&self, path: &str, script: Script) {
        self.shared.pages.lock().unwrap().insert(path.to_owned(), script);
    }

    /// All requests so far, but for those of pages.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only_request(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "requests that the upstream has seen: {received:#?}");
        received.into_iter().next().unwrap()
    }

    /// What it has seen and would have billed.
    pub fn tally(&self) -> Tally {
        self.shared.tally.borrow().clone()
    }

    /// Waits until the tally fulfils `condition`.
    ///
    /// # Panics
    /// After two minutes: the condition is not going to be fulfilled.
    pub async fn until(&self, condition: impl Fn(&Tally) -> bool) -> Tally {
        let mut tally = self.shared.tally.subscribe();
        let waited = tokio::time::timeout(std::time::Duration::from_secs(120), tally.wait_for(condition)).await;
        match waited {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("the upstream waited in vain; its tally: {:?}", self.tally()),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).unwrap();
        let reset = Arc::new(AtomicBool::new(false));
        let wire = TokioIo::new(Wire { stream, reset: reset.clone() });
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, shared.clone(), reset.clone()));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that fails is what most scripts are for.
            let _ = server.serve_connection(wire, service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one request as its script says.
async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> Result<Response<Play>, Aborted> {
    let (head, body) = request.into_parts();
    let mut bill = Bill::open(shared.tally.clone());
    let Ok(body) = body.collect().await else { return Err(Aborted) };
    let received = Received::new(head, body.to_bytes());
    let page = shared.pages.lock().unwrap().get(&received.path).cloned();
    if received.method == Method::GET && (page.is_some() || PAGES.contains(&&*received.path)) {
        return play(page.unwrap_or_else(|| Script::raw(404, "text/plain", "")), &received, bill, reset).await;
    }
    bill.name(received.model());
    let script = shared.script(&received);
    shared.received.lock().unwrap().push(received.clone());
    bill.arrived();
    play(script, &received, bill, reset).await
}

/// Answers as the script says.
async fn play(
    script: Script,
    received: &Received,
    mut bill: Bill,
    reset: Arc<AtomicBool>,
) -> Result<Response<Play>, Aborted> {
    if let Some(gate) = &script.gate {
        gate.open().await;
    }
    match script.head {
        Head::Send => {}
        Head::Stall => match std::future::pending::<Infallible>().await {},
        Head::HangUp => {
            bill.close();
            return Err(Aborted);
        }
        Head::Reset => {
            reset.store(true, Ordering::Release);
            bill.close();
            return Err(Aborted);
        }
    }
    let rendered = script.render(received);
    let mut response = Response::builder().status(script.status);
    for (name, value) in &rendered.headers {
        response = response.header(name, value);
    }
    bill.prompt(rendered.prompt_tokens);
    Ok(response.body(Play::new(rendered.steps, bill, reset)).unwrap())
}

impl Shared {
    fn script(&self, received: &Received) -> Script {
        if let Some(script) = self.queue.lock().unwrap().pop_front() {
            return script;
        }
        let chooser = self.otherwise.lock().unwrap().clone();
        chooser(received)
    }
}

/// Holds an answer back until the test lets it go.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed one.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody through, now and later.
    pub fn release(&self) {
        self.0.send_replace(true);
    }

    async fn open(&self) {
        let mut open = self.0.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
}

/// A connection that can end in a reset instead of an orderly close.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Acquire) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
