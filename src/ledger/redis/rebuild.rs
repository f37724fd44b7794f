//! Filling a store that has no data: a new one, or one that has lost them.
//!
//! Until the epoch is written, no script takes anything, so a store that lost its data never hands out a spent budget
//! again. Each node brings what it has settled, holds and leases; for those that do not come, the others bring what
//! their mirrors know, and count the slices that they last told of as spent.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    arrive::bring,
    keeper::{Broken, beat, errand, lost},
    scripts::Wire,
    store::Inner,
    upkeep::{self, Begun, Peer},
};
use crate::ledger::row::PlaceRow;

/// No rebuild ends before: whoever lives says so each second.
const AT_LEAST_MS: i64 = 1_500;
/// Nobody is waited for longer.
const AT_MOST_MS: i64 = 5_000;
/// Whoever was heard within this time is waited for.
const HEARD: Duration = Duration::from_secs(600);
/// Places in one script.
const PLACES: usize = 1_000;
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Takes part in the rebuild; gives the epoch and the position of our journal up to which it has our settlements.
pub(super) async fn rebuild(inner: &Arc<Inner>, wire: &Wire) -> Result<(String, u64), Broken> {
    let mine = Uuid::from_u128(rand::random()).simple().to_string();
    let mut brought: Option<(String, u64)> = None;
    loop {
        let begun = upkeep::begun(errand(wire, &upkeep::begin(wire, &mine[..12])).await?)?;
        let epoch = match &begun {
            Begun::Epoch(epoch) | Begun::Making { epoch, .. } => epoch.clone(),
        };
        let position = match &brought {
            Some((before, position)) if *before == epoch => *position,
            _ => {
                tracing::warn!(epoch, "the budget store has no data: bringing what this node has settled");
                let position = bring(inner, wire, &epoch).await?;
                brought = Some((epoch.clone(), position));
                position
            }
        };
        match begun {
            Begun::Epoch(epoch) => return Ok((epoch, position)),
            Begun::Making { since_ms, done, .. } => {
                beat(inner, wire).await?;
                let absent = absent(inner, &done);
                let patient = since_ms < AT_MOST_MS && absent.iter().any(|(_, waited_for)| *waited_for);
                if since_ms < AT_LEAST_MS || patient {
                    sleep(LOOK).await;
                    continue;
                }
                stand_in(inner, wire, &epoch, &done, &absent).await?;
                errand(wire, &upkeep::finish(wire, &epoch)).await?;
            }
        }
    }
}

/// The nodes that have not brought their part, and whether they are waited for.
fn absent(inner: &Inner, done: &[String]) -> Vec<(Peer, bool)> {
    let known = inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = known.iter().filter(|(peer, _)| peer.node != inner.source.node() && !done.contains(&peer.node));
    missing.map(|(peer, heard)| (peer.clone(), heard.elapsed() < HEARD)).collect()
}

/// Brings what `node` has settled, in pages that others need not wait long for. Each can only raise what is there, and
/// the position comes with the last one: only then is the node done, so a part that breaks off is brought once more.
pub(super) async fn part(
    wire: &Wire,
    epoch: &str,
    node: &str,
    position: Option<u64>,
    settled: &[PlaceRow],
) -> Result<(), Broken> {
    let pages = settled.len().div_ceil(PLACES).max(1);
    for page in 0..pages {
        let places = &settled[page * PLACES..settled.len().min((page + 1) * PLACES)];
        let cmd = upkeep::part(wire, epoch, node, position.filter(|_| page + 1 == pages), places);
        if !upkeep::done(errand(wire, &cmd).await?)? {
            return Err(lost());
        }
    }
    Ok(())
}

/// Brings what is known of those who did not come.
async fn stand_in(
    inner: &Inner,
    wire: &Wire,
    epoch: &str,
    done: &[String],
    absent: &[(Peer, bool)],
) -> Result<(), Broken> {
    let mirrored = {
        let mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        mirror.sums(Timestamp::now().as_second())
    };
    for (node, settled) in mirrored {
        if !done.iter().any(|name| **name == *node) && *node != *inner.source.node() {
            part(wire, epoch, &node, None, &settled).await?;
        }
    }
    for (peer, _) in absent.iter().filter(|(peer, _)| !peer.slices.is_empty()) {
        tracing::warn!(node = peer.node, "a node is not heard: what it leased counts as spent");
        errand(wire, &upkeep::claim_text(wire, epoch, &peer.node, &peer.slices)).await?;
    }
    Ok(())
}
