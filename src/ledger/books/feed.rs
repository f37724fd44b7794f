//! From the books to a store that several nodes share: settlements in order, each with its position.
//!
//! The journal is the queue. What was written lately is kept in memory too, so that it need not be read again.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use uuid::Uuid;

use super::{Books, BooksError, Recovery, told::Others};
use crate::{
    base::fences::Fence,
    ledger::{
        journal::{Position, Reader, Reading, encode},
        redis::{Source, Sums},
        row::{Checkpoint, Entry, MirrorRow, ReleaseRow, SettleRow, ToldRow},
    },
};

/// So many settlements are kept in memory; further ones are read from the journal.
const TAIL: usize = 4096;

/// The store's clock decides whether a window is open, and is less off than so many seconds.
const SKEW: i64 = 3600;

/// What was settled lately.
#[derive(Debug, Default)]
pub(super) struct Feed {
    tail: VecDeque<(u64, Arc<SettleRow>)>,
    /// The tail has every settlement behind this position; `None` = nothing is known of it.
    base: Option<u64>,
}

impl Feed {
    /// Takes a settlement that was just written and ends at `at`.
    pub(super) fn push(&mut self, at: Position, row: &SettleRow) {
        let at = at.number();
        self.base.get_or_insert(at.saturating_sub(1));
        self.tail.push_back((at, Arc::new(row.clone())));
        if self.tail.len() > TAIL
            && let Some((gone, _)) = self.tail.pop_front()
        {
            self.base = Some(gone);
        }
    }

    /// A settlement was written that is not here.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// At most `most` settlements behind `after`; those before are done with. `None` when they must be read.
    pub(super) fn behind(&mut self, after: u64, most: usize) -> Option<Vec<(u64, Arc<SettleRow>)>> {
        if self.base.is_none_or(|base| after < base) {
            return None;
        }
        while self.tail.front().is_some_and(|(at, _)| *at <= after) {
            self.tail.pop_front();
        }
        self.base = Some(after);
        Some(self.tail.iter().take(most).cloned().collect())
    }
}

impl Books {
    /// As [`Books::open`], for a node that counts in a store which it shares with others.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn open_shared(folder: &Path, now: Timestamp) -> Result<(Arc<Self>, Recovery), BooksError> {
        Self::open_as(folder, now, true)
    }

    /// Books that what a dead node leases is given back.
    ///
    /// # Errors
    /// As [`Books::begin`].
    pub fn release(&self, row: ReleaseRow) -> io::Result<()> {
        let encoded = encode(&Entry::Release(row))?;
        self.lock().write(&encoded)?;
        self.wrote();
        Ok(())
    }

    /// Moves what was written since the books were opened behind the segment `last`, keeping its order.
    ///
    /// # Errors
    /// The system's error; then it may be moved in part.
    fn outrun(&self, last: u64) -> io::Result<()> {
        let mut state = self.lock();
        let first = state.begun.segment;
        let Some(journal) = &mut state.journal else { return Ok(()) };
        journal.renumber(first, last)?;
        state.begun.segment = last + 1;
        if let Some(feed) = &mut state.feed {
            feed.forget();
        }
        // The last checkpoint names a segment that is not there any more, and is passed over until the next one.
        state.checkpoint = Position::default();
        Ok(())
    }

    /// What the books amount to; `None` while settlements wait to be written, which the journal does not know of.
    fn sums(&self) -> Option<Checkpoint> {
        let state = self.lock();
        let journal = state.journal.as_ref().filter(|_| state.backlog.is_empty())?;
        Some(state.checkpoint(journal.end()))
    }

    /// Settlements behind a position of the journal, if they are still in memory.
    fn settled_behind(&self, after: u64, most: usize) -> Option<Vec<(u64, Arc<SettleRow>)>> {
        self.lock().feed.as_mut()?.behind(after, most)
    }
}

/// The books of this node as the shared store sees them.
#[derive(Debug)]
pub(in crate::ledger) struct Shared {
    books: Arc<Books>,
    folder: PathBuf,
    node: String,
    /// What the other nodes have settled.
    others: Others,
    /// Where the last look into the journal ended.
    cursor: Mutex<Option<(u64, Reader)>>,
}

impl Shared {
    /// The books in `folder`, under the name that the folder keeps.
    ///
    /// # Errors
    /// The system's error when the folder cannot be read or written.
    pub(in crate::ledger) fn new(books: Arc<Books>, folder: &Path) -> io::Result<Self> {
        let node = node(folder)?;
        let others = Others::open(folder)?;
        Ok(Self { books, folder: folder.to_owned(), node, others, cursor: Mutex::new(None) })
    }

    fn read(&self, after: u64, most: usize) -> io::Result<Vec<(u64, Arc<SettleRow>)>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reader = match cursor.take() {
            Some((at, reader)) if at == after => reader,
            _ => Reader::open(&self.folder, Position::of(after))?,
        };
        let mut found = Vec::new();
        while found.len() < most {
            match reader.next() {
                Some(reading) => {
                    if let Reading::Entry(entry, at) = reading?
                        && let Entry::Settle(row) = *entry
                    {
                        found.push((at.number(), Arc::new(row)));
                    }
                }
                // What comes later is for a new reader.
                None => return Ok(found),
            }
        }
        if let Some((at, _)) = found.last() {
            *cursor = Some((*at, reader));
        }
        Ok(found)
    }
}

impl Source for Shared {
    fn node(&self) -> &str {
        &self.node
    }

    fn settlements(&self, after: u64, most: usize) -> io::Result<Vec<(u64, Arc<SettleRow>)>> {
        match self.books.settled_behind(after, most) {
            Some(found) => Ok(found),
            None => self.read(after, most),
        }
    }

    fn sums(&self) -> io::Result<Sums> {
        let sums = self.books.sums().ok_or_else(|| io::Error::other("settlements wait to be written"))?;
        let at = Position { segment: sums.segment, offset: sums.offset };
        let over = Timestamp::now().as_second() - SKEW;
        let settled = sums.settled.into_iter().filter(|place| place.to > over).collect();
        Ok(Sums { position: at.number(), settled, open: sums.open, last: sums.last })
    }

    fn in_force(&self, fence: &Arc<Fence>, now: Timestamp) -> Arc<Fence> {
        self.books.raises().apply(fence, now)
    }

    fn begun(&self) -> u64 {
        self.books.lock().begun.number()
    }

    fn outrun(&self, position: u64) -> io::Result<()> {
        self.books.outrun(Position::of(position).segment)?;
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn mirror(&self) -> io::Result<MirrorRow> {
        self.others.sums()
    }

    fn keep_rows(&self, rows: Vec<ToldRow>) -> io::Result<()> {
        // What another node has booked is not to be booked here too, whatever a store has forgotten.
        for told in &rows {
            for row in told.settled.iter().flat_map(|settled| &settled.rows).filter(|row| row.is_rent()) {
                self.books.rent_elsewhere(row, &told.node, Timestamp::now())?;
            }
        }
        self.others.keep(rows)
    }

    fn keep_mirror(&self, mirror: &MirrorRow) -> io::Result<()> {
        self.others.keep_sums(mirror)
    }
}

/// The name of the node whose journal is in `folder`: made once, as long-lived as the journal.
fn node(folder: &Path) -> io::Result<String> {
    let path = folder.join("node");
    match std::fs::read_to_string(&path) {
        Ok(name) if Uuid::try_parse(name.trim()).is_ok() => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let name = Uuid::from_u128(rand::random()).simple().to_string();
    let mut file = File::create(&path)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    Ok(name)
}
