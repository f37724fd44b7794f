//! Server-sent events by bytes: complete events come out as slices of what came in.

use bytes::Bytes;

/// One complete event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event's bytes with the blank line that ends it.
    pub raw: Bytes,
    /// The `data:` lines joined by LF; `None` for comments, blank lines and events without data.
    pub data: Option<Bytes>,
}

/// Splits a byte stream into events. A stream that ends without a blank line leaves a rest.
#[derive(Debug, Default)]
pub struct Framer {}

/// An event grew past the limit.
#[derive(Debug, thiserror::Error)]
#[error("an event of the stream is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit.
    pub limit: usize,
}

impl Framer {
    /// The longest event that is accepted.
    pub const LIMIT: usize = 16 << 20;

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`TooLong`] when the event under way passes [`Self::LIMIT`].
    pub fn push(&mut self, chunk: Bytes) -> Result<(), TooLong> {
        let _ = chunk;
        todo!()
    }

    /// The next complete event.
    pub fn next_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// Whether bytes of an unfinished event are held.
    pub fn has_rest(&self) -> bool {
        todo!()
    }
}
