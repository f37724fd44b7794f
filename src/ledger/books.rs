//! The books of one node: its journal, and what the journal amounts to.
//!
//! An entry is written before what it stands for takes effect: a hold before the dispatch, a settlement before its
//! hold is free again. Whatever ends the process, every settled row is in the journal, and what was under way is
//! swept at the next start: charged as it was held.

mod acts;
mod edits;
mod feed;
mod keeper;
mod rents;
mod state;
mod told;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    balances::{Level, Place, Short},
    index::Index,
    journal::{Journal, Position, Reader, Reading, encode},
    raises::Raises,
    row::{Checkpoint, Entry, HoldRow, Row, SettleRow, TopUpRow},
    switches::Switches,
    window::Window,
};
use crate::base::{fences::Fence, money::Money};
use feed::Feed;
pub(super) use feed::Shared;
pub use rents::Rented;
use state::State;
pub use told::mirror_folder;

/// How often the books are summed up, so that the next start is short.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Why the books cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// Another process has the folder.
    #[error(
        "the journal in `{0}` is in use by another process\nhint: a gateway runs on it already; give each its own `journal`"
    )]
    InUse(String),
    /// The folder cannot be read or written.
    #[error("the journal cannot be used: {0}")]
    Io(#[from] io::Error),
    /// The index cannot be read or written.
    #[error("the index of the journal failed: {0}")]
    Index(#[from] Box<redb::Error>),
}

/// What was found when the books were opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries that were read since the last checkpoint.
    pub entries: u64,
    /// Requests that were under way when the process ended.
    pub swept: usize,
    /// What they were charged.
    pub swept_charge: Money,
    /// Bytes of a torn tail that were cut off.
    pub torn: u64,
    /// Stretches that are no entries, with their length in bytes.
    pub damaged: Vec<(Position, u64)>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Books {
    state: Mutex<State>,
    raises: Raises,
    switches: Switches,
    edits: Mutex<edits::Edits>,
    folder: Option<PathBuf>,
    index: Option<Index>,
    /// Something has been written since the last sync.
    dirty: AtomicBool,
    keeper: Mutex<Option<Thread>>,
}

impl Books {
    /// Opens the books in `folder`, reads what they amount to, and sweeps what was under way when they were last
    /// used.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn open(folder: &Path, now: Timestamp) -> Result<(Arc<Self>, Recovery), BooksError> {
        Self::open_as(folder, now, false)
    }

    fn open_as(folder: &Path, now: Timestamp, shared: bool) -> Result<(Arc<Self>, Recovery), BooksError> {
        std::fs::create_dir_all(folder)?;
        let index = Index::open(folder)?;
        let mut state = State::default();
        let mut recovery = Recovery::default();
        let checkpoint = index.last().filter(|checkpoint| {
            let at = Position { segment: checkpoint.segment, offset: checkpoint.offset };
            super::journal::reaches(folder, at)
        });
        let mut reader = Reader::open(folder, state.begin_from(checkpoint.unwrap_or_default()))?;
        for reading in reader.by_ref() {
            match reading? {
                Reading::Entry(entry, _) => {
                    recovery.entries += 1;
                    state.fold(*entry);
                }
                Reading::Damage { at, bytes } => recovery.damaged.push((at, bytes)),
                Reading::Torn { bytes, .. } => recovery.torn = bytes,
            }
        }
        let mut journal = Journal::continue_at(folder, reader.position())?;
        if shared {
            // A power cut may have taken settlements that the store has already. What is written from now on must not
            // take their positions.
            journal.roll()?;
            state.feed = Some(Feed::default());
        }
        state.begun = journal.end();
        for hold in std::mem::take(&mut state.open).into_values() {
            let swept = hold.swept(now);
            recovery.swept += 1;
            recovery.swept_charge += swept.rows.iter().map(Row::charge).sum();
            let entry = Entry::Settle(swept);
            journal.append_entry(&entry)?;
            state.fold(entry);
        }
        state.journal = Some(journal);
        let raises = Raises::of(state.raises.iter().cloned());
        let switches = Switches::of(state.switches.iter().cloned());
        let edits = if shared { edits::kept(folder) } else { edits::Edits::new() };
        let (state, folder) = (Mutex::new(state), Some(folder.to_owned()));
        let books = Arc::new(Self {
            state,
            raises,
            switches,
            edits: Mutex::new(edits),
            folder,
            index: Some(index),
            dirty: AtomicBool::new(false),
            keeper: Mutex::new(None),
        });
        books.checkpoint()?;
        books.keep()?;
        Ok((books, recovery))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every step under the lock leaves the state whole, so a panic elsewhere cannot leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of the journal; `None` for books in memory.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What stands settled at the end of the journal, for an audit; `None` for books in memory, and while settlements
    /// wait to be written.
    pub fn standing(&self) -> Option<Checkpoint> {
        let state = self.lock();
        let end = state.journal.as_ref()?.end();
        state.backlog.is_empty().then(|| state.checkpoint(end))
    }

    /// What stood settled when the books in `folder` were last summed up; `None` when they never were.
    ///
    /// # Errors
    /// [`BooksError::InUse`] while a gateway has them.
    pub fn last_standing(folder: &Path) -> Result<Option<Checkpoint>, BooksError> {
        Index::peek(folder)
    }

    /// The window that each of `fences` counts in now.
    pub fn windows(&self, fences: &[Arc<Fence>], now: Timestamp) -> Vec<Window> {
        let mut state = self.lock();
        fences.iter().map(|fence| state.balances.window(fence, now)).collect()
    }

    /// Sets `wanted` aside in place of `mine`: all or nothing.
    ///
    /// # Errors
    /// [`Short`] for the first place that binds and would pass its cap.
    pub fn take(&self, mine: &[Place], wanted: &[Place], binds: impl Fn(&Fence) -> bool) -> Result<(), Short> {
        self.lock().balances.take(mine, wanted, binds)
    }

    /// Gives back what [`Books::take`] set aside.
    pub fn give_back(&self, places: &[Place]) {
        self.lock().balances.give_back(places);
    }

    /// Writes that a request is about to be dispatched. Its places must have been taken.
    ///
    /// # Errors
    /// The system's error when it cannot be written; also while settlements wait to be written.
    pub fn begin(&self, row: HoldRow) -> io::Result<()> {
        if self.folder.is_none() {
            return Ok(());
        }
        let entry = Entry::Hold(row);
        let encoded = encode(&entry)?;
        let mut state = self.lock();
        state.write(&encoded)?;
        if let Entry::Hold(row) = entry {
            state.open.insert(row.id, row);
        }
        drop(state);
        self.wrote();
        Ok(())
    }

    /// Writes that a request holds more than before.
    ///
    /// # Errors
    /// As [`Books::begin`].
    pub fn top_up(&self, row: TopUpRow) -> io::Result<()> {
        if self.folder.is_none() {
            return Ok(());
        }
        let entry = Entry::TopUp(row);
        let encoded = encode(&entry)?;
        let mut state = self.lock();
        state.write(&encoded)?;
        state.fold(entry);
        drop(state);
        self.wrote();
        Ok(())
    }

    /// Books the end of a request: `places` are free again, and what `row` charges is settled. It takes effect even
    /// where it cannot be written; it is written as soon as it can be.
    pub fn settle(&self, places: &[Place], row: SettleRow) {
        let entry = Entry::Settle(row);
        // An entry that cannot be encoded is longer than a megabyte: no request that was admitted makes one.
        let encoded = if self.folder.is_some() { encode(&entry).ok() } else { None };
        let mut state = self.lock();
        if let Some(encoded) = encoded {
            match state.write(&encoded) {
                Ok(at) => {
                    if let (Some(feed), Entry::Settle(row)) = (&mut state.feed, &entry) {
                        feed.push(at, row);
                    }
                }
                Err(error) => {
                    if state.backlog.is_empty() {
                        tracing::error!(%error, "the journal cannot be written: budgeted work is refused until it can");
                    }
                    state.backlog.push_back(encoded);
                }
            }
        }
        state.balances.give_back(places);
        state.fold(entry);
        drop(state);
        self.wrote();
    }

    /// What stands against `fence` now.
    pub fn level(&self, fence: &Fence, now: Timestamp) -> Level {
        self.lock().balances.level(fence, now)
    }

    /// What was settled against the fence `id` by requests that were admitted in `window`, from the journal itself.
    ///
    /// # Errors
    /// The system's error when the journal cannot be read.
    pub fn sum(&self, id: &str, window: &Window) -> io::Result<i64> {
        let Some(folder) = &self.folder else { return Ok(0) };
        let (start, end) = (window.start.as_millisecond(), window.end.as_millisecond());
        let mut sum: i64 = 0;
        for reading in Reader::since(folder, window.start)? {
            let Reading::Entry(entry, _) = reading? else { continue };
            let Entry::Settle(row) = *entry else { continue };
            if (start..end).contains(&row.held_at_ms) {
                let places = row.places.iter().filter(|place| &*place.fence == id);
                sum = places.fold(sum, |sum, place| sum.saturating_add(place.amount));
            }
        }
        Ok(sum)
    }

    /// Puts a fence whose period or zone was edited into the window that it now means, with what the journal says of
    /// it. Reads the journal: not for the path of a request.
    ///
    /// # Errors
    /// As [`Books::sum`]; the fence then stays in the window that it was in.
    pub fn adopt(&self, fence: &Fence, now: Timestamp) -> io::Result<()> {
        // Asked without letting a window that is over turn: it would begin the fence's new one with nothing.
        let edited = |last: &Window| Window::of(fence, last.start) != *last;
        if !self.lock().balances.last_window(&fence.id).as_ref().is_some_and(edited) {
            return Ok(());
        }
        let window = Window::of(fence, now);
        let settled = self.sum(&fence.id, &window)?;
        self.lock().balances.adopt(fence, window, settled, now);
        Ok(())
    }

    /// Sums the books up, so that the next start reads the journal from here.
    fn checkpoint(&self) -> Result<(), BooksError> {
        let Some(index) = &self.index else { return Ok(()) };
        let (checkpoint, file) = {
            let state = self.lock();
            let Some(journal) = &state.journal else { return Ok(()) };
            // What waits to be written is in the balances already, and must not be counted twice.
            if !state.backlog.is_empty() || journal.end() == state.checkpoint {
                return Ok(());
            }
            (state.checkpoint(journal.end()), journal.file()?)
        };
        // A checkpoint must never know more than the journal does after a power cut.
        file.sync_data()?;
        index.put(&checkpoint)?;
        self.lock().checkpoint = Position { segment: checkpoint.segment, offset: checkpoint.offset };
        Ok(())
    }

    fn wrote(&self) {
        if self.folder.is_some() && !self.dirty.swap(true, Ordering::AcqRel) {
            let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(keeper) = keeper.as_ref() {
                keeper.unpark();
            }
        }
    }

    /// Brings everything to the disk and sums the books up, as at the end of the process. They may be used further.
    pub fn close(&self) {
        if let Err(error) = self.tend(&mut None).and_then(|()| self.checkpoint()) {
            tracing::error!(%error, "the journal could not be closed well: the next start reads more of it");
        }
    }

    /// Starts the thread that syncs, writes what waits, and sums up. It ends with the books.
    fn keep(self: &Arc<Self>) -> io::Result<()> {
        let books = Arc::downgrade(self);
        let keeper = std::thread::Builder::new().name("journal".to_owned()).spawn(move || keeper::keep(&books))?;
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper.thread().clone());
        Ok(())
    }

    /// One round of the keeper.
    fn tend(&self, synced: &mut Option<(u64, File)>) -> Result<(), BooksError> {
        let mut state = self.lock();
        state.catch_up();
        let Some(journal) = &state.journal else { return Ok(()) };
        let segment = journal.end().segment;
        if synced.as_ref().is_none_or(|(number, _)| *number != segment) {
            *synced = Some((segment, journal.file()?));
        }
        drop(state);
        if let Some((_, file)) = synced {
            file.sync_data()?;
        }
        Ok(())
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.close();
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper {
            keeper.unpark();
        }
    }
}

#[cfg(test)]
mod tests;
