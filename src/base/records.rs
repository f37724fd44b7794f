//! How records of requests are kept: how large a file grows, how long it is written, how much is kept in all.

use std::time::Duration;

/// `records:` of `turnpike.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsConfig {
    /// A file is closed at this size, in bytes as they lie on the disk.
    pub file_bytes: u64,
    /// A file is closed at this age.
    pub every: Duration,
    /// All files together stay below this size, in bytes: the oldest go first.
    pub keep_bytes: u64,
    /// So much of each prompt and of each answer is kept too, in bytes; `None` = nothing of them is.
    pub content_bytes: Option<usize>,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self { file_bytes: 32 << 20, every: Duration::from_secs(3600), keep_bytes: 4 << 30, content_bytes: None }
    }
}
