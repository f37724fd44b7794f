//! The text of a file of records, frame by frame: none of a frame is handed out before its checksum is known to hold.
//!
//! The writer's frames are small (4 MiB of text and what one write adds), so that a whole one is decompressed, verified,
//! and then handed out. A larger one, which some other tool made, is decompressed twice: once to verify it, once to hand it
//! out. The end of a file may have no end of its own yet, and so no checksum: it is handed out as far as it is whole, if no
//! frame follows it. Then its bytes are the beginning of what was written, unless the decompressor says otherwise.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    ops::ControlFlow,
    path::Path,
};

use zstd::stream::read::Decoder;

/// The first bytes of a zstd frame (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How much is decompressed, or read of a plain file, at a time.
const CHUNK: usize = 256 << 10;
/// So much text of a frame is kept until it is verified: more than a frame of the writer's has.
const KEPT: usize = 8 << 20;
/// The longest line: longer ones are no records of ours.
const LONGEST_LINE: usize = 16 << 20;

/// What could not be read of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes at the end that no frame closes: what a killed process leaves, or one that is writing. What is whole of
    /// them was read.
    pub torn: u64,
    /// How many lines were read of these.
    pub torn_lines: u64,
    /// Bytes that are damaged.
    pub damaged: u64,
    /// There are bytes, and not one whole frame or line of ours among them.
    pub nothing_whole: bool,
}

/// Shows whole lines, many at a time, with how many bytes of the file were read so far.
///
/// # Errors
/// The system's error when the file cannot be read.
pub fn each_chunk(path: &Path, show: impl FnMut(&[u8], u64) -> ControlFlow<()>) -> io::Result<Lost> {
    let file = File::open(path)?;
    if file.metadata()?.is_file() {
        return each_of(BufReader::with_capacity(CHUNK, file), path, show);
    }
    // A pipe cannot be gone back in.
    drop(file);
    each_of(Cursor::new(fs::read(path)?), path, show)
}

fn each_of<R: BufRead + Seek>(
    mut file: R,
    path: &Path,
    show: impl FnMut(&[u8], u64) -> ControlFlow<()>,
) -> io::Result<Lost> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let is_packed = path.extension().is_some_and(|extension| extension == "zst");
    if !is_packed && !file.fill_buf()?.starts_with(&MAGIC) {
        return plain(file, show);
    }
    let frames = Frames { file, bytes, at: 0, text: Vec::new(), scratch: vec![0; CHUNK], show };
    frames.run()
}

/// Lines as they are: nothing tells whether they are damaged.
fn plain(mut file: impl Read, mut show: impl FnMut(&[u8], u64) -> ControlFlow<()>) -> io::Result<Lost> {
    let (mut lost, mut text, mut scratch) = (Lost::default(), Vec::new(), vec![0; CHUNK]);
    let (mut so_far, mut is_too_long, mut lines) = (0, false, false);
    loop {
        let read = match file.read(&mut scratch) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        so_far += read as u64;
        let mut new = &scratch[..read];
        if is_too_long {
            let rest = memchr::memchr(b'\n', new).map_or(new.len(), |end| end + 1);
            lost.damaged += rest as u64;
            is_too_long = rest == new.len() && !new.ends_with(b"\n");
            new = &new[rest..];
        }
        text.extend_from_slice(new);
        if let Some(last) = memchr::memrchr(b'\n', &text) {
            lines = true;
            if show(&text[..=last], so_far).is_break() {
                return Ok(lost);
            }
            text.drain(..=last);
        } else if text.len() > LONGEST_LINE {
            lost.damaged += text.len() as u64;
            text.clear();
            is_too_long = true;
        }
    }
    lost.torn = text.len() as u64;
    lost.nothing_whole = !lines && so_far > 0;
    Ok(lost)
}

/// How a frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At this byte, and its checksum holds.
    Whole(u64),
    /// The file ends before it does.
    Open,
    Broken,
    /// Whoever looked has seen enough.
    Enough,
}

struct Frames<R, S> {
    file: R,
    bytes: u64,
    /// Where the frame begins that is looked at.
    at: u64,
    /// The beginning of a line whose end is in the next frame, then the frame's own text.
    text: Vec<u8>,
    scratch: Vec<u8>,
    show: S,
}

impl<R: BufRead + Seek, S: FnMut(&[u8], u64) -> ControlFlow<()>> Frames<R, S> {
    fn run(mut self) -> io::Result<Lost> {
        let (mut lost, mut whole) = (Lost::default(), false);
        while self.at < self.bytes {
            let (end, is_kept) = self.verify()?;
            let next = match end {
                End::Whole(next) => {
                    whole = true;
                    if self.hand_out(is_kept, next)?.is_break() {
                        return Ok(lost);
                    }
                    self.at = next;
                    continue;
                }
                End::Open => self.next_whole()?,
                End::Broken | End::Enough => self.next_frame(self.at + 1)?,
            };
            match next {
                Some(next) => {
                    lost.damaged += next - self.at;
                    // What began a line before the damage does not end behind it.
                    self.text.clear();
                    self.file.seek(SeekFrom::Start(next))?;
                    self.at = next;
                }
                None if end == End::Open => {
                    lost.torn = self.bytes - self.at;
                    self.hand_out_open(is_kept, &mut lost)?;
                    lost.nothing_whole = !whole && lost.torn_lines == 0;
                    return Ok(lost);
                }
                None => {
                    lost.damaged += self.bytes - self.at;
                    lost.nothing_whole = !whole;
                    return Ok(lost);
                }
            }
        }
        // Some other tool left out the end of the last line.
        if !self.text.is_empty() {
            let _ = (self.show)(&self.text, self.bytes);
        }
        Ok(lost)
    }

    /// Decompresses a frame to its end; whether all its text is kept, or there is too much of it.
    fn verify(&mut self) -> io::Result<(End, bool)> {
        let Self { file, text, scratch, .. } = self;
        let (before, mut is_kept, mut line) = (text.len(), true, 0);
        let end = decode(file, scratch, |part| {
            line = memchr::memrchr(b'\n', part).map_or(line + part.len(), |last| part.len() - last - 1);
            is_kept &= text.len() + part.len() <= KEPT;
            if is_kept {
                text.extend_from_slice(part);
            }
            if line > LONGEST_LINE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !is_kept || end == End::Enough {
            text.truncate(before);
        }
        Ok((end, is_kept))
    }

    /// Shows the lines of a frame that is verified, which ends at `end`; the file stands there then.
    fn hand_out(&mut self, is_kept: bool, end: u64) -> io::Result<ControlFlow<()>> {
        let Self { file, text, scratch, show, at, .. } = self;
        if is_kept {
            return Ok(whole_lines(text, |lines| show(lines, end)));
        }
        file.seek(SeekFrom::Start(*at))?;
        let end = decode(file, scratch, |part| {
            text.extend_from_slice(part);
            whole_lines(text, |lines| show(lines, *at))
        })?;
        Ok(if end == End::Enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Shows what is whole of the frame at the end of the file, and counts its lines.
    fn hand_out_open(&mut self, is_kept: bool, lost: &mut Lost) -> io::Result<()> {
        let Self { file, text, scratch, show, bytes, at } = self;
        let mut counted = |lines: &[u8]| {
            lost.torn_lines += memchr::memchr_iter(b'\n', lines).count() as u64;
            show(lines, *bytes)
        };
        if is_kept {
            let _ = whole_lines(text, counted);
            return Ok(());
        }
        file.seek(SeekFrom::Start(*at))?;
        decode(file, scratch, |part| {
            text.extend_from_slice(part);
            whole_lines(text, &mut counted)
        })?;
        Ok(())
    }

    /// Where the next frame begins that is whole.
    fn next_whole(&mut self) -> io::Result<Option<u64>> {
        let mut from = self.at + 1;
        while let Some(next) = self.next_frame(from)? {
            self.file.seek(SeekFrom::Start(next))?;
            let end = decode(&mut self.file, &mut self.scratch, |_| ControlFlow::Continue(()))?;
            if matches!(end, End::Whole(_)) {
                return Ok(Some(next));
            }
            from = next + 1;
        }
        Ok(None)
    }

    /// Where the next frame may begin, from `from` on.
    fn next_frame(&mut self, from: u64) -> io::Result<Option<u64>> {
        self.file.seek(SeekFrom::Start(from))?;
        let (mut begins, mut window) = (from, Vec::new());
        loop {
            let read = (&mut self.file).take(CHUNK as u64).read_to_end(&mut window)?;
            if let Some(found) = memchr::memmem::find(&window, &MAGIC) {
                return Ok(Some(begins + found as u64));
            }
            if read == 0 {
                return Ok(None);
            }
            // Its first bytes may be the last ones here.
            let done = window.len().saturating_sub(MAGIC.len() - 1);
            window.drain(..done);
            begins += done as u64;
        }
    }
}

/// Shows the whole lines of `text` and takes them out.
fn whole_lines(text: &mut Vec<u8>, show: impl FnOnce(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    let Some(last) = memchr::memrchr(b'\n', text) else { return ControlFlow::Continue(()) };
    let seen = show(&text[..=last]);
    text.drain(..=last);
    seen
}

/// Decompresses the frame that begins where `file` stands.
fn decode<R: BufRead + Seek>(
    file: &mut R,
    scratch: &mut [u8],
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<End> {
    let begin = file.fill_buf()?;
    if begin.len() < MAGIC.len() && MAGIC.starts_with(begin) {
        return Ok(End::Open);
    }
    let mut decoder = Decoder::with_buffer(&mut *file)?.single_frame();
    loop {
        match decoder.read(scratch) {
            Ok(0) => break,
            Ok(read) if take(&scratch[..read]).is_break() => return Ok(End::Enough),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(End::Open),
            // What the system says is no fault of the frame.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => return Ok(End::Broken),
        }
    }
    drop(decoder);
    Ok(End::Whole(file.stream_position()?))
}
