//! A gateway while it runs: both listeners, the signals, the drain.

use std::{
    convert::Infallible,
    os::unix::net::UnixDatagram,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinError,
};

use crate::{
    admin::{self, Admin},
    net::{
        listener::{self, Drained, Limits},
        tls::ServerTls,
    },
    proxy,
    telemetry::log::GATHER,
};

/// What a running gateway listens on, and how it ends.
pub struct Doors {
    /// Clients.
    pub clients: TcpListener,
    /// Operators.
    pub admin: TcpListener,
    /// The clients' TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// What a client may take.
    pub limits: Limits,
    /// How long open streams may go on after the first signal.
    pub drain: Duration,
}

/// Serves until SIGTERM or SIGINT, then lets what is under way end; a second signal ends at once. Streams that are still
/// open then, or at the end of the drain time, end with an error event.
///
/// # Errors
/// The system's error when signals cannot be watched.
pub async fn until_signalled(doors: Doors, state: Arc<Admin>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::watch()?;
    let (stop, stopped) = watch::channel(false);
    let gateway = Arc::clone(&state.gateway);
    let service = service_fn(move |request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(proxy::serve(gateway, request).await) }
    });
    let load = Arc::clone(&doors.limits.load);
    let drain = doors.drain;
    let (admin_stop, mut admin_over) = watch::channel(false);
    let router = admin::router(Arc::clone(&state));
    let operators = tokio::spawn(async move {
        let over = async move {
            let _ = admin_over.wait_for(|over| *over).await;
        };
        axum::serve(doors.admin, router).with_graceful_shutdown(over).await
    });
    let cut = drain + LAST_WORD;
    let clients = tokio::spawn(listener::serve(doors.clients, doors.tls, doors.limits, stopped, cut, service));
    tell_systemd("READY=1");
    signals.next().await;
    state.ready.store(false, Ordering::Release);
    tell_systemd("STOPPING=1");
    tracing::info!(open = load.requests(), "draining; a second signal ends at once");
    let _ = stop.send(true);
    let late = async {
        tokio::time::sleep(drain).await;
        let streams = state.gateway.end_streams(LAST_WORD).await;
        tracing::warn!(streams, "the drain time is over: streams end with an error event");
        std::future::pending::<Infallible>().await
    };
    let ended = tokio::select! {
        drained = clients => Some(drained),
        never = late => match never {},
        () = signals.next() => None,
    };
    let (code, patient) = (code(&ended, load.requests()), ended.is_some());
    if !patient {
        state.gateway.end_streams(LAST_WORD).await;
    }
    tokio::select! {
        () = finish(&state, if patient { drain.min(SHADOW_DRAIN) } else { Duration::ZERO }, patient) => {}
        () = signals.next() => finish(&state, Duration::ZERO, false).await,
    }
    state.gateway.ledger().books().close();
    if let Some(records) = state.gateway.records().cloned() {
        let _ = tokio::time::timeout(RECORDS_CLOSE, tokio::task::spawn_blocking(move || records.close())).await;
    }
    // The log's thread is given the time to write what it gathers.
    tokio::time::sleep(2 * GATHER).await;
    // The admin listener answers to the last, so that the drain can be watched; then it is let go.
    let _ = admin_stop.send(true);
    operators.abort();
    Ok(code)
}

/// What the process ends with; `None` = by a second signal, with so many requests under way.
fn code(ended: &Option<Result<Drained, JoinError>>, open: usize) -> ExitCode {
    match ended {
        Some(Ok(drained)) if drained.cut == 0 => ExitCode::SUCCESS,
        Some(Ok(drained)) => {
            tracing::warn!(cut = drained.cut, "connections were cut at the end of the drain time");
            ExitCode::SUCCESS
        }
        Some(Err(_)) => ExitCode::FAILURE,
        None => {
            tracing::warn!(cut = open, "a second signal: ending at once");
            ExitCode::FAILURE
        }
    }
}

/// Lets shadows end, for so long at most, and brings what was settled to the budget store, if it is there at once or
/// `patient` says to wait.
async fn finish(state: &Admin, shadows: Duration, patient: bool) {
    state.gateway.end_shadows(shadows).await;
    if let Some(store) = state.gateway.ledger().store() {
        store.close(if patient { STORE_CLOSE } else { Duration::ZERO }).await;
    }
}

/// How long the clients of streams have to take the event that ends them.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How long the end waits for shadows, whose answers nobody reads.
const SHADOW_DRAIN: Duration = Duration::from_secs(10);
/// How long the end waits for settlements to get into the budget store; the rest is in the journal.
const STORE_CLOSE: Duration = Duration::from_secs(5);

/// How long the end waits for the records that are queued.
const RECORDS_CLOSE: Duration = Duration::from_secs(5);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd (`Type=notify`) how far the start has come; without systemd nothing happens.
fn tell_systemd(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|datagram| {
        use std::os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt, unix::net::SocketAddr};
        match socket.as_bytes() {
            // A leading `@` names a socket outside the file system.
            [b'@', name @ ..] => datagram.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?),
            _ => datagram.send_to(state.as_bytes(), &socket),
        }
    });
    if let Err(error) = told {
        tracing::warn!(%error, "systemd could not be told `{state}`");
    }
}
