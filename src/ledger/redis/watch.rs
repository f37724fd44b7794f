//! How a store stands, and its end: for those who do not hold anything.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    exchange,
    lease::Slices,
    link::Standing,
    store::Store,
    upkeep::{self, Peer},
};

impl Store {
    /// Whether the store answers.
    pub fn is_up(&self) -> bool {
        self.inner.link.is_up()
    }

    /// Why it does not, if so.
    pub fn trouble(&self) -> Option<Arc<str>> {
        match &*self.inner.link.watch().borrow() {
            Standing::Up(_) => None,
            Standing::Slow(..) => Some("it does not answer".into()),
            Standing::Down(why, _) => Some(Arc::clone(why)),
        }
    }

    /// How it stands, for those who wait for it.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.inner.link.watch()
    }

    /// Waits until it answers, at most for `most`; whether it does.
    pub async fn wait(&self, most: Duration) -> bool {
        let mut watch = self.inner.link.watch();
        let up = watch.wait_for(|standing| matches!(standing, Standing::Up(_)));
        matches!(timeout(most, up).await, Ok(Ok(_)))
    }

    /// Brings everything to the store and returns what was leased, as at the end of the process, for at most `most`.
    /// What does not get there is in the journal.
    pub async fn close(&self, most: Duration) {
        let shipped = async {
            while !self.is_caught_up() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let shipped = timeout(most, shipped).await.is_ok();
        self.keeper.abort();
        exchange::keep(&self.inner, Timestamp::now().as_second()).await;
        if !shipped {
            return;
        }
        self.inner.desk().slices = Slices::default();
        let (node, link) = (self.inner.source.node(), &self.inner.link);
        let mut returned = link.call(|live| upkeep::claim(&live.wire, &live.epoch, node, &[])).await;
        if returned.is_ok() {
            // The others remember what they were last told: should the store lose its data, that would count as spent.
            returned = link.call(|live| upkeep::beat(&live.wire, node, "")).await;
        }
        if let Err(error) = returned {
            tracing::warn!(%error, "what this gateway leased is not returned: it is when it starts again");
        }
    }

    /// What other nodes have settled against the fence `id` in the window that begins at `from` (seconds since 1970),
    /// as far as this node has read it.
    pub fn elsewhere(&self, id: &Arc<str>, from: i64) -> i64 {
        self.inner.mirror.lock().unwrap_or_else(PoisonError::into_inner).sum(id, from)
    }

    /// The nodes that count in this store, with their slices, as they were last heard.
    pub fn peers(&self) -> Vec<Peer> {
        let peers = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().map(|(peer, _)| peer.clone()).collect()
    }

    /// What this node leases, in nano-USD.
    pub fn leased_nanousd(&self) -> i64 {
        self.inner.desk().leased_nanousd()
    }

    /// How long the oldest settlement has waited to get into the store.
    pub fn lag(&self) -> Duration {
        let behind = self.inner.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether everything that the journal has is in the store.
    pub fn is_caught_up(&self) -> bool {
        self.lag().is_zero()
    }
}
