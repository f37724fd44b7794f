//! The connection as requests see it: up, slow or down, with a breaker that answers for it while it is not up.
//!
//! It is the store's silence that counts, not how long one call waits: while answers to others come, a call waits its
//! turn, for [`QUEUE`] timeouts at most. A silence of [`TRIP`] with a call under way opens the breaker: from then on
//! new calls wait only while the silence is younger than the configured timeout, then they are told at once that the
//! store is away. Calls that are under way go on waiting, and any answer closes the breaker again. So a stall costs
//! each request at most the timeout, and nothing piles up behind it. All of this is counted in the time of
//! [`Presence`]: a process that is not run hears nothing, and must not take that for the store's silence.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{Semaphore, watch};

use super::{presence::Presence, scripts::Wire};

/// A call without an answer for so long opens the breaker.
const TRIP: Duration = Duration::from_millis(25);
/// How many timeouts a call may wait behind others that are answered.
const QUEUE: u32 = 20;
/// Calls under way at once; further ones wait for their turn within their timeout.
const CALLS: usize = 1024;

/// What the store is to requests, and since when in the time of [`Presence`].
#[derive(Clone, Debug)]
pub enum Standing {
    /// It answers.
    Up(Arc<Live>),
    /// It has not answered a call lately.
    Slow(Arc<Live>, Duration),
    /// It cannot be asked, and why.
    Down(Arc<str>, Duration),
}

/// A connection in use.
#[derive(Debug)]
pub struct Live {
    /// The connection.
    pub wire: Wire,
    /// The epoch in force.
    pub epoch: String,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was not sent.
    #[error("the store is away: {0}")]
    Away(Arc<str>),
    /// It was sent, and nothing is known of what became of it.
    #[error("the store did not answer")]
    Unanswered,
    /// The server refused it.
    #[error("the store refuses: {0}")]
    Refused(Arc<str>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Link {
    standing: watch::Sender<Standing>,
    calls: Semaphore,
    patience: Duration,
    presence: Presence,
    /// When the last answer came, whoever had asked: microseconds in the time of `presence`.
    heard: AtomicU64,
}

impl Link {
    /// A link that is down until the first connection. A call waits at most `patience`. To be called within a runtime.
    pub fn new(patience: Duration) -> Self {
        Self::within(patience, Presence::start())
    }

    fn within(patience: Duration, presence: Presence) -> Self {
        let down = Standing::Down("not connected yet".into(), presence.now());
        Self {
            standing: watch::Sender::new(down),
            calls: Semaphore::new(CALLS),
            patience,
            presence,
            heard: AtomicU64::new(0),
        }
    }

    /// How it stands, and how that changes.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whether calls are answered.
    pub fn is_up(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Up(_))
    }

    /// Puts a connection into use.
    pub fn up(&self, live: Arc<Live>) {
        self.standing.send_replace(Standing::Up(live));
    }

    /// Takes the connection out of use; or tells the newest reason why there is none.
    pub fn down(&self, why: &str) {
        self.standing.send_modify(|standing| {
            let since = match standing {
                // Requests have waited since it became slow: they are not to wait once more.
                Standing::Down(_, since) | Standing::Slow(_, since) => *since,
                Standing::Up(_) => self.presence.now(),
            };
            *standing = Standing::Down(why.into(), since);
        });
    }

    /// Notes that a call over `live` has gone unanswered.
    fn slow(&self, live: &Arc<Live>) {
        self.standing.send_if_modified(|standing| match standing {
            Standing::Up(current) if Arc::ptr_eq(current, live) => {
                *standing = Standing::Slow(Arc::clone(live), self.presence.now());
                true
            }
            _ => false,
        });
    }

    /// Notes an answer over `live`.
    fn answered(&self, live: &Arc<Live>) {
        let now = u64::try_from(self.presence.now().as_micros()).unwrap_or(u64::MAX);
        self.heard.fetch_max(now, Ordering::AcqRel);
        self.standing.send_if_modified(|standing| match standing {
            Standing::Slow(current, _) if Arc::ptr_eq(current, live) => {
                *standing = Standing::Up(Arc::clone(live));
                true
            }
            _ => false,
        });
    }

    /// The connection in use, waited for as long as the store's silence is younger than the timeout.
    pub(super) async fn live(&self) -> Result<Arc<Live>, Failure> {
        if let Standing::Up(live) = &*self.standing.borrow() {
            return Ok(Arc::clone(live));
        }
        let _listening = self.presence.listen();
        let mut watch = self.watch();
        loop {
            let (since, why) = match &*watch.borrow_and_update() {
                Standing::Up(live) => return Ok(Arc::clone(live)),
                Standing::Slow(_, since) => (*since, Arc::from("it does not answer")),
                Standing::Down(why, since) => (*since, Arc::clone(why)),
            };
            tokio::select! {
                biased;
                Ok(()) = watch.changed() => {}
                () = self.presence.reach(since + self.patience) => return Err(Failure::Away(why)),
            }
        }
    }

    /// Runs a script within the timeout. `make` builds the call for the connection and the epoch in use.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn call(&self, make: impl FnOnce(&Live) -> Cmd) -> Result<Value, Failure> {
        let live = self.live().await?;
        let turn = match self.calls.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => self.unless_silent(self.patience, self.calls.acquire()).await.and_then(Result::ok),
        };
        let Some(turn) = turn else { return Err(Failure::Away("too many calls are under way".into())) };
        let answer = self.send(&live, &make(&live), self.patience).await;
        drop(turn);
        answer
    }

    /// Sends `cmd` over `live` and waits at most `patience` for its answer; what is seen of the store on the way is
    /// noted.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn send(&self, live: &Arc<Live>, cmd: &Cmd, patience: Duration) -> Result<Value, Failure> {
        let mut answer = std::pin::pin!(live.wire.send(cmd));
        let answer = match self.unless_silent(TRIP.min(patience), &mut answer).await {
            Some(answer) => Some(answer),
            None => {
                self.slow(live);
                self.unless_silent(patience, answer).await
            }
        };
        match answer {
            Some(Ok(value)) => {
                self.answered(live);
                Ok(value)
            }
            Some(Err(error)) => Err(self.failed(live, &error)),
            None => Err(Failure::Unanswered),
        }
    }

    /// What `doing` gives, unless the store has been silent for `patience` before it does.
    async fn unless_silent<T>(&self, patience: Duration, doing: impl Future<Output = T>) -> Option<T> {
        let _listening = self.presence.listen();
        let begun = self.presence.now();
        let last = begun + QUEUE * self.patience.max(patience);
        let mut doing = std::pin::pin!(doing);
        loop {
            let until = (begun.max(self.heard()) + patience).min(last);
            tokio::select! {
                biased;
                done = &mut doing => return Some(done),
                () = self.presence.reach(until) => {}
            }
            if until == last || begun.max(self.heard()) + patience <= until {
                return None;
            }
        }
    }

    fn heard(&self) -> Duration {
        Duration::from_micros(self.heard.load(Ordering::Acquire))
    }

    /// What an error over `live` means, after noting it.
    fn failed(&self, live: &Arc<Live>, error: &RedisError) -> Failure {
        let failure = failure(error);
        let current = match &*self.standing.borrow() {
            Standing::Up(current) | Standing::Slow(current, _) => Arc::ptr_eq(current, live),
            Standing::Down(..) => false,
        };
        // An old connection's death says nothing of the one in use.
        if current {
            self.down(&cause(error));
        }
        failure
    }
}

/// What an error means to who made the call.
fn failure(error: &RedisError) -> Failure {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => Failure::Refused(cause(error)),
        // The connection ended while the call was under way.
        _ => Failure::Unanswered,
    }
}

/// What an error means, in words for operators. Whatever it is, the keeper connects anew: to the master that there is
/// by then, as soon as it takes writes.
pub(super) fn cause(error: &RedisError) -> Arc<str> {
    let text = match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly) => "the server is a replica now",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "the server is loading its data",
        ErrorKind::Server(ServerErrorKind::MasterDown) => "the server has lost its master",
        ErrorKind::Server(ServerErrorKind::ClusterDown) => "the cluster is down",
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain) => {
            "the slot has moved to another server"
        }
        ErrorKind::AuthenticationFailed => "the password is wrong or missing",
        ErrorKind::Server(ServerErrorKind::NoPerm) => "the user may not run scripts or use keys that begin with `{tp:`",
        _ => match error.code() {
            Some("OOM") => "the server is out of memory; hint: raise `maxmemory`, and keep `noeviction`",
            Some("MISCONF") => "the server cannot save its data",
            Some("NOREPLICAS") => "the server has too few replicas to take writes",
            Some("NOAUTH" | "WRONGPASS") => "the password is wrong or missing",
            _ => return error.to_string().into(),
        },
    };
    text.into()
}

#[cfg(test)]
mod tests;
