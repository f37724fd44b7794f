//! What was seen of guarded splits, kept over a restart: a gateway that is restarted often would never see enough of an
//! arm else.
//!
//! One small file in the journal's folder, written anew each second in which something was seen: a process that is
//! killed loses the last second. It has room for what is watched now and nothing else, so it does not grow. What was seen
//! of an arm before it was last switched, off or on, is not taken up: it may have been mended since.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;

use super::{Gateway, page::Page};

/// The file's name.
const FILE: &str = "rollouts.json";
/// How often it is looked at whether something was seen.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps what guards have seen in a file.
#[derive(Debug)]
pub struct KeptSplits {
    folder: PathBuf,
    /// What the file says of splits. Locked from the look to the end of the writing, so that the last word is the newest.
    written: Mutex<Value>,
}

impl KeptSplits {
    /// In the journal's folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, written: Mutex::default() }
    }

    /// Takes up what the process before this one has seen; splits that were edited since begin anew, and so do arms that
    /// were switched since.
    pub fn recall(&self, gateway: &Gateway) {
        let text = fs::read_to_string(self.folder.join(FILE)).unwrap_or_default();
        // What another gateway has told under its own name would count twice.
        let own = |page: &Page| [page.node(), gateway.node()].contains(&"") || page.node() == gateway.node();
        let (Some(page), live) = (Page::read(&text).filter(own), gateway.live()) else { return };
        for told in page.told() {
            let watched = live.rollouts.of(&told.route.into());
            if let Some(watched) = watched.filter(|watched| *watched.revision == *told.revision) {
                watched.state().restore(told.arm, told.seen);
            }
        }
    }

    /// Keeps what is seen until it is dropped; [`Self::save`] is for the end.
    pub async fn keep(self: Arc<Self>, gateway: Arc<Gateway>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let (kept, gateway) = (Arc::clone(&self), Arc::clone(&gateway));
            // A panic in it is told by its hook; the next second tries anew.
            let _ = tokio::task::spawn_blocking(move || kept.save(&gateway)).await;
        }
    }

    /// Keeps what was seen so far.
    pub fn save(&self, gateway: &Gateway) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = gateway.live().rollouts.seen();
        if *written == seen {
            return;
        }
        match self.write(&Page::write(gateway.node(), gateway.now().as_millisecond(), &seen)) {
            Ok(()) => *written = seen,
            Err(error) => tracing::warn!(%error, "what guards have seen cannot be kept"),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let new = self.folder.join("rollouts.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(new, self.folder.join(FILE))
    }
}
