//! How far a run is.

use std::io::{IsTerminal, Write};

use super::{nano, results::Done};

/// A line on a terminal that says how far it is; nothing elsewhere.
pub(super) struct Progress {
    shown: bool,
    done: usize,
    all: usize,
    right: usize,
}

impl Progress {
    /// So many questions are to be asked.
    pub(super) fn new(all: usize) -> Self {
        Self { shown: std::io::stderr().is_terminal(), done: 0, all, right: 0 }
    }

    /// One is answered; so much is spent in all.
    pub(super) fn count(&mut self, done: &Done, spent_nanousd: i128) {
        self.done += 1;
        self.right += usize::from(done.right == Some(true));
        if self.shown {
            let filled = 30 * self.done / self.all.max(1);
            let bar = "█".repeat(filled) + &"░".repeat(30 - filled);
            let (asked, all, right, spent) = (self.done, self.all, self.right, nano(spent_nanousd));
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r\x1b[K{bar} {asked}/{all}, {right} right, {spent} USD, {}", done.model);
            let _ = stderr.flush();
        }
    }

    /// Ends the line.
    pub(super) fn end(&self) {
        if self.shown {
            let _ = writeln!(std::io::stderr());
        }
    }
}
