//! The toll of one request: its hold, its attempts with their meters, and the one settlement that ends it.
//!
//! A [`Toll`] exists from the hold on. Whatever happens to the request, and even if its future is dropped because
//! the client went away, the toll closes the attempt under way with what was metered, settles the hold, and writes
//! the record. That makes "exactly one settlement on every path" a property of the type.

mod growth;
mod meter;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use self::{growth::Growth, meter::Meter};
pub use self::{
    growth::Stop,
    meter::{Timing, served},
};
use super::{Gateway, admit::Ask, live::Flight, receipts::Receipt, report};
use crate::{
    base::{failure::Fault, fences::Fence, money::Money, tenants::Team, tier::Tier, usage::Usage},
    ledger::{Demand, Hold, HoldError, row::About},
    policy::{Decision, Ranked},
    telemetry::record::{AttemptRecord, Record},
};

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The word in metrics and records.
    pub label: &'static str,
    /// The upstream's status; 0 = none came.
    pub status: u16,
    /// The upstream's own words.
    pub message: String,
    /// What it says of the candidate.
    pub verdict: Verdict,
    /// Whether it may have been billed.
    pub bill: Bill,
}

/// What an attempt says of its candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It served.
    Served,
    /// It failed.
    Failed {
        /// Whose fault.
        fault: Fault,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nothing: the client went away, or the time ran out.
    Unknown,
}

/// Whether an attempt costs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bill {
    /// Surely not: it was refused or never dispatched.
    Nothing,
    /// What was metered: the upstream's usage, else an estimate.
    Metered,
}

/// See the module's text.
pub struct Toll {
    gateway: Arc<Gateway>,
    team: Arc<Team>,
    hold: Option<Hold>,
    request: Uuid,
    about: Arc<About>,
    arrival: Instant,
    admitted: Instant,
    meter: Option<Meter>,
    growth: Growth,
    // What may be charged though it could not be held, by the team's own choice.
    overdraft: Option<Money>,
    waited: Duration,
    record: Record,
    open: bool,
}

impl Toll {
    /// Begins the toll of a request that was decided and held for.
    pub fn begin(gateway: &Arc<Gateway>, ask: &Ask, decision: &Decision, hold: Hold) -> Self {
        let record = Record {
            id: ask.id.to_string(),
            team: ask.caller.team.name.shared(),
            key: ask.caller.key.shared(),
            route: decision.route.shared(),
            arm: decision.arm.as_ref().map(|arm| arm.shared()),
            policy: Arc::clone(&ask.live.policies.hash),
            category: decision.category.as_str(),
            stream: ask.chat.facts.stream,
            ..Record::default()
        };
        Self {
            gateway: Arc::clone(gateway),
            team: Arc::clone(&ask.caller.team),
            hold: Some(hold),
            request: ask.uuid,
            about: Arc::clone(&ask.about),
            arrival: ask.arrival,
            admitted: ask.admitted,
            meter: None,
            growth: Growth::default(),
            overdraft: None,
            waited: Duration::ZERO,
            record,
            open: true,
        }
    }

    /// Makes sure that `demand` beyond what is charged already is held, in the hold's fences and in `more`.
    ///
    /// # Errors
    /// [`HoldError`] when a fence has too little left or the store cannot be asked.
    pub async fn cover(&mut self, demand: Demand, more: &[Arc<Fence>]) -> Result<(), HoldError> {
        let now = self.gateway.now();
        match &mut self.hold {
            Some(hold) => hold.cover(demand, more, now).await,
            None => Ok(()),
        }
    }

    /// Begins an attempt, right before it is dispatched.
    pub fn dispatch(&mut self, ranked: &Ranked, flight: Flight, thinking: bool) {
        self.record.attempts.push(AttemptRecord {
            model: ranked.candidate.model.name.shared(),
            backend: ranked.candidate.backend.name.shared(),
            account: flight.account().name.shared(),
            ..AttemptRecord::default()
        });
        self.growth = Growth::new(&ranked.stake, self.hold.as_ref().is_some_and(Hold::is_budgeted));
        self.meter = Some(Meter::new(ranked, flight, thinking, self.gateway.now()));
    }

    /// The endpoint and account of the attempt under way.
    pub fn flight(&self) -> Option<Arc<Flight>> {
        self.meter.as_ref().map(|meter| Arc::clone(&meter.flight))
    }

    /// Notes time that was spent waiting before another attempt.
    pub fn paused(&mut self, time: Duration) {
        self.waited += time;
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> usize {
        self.record.attempts.len()
    }

    /// Every attempt with its outcome.
    pub fn tried(&self) -> &[AttemptRecord] {
        &self.record.attempts
    }

    /// Notes the first meaningful event of the attempt under way.
    pub fn first_token(&mut self) {
        self.arrived();
        if let Some(meter) = &mut self.meter
            && let Some(arrived) = meter.arrived
        {
            meter.first_token = Some(arrived);
            meter.flight.first_token(arrived - meter.dispatched);
        }
    }

    /// Notes that the wait for the upstream is over: a whole answer is there, or a stream's first token.
    pub fn arrived(&mut self) {
        if let Some(meter) = &mut self.meter
            && meter.arrived.is_none()
        {
            let now = Instant::now();
            meter.arrived = Some(now);
            self.waited += now - meter.dispatched;
        }
    }

    /// Meters what one event carried.
    pub fn saw(&mut self, text_bytes: u64) {
        if let Some(meter) = &mut self.meter {
            meter.saw(text_bytes);
        }
    }

    /// Notes the tier of service that the upstream names, if it does.
    pub fn served_at(&mut self, tier: Option<Tier>) {
        if let (Some(meter), Some(tier)) = (&mut self.meter, tier) {
            meter.tier = Some(tier);
        }
    }

    /// Takes over the upstream's own numbers.
    pub fn report(&mut self, usage: Usage) {
        if let Some(meter) = &mut self.meter {
            meter.report(usage);
            self.growth.told();
        }
    }

    /// What the request costs so far, the attempt under way included.
    pub fn cost_so_far(&self) -> Money {
        let under_way = self.meter.as_ref().and_then(Meter::charge);
        self.charged() + under_way.map_or(Money::ZERO, |charge| charge.money)
    }

    /// What has been charged for attempts that ended.
    pub fn charged(&self) -> Money {
        self.hold.as_ref().map_or(Money::from_nanousd(self.record.cost_nanousd), Hold::charged)
    }

    /// Ends the attempt under way and tells how long it took.
    pub fn close(&mut self, outcome: Outcome) -> Duration {
        let Some(meter) = self.meter.take() else { return Duration::ZERO };
        self.growth = Growth::default();
        let now = Instant::now();
        if meter.arrived.is_none() {
            self.waited += now - meter.dispatched;
        }
        let usage = match outcome.bill {
            Bill::Metered => meter.usage(),
            Bill::Nothing => Usage::default(),
        };
        let charge = meter.price(&usage);
        if let Some(hold) = &mut self.hold {
            let held = hold.held().money;
            let number = u32::try_from(self.record.attempts.len()).unwrap_or(u32::MAX);
            hold.charge(meter.row(self.request, number, &self.about, &outcome, &usage, charge.as_ref(), held));
        }
        let timing = meter.timing(now);
        if outcome.verdict == Verdict::Served {
            meter.teach();
        }
        meter.flight.ended(outcome.verdict, &timing, &usage);
        if let Some(row) = self.record.attempts.last_mut() {
            row.outcome = outcome.label;
            row.upstream_status = outcome.status;
            row.message = outcome.message;
            row.first_token_ms = timing.first_token.map(millis);
            row.total_ms = millis(timing.total);
            row.input_tokens = usage.input;
            row.cached_input_tokens = usage.cached_input;
            row.output_tokens = usage.output;
            row.reasoning_tokens = usage.reasoning;
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

    /// Notes who answers, for the record.
    pub fn won(&mut self, ranked: &Ranked, account: &str, reason: &str) {
        self.record.model = ranked.candidate.model.name.shared();
        self.record.backend = ranked.candidate.backend.name.shared();
        self.record.account = account.into();
        reason.clone_into(&mut self.record.reason);
    }

    /// Notes that the first byte of the answer is about to be sent.
    pub fn first_byte(&mut self, status: u16) {
        self.record.status = status;
        if self.record.first_byte_ms.is_none() {
            self.record.first_byte_ms = Some(millis(self.arrival.elapsed()));
            let overhead = self.admitted.elapsed().saturating_sub(self.waited);
            self.record.overhead_us = u64::try_from(overhead.as_micros()).unwrap_or(u64::MAX);
            self.gateway.metrics.overhead.observe(overhead.as_secs_f64());
        }
    }

    /// Settles the request. `code` is the error that the client saw, or empty.
    pub fn settle(&mut self, code: &'static str, end: &'static str) {
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
        let receipt =
            Receipt { key: Arc::clone(&self.record.key), cost: Money::from_nanousd(self.record.cost_nanousd) };
        self.gateway.receipts.keep(&self.record.id, receipt);
        report::request(
            &self.gateway.metrics,
            &self.record,
            self.arrival.elapsed(),
            overdraft,
            settled.beyond - overdraft,
        );
        self.gateway.log.write(std::mem::take(&mut self.record));
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        if self.open {
            // The request was dropped under way: the client went away, and the upstream with it.
            self.close(Outcome {
                label: "abandoned",
                status: 0,
                message: String::new(),
                verdict: Verdict::Unknown,
                bill: Bill::Metered,
            });
            if self.record.status == 0 {
                // nginx's code for a client that closed before the answer; no client ever sees it.
                self.record.status = 499;
            }
            self.settle("", "abandoned");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
