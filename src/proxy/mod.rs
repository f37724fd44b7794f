//! Layer 4: the path of a request, the only place where the layers meet.
//!
//! ```text
//! listener ─▶ auth ─▶ admit ─▶ decide ─▶ hold ─▶ attempt* ─▶ relay ─▶ settle ─▶ record
//! ```
//! `serve` reads top to bottom: it names the request, finds what the path asks for, and turns what comes back into
//! an answer. `course` holds the loop of attempts, `toll` the money, `relay` a stream under way.

mod admit;
mod answer;
mod attempt;
mod auth;
mod code;
mod course;
mod deadlines;
mod delivery;
mod dry;
pub mod explain;
mod funds;
mod gate;
mod gauges;
mod head;
mod hints;
mod lineup;
mod live;
mod models;
mod nobody;
mod notices;
mod prober;
mod race;
mod receipts;
mod refusal;
mod relay;
mod rents;
mod report;
mod rival;
mod rollouts;
mod serve;
mod shadows;
mod standing;
mod switches;
mod texts;
mod toll;
mod users;
mod vocabularies;
mod wait;
mod waiting;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

pub use answer::Answer;
use auth::Door;
pub use auth::OPEN_TEAM;
pub use code::Code;
pub use dry::dry;
pub use gate::{Bounds, keep_time};
pub use hints::Hints;
pub use live::{
    seen::{BackendSeen, CandidateSeen},
    servers::ServerSeen,
};
pub use notices::deliver as deliver_notices;
pub use prober::keep_servers;
pub use refusal::Refusal;
pub use rents::keep_rent;
pub use rollouts::{KeptSplits, SharedSplits};
pub use serve::serve;
pub use users::Users;

use crate::{
    base::{
        catalog::Candidate,
        fences::{Fence, Unit},
        money::Money,
    },
    ledger::{
        Ledger, Refused,
        keys::{KeyRing, KeySnapshot},
        redis::Store,
    },
    net::pool::Pool,
    policy::{Policies, breaker::Change, loss},
    telemetry::{
        log::RequestLog,
        metrics::{BudgetLabels, Label, Metrics, PolicyLabels, TeamLabels, dollars},
        record::{Record, keep::Keeper, texts::Texts},
    },
};
use live::Live;

/// What does not change while the gateway runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest body of a request, in bytes.
    pub body_limit: usize,
    /// How long a stream's client waits before it is sent a head without a winner.
    pub stream_commit_after: Duration,
    /// How many requests are let in.
    pub bounds: Bounds,
    /// What the books call its requests.
    pub operation: &'static str,
    /// Added to the clock: how policies of another day are tried out.
    pub clock_offset: SignedDuration,
}

impl Settings {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.clock_offset).unwrap_or(now)
    }
}

/// The gateway: everything that requests share.
pub struct Gateway {
    settings: Settings,
    gate: Arc<gate::Gate>,
    live: ArcSwap<Live>,
    keys: KeyRing,
    stored_keys: Mutex<KeySnapshot>,
    /// There was no key at the start. A first key closes the gateway; losing the last one never opens it again. One
    /// that shares a store is never open: the others' keys may not have come yet.
    open: AtomicBool,
    running: switches::Running,
    shadows: shadows::Shadows,
    ledger: Arc<Ledger>,
    pool: Pool,
    /// Counts the reloads, for whoever follows the policies in force.
    reloads: watch::Sender<u64>,
    /// Every number that is exported.
    pub metrics: Metrics,
    log: RequestLog,
    records: OnceLock<Keeper>,
    receipts: receipts::Receipts,
    notices: notices::Notices,
    vocabularies: vocabularies::Vocabularies,
}

impl Gateway {
    /// A gateway with these policies and the keys of its store.
    ///
    /// # Errors
    /// The system's error when the thread of the request log cannot be started.
    pub fn new(
        settings: Settings,
        policies: Arc<Policies>,
        stored_keys: KeySnapshot,
        ledger: Arc<Ledger>,
        pool: Pool,
    ) -> std::io::Result<Arc<Self>> {
        let live = Arc::new(Live::new(Arc::clone(&policies), settings.now(), None, &pool));
        let gateway = Self {
            settings,
            gate: gate::Gate::new(settings.bounds),
            live: ArcSwap::from(Arc::clone(&live)),
            keys: KeyRing::default(),
            stored_keys: Mutex::new(stored_keys),
            open: AtomicBool::new(ledger.store().is_none()),
            running: switches::Running::default(),
            shadows: shadows::Shadows::default(),
            ledger,
            pool,
            reloads: watch::Sender::default(),
            metrics: Metrics::default(),
            log: RequestLog::start()?,
            records: OnceLock::new(),
            receipts: receipts::Receipts::default(),
            notices: notices::Notices::default(),
            vocabularies: vocabularies::Vocabularies::default(),
        };
        gateway.adopt(&policies);
        gateway.announce(&live);
        Ok(Arc::new(gateway))
    }

    /// Puts other policies in force. Requests under way keep theirs. A budget whose period or zone has changed begins
    /// with what the books say of its new window, so that the journal may be read: not for an async task.
    pub fn reload(&self, policies: Arc<Policies>) {
        self.adopt(&policies);
        let before = self.live.load_full();
        let live = Arc::new(Live::new(Arc::clone(&policies), self.now(), Some(&before), &self.pool));
        self.live.store(Arc::clone(&live));
        self.reloads.send_modify(|reloads| *reloads = reloads.wrapping_add(1));
        self.announce(&live);
        self.notices.reloaded(&before.policies, &policies, self.now());
    }

    /// Puts the store's keys in force: whatever arrives from then on is measured by them, also on open connections.
    /// Of two snapshots of one store the later counts, in whichever order they come.
    pub fn replace_keys(&self, keys: KeySnapshot) {
        {
            let mut stored = self.stored_keys.lock().unwrap_or_else(PoisonError::into_inner);
            if keys.revision < stored.revision {
                return;
            }
            *stored = keys;
        }
        self.refresh_keys();
    }

    /// The keys in force.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Whether requests are taken without a key.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn door(&self) -> Door<'_> {
        if self.is_open() { Door::Open } else { Door::Keys(&self.keys) }
    }

    /// What operators are told of.
    fn notices(&self) -> &notices::Notices {
        &self.notices
    }

    /// Tells operators of a budget that has refused a request.
    fn told_empty(&self, refused: &Refused) {
        self.notices.refused(&self.live().policies.notify, refused, self.now());
    }

    /// Tells operators of a candidate whose breaker has opened, and the log also of one whose breaker has closed.
    fn told_breaker(&self, candidate: &Candidate, change: Change) {
        let (model, backend) = (&candidate.model.name, &candidate.backend.name);
        match change {
            Change::Opened => {
                tracing::warn!(%model, %backend, "a breaker opened: this model is left alone there");
                self.notices.broken(&self.live().policies.notify, candidate, self.now());
            }
            Change::Closed => tracing::info!(%model, %backend, "a breaker closed: this model serves there again"),
        }
    }

    /// Tells operators of the store, if it is away.
    fn told_store(&self) {
        if let Some(why) = self.ledger.store().and_then(Store::trouble) {
            self.notices.store_lost(&self.live().policies.notify, &why, self.now());
        }
    }

    /// Tells operators of budgets in which something was settled, if that passed a share that they warn of.
    fn told_settled(&self, fences: &[Arc<Fence>]) {
        let (live, now) = (self.live(), self.now());
        for fence in fences {
            self.notices.settled(&live.policies.notify, fence, self.ledger.level(fence, now), now);
        }
    }

    /// Keeps a record of every request from now on; a second keeper is not taken.
    pub fn record_with(&self, keeper: Keeper) {
        let _ = self.records.set(keeper);
    }

    /// Who keeps the records of requests, if anybody does.
    pub fn records(&self) -> Option<&Keeper> {
        self.records.get()
    }

    /// Logs a finished request, and keeps its record, with its texts if that is wanted.
    fn keep(&self, record: Record, texts: Option<Box<Texts>>) {
        let record = Arc::new(record);
        if let Some(keeper) = self.records.get().filter(|_| record.trail.is_some()) {
            keeper.keep(Arc::clone(&record), texts);
        }
        self.log.write(record);
    }

    /// Budgets, holds and books.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Every backend as it is now.
    pub fn backends(&self) -> Vec<BackendSeen> {
        self.live().backends_seen()
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.live.load().policies)
    }

    fn adopt(&self, policies: &Policies) {
        // What several gateways count moves in their store, for all of them at once.
        if self.ledger.store().is_some() {
            return;
        }
        let now = self.now();
        for fence in policies.fences().filter(|fence| fence.per.is_some()) {
            if let Err(error) = self.ledger.books().adopt(fence, now) {
                let fence = fence.label();
                tracing::error!(%error, "the books cannot be read: {fence} stays in its window until that ends");
            }
        }
    }

    fn announce(&self, live: &Live) {
        let policies = &live.policies;
        if let Some(store) = self.ledger.store() {
            store.follow(live.revision, policies.fences());
        }
        self.refresh_keys();
        self.date_rollouts(live);
        // The fit of the scores is made here, so that no request pays for it.
        policies.scores.fit(self.now().to_zoned(jiff::tz::TimeZone::UTC).date());
        let metrics = &self.metrics;
        metrics.policy_info.clear();
        metrics.policy_info.get_or_create(&PolicyLabels { hash: Label(Arc::clone(&policies.hash)) }).set(1);
        metrics.reload_successful.set(1);
        metrics.reload_timestamp.set(Timestamp::now().as_second());
        metrics.budget_limit.clear();
        metrics.budget_left.clear();
        metrics.store_loss_bound.clear();
        if self.ledger.store().is_some() {
            for team in policies.teams.values().filter(|team| loss::is_budgeted(team)) {
                let labels = TeamLabels { team: Label(team.name.shared()) };
                metrics.store_loss_bound.get_or_create(&labels).set(dollars(loss::bound(policies, team)));
            }
        }
    }

    /// Puts together the store's keys and those of the policies in force. The lock is held throughout, so that what
    /// comes last is made of the last of both.
    fn refresh_keys(&self) {
        let stored = self.stored_keys.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.replace(&stored.keys, self.live().policies.keys.values());
        if !self.keys.is_empty() {
            self.open.store(false, Ordering::Release);
        }
    }

    /// Notes a reload that was turned down; the policies in force stay.
    pub fn reload_failed(&self) {
        self.metrics.reload_successful.set(0);
    }

    /// The metrics page, with the gauges as they stand now.
    pub fn render_metrics(&self) -> String {
        let (live, now, metrics) = (self.live(), self.now(), &self.metrics);
        for team in live.policies.teams.values() {
            for fence in team.fences.iter().filter(|fence| fence.unit == Unit::Money) {
                let labels = BudgetLabels { team: Label(team.name.shared()), budget: Label(Arc::clone(&fence.name)) };
                let fence = self.ledger.books().raises().apply(fence, now);
                let left = fence.cap.saturating_sub(self.ledger.level(&fence, now).used()).max(0);
                metrics.budget_limit.get_or_create(&labels).set(dollars(Money::from_nanousd(fence.cap)));
                metrics.budget_left.get_or_create(&labels).set(dollars(Money::from_nanousd(left)));
            }
        }
        gauges::show(metrics, &live, now);
        self.show_switches(&live);
        self.show_rollouts(&live);
        self.show_gate();
        metrics.holds_open.set(self.ledger.holds_open());
        let store = self.ledger.store();
        metrics.store_up.set(store.is_none_or(Store::is_up).into());
        metrics.lease.set(dollars(Money::from_nanousd(store.map_or(0, Store::leased_nanousd))));
        metrics.settle_lag.set(store.map_or(0.0, |store| store.lag().as_secs_f64()));
        metrics.log_dropped.set(i64::try_from(self.log.dropped()).unwrap_or(i64::MAX));
        metrics.render()
    }

    fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The instant that prices, windows and rules are read at.
    fn now(&self) -> Timestamp {
        self.settings.now()
    }
}
