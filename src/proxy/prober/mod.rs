//! Keeps the servers of pools: asks each again and again whether it is ready and what its load is, and name servers for
//! who they are. One task a backend, off the path of requests; they end with the configuration that they are of.

mod ask;
mod find;

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    Gateway,
    live::{Live, seen::Kept},
};

/// Keeps the servers of the policies in force, until it is dropped.
pub async fn keep_servers(gateway: Arc<Gateway>) {
    let mut reloads = gateway.reloads.subscribe();
    loop {
        reloads.mark_unchanged();
        let live = gateway.live();
        let mut tasks = JoinSet::new();
        for kept in live.kept() {
            let (gateway, live) = (Arc::clone(&gateway), Arc::clone(&live));
            tasks.spawn(async move { keep(&gateway, &live, &kept).await });
        }
        drop(live);
        // Whoever reloads holds the gateway, so the sender lives as long as this.
        if reloads.changed().await.is_err() {
            return;
        }
    }
}

async fn keep(gateway: &Gateway, live: &Live, kept: &Kept) {
    tokio::join!(find::find(gateway, live, kept), ask::ask(live, kept));
}
