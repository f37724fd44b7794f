//! Windows that budgets were moved into by an edit of their period or zone, as they are stored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PlaceRow;

/// A fence counts in this window now, though it began in another: its period or zone was edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRow {
    /// The fence's id.
    pub fence: Arc<str>,
    /// The window's first second since 1970.
    pub from: i64,
    /// The first second after it.
    pub to: i64,
    /// The cap that came with the edit, in the fence's unit.
    pub cap: i64,
    /// The revision of the policies that say so.
    pub revision: u64,
}

impl WindowRow {
    /// Of two rows of one fence, whether this one counts.
    pub fn stands_above(&self, other: &Self) -> bool {
        (self.revision, self.from, self.to) > (other.revision, other.from, other.to)
    }
}

/// The same with what this node's requests of that window were charged in others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EditRow {
    /// The window.
    pub window: WindowRow,
    /// Settled elsewhere by requests that were admitted in it, in the fence's unit.
    pub elsewhere: i64,
    /// What was settled in windows that the fence has left and that are still open: another edit may lead back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<PlaceRow>,
}
