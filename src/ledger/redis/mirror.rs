//! What other nodes have settled, as sums: so that any node can stand in for one that is gone when the store has lost
//! its data.
//!
//! The sums are a lower bound: rows that went by while this node was away for long are not in them.

use std::{collections::HashMap, sync::Arc};

use crate::ledger::row::{MirrorRow, PeerRow, PlaceRow, UnitRow};

/// Sweeps whose owner has not settled yet; of more than these the charge stays in the sums.
const SWEEPS: usize = 10_000;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Mirror {
    kept: MirrorRow,
    /// What sweeps have charged, by request.
    sweeps: HashMap<String, Vec<PlaceRow>>,
    changed: bool,
}

impl Mirror {
    /// Goes on from what was kept.
    pub fn from_row(kept: MirrorRow) -> Self {
        Self { kept, ..Self::default() }
    }

    /// The last entry of the stream that is in the sums.
    pub fn after(&self) -> &str {
        if self.kept.after.is_empty() { "0" } else { &self.kept.after }
    }

    /// Notes that an entry has been read.
    pub fn read(&mut self, id: String) {
        self.kept.after = id;
        self.changed = true;
    }

    /// Adds a settlement of `node`, which ends at `at` in its journal. One that comes twice, since the store went back
    /// in time, is added once.
    pub fn settle(&mut self, node: &str, at: u64, request: &str, places: &[PlaceRow]) {
        let swept = self.sweeps.remove(request).unwrap_or_default();
        let peer = self.peer(node);
        if at > 0 && at <= peer.at {
            return;
        }
        peer.at = peer.at.max(at);
        add(peer, &swept, -1);
        add(peer, places, 1);
    }

    /// Adds what a sweep charged `node`.
    pub fn sweep(&mut self, node: &str, request: &str, places: Vec<PlaceRow>) {
        if self.sweeps.contains_key(request) || self.sweeps.len() >= SWEEPS {
            return;
        }
        add(self.peer(node), &places, 1);
        self.sweeps.insert(request.to_owned(), places);
    }

    fn peer(&mut self, node: &str) -> &mut PeerRow {
        self.kept.peers.entry(node.to_owned()).or_default()
    }

    /// The sums of windows that are open at `now` (seconds since 1970), by node.
    pub fn sums(&self, now: i64) -> Vec<(Arc<str>, Vec<PlaceRow>)> {
        let open = |places: &[PlaceRow]| places.iter().filter(|place| place.to > now).cloned().collect();
        self.kept.peers.iter().map(|(node, peer)| (Arc::from(&**node), open(&peer.settled))).collect()
    }

    /// What is to be kept, if anything has changed since it was last asked for. Windows that are over are forgotten.
    pub fn unkept(&mut self, now: i64) -> Option<&MirrorRow> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        for peer in self.kept.peers.values_mut() {
            peer.settled.retain(|place| place.to > now);
        }
        Some(&self.kept)
    }
}

fn add(peer: &mut PeerRow, places: &[PlaceRow], sign: i64) {
    for place in places.iter().filter(|place| place.unit != UnitRow::Concurrent && place.amount != 0) {
        let same = |other: &&mut PlaceRow| other.fence == place.fence && other.from == place.from;
        match peer.settled.iter_mut().find(same) {
            Some(sum) => sum.amount += sign * place.amount,
            None => peer.settled.push(PlaceRow { amount: sign * place.amount, ..place.clone() }),
        }
    }
}
