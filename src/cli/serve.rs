//! `turnpike serve`: the gateway, from its files or from the keys in the environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::{
    damage,
    records::records_folder,
    run::{self, Doors},
};
use crate::{
    admin::{self, Admin},
    base::store::StoreConfig,
    config::{
        self, Loaded, ServerConfig,
        watch::{Seen, Watcher},
    },
    ledger::{BooksError, Ledger, keys::KeyStore, outbox::Outbox},
    net::{
        listener::{self, Limits},
        pool::Pool,
        tls::{self, ServerTls},
    },
    proxy::{self, Bounds, Gateway, KeptSplits, Settings, SharedSplits},
    telemetry::{
        self,
        record::{keep::Keeper, line::CHAT},
    },
};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration; without one, backends are made from the API keys in the environment.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How long a start waits for the budget store: as long as filling an empty one takes.
const STORE_WAIT: Duration = Duration::from_secs(8);
/// How long a start waits for keys, raises and switches from a store that is up.
const SHARE_WAIT: Duration = Duration::from_secs(3);
/// The file that is read when none is named.
const DEFAULT_CONFIG: &str = "turnpike.yaml";

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::log::start();
    let environment = |name: &str| std::env::var(name).ok();
    let default = Path::new(DEFAULT_CONFIG);
    let file = args.config.or_else(|| default.exists().then(|| default.to_owned()));
    let mut stale = false;
    let loaded = match &file {
        Some(file) => match config::load_or_kept(file, &environment) {
            Ok((loaded, None)) => loaded,
            Ok((loaded, Some(faults))) => {
                tracing::error!("the policies are at fault, the last good ones serve:\n{faults}");
                stale = true;
                loaded
            }
            Err(faults) => {
                anstream::eprint!("{faults}");
                return Ok(ExitCode::FAILURE);
            }
        },
        None => config::from_environment(&environment)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(loaded, file.is_some(), stale))
}

/// `stale`: the policies are the last good ones, the files' own are at fault.
async fn serve(loaded: Loaded, from_file: bool, stale: bool) -> anyhow::Result<ExitCode> {
    tell(&loaded);
    let (server, policies) = (loaded.server.clone(), Arc::clone(&loaded.policies));
    // Without a file there is no folder that would be ours to write into.
    let keys = if from_file { Some(Arc::new(KeyStore::open(&server.journal)?)) } else { None };
    let stored = keys.as_deref().map(KeyStore::export).transpose()?.unwrap_or_default();
    let ledger = if from_file { open_books(&server)? } else { Ledger::default() };
    reach(&ledger).await;
    let tls = server.tls.as_ref().map(|tls| ServerTls::load(&tls.cert, &tls.key)).transpose()?;
    let gateway =
        Gateway::new(settings(&server), policies, stored, Arc::new(ledger), Pool::new(tls::client_config(None)?))?;
    share(&gateway, keys.as_ref()).await;
    if stale {
        gateway.reload_failed();
    }
    if gateway.is_open() && !server.listen.ip().is_loopback() {
        bail!(
            "`listen: {}` can be reached from outside and there is no client key\n\
             hint: `turnpike key create --team …`, or listen on 127.0.0.1",
            server.listen
        );
    }
    let clients = bind(server.listen, "listen").await?;
    let admin = bind(server.admin.listen, "admin.listen").await?;
    let connections = usize::try_from(server.limits.connections).unwrap_or(usize::MAX);
    let doors = Doors { clients, admin, tls, limits: Limits { connections, ..Limits::default() }, drain: server.drain };
    tracing::info!(
        listen = %server.listen,
        admin = %server.admin.listen,
        policy = %gateway.policies().hash,
        open = gateway.is_open(),
        "serving"
    );
    // Only now is the journal's folder surely ours.
    if from_file {
        record(&gateway, &loaded, stale)?;
    }
    let state = Arc::new(Admin {
        gateway: Arc::clone(&gateway),
        ready: AtomicBool::new(true),
        keys,
        tokens: server.admin.tokens.clone(),
        open_metrics: !server.admin.metrics_need_token,
        searching: Semaphore::new(1),
    });
    // Whatever runs beside the listeners ends with them.
    let mut beside = JoinSet::new();
    beside.spawn(proxy::keep_servers(Arc::clone(&gateway)));
    beside.spawn(proxy::keep_time(Arc::clone(&gateway)));
    if !from_file {
        return run::until_signalled(doors, state).await;
    }
    let (outbox, pool) = (Arc::new(Outbox::open(&server.journal)?), Pool::new(tls::client_config(None)?));
    let splits = Arc::new(KeptSplits::new(server.journal.clone()));
    splits.recall(&gateway);
    // Only now: what is told replaces what was told before the restart.
    if let Some(store) = gateway.ledger().store() {
        store.hint(SharedSplits::new(&gateway));
    }
    beside.spawn(Arc::clone(&splits).keep(Arc::clone(&gateway)));
    beside.spawn(watch(gateway, server, loaded.sources));
    beside.spawn(admin::keep_uses(Arc::clone(&state)));
    beside.spawn(proxy::keep_rent(Arc::clone(&state.gateway)));
    beside.spawn(proxy::deliver_notices(Arc::clone(&state.gateway), outbox, pool));
    let code = run::until_signalled(doors, Arc::clone(&state)).await;
    beside.abort_all();
    admin::flush_uses(&state);
    splits.save(&state.gateway);
    code
}

/// What `turnpike.yaml` says of requests.
fn settings(server: &ServerConfig) -> Settings {
    Settings {
        body_limit: usize::try_from(server.limits.body).unwrap_or(usize::MAX),
        stream_commit_after: server.stream_commit_after,
        bounds: Bounds { in_flight: server.limits.in_flight, wait: server.limits.queue_wait, lag: server.limits.lag },
        operation: CHAT,
        clock_offset: SignedDuration::ZERO,
    }
}

/// Logs what is odd about the configuration, and what is not served yet.
fn tell(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.summary());
    }
    for (provider, variable) in &loaded.later {
        tracing::info!("`{variable}` is set, and its vendor `{provider}` comes with a later version");
    }
}

/// Waits a moment for the budget store, if there is one.
pub(super) async fn reach(ledger: &Ledger) {
    if let Some(store) = ledger.store()
        && !store.wait(STORE_WAIT).await
    {
        tracing::warn!(cause = store.trouble().as_deref(), "serving without the budget store until it is there");
    }
}

/// Shares what operators do with the other gateways, and waits a moment for what they have done.
pub(super) async fn share(gateway: &Arc<Gateway>, keys: Option<&Arc<KeyStore>>) {
    if let Some(store) = gateway.ledger().store() {
        store.hint(proxy::Hints::new(gateway));
    }
    let (Some(keys), Some(store)) = (keys, gateway.ledger().store()) else { return };
    let (to, stored) = (Arc::downgrade(gateway), Arc::clone(keys));
    gateway.ledger().share(Arc::clone(keys), move |news| {
        if let Some(gateway) = to.upgrade() {
            gateway.heard(news, &stored);
        }
    });
    if store.is_up() && !store.wait_whole(SHARE_WAIT).await {
        tracing::warn!("serving before all is known that operators did at other gateways");
    }
}

/// Opens the books, and says what was found in them.
///
/// # Errors
/// [`BooksError`].
pub(super) fn open_books(server: &ServerConfig) -> Result<Ledger, BooksError> {
    let folder = server.journal.join("books");
    let (ledger, found) = match &server.store {
        StoreConfig::Embedded => Ledger::embedded(&folder, Timestamp::now())?,
        StoreConfig::Redis(config) => Ledger::redis(&folder, config.clone(), Timestamp::now())?,
    };
    if found.torn > 0 {
        tracing::warn!(bytes = found.torn, "the end of the journal was torn and is cut off");
    }
    for (at, bytes) in &found.damaged {
        tracing::error!(segment = at.segment, offset = at.offset, bytes, "the journal is damaged here");
    }
    damage::look(folder, found.damaged.iter().map(|(at, _)| *at).collect());
    if found.swept > 0 {
        tracing::warn!(
            requests = found.swept,
            charged_usd = %found.swept_charge,
            "requests that were under way when the gateway ended are charged as they were held"
        );
    }
    Ok(ledger)
}

/// Keeps the policies in force for a restart with a bad file.
fn keep(server: &ServerConfig, texts: &[(PathBuf, String)]) {
    if let Err(error) = config::keep(&server.journal, texts) {
        tracing::warn!(%error, "the policies cannot be kept in `{}`", server.journal.display());
    }
}

/// Keeps the policies in force, and records of requests from now on, if that is wanted.
fn record(gateway: &Gateway, loaded: &Loaded, stale: bool) -> anyhow::Result<()> {
    if !stale {
        keep(&loaded.server, &loaded.texts);
    }
    let Some(config) = loaded.server.records else { return Ok(()) };
    let folder = records_folder(&loaded.server);
    let keeper = Keeper::start(&folder, config, gateway.metrics.records());
    gateway.record_with(keeper.with_context(|| format!("no records can be kept in `{}`", folder.display()))?);
    keep_recorded(gateway, loaded);
    Ok(())
}

/// Keeps policies beside the records that are made under them.
fn keep_recorded(gateway: &Gateway, loaded: &Loaded) {
    let Some(records) = gateway.records() else { return };
    if let Err(error) = config::keep_recorded(records.folder(), loaded) {
        tracing::warn!(%error, "the policies cannot be kept in `{}`", records.folder().display());
    }
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let bound = listener::bind(address).await;
    bound.map_err(|error| anyhow::anyhow!("{error}\nhint: see `{key}` in turnpike.yaml"))
}

/// Takes over the policies whenever they change for the better; a bad file changes nothing.
async fn watch(gateway: Arc<Gateway>, server: ServerConfig, sources: Vec<Seen>) {
    let mut watcher = match Watcher::new(sources) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::error!(%error, "the policies cannot be watched: changes need a restart");
            return;
        }
    };
    while watcher.changed().await {
        let server = server.clone();
        let environment = |name: &str| std::env::var(name).ok();
        let loaded = tokio::task::spawn_blocking(move || config::load_policies(&server, &environment)).await;
        match loaded {
            // An editor that writes in place empties the file first; a gateway that served somebody is not emptied.
            Ok(Ok(loaded)) if loaded.policies.backends.is_empty() && !gateway.policies().backends.is_empty() => {
                gateway.reload_failed();
                tracing::error!("the policies name no backend any more: the ones in force stay");
            }
            Ok(Ok(loaded)) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{}", warning.summary());
                }
                keep(&loaded.server, &loaded.texts);
                keep_recorded(&gateway, &loaded);
                tracing::info!(policy = %loaded.policies.hash, "policies reloaded");
                let (taking, policies) = (Arc::clone(&gateway), loaded.policies);
                if let Err(panicked) = tokio::task::spawn_blocking(move || taking.reload(policies)).await {
                    gateway.reload_failed();
                    tracing::error!(%panicked, "the reload failed, the policies in force stay");
                }
                watcher.follow(loaded.sources);
            }
            Ok(Err(faults)) => {
                gateway.reload_failed();
                tracing::error!("the changed policies are at fault, the ones in force stay:\n{faults}");
                watcher.follow_too(faults.sources);
            }
            Err(panicked) => {
                gateway.reload_failed();
                tracing::error!(%panicked, "the reload failed, the policies in force stay");
            }
        }
    }
}
