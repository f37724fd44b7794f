//! What a node keeps of the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PlaceRow, Row, SettleRow};

/// What other nodes have settled in windows that are not over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MirrorRow {
    /// The last entry of the store's stream that is in it.
    pub after: String,
    /// By node.
    pub peers: BTreeMap<String, PeerRow>,
    /// What sweeps have charged whose owners have not settled, by request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sweeps: BTreeMap<Uuid, SweepRow>,
    /// The segment of the rows that were kept by then.
    #[serde(default)]
    pub segment: u64,
    /// The byte in it.
    #[serde(default)]
    pub offset: u64,
}

/// What a sweep has charged a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// The node.
    pub node: String,
    /// When it was read, in seconds since 1970.
    pub at: i64,
    /// What was charged: as attempt 0, which no gateway makes.
    pub row: SettleRow,
}

/// What the store has told of another node, in one entry so that it is kept whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldRow {
    /// The node.
    pub node: String,
    /// The entry of the store's stream: `<ms since 1970>-<number>` by the store's clock.
    pub id: String,
    /// The position in the node's journal that it follows.
    pub after: u64,
    /// The position behind it.
    pub at: u64,
    /// What was settled; a sweep, or the correction of one, as attempt 0.
    pub settled: Vec<SettleRow>,
}

/// What one node has settled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Up to this position of its journal.
    pub at: u64,
    /// Whether the sums are all that it has settled up to there in windows that are open.
    #[serde(default)]
    pub whole: bool,
    /// The sums.
    pub settled: Vec<PlaceRow>,
    /// The settlement of it that is the last one read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRow>,
    /// All its rows were read that it settled after this instant, in milliseconds since 1970; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_since_ms: Option<i64>,
}

/// The last settlement in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRow {
    /// Its id.
    pub id: Uuid,
    /// When it was settled, in milliseconds since 1970.
    pub at_ms: i64,
}

impl From<&SettleRow> for LastRow {
    fn from(row: &SettleRow) -> Self {
        Self { id: row.id, at_ms: row.at_ms }
    }
}

impl SettleRow {
    /// Turns what a sweep by another node has charged into a row that no word of the owner can be mistaken for.
    #[must_use]
    pub fn by_another(mut self) -> Self {
        self.rows.iter_mut().for_each(|row| row.attempt = 0);
        self
    }

    /// What corrects it once the owner's own word has come: the next revision, which holds the difference to nothing.
    #[must_use]
    pub fn corrected(&self, at_ms: i64) -> Self {
        let correction = |row: &Row| Row {
            revision: row.revision + 1,
            charge_nanousd: -row.charge_nanousd,
            held_nanousd: 0,
            outcome: "corrected".into(),
            swept: false,
            ..row.clone()
        };
        let back = |place: &PlaceRow| PlaceRow { amount: -place.amount, ..place.clone() };
        Self {
            at_ms,
            places: self.places.iter().map(back).collect(),
            rows: self.rows.iter().map(correction).collect(),
            swept: false,
            ..self.clone()
        }
    }
}
