//! What was seen of guarded splits, kept over a restart: a gateway that is restarted often would never see enough of an
//! arm else.
//!
//! One small file in the journal's folder, written anew each second in which something was seen: a process that is
//! killed loses the last second. It has room for what is watched now and nothing else, so it does not grow.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::super::Gateway;
use crate::{base::names::RouteName, policy::rollout::KeptTally};

/// The file's name.
const FILE: &str = "rollouts.json";
/// How often it is looked at whether something was seen.
const EVERY: Duration = Duration::from_secs(1);
/// A file of another version tells nothing.
const VERSION: u64 = 1;

impl Gateway {
    /// What was seen of all guarded splits, as one text.
    fn seen_of_splits(&self) -> String {
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
        json!({"v": VERSION, "splits": watched.iter().map(split).collect::<Vec<_>>()}).to_string()
    }

    /// Takes up what the process before this one has seen; splits that were edited since begin anew.
    pub fn recall_splits(&self, journal: &Path) {
        let text = fs::read_to_string(journal.join(FILE)).unwrap_or_default();
        let kept: Value = serde_json::from_str(&text).unwrap_or_default();
        if kept["v"] != VERSION {
            return;
        }
        let live = self.live();
        for split in kept["splits"].as_array().into_iter().flatten() {
            let route = split["route"].as_str().map(RouteName::from);
            let watched = route.and_then(|route| live.rollouts.of(&route));
            let Some(watched) = watched.filter(|watched| split["revision"] == *watched.revision) else { continue };
            let mut state = watched.state.lock().unwrap_or_else(PoisonError::into_inner);
            for arm in split["arms"].as_array().into_iter().flatten() {
                let slots: Option<Vec<KeptTally>> = arm["slots"].as_array().into_iter().flatten().map(tally).collect();
                if let (Some(name), Some(slots)) = (arm["arm"].as_str(), slots) {
                    state.restore(name, &slots);
                }
            }
        }
    }
}

fn tally(slot: &Value) -> Option<KeptTally> {
    let count = |index: usize| u32::try_from(slot[0][index].as_u64()?).ok();
    let cost = |index: usize| slot[1][index].as_f64();
    Some(([count(0)?, count(1)?, count(2)?, count(3)?], [cost(0)?, cost(1)?]))
}

/// Keeps what is seen until it is dropped; [`keep_now`] is for the end.
pub async fn keep_splits(gateway: Arc<Gateway>, journal: PathBuf) {
    let mut written = String::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let seen = gateway.seen_of_splits();
        if seen == written {
            continue;
        }
        let (folder, text) = (journal.clone(), seen.clone());
        match tokio::task::spawn_blocking(move || write(&folder, &text)).await {
            Ok(Ok(())) => written = seen,
            Ok(Err(error)) => tracing::warn!(%error, "what guards have seen cannot be kept"),
            Err(_) => {}
        }
    }
}

/// Keeps what was seen so far.
pub fn keep_now(gateway: &Gateway, journal: &Path) {
    if let Err(error) = write(journal, &gateway.seen_of_splits()) {
        tracing::warn!(%error, "what guards have seen cannot be kept");
    }
}

fn write(journal: &Path, text: &str) -> io::Result<()> {
    let new = journal.join("rollouts.new");
    fs::write(&new, text)?;
    fs::rename(new, journal.join(FILE))
}
