//! When keys were last used, written down off the path of requests.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::MissedTickBehavior;

use super::Admin;

/// How often last uses are written.
const EVERY: Duration = Duration::from_secs(5);

/// Writes last uses every few seconds, as long as it is polled.
pub async fn keep_uses(admin: Arc<Admin>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = Timestamp::MIN;
    loop {
        ticks.tick().await;
        let admin = Arc::clone(&admin);
        match tokio::task::spawn_blocking(move || write(&admin, since)).await {
            Ok(Some(until)) => since = until,
            Ok(None) => {}
            Err(panicked) => tracing::error!(%panicked, "last uses of keys are no longer written"),
        }
    }
}

/// Writes what is not written yet, at the end.
pub fn flush_uses(admin: &Admin) {
    write(admin, Timestamp::MIN);
}

/// Writes the uses since `since`; from when on the next call has to look.
fn write(admin: &Admin, since: Timestamp) -> Option<Timestamp> {
    let store = admin.keys.as_ref()?;
    // A use may be noted a moment after its request took the time.
    let until = Timestamp::now().checked_sub(SignedDuration::from_secs(2)).ok()?;
    let uses = admin.gateway.keys().uses(since);
    if uses.is_empty() {
        return Some(until);
    }
    match store.note_uses(&uses) {
        Ok(()) => Some(until),
        Err(failed) => {
            tracing::warn!(%failed, "last uses of keys could not be written");
            None
        }
    }
}
