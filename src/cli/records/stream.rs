//! Recorded requests in order: one thread reads and decompresses, one parses, and the caller decides.

use std::{
    collections::HashSet,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::telemetry::record::{
    Line, SCHEMA,
    read::{Missed, each_chunk, files_in},
};

/// How many batches may wait between two threads: some megabytes.
const QUEUE: usize = 4;
/// How often the bar moves.
const MOVES_EVERY: Duration = Duration::from_millis(100);

const WHAT_RECORDS_ARE: &str = "name a folder of records, or files of them (`.jsonl.zst`)";

/// What was not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Passed {
    /// Lines that are no records, or of a later schema.
    pub(in crate::cli) unreadable: u64,
    /// Files of which something could not be read.
    pub(in crate::cli) missed: Vec<Missed>,
}

impl Passed {
    /// Bytes that are damaged.
    pub(in crate::cli) fn lost_bytes(&self) -> u64 {
        self.missed.iter().map(Missed::damaged).sum()
    }

    /// Bytes at the end of the newest files that no frame closes.
    pub(in crate::cli) fn open_bytes(&self) -> u64 {
        self.missed.iter().map(Missed::open).sum()
    }
}

/// The files behind what was named: folders stand for their files. A file that is named twice, also by a link or by its
/// folder, counts once.
///
/// # Errors
/// What cannot be read.
pub(in crate::cli) fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut known) = (Vec::new(), HashSet::new());
    for path in named {
        let found = if path.is_dir() { files_in(path) } else { path.metadata().map(|_| vec![path.clone()]) };
        let unread = |error| anyhow::anyhow!("`{}` cannot be read: {error}\nhint: {WHAT_RECORDS_ARE}", path.display());
        for file in found.map_err(unread)? {
            let meta = file.metadata().map_err(unread)?;
            if known.insert((meta.dev(), meta.ino())) {
                files.push(file);
            }
        }
    }
    if files.is_empty() {
        anyhow::bail!("there are no records\nhint: {WHAT_RECORDS_ARE}");
    }
    Ok(files)
}

/// A chunk of whole lines, and how much was read with it.
struct Chunk {
    text: Vec<u8>,
    bytes: u64,
}

struct Batch {
    lines: Vec<Line>,
    bytes: u64,
}

/// Shows every recorded request, shadows included, in the order of the files.
///
/// # Errors
/// A file that cannot be read.
pub(in crate::cli) fn each(files: &[PathBuf], mut show: impl FnMut(&Line)) -> anyhow::Result<Passed> {
    let all = files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
    let mut bar = Bar::new(all);
    let mut passed = Passed::default();
    thread::scope(|scope| {
        let (chunks, to_parse) = sync_channel::<Chunk>(QUEUE);
        let (batches, parsed) = sync_channel::<Batch>(QUEUE);
        let reading = scope.spawn(move || read(files, &chunks));
        let parsing = scope.spawn(move || parse(&to_parse, &batches));
        for batch in parsed {
            batch.lines.iter().for_each(&mut show);
            bar.moved(batch.bytes, batch.lines.len());
        }
        bar.end();
        passed.unreadable = parsing.join().unwrap_or(0);
        let read = reading.join().map_err(|_| anyhow::anyhow!("the files could not be read to their end"))?;
        passed.missed = read.map_err(|(path, error)| anyhow::anyhow!("`{}`: {error}", path.display()))?;
        Ok(passed)
    })
}

/// The last record of a file.
///
/// # Errors
/// A file that cannot be read.
pub(in crate::cli) fn last(path: &Path) -> anyhow::Result<Option<Line>> {
    let mut last = Vec::new();
    each_chunk(path, |text, _| {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let from = memchr::memrchr(b'\n', text).map_or(0, |before| before + 1);
        last.clear();
        last.extend_from_slice(&text[from..]);
        ControlFlow::Continue(())
    })?;
    Ok(serde_json::from_slice(&last).ok())
}

fn read<'a>(files: &'a [PathBuf], chunks: &SyncSender<Chunk>) -> Result<Vec<Missed>, (&'a Path, io::Error)> {
    let mut all = Vec::new();
    for path in files {
        let mut before = 0;
        let lost = each_chunk(path, |text, so_far| {
            let chunk = Chunk { text: text.to_vec(), bytes: so_far.saturating_sub(before) };
            before = so_far;
            if chunks.send(chunk).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let lost = lost.map_err(|error| (path.as_path(), error))?;
        all.extend(Missed::of(path, lost));
    }
    Ok(all)
}

/// Parses what comes; tells how many lines were none.
fn parse(chunks: &Receiver<Chunk>, batches: &SyncSender<Batch>) -> u64 {
    let mut unreadable = 0;
    for chunk in chunks {
        let mut lines = Vec::new();
        for text in chunk.text.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            match serde_json::from_slice::<Line>(text) {
                Ok(line) if line.v <= SCHEMA && !line.decisions.is_empty() => lines.push(line),
                Ok(_) | Err(_) => unreadable += 1,
            }
        }
        if batches.send(Batch { lines, bytes: chunk.bytes }).is_err() {
            break;
        }
    }
    unreadable
}

/// A line on the terminal that says how far it has come.
struct Bar {
    all: u64,
    bytes: u64,
    requests: usize,
    shown: Option<Instant>,
    visible: bool,
}

impl Bar {
    fn new(all: u64) -> Self {
        Self { all, bytes: 0, requests: 0, shown: None, visible: io::stderr().is_terminal() }
    }

    fn moved(&mut self, bytes: u64, requests: usize) {
        self.bytes += bytes;
        self.requests += requests;
        if !self.visible || self.shown.is_some_and(|shown| shown.elapsed() < MOVES_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let done = (self.bytes.min(self.all) * 30).checked_div(self.all).unwrap_or(30);
        let bar: String = (0..30).map(|place| if place < done { '█' } else { '░' }).collect();
        let _ = write!(io::stderr(), "\r{bar} {} requests", self.requests);
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
