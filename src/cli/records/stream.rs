//! Recorded requests in the order in which they came, each once, and what of their files was not read.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    merge::{self, Merge},
    order::InOrder,
};
use crate::telemetry::record::{
    Line,
    read::{Missed, each_chunk, files_in},
};

/// How often the bar moves.
const MOVES_EVERY: Duration = Duration::from_millis(100);

const WHAT_RECORDS_ARE: &str = "name a folder of records, or files of them (`.jsonl.zst`)";

/// What was not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Passed {
    /// Lines that are no records, or of a later schema.
    pub(in crate::cli) unreadable: u64,
    /// Records that were there before: of copies one is shown.
    pub(in crate::cli) repeated: u64,
    /// Files of which something could not be read.
    pub(in crate::cli) missed: Vec<Missed>,
}

impl Passed {
    /// Bytes of which nothing was read.
    pub(in crate::cli) fn lost_bytes(&self) -> u64 {
        self.missed.iter().map(Missed::damaged).sum()
    }

    /// Bytes at the end of the newest files that no frame closes.
    pub(in crate::cli) fn open_bytes(&self) -> u64 {
        self.missed.iter().map(Missed::open).sum()
    }
}

/// The files behind what was named: folders stand for their files. A file that is named twice, also by a link or by its
/// folder, counts once. In order of their names: in which order they were named makes no difference.
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
    files.sort();
    if files.is_empty() {
        anyhow::bail!("there are no records\nhint: {WHAT_RECORDS_ARE}");
    }
    Ok(files)
}

/// Shows every recorded request once, shadows included, in the order in which they came, whatever the order of `files`.
///
/// # Errors
/// A file that cannot be read.
pub(in crate::cli) fn each(files: &[PathBuf], mut show: impl FnMut(&Line)) -> anyhow::Result<Passed> {
    let all = files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
    let mut bar = Bar::new(all);
    let mut waiting = merge::begun(files)?;
    let (mut in_order, mut passed) = (InOrder::default(), Passed::default());
    thread::scope(|scope| {
        let mut merge = Merge::new(scope);
        loop {
            while let Some(next) = waiting.pop_if(|next| merge.is_time_for(next)) {
                merge.open(next, |bytes, lines| bar.moved(bytes, lines))?;
            }
            let Some((line, bytes)) = merge.next(|bytes, lines| bar.moved(bytes, lines))? else {
                if waiting.is_empty() {
                    break;
                }
                continue;
            };
            in_order.add(line, bytes, &mut show);
        }
        in_order.end(&mut show);
        (passed.unreadable, passed.missed) = (merge.unreadable, std::mem::take(&mut merge.missed));
        anyhow::Ok(())
    })?;
    bar.end();
    passed.missed.sort_by(|one, other| one.file.cmp(&other.file));
    passed.repeated = in_order.repeated;
    Ok(passed)
}

/// The record that was written last of all `files`: what is looked at are the newest of each folder.
///
/// # Errors
/// A file that cannot be read.
pub(in crate::cli) fn latest(files: &[PathBuf]) -> anyhow::Result<Option<Line>> {
    let newest: BTreeMap<_, _> = files.iter().filter(|file| file.is_file()).map(|file| (file.parent(), file)).collect();
    let mut latest: Option<Line> = None;
    for path in newest.into_values() {
        let mut last = Vec::new();
        each_chunk(path, |text, _| {
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            let from = memchr::memrchr(b'\n', text).map_or(0, |before| before + 1);
            last.clear();
            last.extend_from_slice(&text[from..]);
            ControlFlow::Continue(())
        })?;
        let last = merge::parse(&last);
        let of = |line: &Line| (merge::ended(line), line.at, Arc::clone(&line.id));
        if last.as_ref().map(of) > latest.as_ref().map(of) {
            latest = last;
        }
    }
    Ok(latest)
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
