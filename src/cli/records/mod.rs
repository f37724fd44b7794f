//! Where records of requests are, how commands read them, and what is said of those that cannot be read.

mod merge;
mod order;
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

/// Says what of the records is damaged, what is only not written to its end, and what was there twice.
pub(super) fn warn(passed: &Passed) {
    let of = |is: fn(&Missed) -> bool| -> Vec<Missed> { passed.missed.iter().filter(|it| is(it)).cloned().collect() };
    for (missed, begin) in [
        (of(|it| it.damaged() > 0), "warning: records are missing"),
        (of(|it| it.damaged() == 0 && it.is_cut()), "warning: the last records of a file may be missing"),
        (of(|it| it.damaged() == 0 && !it.is_cut()), "note: what is whole was read"),
    ] {
        if !missed.is_empty() {
            anstream::eprintln!("{begin}: {}", missed_told(&missed));
        }
    }
    if passed.unreadable > 0 {
        anstream::eprintln!("warning: {} lines are no records, or of a later version", passed.unreadable);
    }
    if passed.repeated > 0 {
        anstream::eprintln!("warning: {} records are copies of others, which count once", passed.repeated);
    }
}
