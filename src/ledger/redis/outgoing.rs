//! Names of items that have changed here and are not on the board yet.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    /// How many of the changes have got there.
    there: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeSet<String>,
    /// How many changes there were.
    changes: u64,
}

impl Outgoing {
    fn state(&self) -> MutexGuard<'_, State> {
        // A set of names and a number are whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has changed.
    pub(super) fn add(&self, names: impl IntoIterator<Item = String>) {
        let mut state = self.state();
        state.names.extend(names);
        state.changes += 1;
    }

    /// Takes what is to be put up, with the number that [`Outgoing::done`] wants when it is.
    pub(super) fn take(&self) -> (BTreeSet<String>, u64) {
        let mut state = self.state();
        (std::mem::take(&mut state.names), state.changes)
    }

    /// Puts back what could not be put up.
    pub(super) fn put_back(&self, names: BTreeSet<String>) {
        self.state().names.extend(names);
    }

    /// Notes that the first `changes` of them are on the board.
    pub(super) fn done(&self, changes: u64) {
        self.there.send_if_modified(|there| {
            let more = changes > *there;
            *there = changes.max(*there);
            more
        });
    }

    /// Resolves when all that has changed so far is there.
    pub(super) async fn is_there(&self) {
        let changes = self.state().changes;
        // Its sender lives as long as we do.
        let _ = self.there.subscribe().wait_for(|there| *there >= changes).await;
    }
}
