//! Where records of requests are.

use std::path::PathBuf;

use crate::config::ServerConfig;

/// The folder of records below the journal.
pub(super) fn records_folder(server: &ServerConfig) -> PathBuf {
    server.journal.join("records")
}
