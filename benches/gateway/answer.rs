//! Reads one HTTP/1.1 answer off a socket: only what the load generator must know to count correctly.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use memchr::{memchr_iter, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Head and buffered body of an answer at most.
const READ_BUFFER: usize = 32 * 1024;

/// One keep-alive connection of the load generator.
pub struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

/// What came back for one request.
pub struct Answer {
    /// When the first byte of the body was read.
    pub first: Instant,
    /// When the last byte was read.
    pub last: Instant,
    /// Bytes of the body, without chunk framing.
    pub bytes: usize,
}

impl Connection {
    /// A connection around `stream`.
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; READ_BUFFER].into_boxed_slice() })
    }

    /// Sends `request` and reads the whole answer; `on_events` is told of each read's complete events.
    ///
    /// Fails on any status but 200 (with the head and the start of the body), on a close before the end, and on bytes
    /// beyond the end.
    pub async fn exchange(&mut self, request: &[u8], mut on_events: impl FnMut(u64)) -> Result<Answer> {
        self.stream.write_all(request).await?;
        let (mut body, head, mut filled) = self.head().await?;
        let mut bytes = 0;
        let mut first = None;
        let mut from = head;
        loop {
            let taken = body.feed(&self.buffer[from..filled])?;
            bytes += taken.bytes;
            if taken.bytes > 0 {
                first.get_or_insert_with(Instant::now);
            }
            if taken.events > 0 {
                on_events(taken.events);
            }
            if body.is_done() {
                let last = Instant::now();
                return Ok(Answer { first: first.unwrap_or(last), last, bytes });
            }
            from = 0;
            filled = self.stream.read(&mut self.buffer).await?;
            if filled == 0 {
                bail!("closed in the middle of an answer, after {bytes} bytes of its body");
            }
        }
    }

    /// Reads the head; returns the reader of its body, the head's length and the number of bytes in the buffer.
    async fn head(&mut self) -> Result<(Body, usize, usize)> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                bail!("closed before an answer, after {filled} bytes");
            }
            filled += read;
            if let Some(at) = memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                let head = &self.buffer[..at + 2];
                if !head.starts_with(b"HTTP/1.1 200 ") {
                    bail!("not a 200: {}", String::from_utf8_lossy(&self.buffer[..filled.min(1_000)]));
                }
                return Ok((Body::of_head(head)?, at + 4, filled));
            }
        }
    }
}

/// Where in a body the reader is.
enum Body {
    /// `content-length`: bytes left.
    Length(usize),
    /// A chunk's size line, with the size read so far.
    Size(usize),
    /// The rest of a size line (extension, CR), before this many bytes.
    SizeEnd(usize),
    /// Bytes left of a chunk, and whether the byte before was a line feed.
    Data { left: usize, line_ended: bool },
    /// The line end behind a chunk.
    DataEnd,
    /// Bytes left of the empty line behind the last chunk; we never ask for trailers.
    LastLine(usize),
    /// Everything was read.
    Done,
}

/// What one read brought.
#[derive(Default)]
struct Taken {
    bytes: usize,
    events: u64,
}

impl Body {
    fn of_head(head: &[u8]) -> Result<Self> {
        let head = str::from_utf8(head).context("head is not text")?;
        for line in head.split("\r\n").skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                return Ok(Self::Length(value.trim().parse()?));
            }
            if name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked") {
                return Ok(Self::Size(0));
            }
        }
        bail!("an answer without a length")
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::Done | Self::Length(0))
    }

    fn feed(&mut self, mut input: &[u8]) -> Result<Taken> {
        let mut taken = Taken::default();
        while !input.is_empty() {
            let used = self.step(input, &mut taken)?;
            input = &input[used..];
        }
        Ok(taken)
    }

    /// Takes some bytes off the start of `input`, which is not empty, and returns how many.
    fn step(&mut self, input: &[u8], taken: &mut Taken) -> Result<usize> {
        match self {
            Self::Length(left) => {
                let used = input.len().min(*left);
                if used == 0 {
                    bail!("bytes beyond the end of an answer");
                }
                taken.bytes += used;
                *left -= used;
                Ok(used)
            }
            Self::Size(size) => {
                match (input[0] as char).to_digit(16) {
                    Some(digit) => *size = *size * 16 + digit as usize,
                    None => *self = Self::SizeEnd(*size),
                }
                Ok(1)
            }
            Self::SizeEnd(size) => {
                if input[0] == b'\n' {
                    *self = match *size {
                        0 => Self::LastLine(2),
                        left => Self::Data { left, line_ended: false },
                    };
                    return Ok(1);
                }
                Ok(1)
            }
            Self::Data { left, line_ended } => {
                let used = input.len().min(*left);
                taken.events += blank_lines(&input[..used], line_ended);
                taken.bytes += used;
                *left -= used;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                Ok(used)
            }
            Self::DataEnd => {
                if input[0] == b'\n' {
                    *self = Self::Size(0);
                }
                Ok(1)
            }
            Self::LastLine(left) => {
                *left -= 1;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(1)
            }
            Self::Done => bail!("bytes beyond the end of an answer"),
        }
    }
}

/// Empty lines in `data`, each of which ends an event.
fn blank_lines(data: &[u8], line_ended: &mut bool) -> u64 {
    let mut count = 0;
    let mut previous = None;
    for at in memchr_iter(b'\n', data) {
        let before = if at == 0 { *line_ended } else { previous == Some(at - 1) };
        count += u64::from(before);
        previous = Some(at);
    }
    *line_ended = data.last() == Some(&b'\n');
    count
}
