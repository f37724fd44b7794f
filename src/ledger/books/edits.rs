//! Edits of a budget's period or zone, where several gateways count it in one store.
//!
//! The fence goes on in the window that it now means. What is in the store of that window already was placed there;
//! the rest of what its requests were charged stands in other windows, and every node tells the store of its own.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use jiff::Timestamp;

use super::Books;
use crate::ledger::{
    journal::{Reader, Reading},
    row::{
        Entry,
        edits::{EditRow, WindowRow},
    },
    window::Window,
};

/// The edits, in the journal's folder.
const FILE: &str = "edits.json";

/// Edits by fence.
pub(super) type Edits = HashMap<Arc<str>, EditRow>;

/// Those that were kept. A damaged file is worth as much as none: each is heard of again.
pub(super) fn kept(folder: &Path) -> Edits {
    let kept = std::fs::read(folder.join(FILE)).ok();
    let rows: Vec<EditRow> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    rows.into_iter().map(|row| (Arc::clone(&row.window.fence), row)).collect()
}

impl WindowRow {
    /// The window; damaged seconds are all of time.
    pub fn window(&self) -> Window {
        match (Timestamp::from_second(self.from), Timestamp::from_second(self.to)) {
            (Ok(start), Ok(end)) => Window { start, end },
            _ => Window::ALWAYS,
        }
    }
}

impl Books {
    /// The edits whose windows are open at `now`.
    pub fn edits(&self, now: Timestamp) -> Vec<EditRow> {
        let edits = self.edits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        edits.values().filter(|edit| edit.window.to > now.as_second()).cloned().collect()
    }

    /// The edit of one fence, open or over.
    pub fn edit_of(&self, fence: &str) -> Option<EditRow> {
        self.edits.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(fence).cloned()
    }

    /// Takes an edit over, or counts again what it moves. Reads the journal from the window's beginning.
    ///
    /// # Errors
    /// The system's error when the journal cannot be read or the edit not be kept; then nothing has changed.
    pub fn edit(&self, window: WindowRow) -> io::Result<()> {
        let (there, elsewhere) = self.charged(&window.fence, &window.window())?;
        let now = Timestamp::now().as_second();
        let (fence, span) = (Arc::clone(&window.fence), window.window());
        let mut edits = self.edits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut left = edits.get(&fence).map(|edit| edit.left.clone()).unwrap_or_default();
        left.extend(self.lock().balances.left(&fence, &span));
        left.retain(|place| place.to > now && place.from != window.from);
        let mut next = edits.clone();
        next.retain(|_, edit| edit.window.to > now);
        next.insert(Arc::clone(&fence), EditRow { window, elsewhere, left });
        if let Some(folder) = &self.folder {
            let (path, new) = (folder.join(FILE), folder.join("edits.new"));
            std::fs::write(&new, serde_json::to_vec(&next.values().collect::<Vec<_>>())?)?;
            std::fs::rename(new, path)?;
        }
        *edits = next;
        drop(edits);
        self.lock().balances.move_to(&fence, span, there);
        Ok(())
    }

    /// What requests that were admitted in `window` were charged in it, and what in other windows of the fence.
    fn charged(&self, fence: &str, window: &Window) -> io::Result<(i64, i64)> {
        let Some(folder) = &self.folder else { return Ok((0, 0)) };
        let admitted = window.start.as_millisecond()..window.end.as_millisecond();
        let (mut there, mut elsewhere) = (0_i64, 0_i64);
        for reading in Reader::since(folder, window.start)? {
            let Reading::Entry(entry, _) = reading? else { continue };
            let Entry::Settle(row) = *entry else { continue };
            for place in row.places.iter().filter(|place| &*place.fence == fence) {
                if place.from == window.start.as_second() {
                    there = there.saturating_add(place.amount);
                } else if admitted.contains(&row.held_at_ms) {
                    elsewhere = elsewhere.saturating_add(place.amount);
                }
            }
        }
        Ok((there, elsewhere))
    }
}
