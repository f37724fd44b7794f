//! What other nodes have settled, as sums: so that any node can stand in for one that is gone when the store has lost
//! its data, and so that an audit can lay the books of all nodes beside the store.
//!
//! Each node tells its sums when it comes, and whenever one that missed rows asks for them: only then are the sums of
//! that node whole, else they are a lower bound.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use crate::ledger::row::{LastRow, MirrorRow, PeerRow, PlaceRow, SettleRow, SweepRow, ToldRow, UnitRow};

/// Sweeps whose owner has not settled yet; of more than these the charge stays in the sums.
const SWEEPS: usize = 10_000;
/// A sweep is remembered for so many seconds, as the store does: 35 days.
const SWEPT_FOR: i64 = 35 * 24 * 3600;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Mirror {
    /// The last entry of the stream that is in it.
    after: String,
    peers: BTreeMap<String, Peer>,
    /// What sweeps have charged whose owners have not settled, by request.
    sweeps: BTreeMap<Uuid, SweepRow>,
    changed: bool,
}

/// What one node has settled: see [`PeerRow`].
#[derive(Debug, Default)]
struct Peer {
    at: u64,
    whole: bool,
    /// By fence and the window's first second.
    settled: HashMap<(Arc<str>, i64), PlaceRow>,
    /// What it says of itself comes in pages: up to where, and how many have been read.
    telling: (u64, u64),
    /// The last row of it that was read, or that it says there is.
    last: Option<LastRow>,
    /// The rows that it settled after this instant have all been read, in milliseconds since 1970.
    rows_since_ms: Option<i64>,
}

/// Which page of what a node says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Its number, from 0.
    pub number: u64,
    /// None comes after it.
    pub last: bool,
}

impl Mirror {
    /// Goes on from what was kept.
    pub fn from_row(kept: MirrorRow) -> Self {
        let peer = |(node, PeerRow { at, whole, settled, last, rows_since_ms })| {
            let settled = settled.into_iter().map(|place| ((Arc::clone(&place.fence), place.from), place));
            (node, Peer { at, whole, settled: settled.collect(), telling: (0, 0), last, rows_since_ms })
        };
        let peers = kept.peers.into_iter().map(peer).collect();
        Self { after: kept.after, peers, sweeps: kept.sweeps, changed: false }
    }

    /// What it amounts to, for the disk.
    pub fn row(&self) -> MirrorRow {
        let peer = |(node, peer): (&String, &Peer)| {
            let settled = peer.settled.values().cloned().collect();
            let Peer { at, whole, last, rows_since_ms, .. } = *peer;
            (node.clone(), PeerRow { at, whole, settled, last, rows_since_ms })
        };
        let peers = self.peers.iter().map(peer).collect();
        MirrorRow { after: self.after.clone(), peers, sweeps: self.sweeps.clone(), ..MirrorRow::default() }
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
        if self.after.is_empty() { "0" } else { &self.after }
    }

    /// Notes that an entry has been read.
    pub fn read(&mut self, id: String) {
        self.after = id;
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
        if after > peer.at {
            peer.whole = false;
            peer.misses_rows(row.at_ms);
        }
        peer.last = Some(LastRow::from(row));
        peer.at = peer.at.max(at);
        peer.add(&row.places, 1);
        true
    }

    /// Takes a page of what a node says of itself: what it has settled up to `at`, which is told when all of that is in
    /// the stream, and nothing else of it between the pages. Sums only rise: a node whose journal is an old copy knows
    /// less of itself than was read of it.
    ///
    /// `last`: what it has settled last by then. Sums do not bring rows: if that was not read, rows were missed.
    pub fn tell(&mut self, node: &str, at: u64, page: Page, places: &[PlaceRow], last: Option<LastRow>) {
        let mut said = Peer::default();
        said.add(places, 1);
        for sweep in self.sweeps.values().filter(|sweep| sweep.node == node) {
            said.add_known(&sweep.row.places);
        }
        let peer = self.peer(node);
        let follows = page.number == 0 || peer.telling == (at, page.number);
        // What was read behind `at` is in the sums, and cannot be told from what it says.
        if at < peer.at || !follows {
            return;
        }
        for (place, sum) in said.settled {
            let known = peer.settled.entry(place).or_insert_with(|| PlaceRow { amount: 0, ..sum.clone() });
            known.amount = known.amount.max(sum.amount);
        }
        peer.telling = (at, page.number + 1);
        if page.last {
            (peer.at, peer.whole) = (at, true);
            if let Some(said) = last.filter(|said| peer.last.is_none_or(|read| read.id != said.id)) {
                peer.misses_rows(said.at_ms);
                peer.last = Some(said);
            }
        }
    }

    /// Adds what a sweep charged `node`; whether it was new.
    pub fn sweep(&mut self, node: &str, row: SettleRow) -> bool {
        if self.sweeps.contains_key(&row.id) {
            return false;
        }
        let known = self.sweeps.len() < SWEEPS;
        let peer = self.peer(node);
        peer.add(&row.places, 1);
        peer.whole &= known;
        if known {
            let at = row.at_ms.div_euclid(1000);
            self.sweeps.insert(row.id, SweepRow { node: node.to_owned(), at, row });
        }
        true
    }

    /// Takes back what a sweep charged for a request whose own settlement has come, or which was never dispatched;
    /// gives what that was.
    pub fn correct(&mut self, request: Uuid) -> Option<SettleRow> {
        let swept = self.sweeps.remove(&request)?;
        self.peer(&swept.node).add(&swept.row.places, -1);
        Some(swept.row)
    }

    fn peer(&mut self, node: &str) -> &mut Peer {
        self.peers.entry(node.to_owned()).or_default()
    }

    /// The nodes of which something is missing.
    pub fn in_part(&self) -> Vec<String> {
        self.peers.iter().filter(|(_, peer)| !peer.whole).map(|(node, _)| node.clone()).collect()
    }

    /// Whether all of `node` is known.
    pub fn is_whole(&self, node: &str) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.whole)
    }

    /// All rows were read, of all nodes, that were settled after this instant, in milliseconds since 1970.
    pub fn rows_since_ms(&self) -> i64 {
        self.peers.values().filter_map(|peer| peer.rows_since_ms).max().unwrap_or(i64::MIN)
    }

    /// The sums of windows that are open at `now` (seconds since 1970), by node. Of this node itself it is what others
    /// have swept of it.
    pub fn sums(&self, now: i64) -> Vec<(Arc<str>, Vec<PlaceRow>)> {
        let open = |peer: &Peer| peer.settled.values().filter(|place| place.to > now).cloned().collect();
        self.peers.iter().map(|(node, peer)| (Arc::from(&**node), open(peer))).collect()
    }

    /// What all others have settled against the fence `id` in the window that begins at `from` (seconds since 1970).
    pub fn sum(&self, id: &Arc<str>, from: i64) -> i64 {
        let place = (Arc::clone(id), from);
        self.peers.values().filter_map(|peer| peer.settled.get(&place)).map(|sum| sum.amount).sum()
    }

    /// What is to be kept, if anything has changed since it was last asked for. Windows that are over are forgotten.
    pub fn unkept(&mut self, now: i64) -> Option<MirrorRow> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        for peer in self.peers.values_mut() {
            peer.settled.retain(|_, place| place.to > now);
        }
        self.sweeps.retain(|_, sweep| sweep.at > now - SWEPT_FOR);
        Some(self.row())
    }
}

impl Peer {
    /// Rows of it were never read here, the last of them settled at `until_ms` at the latest.
    fn misses_rows(&mut self, until_ms: i64) {
        self.rows_since_ms = self.rows_since_ms.max(Some(until_ms));
    }

    /// Adds what is settled in places that are there already.
    fn add_known(&mut self, places: &[PlaceRow]) {
        for place in places.iter().filter(|place| place.unit != UnitRow::Concurrent) {
            if let Some(sum) = self.settled.get_mut(&(Arc::clone(&place.fence), place.from)) {
                sum.amount += place.amount;
            }
        }
    }

    fn add(&mut self, places: &[PlaceRow], sign: i64) {
        for place in places.iter().filter(|place| place.unit != UnitRow::Concurrent && place.amount != 0) {
            let sum = self.settled.entry((Arc::clone(&place.fence), place.from));
            sum.or_insert_with(|| PlaceRow { amount: 0, ..place.clone() }).amount += sign * place.amount;
        }
    }
}
