//! Guarded splits where requests meet them: each request that an arm has served is judged when it is settled, and an arm
//! that breaks its guard is withdrawn by a switch, as an operator would switch it off.
//!
//! A switch is booked, shared with the other gateways and there again after a restart; this one bears the revision of the
//! split, so that it ends when an operator edits the split or its arms, or switches the arm on again. What was seen of an
//! arm counts from its last switch on, at all gateways: the newest in the books says when that was.

mod kept;
mod page;
mod shared;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use kept::KeptSplits;
pub use shared::SharedSplits;

use super::{Gateway, code::Code, live::Live};
use crate::{
    base::names::RouteName,
    ledger::{
        row::switches::{SwitchKind, SwitchRow},
        switches::arm_name,
    },
    policy::{
        Choice, Policies,
        rollout::{Breach, Ended, Rollout},
    },
    telemetry::{
        metrics::{Label, RolloutLabels},
        record::Record,
    },
};

/// Who withdraws by itself, in the books.
pub const GUARD: &str = "guard";

/// The watches over all guarded splits.
#[derive(Debug, Default)]
pub struct Rollouts(HashMap<RouteName, Arc<Watched>>);

/// The watch over one.
#[derive(Debug)]
pub struct Watched {
    route: RouteName,
    revision: Arc<str>,
    state: Mutex<Rollout>,
}

/// What is to be said of an arm that was withdrawn.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawal<'a> {
    /// The split.
    pub route: &'a RouteName,
    /// The arm.
    pub arm: &'a RouteName,
    /// The revision of the split.
    pub revision: &'a str,
    /// When it was last switched before, in milliseconds since 1970; 0 = never.
    pub before: i64,
    /// Since when it is withdrawn, likewise.
    pub since: i64,
    /// Why.
    pub breach: &'a Breach,
}

impl Rollouts {
    /// Those of `policies`; a split that nobody has edited keeps what was seen of it.
    pub fn new(policies: &Policies, before: Option<&Self>) -> Self {
        let watched = policies.routes.values().filter_map(|route| {
            let Choice::Split { arms, guard: Some(guard), revision, .. } = &route.choice else { return None };
            let known = before.and_then(|before| before.0.get(&route.name));
            let known = known.filter(|known| known.revision == *revision).cloned();
            let new = || {
                let state = Mutex::new(Rollout::new(*guard, arms));
                Arc::new(Watched { route: route.name.clone(), revision: Arc::clone(revision), state })
            };
            Some((route.name.clone(), known.unwrap_or_else(new)))
        });
        Self(watched.collect())
    }

    /// The watch over a split, if it is guarded.
    pub fn of(&self, route: &RouteName) -> Option<&Arc<Watched>> {
        self.0.get(route)
    }

    /// All of them, by name.
    fn all(&self) -> Vec<&Arc<Watched>> {
        let mut all: Vec<_> = self.0.values().collect();
        all.sort_by(|a, b| a.route.cmp(&b.route));
        all
    }
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, Rollout> {
        // Sums are whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a request ended, as far as its arm is answerable for it; `None` = the caller or its fences ended it.
pub fn ended(record: &Record) -> Option<Ended> {
    let failed = match record.code {
        "" => false,
        code => is_failure(code).then_some(true)?,
    };
    // Who left before the first byte had waited at least so long.
    let waited = record.first_byte_ms.or((record.end == "abandoned").then_some(record.total_ms));
    let first_token = waited.filter(|_| record.stream && !failed).map(Duration::from_millis);
    let cost = crate::base::money::Money::from_nanousd(record.cost_nanousd);
    Some(Ended { failed, cost, first_token })
}

/// Whether an error is one that another arm might not have given. A verdict on the request counts: what one arm turns
/// down and the control serves is a fault of the arm.
fn is_failure(code: &str) -> bool {
    [
        Code::UpstreamError,
        Code::NoCandidate,
        Code::DeadlineExceeded,
        Code::Overloaded,
        Code::InvalidRequest,
        Code::UnsupportedParameter,
        Code::ContextLengthExceeded,
    ]
    .iter()
    .any(|failure| failure.as_str() == code)
}

impl Gateway {
    /// Takes in how a request ended that was dealt to `arm`, and withdraws the arm if that was one too many.
    pub(super) fn judge(&self, watched: &Watched, arm: &str, ended: &Ended) {
        let arm = RouteName::from(arm);
        let breach = watched.state().take(&arm, ended, self.now().as_millisecond());
        if let Some(breach) = breach {
            self.withdraw(watched, &arm, &breach);
        }
    }

    /// Counts a request that found nobody in its arm.
    pub(super) fn judge_refused(&self, live: &Live, route: &RouteName, arm: Option<&RouteName>, code: Code) {
        if let (Some(watched), Some(arm), true) = (live.rollouts.of(route), arm, is_failure(code.as_str())) {
            self.judge(watched, arm, &Ended { failed: true, ..Ended::default() });
        }
    }

    fn withdraw(&self, watched: &Watched, arm: &RouteName, breach: &Breach) {
        let (live, now) = (self.live(), self.now());
        let (route, revision) = (&watched.route, &watched.revision);
        let stands = live.rollouts.of(route).is_some_and(|current| current.revision == *revision);
        let known = self.ledger.books().switches().load();
        if !stands || known.withdrawn(route, arm, revision, now).is_some() {
            return;
        }
        let name: Arc<str> = arm_name(route, arm).into();
        let millis = now.as_millisecond();
        let before = known.newest(SwitchKind::Arm, &name).map_or(0, |row| row.from_ms);
        drop(known);
        let (since, why) = (millis.max(before + 1), breach.to_string());
        let row = SwitchRow {
            id: uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &rand::random())
                .into_uuid(),
            kind: SwitchKind::Arm,
            name,
            off: true,
            cut: false,
            from_ms: since,
            until_ms: None,
            revision: Some(Arc::clone(revision)),
            who: GUARD.to_owned(),
            why: why.clone(),
        };
        if let Err(error) = self.switch(row) {
            // The next look finds the same.
            tracing::error!(%error, %route, %arm, "an arm that breaks its guard cannot be withdrawn: {why}");
            return;
        }
        let Breach { requests, gateways, .. } = *breach;
        tracing::warn!(%route, %arm, requests, gateways, "rollout withdrawn: {why}");
        let about = Withdrawal { route, arm, revision, before, since, breach };
        self.notices().withdrawn(&live.policies.notify, &about, now);
    }

    /// What was seen of each arm counts from its last switch on.
    pub(super) fn date_rollouts(&self, live: &Live) {
        let known = self.ledger.books().switches().load();
        for watched in live.rollouts.0.values() {
            let mut state = watched.state();
            let arms: Vec<RouteName> = state.seen().map(|(arm, _)| arm.clone()).collect();
            for arm in &arms {
                if let Some(row) = known.newest(SwitchKind::Arm, &arm_name(&watched.route, arm)) {
                    state.begin(arm, row.from_ms);
                }
            }
        }
    }

    /// An arm was switched off or on: what was seen of it before says nothing of what comes.
    pub(super) fn begin_anew(&self, row: &SwitchRow) {
        let Some((arm, route)) = row.name.split_once('@').filter(|_| row.kind == SwitchKind::Arm) else { return };
        if let Some(watched) = self.live().rollouts.of(&RouteName::from(route)) {
            watched.state().begin(arm, row.from_ms);
        }
    }

    /// Says which arms are withdrawn, and what guards would judge the others by.
    pub(super) fn show_rollouts(&self, live: &Live) {
        let (known, now) = (self.ledger.books().switches().load(), self.now());
        let metric = &self.metrics.rollout_withdrawn;
        metric.clear();
        for route in live.policies.routes.values() {
            let Choice::Split { arms, revision, .. } = &route.choice else { continue };
            for arm in arms {
                let labels = RolloutLabels { route: Label(route.name.shared()), arm: Label(arm.route.shared()) };
                let off = known.withdrawn(&route.name, &arm.route, revision, now).is_some();
                metric.get_or_create(&labels).set(i64::from(off));
            }
        }
        let (requests, gateways) = (&self.metrics.rollout_requests, &self.metrics.rollout_gateways);
        requests.clear();
        gateways.clear();
        for watched in live.rollouts.0.values() {
            for (arm, seen, by) in watched.state().basis(now.as_millisecond()) {
                let labels = RolloutLabels { route: Label(watched.route.shared()), arm: Label(arm.shared()) };
                requests.get_or_create(&labels).set(seen.into());
                gateways.get_or_create(&labels).set(i64::try_from(by).unwrap_or(i64::MAX));
            }
        }
    }
}
