//! Server-sent events by bytes: complete events come out as slices of what came in.
//!
//! Framing follows the WHATWG standard ("Interpreting an event stream"): lines end in LF, CR or CRLF, a blank line ends
//! an event, a byte order mark may stand at the very start. An event that ends in CR comes out at once; should the next
//! chunk turn out to begin with the LF of that CRLF, the LF leads the `raw` of the event after it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// One complete event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event's bytes with the blank line that ends it.
    pub raw: Bytes,
    /// The `data:` lines joined by LF; `None` for comments, blank lines and events without data.
    pub data: Option<Bytes>,
    /// The value of its last `event:` line.
    pub name: Option<Bytes>,
}

/// Splits a byte stream into events. A stream that ends without a blank line leaves a rest.
///
/// Each byte is looked at once, and copied only if its event spans chunks.
#[derive(Debug, Default)]
pub struct Framer {
    /// Complete events not yet taken.
    ready: VecDeque<Event>,
    /// The event under way, as far as it came in earlier chunks.
    carry: BytesMut,
    /// Where its current line begins, counted from the start of the event.
    line: usize,
    /// Fields of the event under way, as ranges of it.
    data: Vec<(usize, usize)>,
    name: Option<(usize, usize)>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// A line has ended, so that no byte order mark may follow.
    begun: bool,
    /// The limit was passed.
    failed: bool,
}

/// An event grew past the limit.
#[derive(Debug, thiserror::Error)]
#[error("an event of the stream is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit.
    pub limit: usize,
}

impl Framer {
    /// The longest event that is accepted, in bytes.
    pub const LIMIT: usize = 16 << 20;

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`TooLong`] when the event under way passes [`Self::LIMIT`]; events completed before it can still be taken, and
    /// every later push fails too.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), TooLong> {
        self.push_within(chunk, Self::LIMIT)
    }

    /// The next complete event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether bytes of an unfinished event are held.
    pub fn has_rest(&self) -> bool {
        !self.rest().is_empty()
    }

    /// The bytes of the unfinished event.
    pub fn rest(&self) -> &[u8] {
        // The LF of a CRLF that ended the event before is no event.
        if self.carry.len() == 1 && self.line == 1 { &[] } else { &self.carry }
    }

    fn push_within(&mut self, chunk: Bytes, limit: usize) -> Result<(), TooLong> {
        if self.failed {
            return Err(TooLong { limit });
        }
        // `start` is where the part of the event under way that lies in this chunk begins.
        let (mut start, mut at) = (0, 0);
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            if chunk[0] == b'\n' {
                at = 1;
                self.line += 1;
            }
        }
        while let Some(found) = memchr2(b'\n', b'\r', &chunk[at..]) {
            let end = at + found;
            at = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.carry.len() + (at - start) > limit {
                break;
            }
            start = self.end_line(&chunk, start, end, at);
        }
        let rest = &chunk[start..];
        if self.carry.len() + rest.len() > limit {
            self.failed = true;
            return Err(TooLong { limit });
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Ends the line whose terminator is `chunk[end..at]`; the new start of the event under way.
    fn end_line(&mut self, chunk: &Bytes, start: usize, end: usize, at: usize) -> usize {
        if self.carry.is_empty() {
            // Lengths count from the start of the event.
            if self.read_line(&chunk[start..end]) {
                self.complete(chunk.slice(start..at));
                return at;
            }
            self.line = at - start;
            return start;
        }
        self.carry.extend_from_slice(&chunk[start..at]);
        let event = std::mem::take(&mut self.carry);
        let blank = self.read_line(&event[..event.len() - (at - end)]);
        self.carry = event;
        if blank {
            let raw = self.carry.split().freeze();
            self.complete(raw);
        } else {
            self.line = self.carry.len();
        }
        at
    }

    /// Reads the last line of `event`, which holds the event so far without that line's end; true if it is blank.
    fn read_line(&mut self, event: &[u8]) -> bool {
        let mut from = self.line;
        if !std::mem::replace(&mut self.begun, true) && event.starts_with(b"\xef\xbb\xbf") {
            from = 3;
        }
        let line = &event[from..];
        if line.is_empty() {
            return true;
        }
        let colon = memchr(b':', line).unwrap_or(line.len());
        let space = usize::from(line.get(colon + 1) == Some(&b' '));
        let value = ((from + colon + 1 + space).min(event.len()), event.len());
        match &line[..colon] {
            b"data" => self.data.push(value),
            b"event" => self.name = Some(value),
            _ => {}
        }
        false
    }

    fn complete(&mut self, raw: Bytes) {
        let data = match &*self.data {
            [] => None,
            &[(start, end)] => Some(raw.slice(start..end)),
            many => {
                let lines: Vec<&[u8]> = many.iter().map(|&(start, end)| &raw[start..end]).collect();
                Some(lines.join(&b'\n').into())
            }
        };
        let name = self.name.take().map(|(start, end)| raw.slice(start..end));
        self.data.clear();
        self.line = 0;
        self.ready.push_back(Event { raw, data, name });
    }
}
