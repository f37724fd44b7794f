//! A lane: one attempt under way and what is metered of it. A request has one, and a second while it is hedged.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Flight, Verdict, meter::Meter};
use crate::base::{failure::Fault, money::Money, tier::Tier, usage::Usage};

/// See the module's text.
#[derive(Debug, Default)]
pub struct Lane {
    pub(super) meter: Option<Meter>,
    // The upstream has told numbers since that was last asked.
    pub(super) told: bool,
    // What other attempts of the request are charged.
    pub(super) before: Money,
}

impl Lane {
    /// The endpoint and account of the attempt under way.
    pub fn flight(&self) -> Option<Arc<Flight>> {
        self.meter.as_ref().map(|meter| Arc::clone(&meter.flight))
    }

    /// Notes that the attempt begins to go out: from here on it may be billed.
    pub fn sent(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.sent = true;
        }
    }

    /// Notes that the answer is awaited whole.
    pub fn awaits_whole(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.whole = true;
        }
    }

    /// What it says of the candidate that its client waits no longer: nothing, unless it has been silent for much longer
    /// than is usual of it.
    pub fn unheard(&self) -> Verdict {
        if self.meter.as_ref().is_some_and(Meter::is_overdue) {
            return Verdict::Failed { fault: Fault::Backend, retry_after: None };
        }
        Verdict::Unknown
    }

    /// Notes the first meaningful event.
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
        if let Some(meter) = &mut self.meter {
            meter.arrived.get_or_insert_with(Instant::now);
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
            self.told = true;
        }
    }

    /// Another attempt has begun first: this one would have taken longer than it has so far.
    pub fn outrun(&self) {
        if let Some(meter) = &self.meter {
            meter.flight.outrun(meter.dispatched.elapsed());
        }
    }

    /// What the request costs so far, this attempt included.
    pub fn cost_so_far(&self) -> Money {
        let under_way = self.meter.as_ref().and_then(Meter::charge);
        self.before + under_way.map_or(Money::ZERO, |charge| charge.money)
    }
}
