//! What other nodes have settled, on the disk of this one: their rows in segments of their own, and the sums.
//!
//! A row is written before it is taken into the sums, the sums are written now and then; so after whatever ended the
//! process both are brought together again, and nothing is kept twice.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::ledger::{
    journal::{self, Journal, Position, Reader, Reading, encode},
    redis::mirror::Mirror,
    row::{Entry, MirrorRow, ToldRow},
};

/// The sums, in the journal's folder.
const SUMS: &str = "mirror.json";
/// The folder of the segments, in the journal's folder.
const FOLDER: &str = "mirror";
/// So many segments are kept: 16 GiB, some ten million requests.
const SEGMENTS: u64 = 256;

/// Where the rows of other nodes are, in the `folder` of a journal.
pub fn mirror_folder(folder: &Path) -> PathBuf {
    folder.join(FOLDER)
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Others {
    folder: PathBuf,
    journal: Mutex<Journal>,
    /// What stood there at the start, until it is asked for.
    first: Mutex<Option<MirrorRow>>,
}

impl Others {
    /// What is kept in the journal's `folder`.
    ///
    /// # Errors
    /// The system's error when it cannot be read or written.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join(FOLDER))?;
        let (sums, end) = Self::read(folder)?;
        let journal = Mutex::new(Journal::continue_at(&folder.join(FOLDER), end)?);
        Ok(Self { folder: folder.to_owned(), journal, first: Mutex::new(Some(sums)) })
    }

    /// The sums with the rows that they do not know of, and where the rows end.
    fn read(folder: &Path) -> io::Result<(MirrorRow, Position)> {
        let rows = folder.join(FOLDER);
        // Sums that are damaged are made again from the rows.
        let kept: Option<MirrorRow> =
            fs::read(folder.join(SUMS)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let kept = kept.unwrap_or_default();
        let end = Position { segment: kept.segment, offset: kept.offset };
        let from = if journal::reaches(&rows, end) { end } else { Position::default() };
        let mut mirror = Mirror::from_row(kept);
        let mut reader = Reader::open(&rows, from)?;
        for reading in reader.by_ref() {
            if let Reading::Entry(entry, _) = reading?
                && let Entry::Told(told) = *entry
            {
                mirror.replay(told);
            }
        }
        Ok((mirror.row(), reader.position()))
    }

    /// What all that was kept comes to.
    ///
    /// # Errors
    /// The system's error when it cannot be read.
    pub(super) fn sums(&self) -> io::Result<MirrorRow> {
        if let Some(sums) = self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(sums);
        }
        // Nothing is written meanwhile.
        let _journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Self::read(&self.folder)?.0)
    }

    /// Keeps rows.
    ///
    /// # Errors
    /// The system's error, as when the disk is full.
    pub(super) fn keep(&self, rows: Vec<ToldRow>) -> io::Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = journal.end().segment;
        for row in rows {
            let (node, id) = (row.node.clone(), row.id.clone());
            match encode(&Entry::Told(row)) {
                Ok(encoded) => {
                    journal.append(&encoded)?;
                }
                Err(error) => tracing::error!(node, id, %error, "a row of another node is not kept"),
            }
        }
        if journal.end().segment > before && journal.end().segment > SEGMENTS {
            journal::remove(&self.folder.join(FOLDER), journal.end().segment - SEGMENTS)?;
        }
        Ok(())
    }

    /// Keeps the sums, which are those of all rows that were kept.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn keep_sums(&self, sums: &MirrorRow) -> io::Result<()> {
        let (end, file) = {
            let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            (journal.end(), journal.file()?)
        };
        // The sums must never know more than the rows do after a power cut.
        file.sync_data()?;
        let sums = MirrorRow { segment: end.segment, offset: end.offset, ..sums.clone() };
        let (path, new) = (self.folder.join(SUMS), self.folder.join("mirror.new"));
        fs::write(&new, serde_json::to_vec(&sums)?)?;
        fs::rename(new, path)
    }
}
