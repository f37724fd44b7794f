//! The toll of one request: its hold, its attempts with their meters, and the one settlement that ends it.
//!
//! A [`Toll`] exists from the hold on. Whatever happens to the request, and even if its future is dropped because
//! the client went away, the toll closes the attempt under way with what was metered, settles the hold, and writes
//! the record. That makes "exactly one settlement on every path" a property of the type.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Gateway, admit::Ask, live::Flight, receipts::Receipt, report};
use crate::{
    base::{
        catalog::SpeedPrior, failure::Fault, fences::Fence, money::Money, price::Charge, tenants::Team, tier::Tier,
        usage::Usage,
    },
    ledger::{
        Demand, Hold, HoldError, Settled,
        row::{About, PriceUsed, Row, Served, Tokens},
    },
    policy::{Decision, PriceInForce, Ranked},
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

/// The attempt under way.
#[derive(Debug)]
struct Meter {
    ranked: Ranked,
    flight: Arc<Flight>,
    thinking: bool,
    dispatched: Instant,
    // The instant that its price and the books are read at.
    dispatched_at: Timestamp,
    arrived: Option<Instant>,
    first_token: Option<Instant>,
    text_bytes: u64,
    content_events: u64,
    // How many of them the last usage knew of.
    counted_events: u64,
    reported: Option<Usage>,
    // The tier of service that the upstream named.
    tier: Option<Tier>,
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
    waited: Duration,
    left: Option<Money>,
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
            waited: Duration::ZERO,
            left: None,
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
        self.meter = Some(Meter {
            flight: Arc::new(flight),
            thinking,
            ranked: ranked.clone(),
            dispatched: Instant::now(),
            dispatched_at: self.gateway.now(),
            arrived: None,
            first_token: None,
            text_bytes: 0,
            content_events: 0,
            counted_events: 0,
            reported: None,
            tier: None,
        });
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
        if let Some(meter) = &mut self.meter
            && text_bytes > 0
        {
            meter.text_bytes += text_bytes;
            meter.content_events += 1;
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
            meter.reported = Some(usage);
            meter.counted_events = meter.content_events;
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

    /// What the tightest budget has left after the settlement.
    pub fn left(&self) -> Option<Money> {
        self.left
    }

    /// Ends the attempt under way and tells how long it took.
    pub fn close(&mut self, outcome: Outcome) -> Duration {
        let Some(meter) = self.meter.take() else { return Duration::ZERO };
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
        let Settled { left, beyond, .. } = self.hold.take().map(Hold::settle).unwrap_or_default();
        self.left = left;
        self.record.code = code;
        self.record.end = end;
        self.record.total_ms = millis(self.arrival.elapsed());
        let receipt =
            Receipt { key: Arc::clone(&self.record.key), cost: Money::from_nanousd(self.record.cost_nanousd) };
        self.gateway.receipts.keep(&self.record.id, receipt);
        report::request(&self.gateway.metrics, &self.record, self.arrival.elapsed(), beyond);
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

/// How long an attempt took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From dispatch to the first meaningful event; `None` = none came.
    pub first_token: Option<Duration>,
    /// From dispatch to the end.
    pub total: Duration,
    /// What was expected of the model's speed.
    pub prior: SpeedPrior,
}

impl Meter {
    /// The upstream's numbers; without them what was seen, marked as an estimate and never below it: the counted
    /// prompt, and of the answer one token an event or one for five bytes, whichever is more.
    /// The charge is that of the tier that the upstream named, else of the expected one; at a tier without a rate it is
    /// the usual rate's, and marked as an estimate.
    fn usage(&self) -> Usage {
        let mut usage = Usage { tier: self.tier.unwrap_or(self.ranked.terms.tier), ..self.tokens() };
        let rate = self.ranked.price.as_ref().and_then(|price| price.row.rate(&usage, self.thinking));
        usage.estimated |= rate.is_some_and(|rate| rate.when.tier != usage.tier);
        usage
    }

    fn tokens(&self) -> Usage {
        let seen = Usage {
            input: self.ranked.terms.input_tokens,
            output: self.content_events.max(self.text_bytes.div_ceil(5)),
            estimated: true,
            ..Usage::default()
        };
        match self.reported {
            None => seen,
            // One half of the numbers was missing.
            Some(reported) if reported.estimated => reported.at_least(seen),
            // A number says nothing of the text that came after it.
            Some(reported) if self.content_events > self.counted_events && seen.output > reported.output => {
                Usage { output: seen.output, estimated: true, ..reported }
            }
            Some(reported) => reported,
        }
    }

    fn price(&self, usage: &Usage) -> Option<Charge> {
        Some(self.ranked.price.as_ref()?.charge(usage, self.thinking))
    }

    /// The attempt as it is booked.
    #[expect(clippy::too_many_arguments, reason = "a row is what all of them together say")]
    fn row(
        &self,
        request: Uuid,
        attempt: u32,
        about: &Arc<About>,
        outcome: &Outcome,
        usage: &Usage,
        charge: Option<&Charge>,
        held: Money,
    ) -> Row {
        Row {
            request,
            attempt,
            revision: 0,
            at_ms: self.dispatched_at.as_millisecond(),
            about: Arc::clone(about),
            served: served(&self.ranked, self.flight.account().name.shared()),
            outcome: outcome.label.into(),
            tokens: Tokens::from(usage),
            price: self.ranked.price.as_ref().and_then(|price| self.price_used(price, usage)),
            native_nano: charge.map_or(0, |charge| i64::try_from(charge.native.nano).unwrap_or(i64::MAX)),
            charge_nanousd: charge.map_or(0, |charge| charge.money.nanousd()),
            held_nanousd: held.nanousd(),
            estimated: usage.estimated,
            swept: false,
        }
    }

    fn price_used(&self, price: &PriceInForce, usage: &Usage) -> Option<PriceUsed> {
        let rate = price.row.rate(usage, self.thinking)?;
        Some(PriceUsed {
            currency: price.row.currency.as_str().into(),
            from: price.row.from.as_second(),
            rates: PriceUsed::rates(rate),
            factor_ppm: price.factor_ppm,
            exchange_nanousd: price.exchange_nanousd,
        })
    }

    fn charge(&self) -> Option<Charge> {
        self.price(&self.usage())
    }

    fn timing(&self, now: Instant) -> Timing {
        let total = now - self.dispatched;
        let first_token = self.first_token.map(|first| first - self.dispatched);
        Timing { first_token, total, prior: self.ranked.candidate.model.prior }
    }
}

/// Who serves an attempt, in the words of the books.
pub fn served(ranked: &Ranked, account: Arc<str>) -> Served {
    let candidate = &ranked.candidate;
    Served {
        model: candidate.model.name.shared(),
        upstream: Arc::clone(&candidate.upstream),
        backend: candidate.backend.name.shared(),
        provider: candidate.backend.provider.into(),
        account,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
