//! Records by when their requests came, each once.
//!
//! They arrive in the order in which requests ended. So many are held back that whoever came earlier and took longer is
//! put before those that it overlapped; the id decides between two of one instant. Copies of a record are neighbours then.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
};

use jiff::Timestamp;

use crate::telemetry::record::Line;

/// So much is held back, in bytes of text: some 11,000 requests. One that took longer than so many others after it is
/// shown late.
const HELD: usize = 32 << 20;

struct Held {
    at: Timestamp,
    line: Box<Line>,
    bytes: usize,
}

impl Held {
    fn key(&self) -> (Timestamp, &str) {
        (self.at, &self.line.id)
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

/// What is held back.
#[derive(Default)]
pub(super) struct InOrder {
    held: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    last: Option<(Timestamp, Arc<str>)>,
    /// How many were there before.
    pub(super) repeated: u64,
}

impl InOrder {
    /// Takes in a record of so many bytes, and shows what need not be held back any longer.
    pub(super) fn add(&mut self, line: Box<Line>, bytes: usize, show: &mut impl FnMut(&Line)) {
        self.held.push(Reverse(Held { at: line.at, line, bytes }));
        self.bytes += bytes;
        while self.bytes > HELD {
            self.release(show);
        }
    }

    /// Shows all that is left.
    pub(super) fn end(&mut self, show: &mut impl FnMut(&Line)) {
        while !self.held.is_empty() {
            self.release(show);
        }
    }

    fn release(&mut self, show: &mut impl FnMut(&Line)) {
        let Some(Reverse(Held { at, line, bytes })) = self.held.pop() else { return };
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.last.as_ref().is_some_and(|(before, id)| (*before, id) == (at, &line.id)) {
            self.repeated += 1;
            return;
        }
        self.last = Some((at, Arc::clone(&line.id)));
        show(&line);
    }
}
