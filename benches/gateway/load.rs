//! The load generator: closed loops over keep-alive connections that count every answer and believe none unread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::calm::Mutex;
use crate::answer::{Answer, Connection};
use crate::upstream::{ANSWER_BYTES, CLOSING_EVENTS, WORDS};

/// Bytes of a request's body.
pub const REQUEST_BYTES: usize = 1_000;
/// Failed requests after which a loop gives up.
const ERROR_LIMIT: u64 = 50;
/// How long running exchanges may take once a load is told to stop.
const FINISH_TIMEOUT: Duration = Duration::from_secs(20);

/// What one request asks for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// A plain answer.
    Answer,
    /// A stream of so many events, so many milliseconds apart.
    Stream {
        /// Content events, without the closing ones.
        events: u64,
        /// Milliseconds between events; 0 sends them as fast as they go.
        pace: u64,
    },
}

/// A load to be started.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What each request asks for.
    pub ask: Ask,
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// The connections' first requests are spread over this time.
    pub spread: Duration,
    /// Whether each connection makes a single request.
    pub once: bool,
}

/// Times of one exchange, both from the moment the request was handed to the socket.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// To the first byte of the body.
    pub first: Duration,
    /// To the last byte.
    pub total: Duration,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// When they were read.
    pub at: Instant,
    /// Answers read to their end and found right.
    pub answers: u64,
    /// Events received.
    pub events: u64,
}

/// What a finished load leaves.
pub struct Outcome {
    /// One sample per right answer that began while recording was on.
    pub samples: Vec<Sample>,
    /// Wrong answers and broken connections.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
}

#[derive(Default)]
struct Shared {
    answers: AtomicU64,
    events: AtomicU64,
    errors: AtomicU64,
    stop: AtomicBool,
    recording: AtomicBool,
    samples: Mutex<Vec<Sample>>,
    first_error: Mutex<Option<String>>,
}

/// A load under way.
pub struct Running {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Opens all connections, then starts every loop.
    pub async fn start(address: SocketAddr, plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let request: Arc<[u8]> = request(plan.ask).into();
        let mut open = Vec::new();
        for _ in 0..plan.connections {
            open.push(Connection::new(TcpStream::connect(address).await?)?);
        }
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for (at, connection) in (0..).zip(open) {
            let start = begin + plan.spread * at / plan.connections;
            let worker = Worker { shared: shared.clone(), request: request.clone(), ask: plan.ask, address };
            tasks.spawn(async move {
                tokio::time::sleep_until(start.into()).await;
                worker.run(connection, plan.once).await;
            });
        }
        Ok(Self { shared, tasks })
    }

    /// Keeps the samples of answers that begin from now on.
    pub fn record(&self) {
        self.shared.recording.store(true, Relaxed);
    }

    /// Reads the counters.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts { at: Instant::now(), answers: shared.answers.load(Relaxed), events: shared.events.load(Relaxed) }
    }

    /// Whether any answer was wrong so far.
    pub fn has_failed(&self) -> bool {
        self.shared.errors.load(Relaxed) > 0
    }

    /// Lets every loop end with the exchange it is in.
    pub async fn finish(mut self) -> Result<Outcome> {
        self.shared.stop.store(true, Relaxed);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH_TIMEOUT, all).await.is_err() {
            bail!("{} requests are still unanswered after {FINISH_TIMEOUT:?}", self.tasks.len());
        }
        Ok(Outcome {
            samples: std::mem::take(&mut *self.shared.samples.lock()),
            errors: self.shared.errors.load(Relaxed),
            first_error: self.shared.first_error.lock().take(),
        })
    }
}

struct Worker {
    shared: Arc<Shared>,
    request: Arc<[u8]>,
    ask: Ask,
    address: SocketAddr,
}

impl Worker {
    async fn run(&self, mut connection: Connection, once: bool) {
        loop {
            if let Err(error) = self.one(&mut connection).await {
                self.shared.first_error.lock().get_or_insert_with(|| format!("{error:#}"));
                if self.shared.errors.fetch_add(1, Relaxed) >= ERROR_LIMIT {
                    return;
                }
                let Ok(Ok(again)) = TcpStream::connect(self.address).await.map(Connection::new) else { return };
                connection = again;
            }
            if once || self.shared.stop.load(Relaxed) {
                return;
            }
        }
    }

    async fn one(&self, connection: &mut Connection) -> Result<()> {
        let recorded = self.shared.recording.load(Relaxed);
        let start = Instant::now();
        let mut events = 0;
        let on_events = |count| {
            events += count;
            self.shared.events.fetch_add(count, Relaxed);
        };
        let Answer { first, last, bytes } = connection.exchange(&self.request, on_events).await?;
        match self.ask {
            Ask::Answer => ensure!(bytes == ANSWER_BYTES, "{bytes} bytes of answer instead of {ANSWER_BYTES}"),
            Ask::Stream { events: asked, .. } => {
                ensure!(events == asked + CLOSING_EVENTS, "{events} events instead of {asked} + {CLOSING_EVENTS}");
            }
        }
        self.shared.answers.fetch_add(1, Relaxed);
        if recorded {
            self.shared.samples.lock().push(Sample { first: first - start, total: last - start });
        }
        Ok(())
    }
}

/// The client's key that the gateway is configured to know; the other proxies overwrite it unread.
pub const CLIENT_KEY: &str = "tp-bench-0123456789abcdefghijklmnopqrstuvwxyz";

fn request(ask: Ask) -> Vec<u8> {
    let body = request_body(ask);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
         content-type: application/json\r\naccept: application/json\r\nuser-agent: bench/1\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A chat of `REQUEST_BYTES` with a system message and a question, as SDKs write it.
fn request_body(ask: Ask) -> String {
    let (stream, events, pace) = match ask {
        Ask::Answer => ("\"stream\":false", 256, 0),
        Ask::Stream { events, pace } => ("\"stream\":true,\"stream_options\":{\"include_usage\":true}", events, pace),
    };
    let start = concat!(
        r#"{"model":"auto","messages":[{"role":"system","content":"You answer briefly and precisely."},"#,
        r#"{"role":"user","content":"What does this say? "#
    );
    let end = format!(r#""}}],"temperature":0.7,{stream},"max_tokens":{events},"seed":{pace}}}"#);
    let filling = WORDS.chars().cycle().take(REQUEST_BYTES - start.len() - end.len());
    start.chars().chain(filling).chain(end.chars()).collect()
}

/// A mutex whose poisoning is ignored: a panic of one task ends the bench anyway.
mod calm {
    use std::sync::{MutexGuard, PoisonError};

    #[derive(Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
