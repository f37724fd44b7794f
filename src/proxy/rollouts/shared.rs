//! What the gateways of one store tell each other of guarded splits, so that each judges by what all have served.
//!
//! A gateway's page replaces the one that it told before, under the name of its journal: however often it is told or
//! heard, and whoever was restarted in between, nothing counts twice. The page of a gateway that is gone counts for a
//! day. Without the store each judges by its own and by what it heard last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde_json::Value;

use super::{Gateway, page::Page};
use crate::{
    base::names::RouteName,
    ledger::redis::{Hinting, Store, Texts, Topic},
    policy::rollout::Seen,
};

/// A page that was not written anew for so long is taken down, in milliseconds: a day.
const GONE_MS: i64 = 24 * 3_600 * 1_000;

/// One gateway's side.
pub struct SharedSplits {
    gateway: Weak<Gateway>,
    /// What was told last; nothing when it has to be told.
    told: Mutex<Value>,
}

impl SharedSplits {
    /// Those of a gateway.
    pub fn new(gateway: &Arc<Gateway>) -> Arc<Self> {
        Arc::new(Self { gateway: Arc::downgrade(gateway), told: Mutex::default() })
    }

    fn told(&self) -> MutexGuard<'_, Value> {
        // It is replaced as a whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hinting for SharedSplits {
    fn topic(&self) -> Topic {
        Topic::ARMS
    }

    fn tell(&self) -> Option<String> {
        let gateway = self.gateway.upgrade()?;
        let (seen, mut told) = (gateway.live().rollouts.seen(), self.told());
        // Who never had a guarded split says nothing; who has none any more says so.
        if *told == seen || (told.is_null() && seen.as_array().is_some_and(Vec::is_empty)) {
            return None;
        }
        told.clone_from(&seen);
        Some(Page::write(gateway.node(), gateway.now().as_millisecond(), &seen))
    }

    fn untold(&self) {
        *self.told() = Value::Null;
    }

    fn hear(&self, texts: Texts) -> Vec<String> {
        let Some(gateway) = self.gateway.upgrade() else { return Vec::new() };
        if !texts.own {
            // A store that has lost its data.
            self.untold();
        }
        let oldest = gateway.now().as_millisecond().saturating_sub(GONE_MS);
        let pages = texts.others.iter().filter_map(|(node, text)| Some((node, Page::read(text)?)));
        let (gone, pages): (Vec<_>, Vec<_>) = pages.partition(|(_, page)| page.at_ms() < oldest);
        gateway.hear_of_splits(pages.iter().map(|(_, page)| page));
        gone.into_iter().map(|(node, _)| node.clone()).collect()
    }
}

impl Gateway {
    /// The name of this gateway at its store; nothing without one.
    pub(super) fn node(&self) -> &str {
        self.ledger.store().map_or("", Store::node)
    }

    /// Takes in what the other gateways have seen, and withdraws what is surely worse by all of it.
    fn hear_of_splits<'p>(&self, pages: impl Iterator<Item = &'p Page>) {
        let live = self.live();
        let mut heard: HashMap<(RouteName, RouteName), Vec<Seen>> = HashMap::new();
        for told in pages.flat_map(Page::told) {
            let route = RouteName::from(told.route);
            if live.rollouts.of(&route).is_some_and(|watched| *watched.revision == *told.revision) {
                heard.entry((route, told.arm.into())).or_default().push(told.seen);
            }
        }
        for watched in live.rollouts.all() {
            let mut state = watched.state();
            state.hear(|arm| heard.remove(&(watched.route.clone(), arm.clone())).unwrap_or_default());
            let breaches = state.look(self.now().as_millisecond());
            drop(state);
            for (arm, breach) in breaches {
                self.withdraw(watched, &arm, &breach);
            }
        }
    }
}
