//! The thread that keeps the books: it syncs what was written, writes what waits, and sums up.

use std::{
    sync::{Weak, atomic::Ordering},
    time::Instant,
};

use super::{Books, CHECKPOINT_EVERY};
use crate::ledger::journal::SYNC_EVERY;

/// The keeper's life: it sleeps while nothing is written.
pub(super) fn keep(books: &Weak<Books>) {
    let (mut synced, mut summed_up) = (None, Instant::now());
    loop {
        std::thread::park_timeout(CHECKPOINT_EVERY);
        // What is written meanwhile is synced together.
        std::thread::sleep(SYNC_EVERY);
        let Some(books) = books.upgrade() else { return };
        let waits = !books.lock().backlog.is_empty();
        if (books.dirty.swap(false, Ordering::AcqRel) || waits)
            && let Err(error) = books.tend(&mut synced)
        {
            tracing::error!(%error, "the journal cannot be synced");
        }
        if !books.lock().backlog.is_empty() {
            books.dirty.store(true, Ordering::Release);
            std::thread::sleep(5 * SYNC_EVERY);
            std::thread::current().unpark();
        }
        if summed_up.elapsed() >= CHECKPOINT_EVERY {
            summed_up = Instant::now();
            if let Err(error) = books.checkpoint() {
                tracing::error!(%error, "the books cannot be summed up: the next start reads more of the journal");
            }
        }
    }
}
