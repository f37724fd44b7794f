//! Reading records: files or folders of them, whole or torn, plain or compressed.

use std::{
    fmt, fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp, civil};
use uuid::Uuid;
use zstd::stream::read::Decoder;

use super::{keep::SUFFIX, line::Line};

/// The first bytes of a zstd frame (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How much is decompressed at a time.
const CHUNK: usize = 256 << 10;
/// The longest line: longer ones are no records of ours.
const LONGEST_LINE: usize = 16 << 20;
/// A request is recorded when it ends, at most so long after it came.
const LONGEST_REQUEST: SignedDuration = SignedDuration::from_hours(2);

/// What could not be read of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes at the end that no frame closes: what a killed process leaves, or one that is writing. What is whole of
    /// them was read.
    pub torn: u64,
    /// Bytes that are damaged.
    pub damaged: u64,
    /// There are bytes, and not one whole frame or line of ours among them.
    pub nothing_whole: bool,
}

/// A file of which something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The file.
    pub file: PathBuf,
    /// What of it.
    pub lost: Lost,
    /// It is the newest of its folder, to which a gateway may be writing: others were closed.
    pub newest: bool,
}

impl Missed {
    /// What is missing of a file; `None` = nothing.
    pub fn of(file: &Path, lost: Lost) -> Option<Self> {
        let missed = lost.torn > 0 || lost.damaged > 0;
        missed.then(|| Self { file: file.to_owned(), lost, newest: is_newest(file) })
    }

    /// Bytes that are damaged: an open end is none in the newest file of a folder, and damage in any other.
    pub fn damaged(&self) -> u64 {
        self.lost.damaged.saturating_add(if self.newest { 0 } else { self.lost.torn })
    }

    /// Bytes of an open end, as a gateway that is writing leaves it.
    pub fn open(&self) -> u64 {
        if self.newest { self.lost.torn } else { 0 }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, Lost { torn, damaged, nothing_whole }) = (self.file.display(), self.lost);
        if nothing_whole && self.damaged() > 0 {
            return write!(f, "`{file}`: nothing of its {} bytes can be read as records", damaged.saturating_add(torn));
        }
        let what = if self.newest { "are being written, or were cut off" } else { "were cut off" };
        match (damaged, torn) {
            (0, torn) => write!(f, "`{file}`: {torn} bytes at its end {what}"),
            (damaged, 0) => write!(f, "`{file}`: {damaged} bytes are damaged"),
            (damaged, torn) => write!(f, "`{file}`: {damaged} bytes are damaged, and {torn} at its end {what}"),
        }
    }
}

/// Names tell when files were begun, so the newest of a folder is the last.
fn is_newest(file: &Path) -> bool {
    let last = |file: PathBuf| files_in(file.parent()?).ok()?.pop().filter(|last| last.file_name() == file.file_name());
    file.canonicalize().ok().and_then(last).is_some()
}

/// The files of records in `folder`, the oldest first; those under way are among them.
///
/// # Errors
/// The system's error.
pub fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(SUFFIX) || name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Shows whole lines, many at a time, with how many bytes of the file were read so far.
///
/// # Errors
/// The system's error when the file cannot be read.
pub fn each_chunk(path: &Path, mut show: impl FnMut(&[u8], u64) -> ControlFlow<()>) -> io::Result<Lost> {
    let data = fs::read(path)?;
    let (mut lost, mut at, mut text) = (Lost::default(), 0, Vec::new());
    if !data.starts_with(&MAGIC) && !name_says_compressed(path) {
        let end = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let _ = show(&data[..end], data.len() as u64);
        lost.torn = (data.len() - end) as u64;
        lost.nothing_whole = end == 0 && !data.is_empty();
        return Ok(lost);
    }
    let mut whole = false;
    while at < data.len() {
        match frame(&data, at, &mut text, &mut show)? {
            Frame::Whole(end) => (at, whole) = (end, true),
            Frame::Enough => return Ok(lost),
            broken @ (Frame::Open | Frame::Broken) => {
                // What began a line in the broken frame does not end in the next one.
                text.clear();
                match next_frame(&data, at + 1) {
                    Some(next) => {
                        lost.damaged += (next - at) as u64;
                        at = next;
                    }
                    None => {
                        let rest = (data.len() - at) as u64;
                        if matches!(broken, Frame::Open) {
                            lost.torn = rest
                        } else {
                            lost.damaged += rest
                        }
                        lost.nothing_whole = !whole;
                        return Ok(lost);
                    }
                }
            }
        }
    }
    Ok(lost)
}

enum Frame {
    Whole(usize),
    /// The file ends before it does.
    Open,
    Broken,
    Enough,
}

/// Reads the frame that begins at `at`, as far as it is whole.
fn frame(
    data: &[u8],
    at: usize,
    text: &mut Vec<u8>,
    show: &mut impl FnMut(&[u8], u64) -> ControlFlow<()>,
) -> io::Result<Frame> {
    if !data[at..].starts_with(&MAGIC) {
        return Ok(if MAGIC.starts_with(&data[at..]) { Frame::Open } else { Frame::Broken });
    }
    let mut decoder = Decoder::with_buffer(&data[at..])?.single_frame();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match io::Read::read(&mut decoder, &mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Frame::Open),
            Err(_) => return Ok(Frame::Broken),
        };
        if read == 0 {
            return Ok(Frame::Whole(data.len() - decoder.finish().len()));
        }
        text.extend_from_slice(&chunk[..read]);
        if let Some(last) = memchr::memrchr(b'\n', text) {
            let so_far = data.len() - decoder.get_ref().len();
            if show(&text[..=last], so_far as u64).is_break() {
                return Ok(Frame::Enough);
            }
            text.drain(..=last);
        } else if text.len() > LONGEST_LINE {
            return Ok(Frame::Broken);
        }
    }
}

fn next_frame(data: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(data.get(from..)?, &MAGIC).map(|found| from + found)
}

fn name_says_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// What a search came upon.
#[derive(Debug, Default)]
pub struct Found {
    /// The record.
    pub line: Option<Line>,
    /// What could not be read of the files that were looked at.
    pub missed: Vec<Missed>,
}

/// Why a request is not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// It is no id of ours.
    #[error("that is no request id\nhint: it is the `x-request-id` of an answer, like `019ab3c4-…`")]
    NoId,
    /// The system's error.
    #[error("the records cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is there and cannot be read.
    #[error("its record cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The record of one request among those in `folder`, and what could not be read on the way. Ids tell when the request
/// came, and names of files when they were begun, so that few files are read.
///
/// # Errors
/// [`FindError`].
pub fn find(folder: &Path, id: &str) -> Result<Found, FindError> {
    let uuid = Uuid::parse_str(id).map_err(|_| FindError::NoId)?;
    let came = came_at(&uuid).ok_or(FindError::NoId)?;
    let needle = format!("\"id\":\"{}\"", uuid.hyphenated());
    let files = files_in(folder)?;
    let begun: Vec<Option<Timestamp>> = files.iter().map(|path| begun_at(path)).collect();
    let mut missed = Vec::new();
    for (index, path) in files.iter().enumerate() {
        let next = begun.get(index + 1).copied().flatten();
        let over = next.is_some_and(|next| next + SignedDuration::from_secs(1) < came);
        let late = begun[index].is_some_and(|begun| begun > came + LONGEST_REQUEST);
        if over || late {
            continue;
        }
        let mut found = None;
        let lost = each_chunk(path, |lines, _| match memchr::memmem::find(lines, needle.as_bytes()) {
            None => ControlFlow::Continue(()),
            Some(at) => {
                let from = memchr::memrchr(b'\n', &lines[..at]).map_or(0, |before| before + 1);
                let to = memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |after| at + after);
                found = Some(lines[from..to].to_vec());
                ControlFlow::Break(())
            }
        })?;
        missed.extend(Missed::of(path, lost));
        if let Some(line) = found {
            return Ok(Found { line: Some(serde_json::from_slice(&line)?), missed });
        }
    }
    Ok(Found { line: None, missed })
}

fn came_at(uuid: &Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}

/// When a file was begun, by its name, to the second.
fn begun_at(path: &Path) -> Option<Timestamp> {
    let name = path.file_name()?.to_str()?.get(..15)?;
    let begun = civil::DateTime::strptime("%Y%m%dT%H%M%S", name).ok()?;
    begun.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
