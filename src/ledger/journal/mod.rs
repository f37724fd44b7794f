//! The journal: entries in append-only segments of one folder, written before anything depends on them.
//!
//! An entry that was written survives the end of the process; it survives a power cut once it has been synced, which
//! happens [`SYNC_EVERY`] behind it at the latest. A sync per request would cost more than the gateway itself.

mod frame;
mod read;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

pub use read::{Reader, Reading};

use super::row::Entry;
use crate::base::json;

/// How long what was written may wait for the disk: what a power cut can cost. While the file system makes a sync
/// durable, an append to the file waits, so half as many syncs are half as many requests that are held up by one.
pub const SYNC_EVERY: Duration = Duration::from_millis(20);
/// A segment that has grown to this size is closed and a new one begun.
const SEGMENT: u64 = 64 << 20;

/// A place in the journal: everything before it has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of the segment, from 1; 0 = before the first.
    pub segment: u64,
    /// The byte in it.
    pub offset: u64,
}

impl Position {
    /// As one number, exact as a double (as the store's scripts count) up to segment 2 097 152 (128 TiB).
    pub const fn number(self) -> u64 {
        self.segment << 32 | self.offset
    }

    /// The position of that number.
    pub const fn of(number: u64) -> Self {
        Self { segment: number >> 32, offset: number & 0xffff_ffff }
    }
}

/// The end of the journal, where entries are added.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    at: Position,
    frame: Vec<u8>,
    limit: u64,
    /// A write failed midway and the file could not be cut back: it must be before the next one.
    ragged: bool,
}

impl Journal {
    /// The folder's journal, to be continued at `end`, where [`Reader`] found the last whole entry to end. What
    /// stands behind it is cut off. An `end` before the first segment begins it.
    ///
    /// # Errors
    /// The system's error when the folder cannot be made or written.
    pub fn continue_at(folder: &Path, end: Position) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let number = end.segment.max(1);
        let mut file = segment(folder, number)?;
        let written = file.metadata()?.len();
        let offset = if written < frame::HEADER as u64 || end.offset < frame::HEADER as u64 {
            file.set_len(0)?;
            file.write_all(&frame::header(number))?;
            frame::HEADER as u64
        } else {
            end.offset
        };
        if written > offset {
            file.set_len(offset)?;
        }
        file.sync_all()?;
        sync_folder(folder)?;
        let at = Position { segment: number, offset };
        Ok(Self { folder: folder.to_owned(), file, at, frame: Vec::new(), limit: SEGMENT, ragged: false })
    }

    /// Where the next entry will stand.
    pub fn end(&self) -> Position {
        self.at
    }

    /// The file under way, to be synced elsewhere.
    ///
    /// # Errors
    /// The system's error when it gives no second handle.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Adds an entry that [`encode`] made; on return it has been written, not synced. An entry that cannot be
    /// written leaves nothing behind.
    ///
    /// # Errors
    /// The system's error, as when the disk is full.
    pub fn append(&mut self, encoded: &Encoded) -> io::Result<Position> {
        if self.ragged {
            self.file.set_len(self.at.offset)?;
            self.ragged = false;
        }
        if self.at.offset >= self.limit {
            self.roll()?;
        }
        if let Err(error) = self.file.write_all(&encoded.0) {
            self.ragged = self.file.set_len(self.at.offset).is_err();
            return Err(error);
        }
        self.at.offset += encoded.0.len() as u64;
        Ok(self.at)
    }

    /// Closes the segment and begins the next one.
    pub(in crate::ledger) fn roll(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let number = self.at.segment + 1;
        let mut file = segment(&self.folder, number)?;
        file.set_len(0)?;
        file.write_all(&frame::header(number))?;
        sync_folder(&self.folder)?;
        self.file = file;
        self.at = Position { segment: number, offset: frame::HEADER as u64 };
        Ok(())
    }

    /// Gives the segments from `first` on, the one under way among them, the numbers behind `last`, which must not be
    /// before them; their order stays.
    ///
    /// # Errors
    /// The system's error; then the last of them may have their new numbers already.
    pub(in crate::ledger) fn renumber(&mut self, first: u64, last: u64) -> io::Result<()> {
        let shift = (last + 1).saturating_sub(first);
        for number in (first..=self.at.segment).rev() {
            let file = OpenOptions::new().write(true).open(path(&self.folder, number))?;
            file.write_all_at(&frame::header(number + shift), 0)?;
            std::fs::rename(path(&self.folder, number), path(&self.folder, number + shift))?;
        }
        self.at.segment += shift;
        sync_folder(&self.folder)
    }

    /// Puts another file in place of the one under way, so that a test can fill the disk.
    #[cfg(test)]
    pub(in crate::ledger) fn exchange(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Encodes an entry with a buffer of the journal's own.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn append_entry(&mut self, entry: &Entry) -> io::Result<Position> {
        let mut encoded = Encoded(std::mem::take(&mut self.frame));
        let appended = encoded.write(entry).and_then(|()| self.append(&encoded));
        self.frame = encoded.0;
        appended
    }
}

/// An entry as it is written.
#[derive(Debug)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        frame::open(&mut self.0);
        json::append(&mut self.0, entry)?;
        if frame::close(&mut self.0) { Ok(()) } else { Err(io::Error::other("an entry is longer than a megabyte")) }
    }
}

/// An entry as it is written.
///
/// # Errors
/// An entry that is longer than a frame can be.
pub fn encode(entry: &Entry) -> io::Result<Encoded> {
    let mut encoded = Encoded(Vec::with_capacity(1024));
    encoded.write(entry)?;
    Ok(encoded)
}

/// Whether the journal in `folder` goes as far as `position`; a checkpoint behind its end knows of what is lost.
pub fn reaches(folder: &Path, position: Position) -> bool {
    std::fs::metadata(path(folder, position.segment)).is_ok_and(|file| file.len() >= position.offset)
}

/// Removes the segment `number` and those before it, as far as they are there.
///
/// # Errors
/// The system's error.
pub(in crate::ledger) fn remove(folder: &Path, number: u64) -> io::Result<()> {
    for number in (1..=number).rev() {
        match std::fs::remove_file(path(folder, number)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("books-{number:010}.seg"))
}

/// Only the owner may read what others have spent.
fn segment(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path(folder, number))
}

/// Makes the names of new files durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
