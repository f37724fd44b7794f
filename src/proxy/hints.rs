//! Hints among gateways of one store: what is told of the upstreams here, and what is heeded of what others tell.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{Gateway, live::hints::Heard};
use crate::{
    ledger::redis::{Hinting, Texts, Topic},
    policy::hints,
};

/// One gateway's side.
pub struct Hints {
    gateway: Weak<Gateway>,
    /// What was told last, by what does not change with time.
    told: Mutex<String>,
    heard: Mutex<HashMap<String, Heard>>,
}

impl Hints {
    /// Those of a gateway.
    pub fn new(gateway: &Arc<Gateway>) -> Arc<Self> {
        let (told, heard) = (Mutex::default(), Mutex::default());
        Arc::new(Self { gateway: Arc::downgrade(gateway), told, heard })
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    // Texts are whole at every step.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hinting for Hints {
    fn topic(&self) -> Topic {
        Topic::UPSTREAMS
    }

    fn tell(&self) -> Option<String> {
        let live = self.gateway.upgrade()?.live();
        let hints = live.hints();
        let mut same = String::new();
        for (hint, until) in &hints {
            let names = match hint {
                hints::Hint::Broken { model, backend, .. } => ("broken", model, backend),
                hints::Hint::Parked { backend, account, .. } => ("parked", backend, account),
                hints::Hint::Refused { backend, account, .. } => ("refused", backend, account),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(same, "{names:?} {until}");
        }
        let mut told = lock(&self.told);
        if *told == same {
            return None;
        }
        *told = same;
        let hints: Vec<_> = hints.into_iter().map(|(hint, _)| hint).collect();
        Some(hints::write(&hints))
    }

    fn untold(&self) {
        lock(&self.told).clear();
    }

    fn hear(&self, texts: Texts) -> Vec<String> {
        let Some(gateway) = self.gateway.upgrade() else { return Vec::new() };
        let (live, mut heard) = (gateway.live(), lock(&self.heard));
        heard.retain(|node, _| texts.others.contains_key(node));
        for (node, text) in &texts.others {
            for hint in heard.entry(node.clone()).or_default().take(text, texts.first) {
                live.heed(hint);
            }
        }
        // All of them live for a minute only.
        Vec::new()
    }
}
