//! Hints: what gateways tell each other of upstreams, over the store where there is one.
//!
//! Each node writes one text under its name into a hash that lives for a minute, when it has something new to tell, and
//! reads those of the others four times a second, off the path of any request. Nothing is kept, merged or waited for: a
//! store that is away or loses them takes nothing but the hints.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    keeper::{Broken, errand},
    link::{Live, Standing},
    protocol::Unknown,
    store::{Inner, Store},
};

/// How often they are read.
const EVERY: Duration = Duration::from_millis(250);
/// How long they live without anything new.
const LIVES_MS: u32 = 60_000;
/// Texts of more gateways than this are not looked at.
const MOST: usize = 256;

/// What is told and heard.
pub trait Hinting: Send + Sync + 'static {
    /// What this node has to tell, if that is not what it told last.
    fn tell(&self) -> Option<String>;

    /// What was told could not be: it is to be told again.
    fn untold(&self);

    /// What the others say, by node. `first` = it may be old, since this node did not listen before.
    fn hear(&self, others: HashMap<String, String>, first: bool);
}

impl Store {
    /// Exchanges hints from now on, until what it gives is aborted or the store ends. To be called within a runtime.
    pub fn hint(&self, hinting: Arc<dyn Hinting>) -> AbortHandle {
        tokio::spawn(exchange(Arc::downgrade(self.inner()), hinting)).abort_handle()
    }
}

async fn exchange(inner: std::sync::Weak<Inner>, hinting: Arc<dyn Hinting>) {
    let mut first = true;
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let live = match &*inner.link.watch().borrow() {
            Standing::Up(live) => Some(Arc::clone(live)),
            _ => None,
        };
        if let Some(live) = live {
            let error = follow(&inner, &live, hinting.as_ref(), &mut first).await;
            hinting.untold();
            first = true;
            tracing::debug!(cause = error.0, "hints are not exchanged");
        }
        drop(inner);
        sleep(EVERY).await;
    }
}

async fn follow(inner: &Inner, live: &Live, hinting: &dyn Hinting, first: &mut bool) -> Broken {
    let key = live.wire.key("h");
    let node = inner.source.node().to_string();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(text) = hinting.tell() {
            let mut tell = ::redis::cmd("HSET");
            tell.arg(&key).arg(&node).arg(text);
            let mut lives = ::redis::cmd("PEXPIRE");
            lives.arg(&key).arg(LIVES_MS);
            for cmd in [tell, lives] {
                if let Err(error) = errand(&live.wire, &cmd).await {
                    return error;
                }
            }
        }
        let mut read = ::redis::cmd("HGETALL");
        read.arg(&key);
        let texts = match errand(&live.wire, &read).await.map(::redis::from_redis_value::<HashMap<String, String>>) {
            Ok(Ok(texts)) => texts,
            Ok(Err(_)) => return Unknown.into(),
            Err(error) => return error,
        };
        let others = texts.into_iter().filter(|(other, _)| *other != node).take(MOST).collect();
        hinting.hear(others, std::mem::replace(first, false));
    }
}
