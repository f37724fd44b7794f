//! Where records of requests are, how commands read them, and what is said of those that cannot be read.

pub(super) mod stream;

use std::path::PathBuf;

use self::stream::Passed;
use crate::{config::ServerConfig, telemetry::record::read::Missed};

/// How many files are named.
const NAMED: usize = 10;

/// The folder of records below the journal.
pub(super) fn records_folder(server: &ServerConfig) -> PathBuf {
    server.journal.join("records")
}

/// What could not be read, file by file.
pub(super) fn missed_told(missed: &[Missed]) -> String {
    let mut told: Vec<String> = missed.iter().take(NAMED).map(ToString::to_string).collect();
    if missed.len() > NAMED {
        told.push(format!("and {} files more", missed.len() - NAMED));
    }
    told.join("; ")
}

/// Says what of the records is damaged, and what is only not written to its end.
pub(super) fn warn(passed: &Passed) {
    let (damaged, open): (Vec<Missed>, Vec<Missed>) =
        passed.missed.iter().cloned().partition(|missed| missed.damaged() > 0);
    if !damaged.is_empty() {
        anstream::eprintln!("warning: records are missing: {}", missed_told(&damaged));
    }
    if !open.is_empty() {
        anstream::eprintln!("note: what is whole was read: {}", missed_told(&open));
    }
    if passed.unreadable > 0 {
        anstream::eprintln!("warning: {} lines are no records, or of a later version", passed.unreadable);
    }
}
