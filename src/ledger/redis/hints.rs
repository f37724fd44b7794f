//! Hints: what gateways tell each other of upstreams and of arms, over the store where there is one.
//!
//! Of each topic each node writes one text under its name into a hash, when it has something new to tell, and reads those
//! of the others, off the path of any request. Nothing is kept, merged or waited for: a store that is away or loses them
//! takes nothing but the hints.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{task::AbortHandle, time::sleep};

use super::{
    keeper::{Broken, errand},
    link::{Live, Standing},
    protocol::Unknown,
    store::{Inner, Store},
};

/// How soon a store that is away is looked for again.
const AGAIN: Duration = Duration::from_millis(250);
/// Texts of more gateways than this are not looked at.
const MOST: usize = 256;

/// What is exchanged, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// The hash, in the names of the store.
    key: &'static str,
    /// How often it is told and read.
    every: Duration,
    /// It is told and read that much more rarely for each gateway that takes part, so that many of them together do not
    /// write more than a few, and each reads the same amount in a second.
    apiece: Duration,
    /// How long all of it lives without anything new.
    lives: Duration,
}

impl Topic {
    /// What was learned of upstreams: soon told and soon over.
    pub const UPSTREAMS: Self =
        Self { key: "h", every: Duration::from_millis(250), apiece: Duration::ZERO, lives: Duration::from_secs(60) };
    /// What guards have seen of arms. It changes with every request, so it is told once a second, by more than twenty
    /// gateways twenty times a second by all.
    pub const ARMS: Self = Self {
        key: "g",
        every: Duration::from_secs(1),
        apiece: Duration::from_millis(50),
        lives: Duration::from_secs(24 * 3_600),
    };

    fn pace(self, gateways: usize) -> Duration {
        self.every.max(self.apiece.saturating_mul(u32::try_from(gateways).unwrap_or(u32::MAX)))
    }
}

/// What was read.
#[derive(Debug)]
pub struct Texts {
    /// What the others say, by node.
    pub others: HashMap<String, String>,
    /// What this node has told is among them.
    pub own: bool,
    /// It may be old, since this node did not listen before.
    pub first: bool,
}

/// What is told and heard of one topic.
pub trait Hinting: Send + Sync + 'static {
    /// Which.
    fn topic(&self) -> Topic;

    /// What this node has to tell, if that is not what it told last.
    fn tell(&self) -> Option<String>;

    /// What was told could not be: it is to be told again.
    fn untold(&self);

    /// Takes in what was read; gives the nodes whose texts mean nothing any more and are to be taken down.
    fn hear(&self, texts: Texts) -> Vec<String>;
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
        sleep(AGAIN).await;
    }
}

async fn follow(inner: &Inner, live: &Live, hinting: &dyn Hinting, first: &mut bool) -> Broken {
    let topic = hinting.topic();
    let (key, lives_ms) = (live.wire.key(topic.key), u64::try_from(topic.lives.as_millis()).unwrap_or(u64::MAX));
    let node = inner.source.node().to_string();
    loop {
        if let Some(text) = hinting.tell() {
            let mut tell = ::redis::cmd("HSET");
            tell.arg(&key).arg(&node).arg(text);
            let mut lives = ::redis::cmd("PEXPIRE");
            lives.arg(&key).arg(lives_ms);
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
        let (gateways, own) = (texts.len(), texts.contains_key(&node));
        let others = texts.into_iter().filter(|(other, _)| *other != node).take(MOST).collect();
        let gone = hinting.hear(Texts { others, own, first: std::mem::replace(first, false) });
        if !gone.is_empty() {
            let mut take_down = ::redis::cmd("HDEL");
            take_down.arg(&key).arg(gone);
            if let Err(error) = errand(&live.wire, &take_down).await {
                return error;
            }
        }
        sleep(topic.pace(gateways)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_gateways_tell_of_arms_no_oftener_together_than_twenty_do() {
        let paces = [1, 20, 21, 200].map(|gateways| Topic::ARMS.pace(gateways).as_millis());
        assert_eq!(paces, [1_000, 1_000, 1_050, 10_000]);
        assert_eq!(Topic::UPSTREAMS.pace(200), Topic::UPSTREAMS.every);
    }
}
