//! Reading the journal back: from any position to its end, stepping over what is damaged.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{Position, frame, path};
use crate::ledger::row::Entry;

/// How much is read at once; more than the longest frame.
const CHUNK: usize = 4 * frame::MAX_PAYLOAD;

/// What a reader comes upon.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// An entry, with the position behind it.
    Entry(Box<Entry>, Position),
    /// Bytes that are no entry, with whole ones behind them; or a whole frame that a later release wrote.
    Damage {
        /// Where they begin.
        at: Position,
        /// How many they are.
        bytes: u64,
    },
    /// Bytes at the end of the last segment that are no entry: a write that a power cut or a kill ended.
    Torn {
        /// Where they begin: the journal goes on here.
        at: Position,
        /// How many they are.
        bytes: u64,
    },
}

/// Reads the entries of a folder in order. A writer may go on meanwhile: what it adds is read too.
#[derive(Debug)]
pub struct Reader {
    segments: Vec<(u64, PathBuf)>,
    file: Option<File>,
    at: Position,
    buffer: Vec<u8>,
    /// How much of the buffer has been taken.
    taken: usize,
}

impl Reader {
    /// A reader of everything from `from` on. A folder that is not there has no entries.
    ///
    /// # Errors
    /// The system's error when the folder cannot be read.
    pub fn open(folder: &Path, from: Position) -> io::Result<Self> {
        let mut segments = Vec::new();
        match fs::read_dir(folder) {
            Ok(files) => {
                for file in files {
                    let name = file?.file_name();
                    let number = name.to_str().and_then(|name| name.strip_prefix("books-")?.strip_suffix(".seg"));
                    let number: Option<u64> = number.and_then(|digits| digits.parse().ok());
                    segments.extend(number.filter(|number| *number >= from.segment));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        segments.sort_unstable_by(|a, b| b.cmp(a));
        let segments = segments.into_iter().map(|number| (number, path(folder, number))).collect();
        Ok(Self { segments, file: None, at: from, buffer: Vec::new(), taken: 0 })
    }

    /// A reader of all that was written at `since` or later, and of some of what was written before.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn since(folder: &Path, since: Timestamp) -> io::Result<Self> {
        let mut reader = Self::open(folder, Position::default())?;
        // The last segment that begins before `since` is where to begin; segments are in order of time.
        let begins = |path: &Path| -> io::Result<bool> {
            let mut first = Vec::new();
            File::open(path)?.take((frame::HEADER + frame::MAX_PAYLOAD + 16) as u64).read_to_end(&mut first)?;
            let payload = first.get(frame::HEADER..).and_then(frame::first);
            let entry = payload.and_then(|payload| serde_json::from_slice::<Entry>(payload).ok());
            Ok(entry.and_then(|entry| entry.at_ms()).is_some_and(|at| at < since.as_millisecond()))
        };
        for index in 0..reader.segments.len() {
            if begins(&reader.segments[index].1)? {
                reader.segments.truncate(index + 1);
                break;
            }
        }
        // They are taken from the end, so those before the one found are the ones behind it.
        Ok(reader)
    }

    /// A reader of so many of the newest segments.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn of_newest(folder: &Path, segments: usize) -> io::Result<Self> {
        let mut reader = Self::open(folder, Position::default())?;
        // The newest come first: they are taken from the end.
        reader.segments.truncate(segments);
        Ok(reader)
    }

    /// Where the reader stands: behind the last entry that it gave.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Opens the next segment; `false` when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let Some((number, path)) = self.segments.pop() else { return Ok(false) };
        let mut file = File::open(path)?;
        let header = frame::HEADER as u64;
        let offset = if number == self.at.segment { self.at.offset.max(header) } else { header };
        file.seek(SeekFrom::Start(offset))?;
        self.file = Some(file);
        self.at = Position { segment: number, offset };
        self.buffer.clear();
        self.taken = 0;
        Ok(true)
    }

    /// Reads on until the buffer holds a whole frame's worth, or the file ends; `true` at its end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.len() - self.taken >= 2 * frame::MAX_PAYLOAD {
            return Ok(false);
        }
        let Some(file) = &mut self.file else { return Ok(true) };
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let wanted = (CHUNK - self.buffer.len()) as u64;
        let read = file.by_ref().take(wanted).read_to_end(&mut self.buffer)?;
        Ok((read as u64) < wanted)
    }

    fn step(&mut self) -> io::Result<Option<Reading>> {
        loop {
            if self.file.is_none() && !self.advance()? {
                return Ok(None);
            }
            let at_end = self.fill()?;
            let (reading, taken) = match frame::next(&self.buffer[self.taken..]) {
                frame::Next::Frame(payload) => {
                    let size = frame::size(payload);
                    let after = Position { offset: self.at.offset + size as u64, ..self.at };
                    let reading = match serde_json::from_slice(payload) {
                        Ok(entry) => Reading::Entry(Box::new(entry), after),
                        Err(_) => Reading::Damage { at: self.at, bytes: size as u64 },
                    };
                    (reading, size)
                }
                frame::Next::Damage(bytes) => (Reading::Damage { at: self.at, bytes: bytes as u64 }, bytes),
                frame::Next::Torn(bytes) if at_end && self.segments.is_empty() => {
                    self.file = None;
                    return Ok(Some(Reading::Torn { at: self.at, bytes: bytes as u64 }));
                }
                // What looks like a frame's beginning may be the beginning of one that is not read yet.
                frame::Next::Torn(bytes) if !at_end => {
                    let bytes = bytes.saturating_sub(frame::MAX_PAYLOAD).max(1);
                    (Reading::Damage { at: self.at, bytes: bytes as u64 }, bytes)
                }
                // The end of a segment that another follows was synced before: what is no entry there is damage.
                frame::Next::Torn(bytes) => (Reading::Damage { at: self.at, bytes: bytes as u64 }, bytes),
                frame::Next::End => {
                    self.file = None;
                    continue;
                }
            };
            self.taken += taken;
            self.at.offset += taken as u64;
            return Ok(Some(reading));
        }
    }
}

impl Iterator for Reader {
    type Item = io::Result<Reading>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
