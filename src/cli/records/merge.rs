//! Records of many files as one stream, by when they were written.
//!
//! A record is written when its request ends, so that each file is in that order by itself, nearly. Files are opened when
//! the time of their first record has come, and read by a thread each, which decompresses and parses: one gateway's files
//! follow each other, so that about as many are open as gateways ran at the same time, at some 10 MB each.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, Scope, ScopedJoinHandle},
    vec,
};

use anyhow::Context;

use crate::telemetry::record::{
    Line, SCHEMA,
    read::{Lost, Missed, each_chunk},
};

/// How many batches of a file may wait.
const QUEUE: usize = 4;
/// How many records are passed on together: half a megabyte.
const BATCH: usize = 128;

/// When its request ended, which is when it was written, in milliseconds of Unix time.
pub(super) fn ended(line: &Line) -> i64 {
    line.at.as_millisecond().saturating_add_unsigned(line.total_ms)
}

/// A line of a file; `None` where it is no record, or of a later schema.
pub(super) fn parse(text: &[u8]) -> Option<Line> {
    let line = serde_json::from_slice::<Line>(text).ok();
    line.filter(|line| line.v <= SCHEMA && !line.decisions.is_empty())
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|text| !text.is_empty())
}

/// A file, and when the first of its records was written.
pub(super) struct Begun<'f> {
    path: &'f Path,
    at: i64,
}

/// The files, the latest begun first. What cannot be looked into beforehand (a pipe) comes last: it is opened at once.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn begun(files: &[PathBuf]) -> anyhow::Result<Vec<Begun<'_>>> {
    let mut all = Vec::with_capacity(files.len());
    for path in files {
        let mut at = i64::MIN;
        if path.is_file() {
            let looked = each_chunk(path, |text, _| match lines_of(text).find_map(parse) {
                Some(line) => {
                    at = ended(&line);
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            });
            looked.with_context(|| format!("`{}`", path.display()))?;
        }
        all.push(Begun { path, at });
    }
    all.sort_by(|one, other| (other.at, other.path).cmp(&(one.at, one.path)));
    Ok(all)
}

/// Records of one file, with how many bytes each is long, and how many bytes of the file were read for them.
struct Batch {
    lines: Vec<(Box<Line>, usize)>,
    bytes: u64,
}

/// What remains to be told of a file at its end.
struct Ended {
    lost: Lost,
    unreadable: u64,
}

struct Source<'s> {
    path: &'s Path,
    batches: Receiver<Batch>,
    lines: vec::IntoIter<(Box<Line>, usize)>,
    /// The next line; its key is among the heads.
    head: Option<(Box<Line>, usize)>,
    reading: Option<ScopedJoinHandle<'s, io::Result<Ended>>>,
}

/// The open files.
pub(super) struct Merge<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    sources: Vec<Source<'s>>,
    /// Those that have a next line, by when that was written.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    /// Lines that were no records.
    pub(super) unreadable: u64,
    /// What was not read of the files that are at their end.
    pub(super) missed: Vec<Missed>,
}

impl<'s, 'e> Merge<'s, 'e> {
    /// Nothing is open; threads are those of `scope`.
    pub(super) fn new(scope: &'s Scope<'s, 'e>) -> Self {
        Self { scope, sources: Vec::new(), heads: BinaryHeap::new(), unreadable: 0, missed: Vec::new() }
    }

    /// Whether a record of that file may be the next.
    pub(super) fn is_time_for(&self, file: &Begun<'_>) -> bool {
        self.heads.peek().is_none_or(|Reverse((next, _))| file.at <= *next)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// One that cannot be read; no thread for it.
    pub(super) fn open(&mut self, file: Begun<'e>, read: impl FnMut(u64, usize)) -> anyhow::Result<()> {
        let path = file.path;
        let (sender, batches) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("records".into());
        let reading = thread.spawn_scoped(self.scope, move || pass_on(path, &sender));
        let reading = reading.with_context(|| format!("`{}` cannot be read beside so many others", path.display()))?;
        // A file at its end leaves its place: there are no more than were ever open at once.
        let place = self.sources.iter().position(|source| source.reading.is_none()).unwrap_or(self.sources.len());
        let source = Source { path, batches, lines: Vec::new().into_iter(), head: None, reading: Some(reading) };
        if place == self.sources.len() {
            self.sources.push(source);
        } else {
            self.sources[place] = source;
        }
        self.advance(place, read)
    }

    /// The next record of all, with how long it is; `None` = no file is open. `read` hears of bytes and records.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn next(&mut self, read: impl FnMut(u64, usize)) -> anyhow::Result<Option<(Box<Line>, usize)>> {
        let Some(Reverse((_, place))) = self.heads.pop() else { return Ok(None) };
        let next = self.sources[place].head.take();
        self.advance(place, read)?;
        Ok(next)
    }

    fn advance(&mut self, place: usize, mut read: impl FnMut(u64, usize)) -> anyhow::Result<()> {
        let source = &mut self.sources[place];
        loop {
            if let Some(next) = source.lines.next() {
                self.heads.push(Reverse((ended(&next.0), place)));
                source.head = Some(next);
                return Ok(());
            }
            let Ok(batch) = source.batches.recv() else { break };
            read(batch.bytes, batch.lines.len());
            source.lines = batch.lines.into_iter();
        }
        let Some(reading) = source.reading.take() else { return Ok(()) };
        let path = source.path.display();
        let ended = reading.join().map_err(|_| anyhow::anyhow!("`{path}` could not be read to its end"))?;
        let Ended { lost, unreadable } = ended.with_context(|| format!("`{path}`"))?;
        self.unreadable += unreadable;
        self.missed.extend(Missed::of(source.path, lost));
        Ok(())
    }
}

/// Reads a file and passes its records on. Texts are left out: nobody here asks for them.
fn pass_on(path: &Path, batches: &SyncSender<Batch>) -> io::Result<Ended> {
    let (mut before, mut unreadable) = (0, 0);
    let mut lines = Vec::with_capacity(BATCH);
    let lost = each_chunk(path, |text, so_far| {
        for text in lines_of(text) {
            let Some(mut line) = parse(text) else {
                unreadable += 1;
                continue;
            };
            let texts = line.texts.take().map_or(0, |texts| texts.prompt.len() + texts.answer.len());
            lines.push((Box::new(line), text.len().saturating_sub(texts)));
            if lines.len() == BATCH {
                let lines = std::mem::replace(&mut lines, Vec::with_capacity(BATCH));
                if batches.send(Batch { lines, bytes: 0 }).is_err() {
                    return ControlFlow::Break(());
                }
            }
        }
        let batch = Batch { lines: std::mem::take(&mut lines), bytes: so_far.saturating_sub(before) };
        before = so_far;
        if batches.send(batch).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(Ended { lost, unreadable })
}
