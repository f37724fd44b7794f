//! The meter of one attempt: what was seen of its answer, what its upstream says of it, and what both cost.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Flight, Outcome};
use crate::{
    base::{catalog::SpeedPrior, money::Money, price::Charge, tier::Tier, usage::Usage},
    ledger::{
        Demand,
        row::{About, PriceUsed, Row, Served, Tokens},
    },
    policy::{PriceInForce, Ranked, patience::Awaited, stake::GUARD},
};

/// Bytes of text a token, where nothing else is known: what is seen of an answer is rather too little than too much.
const BYTES_A_TOKEN: u64 = 5;
/// No text has so many bytes a token on average: beyond, an answer is certainly longer than so many tokens.
const BYTES_OF_LONGEST_TOKENS: u64 = 16;

/// The attempt under way.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) ranked: Ranked,
    pub(super) flight: Arc<Flight>,
    thinking: bool,
    // Among the request's attempts, from 1.
    number: u32,
    // It was begun beside another one.
    hedge: bool,
    pub(super) dispatched: Instant,
    // The instant that its price and the books are read at.
    dispatched_at: Timestamp,
    pub(super) arrived: Option<Instant>,
    pub(super) first_token: Option<Instant>,
    text_bytes: u64,
    content_events: u64,
    // How many of them the last usage knew of.
    counted_events: u64,
    pub(super) reported: Option<Usage>,
    // The tier of service that the upstream named.
    pub(super) tier: Option<Tier>,
    // The request has begun to go out.
    pub(super) sent: bool,
    // The answer is awaited whole.
    pub(super) whole: bool,
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
    pub(super) fn new(ranked: &Ranked, flight: Flight, thinking: bool, dispatched_at: Timestamp) -> Self {
        Self {
            flight: Arc::new(flight),
            thinking,
            number: 1,
            hedge: false,
            ranked: ranked.clone(),
            dispatched: Instant::now(),
            dispatched_at,
            arrived: None,
            first_token: None,
            text_bytes: 0,
            content_events: 0,
            counted_events: 0,
            reported: None,
            tier: None,
            sent: false,
            whole: false,
        }
    }

    /// The same with its number among the request's attempts, from 1, and whether it was begun beside another.
    pub(super) fn numbered(self, number: u32, hedge: bool) -> Self {
        Self { number, hedge, ..self }
    }

    /// Its place among the request's attempts.
    pub(super) fn place(&self) -> usize {
        usize::try_from(self.number).unwrap_or(usize::MAX).saturating_sub(1)
    }

    /// Meters what one event carried.
    pub(super) fn saw(&mut self, text_bytes: u64) {
        if text_bytes > 0 {
            self.text_bytes += text_bytes;
            self.content_events += 1;
        }
    }

    /// Whether it has been silent for much longer than is usual of its candidate. A whole answer may be as long as it is
    /// allowed to: that is the client's own wish.
    pub(super) fn is_overdue(&self) -> bool {
        let input = self.ranked.terms.input_tokens;
        let awaited = Awaited { input, whole: self.whole.then_some(self.ranked.max_output) };
        let usual = || self.flight.usual(self.ranked.candidate.model.prior);
        self.arrived.is_none() && usual().is_overdue(awaited, self.dispatched.elapsed())
    }

    /// Takes over the upstream's own numbers.
    pub(super) fn report(&mut self, usage: Usage) {
        self.reported = Some(usage);
        self.counted_events = self.content_events;
    }

    /// Tokens of the answer as its events and bytes show them: one an event or one for five bytes, whichever is more.
    pub(super) fn seen(&self) -> u64 {
        self.content_events.max(self.text_bytes.div_ceil(BYTES_A_TOKEN))
    }

    /// Tokens of the answer at most: what was seen with what the upstream is known to bill beyond it, or its own number.
    pub(super) fn most(&self) -> u64 {
        let reported = self.reported.map_or(0, |usage| usage.output);
        self.ranked.stake.most(self.seen()).max(reported)
    }

    /// Whether the answer has certainly passed its cap: its upstream pays no heed to it. Some send a letter an event
    /// and some a paragraph, so that neither events nor bytes tell alone.
    pub(super) fn ignores_cap(&self) -> bool {
        let shown = self.content_events.min(self.text_bytes / BYTES_A_TOKEN);
        let certain = shown.max(self.text_bytes / BYTES_OF_LONGEST_TOKENS);
        let reported = self.reported.map_or(0, |usage| usage.output);
        certain.max(reported) > self.ranked.stake.cap.saturating_add(GUARD)
    }

    /// What it costs so far, for the fences.
    pub(super) fn bill(&self) -> Demand {
        let usage = self.usage();
        let money = self.price(&usage).map_or(Money::ZERO, |charge| charge.money);
        Demand { money, tokens: usage.input.saturating_add(usage.output) }
    }

    /// Tells what this attempt teaches of its upstream's bills. Only its own numbers teach.
    pub(super) fn teach(&self) {
        let Some(usage) = self.reported.filter(|usage| !usage.estimated) else { return };
        self.flight.billed(&self.ranked.stake, self.seen(), &usage);
    }

    /// The upstream's numbers; without them what was seen, marked as an estimate and never below it: the counted
    /// prompt, and of the answer one token an event or one for five bytes, whichever is more.
    /// The charge is that of the tier that the upstream named, else of the expected one; at a tier without a rate it is
    /// the usual rate's, and marked as an estimate.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage { tier: self.tier.unwrap_or(self.ranked.terms.tier), ..self.tokens() };
        let rate = self.ranked.price.as_ref().and_then(|price| price.row.rate(&usage, self.thinking));
        usage.estimated |= rate.is_some_and(|rate| rate.when.tier != usage.tier);
        usage
    }

    fn tokens(&self) -> Usage {
        let seen =
            Usage { input: self.ranked.terms.input_tokens, output: self.seen(), estimated: true, ..Usage::default() };
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

    pub(super) fn price(&self, usage: &Usage) -> Option<Charge> {
        Some(self.ranked.price.as_ref()?.charge(usage, self.thinking))
    }

    /// The attempt as it is booked.
    pub(super) fn row(
        &self,
        request: Uuid,
        about: &Arc<About>,
        outcome: &Outcome,
        usage: &Usage,
        charge: Option<&Charge>,
        held: Money,
    ) -> Row {
        Row {
            request,
            attempt: self.number,
            revision: 0,
            hedge: self.hedge,
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
            rates: rate.prices(),
            factor_ppm: price.factor_ppm,
            exchange_nanousd: price.exchange_nanousd,
        })
    }

    pub(super) fn charge(&self) -> Option<Charge> {
        self.price(&self.usage())
    }

    pub(super) fn timing(&self, now: Instant) -> Timing {
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
