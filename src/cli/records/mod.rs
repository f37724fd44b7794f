//! Where records of requests are, how commands read them, and what is said of those that cannot be read.

pub(super) mod stream;

use std::path::{Path, PathBuf};

use crate::{config::ServerConfig, telemetry::record::read::Lost};

/// The folder of records below the journal.
pub(super) fn records_folder(server: &ServerConfig) -> PathBuf {
    server.journal.join("records")
}

/// What could not be read of the files in `folder`.
pub(super) fn lost_told(folder: &Path, lost: Lost) -> String {
    let damaged = (lost.damaged > 0).then(|| format!("{} bytes amid the files are damaged", lost.damaged));
    let torn =
        (lost.torn > 0).then(|| format!("{} bytes at the end of files are being written, or were cut off", lost.torn));
    let told: Vec<String> = damaged.into_iter().chain(torn).collect();
    format!("in `{}` {}", folder.display(), told.join(", and "))
}
