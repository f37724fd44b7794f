//! Reading records: files or folders of them, whole or torn, plain or compressed.

use std::{
    fmt, fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp, civil};
use uuid::Uuid;

pub use super::frames::{Lost, each_chunk};
use super::{keep::SUFFIX, line::Line};

/// A request is recorded when it ends, at most so long after it came.
const LONGEST_REQUEST: SignedDuration = SignedDuration::from_hours(2);

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

    /// Bytes of which nothing was read: damaged ones, and an open end that holds no whole line, unless it is the newest
    /// file's.
    pub fn damaged(&self) -> u64 {
        self.lost.damaged.saturating_add(if self.newest || self.is_cut() { 0 } else { self.lost.torn })
    }

    /// Bytes of an open end that a gateway may be writing.
    pub fn open(&self) -> u64 {
        if self.newest { self.lost.torn } else { 0 }
    }

    /// It was closed without an end, as by a gateway that was killed: what is whole of its end was read, what followed is
    /// lost.
    pub fn is_cut(&self) -> bool {
        !self.newest && self.lost.torn > 0 && self.lost.torn_lines > 0
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost { torn, torn_lines, damaged, nothing_whole } = self.lost;
        write!(f, "`{}`: ", self.file.display())?;
        if nothing_whole && self.damaged() > 0 {
            return write!(f, "nothing of its {} bytes can be read as records", damaged.saturating_add(torn));
        }
        if damaged > 0 {
            write!(f, "{damaged} bytes are damaged{}", if torn > 0 { ", and " } else { "" })?;
        }
        match (torn, self.newest) {
            (0, _) => return Ok(()),
            (_, true) => write!(f, "{torn} bytes at its end are being written, or were cut off")?,
            (_, false) => write!(f, "it was cut off in its last {torn} bytes")?,
        }
        match torn_lines {
            0 => Ok(()),
            1 => write!(f, ", of which 1 request was read"),
            lines => write!(f, ", of which {lines} requests were read"),
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

/// Whether a file has a name that only the writer gives. Others in the folder are somebody else's.
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
    let millis = name.and_then(|name| name.get(15..)).map(str::as_bytes);
    let is_written_so = matches!(millis, Some([b'.', a, b, c, b'Z']) if [a, b, c].into_iter().all(u8::is_ascii_digit));
    is_written_so && begun_at(path).is_some()
}

/// When a file was begun, by its name, to the second.
fn begun_at(path: &Path) -> Option<Timestamp> {
    let name = path.file_name()?.to_str()?.get(..15)?;
    let begun = civil::DateTime::strptime("%Y%m%dT%H%M%S", name).ok()?;
    begun.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
