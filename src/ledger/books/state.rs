//! What the journal amounts to, entry by entry, with the journal itself: what is changed under the lock of the books.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
};

use jiff::Timestamp;
use uuid::Uuid;

use super::{feed::Feed, rents::Rents};
use crate::ledger::{
    balances::Balances,
    journal::{Encoded, Journal, Position},
    row::{Checkpoint, Entry, HoldRow, LastRow, PlaceRow, RaiseRow, RentHour, UnitRow, switches::SwitchRow},
};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) balances: Balances,
    /// Requests under way, as a checkpoint needs them.
    pub(super) open: HashMap<Uuid, HoldRow>,
    pub(super) journal: Option<Journal>,
    /// Settlements that could not be written. While there are any, nothing more is held.
    pub(super) backlog: VecDeque<Encoded>,
    /// Where the last checkpoint was taken.
    pub(super) checkpoint: Position,
    /// Where the journal ended when it was opened.
    pub(super) begun: Position,
    /// Raises that have not ended, as a checkpoint needs them.
    pub(super) raises: Vec<RaiseRow>,
    /// The newest word on everything that was ever switched.
    pub(super) switches: Vec<SwitchRow>,
    /// What is rented, in hours whose rent is not booked.
    pub(super) rents: Rents,
    /// What was settled last.
    pub(super) last: Option<LastRow>,
    /// What goes on to a store that several nodes share; `None` without one.
    pub(super) feed: Option<Feed>,
}

impl State {
    /// Writes an entry, behind those that wait.
    pub(super) fn write(&mut self, encoded: &Encoded) -> io::Result<Position> {
        self.catch_up();
        if !self.backlog.is_empty() {
            return Err(io::Error::other("settlements wait to be written"));
        }
        match &mut self.journal {
            Some(journal) => journal.append(encoded),
            None => Ok(Position::default()),
        }
    }

    /// Writes what waits, as far as that goes.
    pub(super) fn catch_up(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        while let Some(waiting) = self.backlog.front() {
            if journal.append(waiting).is_err() {
                return;
            }
            self.backlog.pop_front();
            if let Some(feed) = &mut self.feed {
                feed.forget();
            }
            if self.backlog.is_empty() {
                tracing::info!("the journal can be written again");
            }
        }
    }

    /// Takes over a checkpoint; gives the position that it was taken at.
    pub(super) fn begin_from(&mut self, checkpoint: Checkpoint) -> Position {
        self.balances.book(&checkpoint.settled, Timestamp::default());
        self.raises = checkpoint.raises;
        self.rents = Rents::of(checkpoint.rents, checkpoint.rested);
        self.switches = checkpoint.switches;
        self.last = checkpoint.last;
        self.open = checkpoint.open.into_iter().map(|row| (row.id, row)).collect();
        Position { segment: checkpoint.segment, offset: checkpoint.offset }
    }

    /// Takes one entry of the journal into account.
    pub(super) fn fold(&mut self, entry: Entry) {
        match entry {
            Entry::Hold(row) => {
                self.open.insert(row.id, row);
            }
            Entry::TopUp(row) => {
                if let Some(open) = self.open.get_mut(&row.id) {
                    open.held_nanousd = row.held_nanousd;
                    open.places = row.places;
                }
            }
            Entry::Settle(row) => {
                self.open.remove(&row.id);
                // A row of a process that ended, or a late one, is as old as it says.
                self.balances.book(&row.places, Timestamp::from_millisecond(row.at_ms).unwrap_or_default());
                self.rents.booked(&row);
                self.last = Some(LastRow::from(&row));
            }
            Entry::Raise(row) => self.keep_raise(row),
            Entry::Switch(row) => self.keep_switch(row),
            Entry::Rent(row) => self.rents.note(row),
            Entry::RentElsewhere(row) => self.rents.elsewhere(&RentHour { hour: row.hour, backend: row.backend }),
            // The store is what it changes; and others' rows are not in this journal.
            Entry::Release(_) | Entry::Told(_) => {}
        }
    }

    pub(super) fn checkpoint(&self, at: Position) -> Checkpoint {
        let settled = self.balances.settled().map(|(fence, level)| PlaceRow {
            fence: Arc::clone(fence),
            // The unit is the fence's; a sum needs none.
            unit: UnitRow::Usd,
            from: level.window.start.as_second(),
            to: level.window.end.as_second(),
            amount: level.settled,
        });
        Checkpoint {
            segment: at.segment,
            offset: at.offset,
            settled: settled.collect(),
            open: self.open.values().cloned().collect(),
            raises: self.raises.clone(),
            switches: self.switches.clone(),
            rents: self.rents.rows(),
            rested: self.rents.rested().to_vec(),
            last: self.last,
        }
    }
}
