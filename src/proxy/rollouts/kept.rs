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

use serde_json::{Value, json};

use super::super::Gateway;
use crate::{
    base::names::RouteName,
    ledger::{row::switches::SwitchKind, switches::arm_name},
    policy::rollout::KeptTally,
};

/// The file's name.
const FILE: &str = "rollouts.json";
/// How often it is looked at whether something was seen.
const EVERY: Duration = Duration::from_secs(1);
/// A file of another version tells nothing.
const VERSION: u64 = 1;

/// Keeps what guards have seen in a file.
#[derive(Debug)]
pub struct KeptSplits {
    folder: PathBuf,
    /// What the file says of splits. Locked from the look to the end of the writing, so that the last word is the newest.
    written: Mutex<Value>,
}

impl Gateway {
    /// What was seen of all guarded splits.
    fn seen_of_splits(&self) -> Value {
        let live = self.live();
        let mut watched: Vec<_> = live.rollouts.0.values().collect();
        watched.sort_by(|a, b| a.route.cmp(&b.route));
        let split = |watched: &&Arc<super::Watched>| {
            let state = watched.state.lock().unwrap_or_else(PoisonError::into_inner);
            let arms = state.kept().into_iter().map(|(arm, tallies)| {
                let tallies: Vec<Value> = tallies.iter().map(|(counts, costs)| json!([counts, costs])).collect();
                json!({"arm": arm.as_str(), "slots": tallies})
            });
            let arms: Vec<Value> = arms.collect();
            json!({"route": watched.route.as_str(), "revision": &*watched.revision, "arms": arms})
        };
        watched.iter().map(split).collect()
    }
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
        let kept: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(at_ms) = kept["at_ms"].as_i64().filter(|_| kept["v"] == VERSION) else { return };
        let (live, switches) = (gateway.live(), gateway.ledger().books().switches().load());
        for split in kept["splits"].as_array().into_iter().flatten() {
            let route = split["route"].as_str().map(RouteName::from);
            let watched = route.and_then(|route| live.rollouts.of(&route));
            let Some(watched) = watched.filter(|watched| split["revision"] == *watched.revision) else { continue };
            let mut state = watched.state.lock().unwrap_or_else(PoisonError::into_inner);
            for arm in split["arms"].as_array().into_iter().flatten() {
                let slots: Option<Vec<KeptTally>> = arm["slots"].as_array().into_iter().flatten().map(tally).collect();
                let Some((name, slots)) = arm["arm"].as_str().zip(slots) else { continue };
                let switched = switches.newest(SwitchKind::Arm, &arm_name(watched.route.as_str(), name));
                if switched.is_none_or(|row| row.from_ms < at_ms) {
                    state.restore(name, &slots);
                }
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
        // Before the look: what is switched between the two counts as later.
        let at_ms = gateway.now().as_millisecond();
        let seen = gateway.seen_of_splits();
        if *written == seen {
            return;
        }
        match self.write(&json!({"v": VERSION, "at_ms": at_ms, "splits": &seen}).to_string()) {
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

fn tally(slot: &Value) -> Option<KeptTally> {
    let count = |index: usize| u32::try_from(slot[0][index].as_u64()?).ok();
    let cost = |index: usize| slot[1][index].as_f64();
    Some(([count(0)?, count(1)?, count(2)?, count(3)?], [cost(0)?, cost(1)?]))
}
