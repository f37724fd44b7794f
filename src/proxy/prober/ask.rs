//! Asks every server of one backend how it is: whether it is ready, and what its load is.
//!
//! A status from 500 on says that it is not ready, and so does a refused connection; whatever else it answers, it is there
//! (a server that has no such path is taken at its requests). Silence counts after three times: an engine may be busy for
//! a second. The load comes from the first of the provider's paths that is served. Which that is may change (an engine is
//! started anew with its metrics, a proxy before it has none while it loads): those that were not served are asked again
//! from time to time.

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
/// How long a path that was not served is left alone: an engine without metrics is asked for them in vain once a minute.
const AGAIN: Duration = Duration::from_secs(60);

/// What is remembered of a server between two rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    silences: u32,
    /// Which of the provider's paths tells the load.
    path: usize,
    /// Until when those before it are left alone; `None` = all of them are asked.
    again: Option<Duration>,
    /// It said that it is not ready.
    away: bool,
}

impl Memory {
    /// The path to begin with at `now`.
    fn first(&mut self, now: Duration) -> usize {
        if self.again.is_some_and(|again| now >= again) {
            (self.path, self.again) = (0, None);
        }
        self.path
    }

    /// The path that told the load, or the end of them, where none did.
    fn told(&mut self, path: usize, now: Duration) {
        self.path = path;
        if path > 0 {
            self.again = self.again.or(Some(now.saturating_add(AGAIN)));
        }
    }

    /// What it says of being ready. One that comes back may be another program, which is asked for all at once.
    fn ready(&mut self, answer: Answer) -> Option<Ready> {
        self.silences = if answer == Answer::Silent { self.silences.saturating_add(1) } else { 0 };
        let ready = match answer {
            Answer::Ready => Ready::Yes,
            Answer::NotReady => Ready::No,
            Answer::Silent if self.silences >= SILENCES => Ready::Silent,
            Answer::Silent | Answer::Unasked => return None,
        };
        if self.away && ready == Ready::Yes {
            (self.path, self.again) = (0, None);
        }
        self.away = ready != Ready::Yes;
        Some(ready)
    }
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
            let path = memories.entry(server.id).or_default().first(live.elapsed());
            asked.spawn(one(server, provider, account.clone(), path));
        }
        while let Some(said) = asked.join_next().await {
            let Ok(said) = said else { continue };
            let memory = memories.entry(said.id).or_default();
            memory.told(said.path, live.elapsed());
            let (ready, load) = (memory.ready(said.ready), said.load.map(load));
            kept.servers().asked(said.id, ready, load, every, live.elapsed());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_were_not_served_are_asked_again_in_a_minute_or_once_it_is_back() {
        let mut memory = Memory::default();
        let second = Duration::from_secs;
        assert_eq!(memory.first(second(0)), 0);
        memory.told(2, second(1));
        assert_eq!([memory.first(second(2)), memory.first(second(60))], [2, 2]);
        memory.told(2, second(60));
        assert_eq!(memory.first(second(61)), 0, "the minute begins with the first refusal");
        memory.told(1, second(62));
        assert_eq!([memory.first(second(121)), memory.first(second(122))], [1, 0]);
        memory.told(0, second(122));
        assert_eq!(memory.again, None, "the first is served: there is nothing to ask again");
        memory.told(2, second(123));
        assert_eq!(memory.ready(Answer::Ready), Some(Ready::Yes));
        assert_eq!(memory.first(second(124)), 2, "it was never away");
        assert_eq!(memory.ready(Answer::NotReady), Some(Ready::No));
        assert_eq!((memory.ready(Answer::Ready), memory.first(second(125))), (Some(Ready::Yes), 0));
        memory.told(2, second(125));
        let silent: Vec<_> = (0..3).map(|_| memory.ready(Answer::Silent)).collect();
        assert_eq!(silent, [None, None, Some(Ready::Silent)]);
        assert_eq!((memory.ready(Answer::Ready), memory.first(second(126))), (Some(Ready::Yes), 0));
    }
}
