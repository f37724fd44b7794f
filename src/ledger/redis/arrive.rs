//! Arriving at a store: what a node does over a new connection before anything is spent over it.
//!
//! Whatever happened meanwhile (a failover to a replica that lags, a restart with old data or none, an end of this node
//! at any instant), it is the same: say how far the journal is in the store, send what is missing, free what was never
//! dispatched, hold again what is held, claim the slices.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use uuid::Uuid;

use super::{
    edits, exchange,
    keeper::{Broken, SILENCE, beat, errand, journaled, lost, release, ship_to, ttl_ms},
    link::Live,
    protocol::{self, How, Taken, Taking},
    rebuild,
    scripts::Wire,
    source::Sums,
    store::Inner,
    upkeep,
};
use crate::ledger::row::HoldRow;

/// Holds of which it is asked in one go whether they are ours.
const OURS: usize = 1000;

/// Brings the store up to date with this node; the connection may be used then.
pub(super) async fn arrive(inner: &Arc<Inner>, wire: Wire) -> Result<Arc<Live>, Broken> {
    let pulse = beat(inner, &wire).await?;
    let (epoch, acknowledged) = if pulse.epoch.is_empty() {
        rebuild::rebuild(inner, &wire).await?
    } else {
        let position = match pulse.position {
            Some(position) => {
                outrun(inner, position).await?;
                position
            }
            None => bring(inner, &wire, &pulse.epoch).await?,
        };
        (pulse.epoch, position)
    };
    inner.acknowledged.store(acknowledged, Ordering::Release);
    let live = Arc::new(Live { wire, epoch });
    let undispatched = undispatched(inner, &live).await?;
    ship_to(inner, &live, u64::MAX).await?;
    for id in undispatched {
        release(inner, &live, id).await?;
    }
    // Slices come last: what was settled from them is in by now.
    hold_again(inner, &live.wire, &live.epoch, sums(inner)?.open).await?;
    claim(inner, &live.wire, &live.epoch).await?;
    exchange::tell_sums(inner, &live).await?;
    Ok(live)
}

/// Makes sure that nothing is passed over: a store that knows settlements of ours which we cannot have sent has them
/// from another life of this journal, of which this one is an older copy.
async fn outrun(inner: &Arc<Inner>, position: u64) -> Result<(), Broken> {
    if position <= inner.source.begun().max(inner.told.load(Ordering::Acquire)) {
        return Ok(());
    }
    tracing::error!(
        "the journal is an older copy of itself: the budget store has settlements of this node that are not in it, and \
         `turnpike audit` will show them"
    );
    let source = Arc::clone(&inner.source);
    let moved = tokio::task::spawn_blocking(move || source.outrun(position)).await;
    let moved = moved.map_err(std::io::Error::other).and_then(|moved| moved);
    moved.map_err(|error| Broken(format!("the journal cannot be put behind what the store knows: {error}")))?;
    inner.told.fetch_max(position, Ordering::AcqRel);
    Ok(())
}

/// The holds of this node in the store that were surely never dispatched: neither is a request under way that may be
/// about to be, nor does the journal know of it. To be freed once all that is journaled by now is in the store.
async fn undispatched(inner: &Inner, live: &Arc<Live>) -> Result<Vec<Uuid>, Broken> {
    let (mut ours, mut from) = (Vec::new(), "-inf".to_owned());
    loop {
        let cmd = protocol::own_holds(&live.wire, &live.epoch, inner.source.node(), &from, OURS);
        let page = protocol::own(inner.link.send(live, &cmd, SILENCE).await?)?.ok_or_else(lost)?;
        ours.extend(page.ids);
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    // In this order: a request leaves the desk before its settlement is journaled, and the journal's open ones after.
    {
        let desk = inner.desk();
        ours.retain(|id| !desk.knows(id));
    }
    let open: HashSet<Uuid> = sums(inner)?.open.into_iter().map(|row| row.id).collect();
    ours.retain(|id| !open.contains(id));
    Ok(ours)
}

/// Takes out of the slices what was settled from them and is in the sums up to `position`: it is brought with these, and
/// would count twice.
async fn covered(inner: &Arc<Inner>, position: u64) -> Result<(), Broken> {
    let mut after = inner.acknowledged.load(Ordering::Acquire);
    while inner.desk().is_moving() {
        let batch = journaled(inner, after).await?;
        let mut desk = inner.desk();
        for (_, row) in batch.iter().take_while(|(at, _)| *at <= position) {
            desk.shipped(&row.id, &row.places);
        }
        match batch.last() {
            Some((last, _)) if *last < position => after = *last,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Brings all that this node has settled, as sums; gives the position up to which they reach.
pub(super) async fn bring(inner: &Arc<Inner>, wire: &Wire, epoch: &str) -> Result<u64, Broken> {
    let Sums { position, settled, open, .. } = sums(inner)?;
    covered(inner, position).await?;
    let edits = inner.board.edits();
    // What stands against a budget whose period was edited is more than what was placed in its window.
    let edited: Vec<_> = edits.into_iter().map(|edit| (edit, true)).collect();
    edits::bring(inner, wire, epoch, &edited).await?;
    // Before the slices, out of which some of it was spent: in a store that is in use nothing must be free between.
    rebuild::part(wire, epoch, inner.source.node(), None, &settled).await?;
    hold_again(inner, wire, epoch, open).await?;
    claim(inner, wire, epoch).await?;
    // The position comes last: with it a rebuild takes this node for done.
    inner.told.fetch_max(position, Ordering::AcqRel);
    rebuild::part(wire, epoch, inner.source.node(), Some(position), &[]).await?;
    Ok(position)
}

/// What the books amount to, with what stands in open windows that edited fences have left.
pub(super) fn sums(inner: &Inner) -> Result<Sums, Broken> {
    let sums = inner.source.sums();
    let mut sums = sums.map_err(|error| Broken(format!("the journal cannot be written: {error}")))?;
    sums.settled.extend(inner.board.edits().into_iter().flat_map(|edit| edit.left));
    Ok(sums)
}

async fn claim(inner: &Inner, wire: &Wire, epoch: &str) -> Result<(), Broken> {
    let slices = inner.desk().slices.all();
    if upkeep::done(errand(wire, &upkeep::claim(wire, epoch, inner.source.node(), &slices)).await?)? {
        Ok(())
    } else {
        Err(lost())
    }
}

/// Holds again what requests under way hold: the store may have forgotten it, and knows it otherwise.
async fn hold_again(inner: &Inner, wire: &Wire, epoch: &str, open: Vec<HoldRow>) -> Result<(), Broken> {
    for mut row in open {
        let id = row.id;
        let parts = {
            let desk = inner.desk();
            if !desk.is_remote(&id) {
                continue;
            }
            desk.parts(&id).to_vec()
        };
        let mut places = std::mem::take(&mut row.places);
        for place in &mut places {
            let part = parts.iter().find(|part| part.fence == place.fence && part.from == place.from);
            place.amount -= part.map_or(0, |part| part.amount);
        }
        let about = serde_json::to_string(&row).unwrap_or_default();
        let taking =
            Taking { how: How::Again, id, ttl_ms: ttl_ms(), node: inner.source.node(), about: &about, revision: 0 };
        let cmd = protocol::take_again(wire, epoch, &taking, &places);
        if let Taken::Epoch(_) = protocol::taken(errand(wire, &cmd).await?)? {
            return Err(lost());
        }
    }
    Ok(())
}
