//! A look through the older part of the journal while a gateway runs: a start reads only what came after the last
//! checkpoint, and a disk may have lost what lies before.

use std::path::PathBuf;

use crate::ledger::journal::{Position, Reader, Reading};

/// So many of the newest segments are looked through: 1 GiB at most, seconds of reading.
const SEGMENTS: usize = 16;

/// Begins to look, and logs what is damaged but for `known`, which has been told of. Nothing waits for it.
pub fn look(folder: PathBuf, known: Vec<Position>) {
    let looking = move || {
        let reader = Reader::of_newest(&folder, SEGMENTS);
        for reading in reader.into_iter().flatten().map_while(Result::ok) {
            if let Reading::Damage { at, bytes } = reading
                && !known.contains(&at)
            {
                let (segment, offset) = (at.segment, at.offset);
                tracing::error!(segment, offset, bytes, "the journal is damaged here; see `turnpike audit`");
            }
        }
    };
    // Its end is that of the process: it holds nothing.
    if let Err(error) = std::thread::Builder::new().name("journal look".into()).spawn(looking) {
        tracing::warn!(%error, "the older part of the journal is not looked through");
    }
}
