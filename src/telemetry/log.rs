//! Logs go to stderr; `TURNPIKE_LOG` filters them (`info`, `debug`, `turnpike::proxy=trace`).

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt};

use super::record::Record;

/// How many records may wait for the writer before further ones are dropped and counted.
const QUEUE: usize = 8192;
/// How long records gather before they are written together; 8192 in 20 ms are 400,000 a second.
pub const GATHER: Duration = Duration::from_millis(20);

/// So many bytes are written at once, and a line more.
const WRITE: usize = 64 << 10;

/// Starts logging for the process, from `info` on; a second call changes nothing.
pub fn start() {
    start_at("info");
}

/// Starts logging with another filter where `TURNPIKE_LOG` names none.
pub fn start_at(usual: &str) {
    let filter = EnvFilter::try_from_env("TURNPIKE_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).with_target(false);
    let _ = subscriber.try_init();
}

/// Hands records of finished requests to a thread that writes them, so that a slow terminal or disk never holds a
/// request up. Money is not kept here: a dropped line loses a line of the log, nothing else.
#[derive(Clone, Debug)]
pub struct RequestLog {
    queue: SyncSender<Arc<Record>>,
    dropped: Arc<AtomicU64>,
}

impl RequestLog {
    /// Starts the writer thread; it ends when the last handle is dropped.
    ///
    /// # Errors
    /// The system's error when no thread can be started.
    pub fn start() -> std::io::Result<Self> {
        let (queue, records) = sync_channel::<Arc<Record>>(QUEUE);
        let enabled = tracing::enabled!(target: "turnpike::request", tracing::Level::INFO);
        thread::Builder::new().name("request-log".into()).spawn(move || {
            let mut text = String::new();
            while let Ok(record) = records.recv() {
                // While it sleeps, a request that ends wakes nobody: a hand-over to a waiting thread costs two calls
                // to the system and two switches, as much as the request itself.
                thread::sleep(GATHER);
                let now = format!("{:.3}", jiff::Timestamp::now());
                // What waits goes out in one write, or a few.
                for record in std::iter::once(record).chain(records.try_iter()) {
                    if enabled {
                        let _ = writeln!(text, "{now} {record}");
                    }
                    if text.len() >= WRITE {
                        flush(&mut text);
                    }
                }
                flush(&mut text);
            }
        })?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Queues one record.
    pub fn write(&self, record: Arc<Record>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(record) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many records were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes the lines. A log that cannot be written must not stop the gateway.
fn flush(text: &mut String) {
    let _ = std::io::stderr().write_all(text.as_bytes());
    text.clear();
}
