//! What the store needs of a node's books: settlements in order, and what everything amounts to.

use std::{io, sync::Arc};

use jiff::Timestamp;

use crate::{
    base::fences::Fence,
    ledger::row::{HoldRow, LastRow, MirrorRow, PlaceRow, SettleRow, ToldRow},
};

/// What a node's books amount to at one position of its journal.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// The position.
    pub position: u64,
    /// What is settled in windows that are still open.
    pub settled: Vec<PlaceRow>,
    /// Requests under way.
    pub open: Vec<HoldRow>,
    /// What was settled last; `None` = nothing ever.
    pub last: Option<LastRow>,
}

/// A node's books, as the store sees them.
pub trait Source: Send + Sync + 'static {
    /// The node's name, the same as long as its journal lives.
    fn node(&self) -> &str;

    /// At most `most` settlements behind `after`, each with the position behind it. It may read files.
    ///
    /// # Errors
    /// The system's error when the journal cannot be read.
    fn settlements(&self, after: u64, most: usize) -> io::Result<Vec<(u64, Arc<SettleRow>)>>;

    /// What the books amount to now.
    ///
    /// # Errors
    /// The system's error while the journal cannot be written: the books then know more than it does.
    fn sums(&self) -> io::Result<Sums>;

    /// `fence` with what it is raised by at `now`.
    fn in_force(&self, fence: &Arc<Fence>, now: Timestamp) -> Arc<Fence>;

    /// Where the journal ended when it was opened: what is written since then stands behind this. Positions only grow.
    fn begun(&self) -> u64;

    /// Moves all that was written since the books were opened behind `position`, since the store knows settlements of
    /// another life of this journal up to there.
    ///
    /// # Errors
    /// The system's error; then it may be moved in part, in the order that it was written in.
    fn outrun(&self, position: u64) -> io::Result<()>;

    /// What is kept of other nodes' settlements: the sums, with all rows that they do not know of. It reads files.
    ///
    /// # Errors
    /// The system's error when it cannot be read.
    fn mirror(&self) -> io::Result<MirrorRow>;

    /// Keeps what other nodes have settled. It writes files.
    ///
    /// # Errors
    /// The system's error; then some of it may be kept all the same.
    fn keep_rows(&self, rows: Vec<ToldRow>) -> io::Result<()>;

    /// Keeps the sums of what is known of other nodes' settlements: all that was kept in rows.
    ///
    /// # Errors
    /// The system's error when it cannot be written.
    fn keep_mirror(&self, mirror: &MirrorRow) -> io::Result<()>;
}
