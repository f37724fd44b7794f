//! Guarded splits where requests meet them: each request that an arm has served is judged when it is settled, and an arm
//! that breaks its guard is withdrawn by a switch, as an operator would switch it off.
//!
//! A switch is booked, shared with the other gateways and there again after a restart; this one bears the revision of the
//! split, so that it ends when an operator edits the split or its arms, or switches the arm on again.

mod kept;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use kept::KeptSplits;

use super::{Gateway, code::Code, live::Live};
use crate::{
    base::names::RouteName,
    ledger::{
        row::switches::{SwitchKind, SwitchRow},
        switches::arm_name,
    },
    policy::{
        Choice, Policies,
        rollout::{Ended, Rollout},
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
        let breach = watched.state.lock().unwrap_or_else(PoisonError::into_inner).take(&arm, ended);
        if let Some(breach) = breach {
            self.withdraw(watched, &arm, &breach.to_string());
        }
    }

    /// Counts a request that found nobody in its arm.
    pub(super) fn judge_refused(&self, live: &Live, route: &RouteName, arm: Option<&RouteName>, code: Code) {
        if let (Some(watched), Some(arm), true) = (live.rollouts.of(route), arm, is_failure(code.as_str())) {
            self.judge(watched, arm, &Ended { failed: true, ..Ended::default() });
        }
    }

    fn withdraw(&self, watched: &Watched, arm: &RouteName, why: &str) {
        let (live, now) = (self.live(), self.now());
        let (route, revision) = (&watched.route, &watched.revision);
        let stands = live.rollouts.of(route).is_some_and(|current| current.revision == *revision);
        let known = self.ledger.books().switches().load();
        if !stands || known.withdrawn(route, arm, revision, now).is_some() {
            return;
        }
        let name: Arc<str> = arm_name(route, arm).into();
        let millis = now.as_millisecond();
        let newest = known.newest(SwitchKind::Arm, &name).map_or(millis, |row| millis.max(row.from_ms + 1));
        drop(known);
        let row = SwitchRow {
            id: uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &rand::random())
                .into_uuid(),
            kind: SwitchKind::Arm,
            name,
            off: true,
            cut: false,
            from_ms: newest,
            until_ms: None,
            revision: Some(Arc::clone(revision)),
            who: GUARD.to_owned(),
            why: why.to_owned(),
        };
        if let Err(error) = self.switch(row) {
            // The next look finds the same.
            tracing::error!(%error, %route, %arm, "an arm that breaks its guard cannot be withdrawn: {why}");
            return;
        }
        tracing::warn!(%route, %arm, "rollout withdrawn: {why}");
        self.notices().withdrawn(&live.policies.notify, (route, arm, newest), why, now);
    }

    /// An arm was switched off or on: what was seen of it before says nothing of what comes.
    pub(super) fn begin_anew(&self, row: &SwitchRow) {
        let Some((arm, route)) = row.name.split_once('@').filter(|_| row.kind == SwitchKind::Arm) else { return };
        if let Some(watched) = self.live().rollouts.of(&RouteName::from(route)) {
            watched.state.lock().unwrap_or_else(PoisonError::into_inner).reset(arm);
        }
    }

    /// Says which arms are withdrawn.
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
    }
}
