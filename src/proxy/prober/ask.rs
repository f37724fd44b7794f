//! Asks every server of one backend how it is: whether it is ready, and what its load is.
//!
//! A status from 500 on says that it is not ready, and so does a refused connection; whatever else it answers, it is there
//! (a server that has no such path is taken at its requests). Silence counts after three times: an engine may be busy for
//! a second. The load comes from the first of the provider's paths that is served.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, timeout},
};

use super::super::live::{Live, seen::Kept, servers::Server};
use crate::{
    base::catalog::Account,
    net::{body::UpstreamBody, pool::SendError},
    policy::balance::{Load, Ready, ReplicaId},
    provider::{EngineLoad, MAX_PAGE, Provider},
};

/// How long each question may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many silences in a row say that it is not ready.
const SILENCES: u32 = 3;

/// What is remembered of a server between two rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    silences: u32,
    /// Which of the provider's paths tells the load.
    path: usize,
}

/// What one server said.
struct Said {
    id: ReplicaId,
    ready: Answer,
    load: Option<EngineLoad>,
    path: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ready,
    NotReady,
    Silent,
    /// It is not asked.
    Unasked,
}

/// Asks for as long as it is polled.
pub(super) async fn ask(live: &Live, kept: &Kept) {
    let provider = kept.provider();
    if provider.ready_path().is_none() && provider.load_paths().is_empty() {
        return;
    }
    let account = kept.backend().accounts.first().cloned();
    let mut memories: HashMap<ReplicaId, Memory> = HashMap::new();
    let every = kept.backend().probe;
    let mut rounds = tokio::time::interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let servers = kept.servers().all();
        memories.retain(|id, _| servers.iter().any(|server| server.id == *id));
        let mut asked = JoinSet::new();
        for server in servers {
            let path = memories.entry(server.id).or_default().path;
            asked.spawn(one(server, provider, account.clone(), path));
        }
        while let Some(said) = asked.join_next().await {
            let Ok(said) = said else { continue };
            let memory = memories.entry(said.id).or_default();
            memory.path = said.path;
            let load = said.load.map(load);
            kept.servers().asked(said.id, ready(said.ready, memory), load, every, live.elapsed());
        }
    }
}

fn load(engine: EngineLoad) -> Load {
    Load {
        requests: engine.running.saturating_add(engine.waiting),
        waiting: engine.waiting,
        queue: engine.queue,
        cache_used_ppm: engine.cache_used_ppm,
    }
}

fn ready(answer: Answer, memory: &mut Memory) -> Option<Ready> {
    memory.silences = if answer == Answer::Silent { memory.silences.saturating_add(1) } else { 0 };
    match answer {
        Answer::Ready => Some(Ready::Yes),
        Answer::NotReady => Some(Ready::No),
        Answer::Silent => (memory.silences >= SILENCES).then_some(Ready::Silent),
        Answer::Unasked => None,
    }
}

/// Both questions to one server, at once.
async fn one(server: Arc<Server>, provider: &'static dyn Provider, account: Option<Account>, path: usize) -> Said {
    let until = Instant::now() + PATIENCE;
    let readiness = async {
        let Some(path) = provider.ready_path() else { return Answer::Unasked };
        let uri = provider.beside(&server.url, path);
        match tokio::time::timeout_at(until, get(&server, provider, account.as_ref(), uri, 0)).await {
            Ok(Ok((status, _))) if status.is_server_error() => Answer::NotReady,
            Ok(Ok(_)) => Answer::Ready,
            Ok(Err(SendError::Connect(_) | SendError::Tls(_) | SendError::Origin(_))) => Answer::NotReady,
            Ok(Err(SendError::Timeout | SendError::Closed { .. } | SendError::Protocol(_))) | Err(_) => Answer::Silent,
        }
    };
    let load = async {
        let mut path = path;
        while let Some(name) = provider.load_paths().get(path) {
            let uri = provider.beside(&server.url, name);
            let answer = timeout(PATIENCE, get(&server, provider, account.as_ref(), uri, MAX_PAGE)).await;
            let Ok(Ok((status, body))) = answer else { break };
            match status {
                StatusCode::OK => return (path, provider.load(name, &body)),
                // Not served, or not to us: the next path may be.
                StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_IMPLEMENTED
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN => path += 1,
                _ => break,
            }
        }
        (path, None)
    };
    let (ready, (path, load)) = tokio::join!(readiness, load);
    Said { id: server.id, ready, load, path }
}

/// The status and at most so many bytes of the body; a longer one counts as none.
async fn get(
    server: &Server,
    provider: &dyn Provider,
    account: Option<&Account>,
    uri: Uri,
    most: usize,
) -> Result<(StatusCode, Bytes), SendError> {
    let mut request = Request::new(UpstreamBody::empty());
    (*request.method_mut(), *request.uri_mut()) = (Method::GET, uri);
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("turnpike/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = account.and_then(|account| account.api_key.as_ref()) {
        let (name, mut value) = provider.credential(key);
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let (head, body) = server.origin.send(request, PATIENCE).await?.into_parts();
    // Read also where nothing is wanted of it, so that the connection can be used again.
    let body = Limited::new(body, most.max(4096)).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok((head.status, body))
}
