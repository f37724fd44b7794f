//! The writer of records: one thread behind a bounded queue, compressed files of JSON Lines in one folder.
//!
//! A file is a row of zstd frames. What was written is flushed every second, so that a process that is killed loses the
//! last second and what waits in the queue; a reader takes what is whole of a frame that has no end. A file that was
//! closed is never written again: every start begins a new one. No record holds a request up: a full queue drops it and
//! counts that.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use zstd::stream::write::Encoder;

use super::{
    Record,
    read::{files_in, is_ours},
    texts::{Texts, Waiting},
};
use crate::base::{json, records::RecordsConfig};

/// How many records may wait for the writer.
const QUEUE: usize = 8192;
/// How long records gather before they are written together, as the log's do.
const GATHER: Duration = Duration::from_millis(20);
/// How long what was written may lie in the compressor.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// A frame of so many bytes of text ends, and so does one to which nothing has come for `REST`.
const FRAME: u64 = 4 << 20;
const REST: Duration = Duration::from_secs(10);
/// The level of compression: the highest that costs less than writing the text does.
const LEVEL: i32 = 1;
/// After a failure nothing is tried for so long.
const PENANCE: Duration = Duration::from_secs(5);
/// The end of every file's name.
pub const SUFFIX: &str = ".jsonl.zst";
/// What comes before it: when the file was begun, in UTC.
const NAMED: &str = "%Y%m%dT%H%M%S.%3fZ";

/// Takes records from requests. Cheap to clone; the writer ends with the last of them.
#[derive(Clone, Debug)]
pub struct Keeper {
    queue: SyncSender<Job>,
    folder: Arc<Path>,
    counts: Counts,
    content_bytes: Option<usize>,
    waiting: Waiting,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What becomes of records.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Written to a file.
    pub written: Counter,
    /// Dropped: the queue was full, or the file could not be written.
    pub dropped: Counter,
}

enum Job {
    Record(Arc<Record>, Option<Box<Texts>>),
    /// Write what came before, then answer.
    Flush(SyncSender<()>),
    /// The same, close the file, and end.
    Close(SyncSender<()>),
}

impl Keeper {
    /// Starts the writer into `folder`, which is made if need be, for its owner's eyes only.
    ///
    /// # Errors
    /// The system's error when the folder cannot be made or no thread be started.
    pub fn start(folder: &Path, config: RecordsConfig, counts: Counts) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (queue, jobs) = sync_channel(QUEUE);
        let waiting = Waiting::default();
        let files = Files::new(folder.to_owned(), config, counts.clone(), waiting.clone());
        let thread = thread::Builder::new().name("records".into()).spawn(move || files.run(&jobs))?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self { queue, folder: folder.into(), counts, content_bytes: config.content_bytes, waiting, thread })
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// So much is wanted of each prompt and of each answer, in bytes; `None` = nothing.
    pub fn content_bytes(&self) -> Option<usize> {
        self.content_bytes
    }

    /// Queues one record, with its texts where they are wanted.
    pub fn keep(&self, record: Arc<Record>, texts: Option<Box<Texts>>) {
        let texts = texts.map(|texts| self.waiting.enter(texts));
        let sent = self.queue.try_send(Job::Record(record, texts));
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = sent {
            self.counts.dropped.inc();
            if let Job::Record(_, Some(texts)) = job {
                self.waiting.left(&texts);
            }
        }
    }

    /// Waits until all that was queued before is in the file. Not for an async task.
    pub fn flush(&self) {
        let (answer, done) = sync_channel(1);
        if self.queue.send(Job::Flush(answer)).is_ok() {
            let _ = done.recv();
        }
    }

    /// Writes all that was queued, and ends the writer. Not for an async task.
    pub fn close(&self) {
        let (answer, done) = sync_channel(1);
        if self.queue.send(Job::Close(answer)).is_ok() {
            let _ = done.recv();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// A file that counts what goes into it.
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The file under way.
struct Open {
    frame: Frame,
    begun: Instant,
}

/// Between two frames, or in one with so many bytes of text.
enum Frame {
    None(Counted),
    Some(Box<Encoder<'static, Counted>>, u64),
}

struct Files {
    folder: PathBuf,
    config: RecordsConfig,
    counts: Counts,
    waiting: Waiting,
    open: Option<Open>,
    text: Vec<u8>,
    /// Since when something lies in the compressor.
    unflushed: Option<Instant>,
    /// Until when nothing is tried.
    shunned: Option<Instant>,
}

impl Files {
    fn new(folder: PathBuf, config: RecordsConfig, counts: Counts, waiting: Waiting) -> Self {
        Self { folder, config, counts, waiting, open: None, text: Vec::new(), unflushed: None, shunned: None }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let wait = match (&self.unflushed, &self.open) {
                (Some(since), _) => Some(FLUSH_EVERY.saturating_sub(since.elapsed())),
                (None, Some(Open { frame: Frame::Some(..), .. })) => Some(REST),
                _ => None,
            };
            let job = match wait {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => jobs.recv_timeout(wait),
            };
            match job {
                Ok(job) => {
                    if self.take(job, jobs) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.unflushed.is_some() => self.attempt(0, Self::flush),
                Err(RecvTimeoutError::Timeout) => self.attempt(0, Self::end_frame),
                Err(RecvTimeoutError::Disconnected) => {
                    self.attempt(0, Self::close);
                    return;
                }
            }
        }
    }

    /// Takes a job and what waits behind it; whether the writer is to end.
    fn take(&mut self, first: Job, jobs: &Receiver<Job>) -> bool {
        if matches!(first, Job::Record(..)) {
            // While it sleeps, a request that ends wakes nobody.
            thread::sleep(GATHER);
        }
        let mut records = 0;
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            match job {
                Job::Record(record, texts) => {
                    if let Some(texts) = &texts {
                        self.waiting.left(texts);
                    }
                    if let Some(line) = record.line(texts) {
                        // Numbers and texts: that cannot fail.
                        let _ = json::append(&mut self.text, &line);
                        self.text.push(b'\n');
                        records += 1;
                    }
                    if self.text.len() >= 1 << 20 {
                        self.attempt(std::mem::take(&mut records), Self::write);
                    }
                }
                Job::Flush(answer) => {
                    self.attempt(std::mem::take(&mut records), Self::write);
                    self.attempt(0, Self::flush);
                    let _ = answer.send(());
                }
                Job::Close(answer) => {
                    self.attempt(std::mem::take(&mut records), Self::write);
                    self.attempt(0, Self::close);
                    let _ = answer.send(());
                    return true;
                }
            }
        }
        self.attempt(records, Self::write);
        if self.unflushed.is_some_and(|since| since.elapsed() >= FLUSH_EVERY) {
            self.attempt(0, Self::flush);
        }
        false
    }

    /// Does `what` for so many records. After a failure the file is left as it is, and what comes in the next seconds
    /// is dropped: a disk that is full is not asked for every request.
    fn attempt(&mut self, records: u64, what: fn(&mut Self) -> io::Result<()>) {
        if self.shunned.is_some_and(|until| Instant::now() < until) {
            self.text.clear();
            self.counts.dropped.inc_by(records);
            return;
        }
        match what(self) {
            Ok(()) => {
                self.shunned = None;
                self.counts.written.inc_by(records);
            }
            Err(error) => {
                tracing::error!(%error, "records cannot be written in `{}`", self.folder.display());
                self.counts.dropped.inc_by(records);
                self.text.clear();
                (self.open, self.unflushed) = (None, None);
                self.shunned = Instant::now().checked_add(PENANCE);
            }
        }
    }

    /// Gives the text to the compressor.
    fn write(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.is_full(&self.config)) {
            self.close()?;
        }
        let Open { frame, begun } = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let (mut encoder, before) = match frame {
            Frame::Some(encoder, bytes) => (encoder, bytes),
            Frame::None(file) => (Box::new(encoder(file)?), 0),
        };
        encoder.write_all(&self.text)?;
        let bytes = before + self.text.len() as u64;
        self.text.clear();
        self.open = Some(Open { frame: Frame::Some(encoder, bytes), begun });
        self.unflushed.get_or_insert_with(Instant::now);
        if bytes >= FRAME { self.end_frame() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(Open { frame: Frame::Some(encoder, _), .. }) = &mut self.open {
            encoder.flush()?;
        }
        self.unflushed = None;
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.unflushed = None;
        if let Some(Open { frame, begun }) = self.open.take() {
            let file = match frame {
                Frame::Some(encoder, _) => encoder.finish()?,
                Frame::None(file) => file,
            };
            self.open = Some(Open { frame: Frame::None(file), begun });
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.end_frame()?;
        self.open = None;
        Ok(())
    }

    /// Makes room and begins the next file.
    fn begin(&self) -> io::Result<Open> {
        make_room(&self.folder, self.config.keep_bytes.saturating_sub(self.config.file_bytes))?;
        let mut at = Timestamp::now();
        loop {
            let path = self.folder.join(format!("{}{SUFFIX}", at.strftime(NAMED)));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
                Ok(file) => {
                    return Ok(Open { frame: Frame::None(Counted { file, bytes: 0 }), begun: Instant::now() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at += Duration::from_millis(1),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Open {
    fn is_full(&self, config: &RecordsConfig) -> bool {
        let bytes = match &self.frame {
            Frame::None(file) => file.bytes,
            Frame::Some(encoder, _) => encoder.get_ref().bytes,
        };
        bytes >= config.file_bytes || self.begun.elapsed() >= config.every
    }
}

fn encoder(file: Counted) -> io::Result<Encoder<'static, Counted>> {
    let mut encoder = Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    // Lines are alike; half a megabyte of them is as good as more, and is all that a reader has to keep.
    encoder.window_log(19)?;
    Ok(encoder)
}

/// Removes the oldest files of the writer until the rest of them is at most so large.
fn make_room(folder: &Path, most: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for path in files_in(folder)?.into_iter().filter(|path| is_ours(path)) {
        let bytes = fs::metadata(&path)?.len();
        files.push((path, bytes));
    }
    let mut all: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    for (path, bytes) in files {
        if all <= most {
            break;
        }
        match fs::remove_file(&path) {
            Ok(()) => all -= bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => all -= bytes,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
