//! The till of one request: its hold, the rows of its attempts, and its record; what the attempts under way share.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Bill, Outcome, Verdict, growth::Growth, lane::Lane, meter::Meter};
use crate::{
    base::{fences::Fence, money::Money, tenants::Team, usage::Usage},
    ledger::{Demand, Hold, Raised, TopUp, row::About},
    policy::{Decision, Ranked, hedge::HedgeBudget},
    proxy::{
        Gateway,
        admit::Ask,
        gate::Entry,
        live::{Flight, lock},
        receipts::Receipt,
        report,
        rollouts::{self, Watched},
        texts::Heard,
    },
    telemetry::record::{AttemptRecord, Record},
};

/// What a route may spend on hedges, with the share of its spend that is added, in parts per million.
#[derive(Clone, Debug)]
pub struct Hedges {
    /// The budget.
    pub budget: Arc<Mutex<HedgeBudget>>,
    /// The share.
    pub spend_ppm: u32,
}

/// See the module's text.
pub struct Till {
    pub(super) gateway: Arc<Gateway>,
    pub(super) team: Arc<Team>,
    pub(super) hold: Option<Hold>,
    // None until the answer flows.
    pub(super) growth: Option<Growth>,
    // What may be charged though it could not be held, by the team's own choice.
    pub(super) overdraft: Option<Money>,
    pub(super) waited: Duration,
    request: Uuid,
    about: Arc<About>,
    arrival: Instant,
    admitted: Instant,
    record: Record,
    hedges: Option<Hedges>,
    watched: Option<Arc<Watched>>,
    // None unless the operator keeps texts.
    pub(super) heard: Option<Box<Heard>>,
    open: bool,
    // Its place in the gateway, given back when all is over.
    _entry: Arc<Entry>,
}

impl Till {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        ask: &Ask,
        decision: &Decision,
        hold: Hold,
        hedges: Option<Hedges>,
    ) -> Self {
        let record = Record {
            id: ask.id.to_string(),
            team: ask.caller.team.name.shared(),
            key: ask.caller.key.shared(),
            route: decision.route.shared(),
            arm: decision.arm.as_ref().map(|arm| arm.shared()),
            policy: Arc::clone(&ask.live.policies.hash),
            category: decision.category.as_str(),
            stream: ask.chat.facts.stream,
            trail: ask.trail.clone(),
            ..Record::default()
        };
        Self {
            gateway: Arc::clone(gateway),
            team: Arc::clone(&ask.caller.team),
            hold: Some(hold),
            growth: None,
            overdraft: None,
            waited: Duration::ZERO,
            request: ask.uuid,
            about: Arc::clone(&ask.about),
            arrival: ask.arrival,
            admitted: ask.admitted,
            record,
            hedges,
            watched: decision.arm.as_ref().and(ask.live.rollouts.of(&ask.route.name)).cloned(),
            heard: Heard::listen(gateway, ask),
            open: true,
            _entry: Arc::clone(&ask.entry),
        }
    }

    /// What has to be asked of the store so that `demand` beyond what is charged already is held, in the hold's fences and
    /// in `more`; `None` when all of it is.
    pub fn top_up(&self, demand: Demand, more: &[Arc<Fence>]) -> Option<TopUp> {
        self.hold.as_ref()?.top_up(demand, more, self.gateway.now())
    }

    /// Takes over what has come.
    pub fn raise(&mut self, raised: Raised) {
        if let Some(hold) = &mut self.hold {
            hold.raise(raised);
        }
    }

    /// Begins an attempt in `lane`, right before it is dispatched.
    pub fn dispatch(&mut self, lane: &mut Lane, ranked: &Ranked, flight: Flight, thinking: bool, hedge: bool) {
        let at = self.gateway.now();
        self.record.attempts.push(AttemptRecord {
            model: ranked.candidate.model.name.shared(),
            backend: ranked.candidate.backend.name.shared(),
            account: flight.account().name.shared(),
            hedge,
            decision: self.record.trail.as_ref().map_or(0, |trail| trail.latest()),
            at,
            thinking,
            ..AttemptRecord::default()
        });
        let number = u32::try_from(self.record.attempts.len()).unwrap_or(u32::MAX);
        let meter = Meter::new(ranked, flight, thinking, at);
        *lane = Lane { meter: Some(meter.numbered(number, hedge)), told: false, before: self.charged() };
    }

    /// Every attempt with its outcome.
    pub fn tried(&self) -> &[AttemptRecord] {
        &self.record.attempts
    }

    /// What has been charged for attempts that ended.
    pub fn charged(&self) -> Money {
        self.hold.as_ref().map_or(Money::from_nanousd(self.record.cost_nanousd), Hold::charged)
    }

    /// Ends the attempt of `lane` and tells how long it took.
    pub fn close(&mut self, lane: &mut Lane, outcome: Outcome) -> Duration {
        let Some(meter) = lane.meter.take() else { return Duration::ZERO };
        self.growth = None;
        let usage = match outcome.bill {
            Bill::Metered if meter.sent => meter.usage(),
            // The time ran out, or the client left, while the upstream was connected to: it has seen nothing.
            Bill::Metered | Bill::Nothing => Usage::default(),
        };
        let charge = meter.price(&usage);
        if let Some(hold) = &mut self.hold {
            let held = hold.held().money;
            hold.charge(meter.row(self.request, &self.about, &outcome, &usage, charge.as_ref(), held));
        }
        let timing = meter.timing(Instant::now());
        if outcome.verdict == Verdict::Served {
            meter.teach();
        }
        if let Some(change) = meter.flight.ended(outcome.verdict, outcome.status, &timing, &usage) {
            self.gateway.told_breaker(&meter.ranked.candidate, change);
        }
        if let Some(row) = self.record.attempts.get_mut(meter.place()) {
            row.outcome = outcome.label;
            row.upstream_status = outcome.status;
            row.message = outcome.message;
            row.first_token_ms = timing.first_token.map(millis);
            row.total_ms = millis(timing.total);
            row.input_tokens = usage.input;
            row.cached_input_tokens = usage.cached_input;
            row.cache_write_tokens = usage.cache_write;
            row.audio_input_tokens = usage.audio_input;
            row.output_tokens = usage.output;
            row.reasoning_tokens = usage.reasoning;
            row.audio_output_tokens = usage.audio_output;
            row.tier = usage.tier.as_str();
            row.estimated = usage.estimated;
            if let Some(charge) = charge {
                row.native = charge.native.to_string();
                row.cost_nanousd = charge.money.nanousd();
                self.record.cost_nanousd += charge.money.nanousd();
            }
            report::attempt(&self.gateway.metrics, &self.team.name, row, &timing);
        }
        timing.total
    }

    pub(super) fn won(&mut self, ranked: &Ranked, account: &str, reason: &str) {
        self.record.model = ranked.candidate.model.name.shared();
        self.record.backend = ranked.candidate.backend.name.shared();
        self.record.account = account.into();
        reason.clone_into(&mut self.record.reason);
    }

    pub(super) fn first_byte(&mut self, status: u16) {
        self.record.status = status;
        if self.record.first_byte_ms.is_none() {
            self.record.first_byte_ms = Some(millis(self.arrival.elapsed()));
            let overhead = self.admitted.elapsed().saturating_sub(self.waited);
            self.record.overhead_us = u64::try_from(overhead.as_micros()).unwrap_or(u64::MAX);
            self.gateway.metrics.overhead.observe(overhead.as_secs_f64());
        }
    }

    pub(super) fn settle(&mut self, code: &'static str, end: &'static str) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let places = self.hold.as_ref().map(Hold::places).unwrap_or_default().iter();
        let warning = places.filter(|place| !place.fence.warn_ppm.is_empty());
        let warning: Vec<Arc<Fence>> = warning.map(|place| Arc::clone(&place.fence)).collect();
        let settled = self.hold.take().map(Hold::settle).unwrap_or_default();
        if !warning.is_empty() {
            self.gateway.told_settled(&warning);
        }
        let allowed = self.overdraft.map_or(Money::ZERO, |most| most - (settled.charged - settled.beyond));
        let overdraft = allowed.max(Money::ZERO).min(settled.beyond);
        self.record.code = code;
        self.record.end = end;
        self.record.total_ms = millis(self.arrival.elapsed());
        let cost = Money::from_nanousd(self.record.cost_nanousd);
        if let Some(Hedges { budget, spend_ppm }) = &self.hedges {
            lock(budget).earn(cost, *spend_ppm);
        }
        let receipt = Receipt { key: Arc::clone(&self.record.key), cost };
        self.gateway.receipts.keep(&self.record.id, receipt);
        report::request(
            &self.gateway.metrics,
            &self.record,
            self.arrival.elapsed(),
            overdraft,
            settled.beyond - overdraft,
        );
        if let (Some(watched), Some(arm)) = (self.watched.take(), &self.record.arm)
            && let Some(ended) = rollouts::ended(&self.record)
        {
            self.gateway.judge(&watched, arm, &ended);
        }
        let texts = self.heard.take().map(|heard| heard.texts());
        self.gateway.keep(std::mem::take(&mut self.record), texts);
    }

    /// Whether it is still to be settled.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Settles a request whose client has gone away.
    pub(super) fn abandon(&mut self) {
        if self.record.status == 0 {
            // nginx's code for a client that closed before the answer; no client ever sees it.
            self.record.status = 499;
        }
        self.settle("", "abandoned");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
