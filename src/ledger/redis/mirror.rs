//! What other nodes have settled, as sums: so that any node can stand in for one that is gone when the store has lost
//! its data, and so that an audit can lay the books of all nodes beside the store.
//!
//! Each node tells its sums when it comes, and whenever one that missed rows asks for them: only then are the sums of
//! that node whole, else they are a lower bound.

use std::sync::Arc;

use uuid::Uuid;

use crate::ledger::row::{MirrorRow, PeerRow, PlaceRow, SettleRow, SweepRow, ToldRow, UnitRow};

/// Sweeps whose owner has not settled yet; of more than these the charge stays in the sums.
const SWEEPS: usize = 10_000;
/// A sweep is remembered for so many seconds, as the store does: 35 days.
const SWEPT_FOR: i64 = 35 * 24 * 3600;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    kept: MirrorRow,
    changed: bool,
}

impl Mirror {
    /// Goes on from what was kept.
    pub fn from_row(kept: MirrorRow) -> Self {
        Self { kept, changed: false }
    }

    /// What it amounts to.
    pub fn into_row(self) -> MirrorRow {
        self.kept
    }

    /// Takes what was kept in a row of its own and is not in the sums yet.
    pub fn replay(&mut self, told: ToldRow) {
        for row in told.settled {
            match row.rows.first().map(|first| (first.attempt, first.revision)) {
                Some((0, 0)) => {
                    self.sweep(&told.node, row);
                }
                Some((0, _)) => {
                    self.correct(row.id);
                }
                _ => {
                    self.settle(&told.node, (told.after, told.at), &row);
                }
            }
        }
        self.read(told.id);
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

    /// Adds a settlement of `node`, which follows the position `after` in its journal and ends at `at`. One that comes
    /// twice, since the store went back in time, is added once; whether it was new.
    pub fn settle(&mut self, node: &str, (after, at): (u64, u64), row: &SettleRow) -> bool {
        let peer = self.peer(node);
        if at > 0 && at <= peer.at {
            return false;
        }
        // Something between the two was never read here.
        peer.whole &= after <= peer.at;
        peer.at = peer.at.max(at);
        add(peer, &row.places, 1);
        true
    }

    /// Takes what a node says of itself: what it has settled up to `at`, which is told when all of that is in the stream.
    pub fn tell(&mut self, node: &str, at: u64, places: &[PlaceRow]) {
        let swept: Vec<_> = self.kept.sweeps.values().filter(|sweep| sweep.node == node).cloned().collect();
        let peer = self.peer(node);
        if peer.whole && at <= peer.at {
            return;
        }
        *peer = PeerRow { at: at.max(peer.at), whole: true, settled: Vec::new() };
        add(peer, places, 1);
        swept.iter().for_each(|sweep| add(peer, &sweep.row.places, 1));
    }

    /// Adds what a sweep charged `node`; whether it was new.
    pub fn sweep(&mut self, node: &str, row: SettleRow) -> bool {
        if self.kept.sweeps.contains_key(&row.id) {
            return false;
        }
        add(self.peer(node), &row.places, 1);
        if self.kept.sweeps.len() < SWEEPS {
            let at = row.at_ms.div_euclid(1000);
            self.kept.sweeps.insert(row.id, SweepRow { node: node.to_owned(), at, row });
        } else {
            self.peer(node).whole = false;
        }
        true
    }

    /// Takes back what a sweep charged for a request whose own settlement has come; gives what that was.
    pub fn correct(&mut self, request: Uuid) -> Option<SettleRow> {
        let swept = self.kept.sweeps.remove(&request)?;
        add(self.peer(&swept.node), &swept.row.places, -1);
        Some(swept.row)
    }

    fn peer(&mut self, node: &str) -> &mut PeerRow {
        self.kept.peers.entry(node.to_owned()).or_default()
    }

    /// The nodes of which something is missing.
    pub fn in_part(&self) -> Vec<String> {
        self.kept.peers.iter().filter(|(_, peer)| !peer.whole).map(|(node, _)| node.clone()).collect()
    }

    /// Whether all of `node` is known.
    pub fn is_whole(&self, node: &str) -> bool {
        self.kept.peers.get(node).is_some_and(|peer| peer.whole)
    }

    /// The sums of windows that are open at `now` (seconds since 1970), by node. Of this node itself it is what others
    /// have swept of it.
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
        self.kept.sweeps.retain(|_, sweep| sweep.at > now - SWEPT_FOR);
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
