//! How a hold grows with the answer that it pays for.
//!
//! The first hold of a stream covers what most answers need. As more is seen of one, more is set aside, ahead of it by
//! [`GUARD`] tokens; the stream flows on meanwhile, and waits only if it catches up with what is held. Between two
//! top-ups an event costs one comparison.

use std::task::{Context, Poll};

use super::{Meter, Toll};
use crate::{
    base::{money::Money, tenants::Midstream},
    ledger::{Demand, Hold, HoldError, TopUp},
    policy::stake::{GUARD, Stake},
    proxy::refusal::{Code, Refusal},
};

/// Why a stream ends before its answer does.
#[derive(Debug)]
pub struct Stop {
    /// The outcome in metrics.
    pub label: &'static str,
    /// What the client is told.
    pub refusal: Box<Refusal>,
}

/// The hold of the attempt under way as it grows.
#[derive(Default)]
pub(super) struct Growth {
    // Completion tokens that are held for.
    covered: u64,
    // So many may be seen before anything is to be done.
    rest: u64,
    // The upstream has told numbers since they were last looked at.
    told: bool,
    // A usual slice was refused: only a little more is asked for.
    little: bool,
    // The store could not be asked: what is held is used up first.
    adrift: bool,
    // A bill is larger than what is held, and no more could be set aside for it: the tokens are written already.
    owed: bool,
    under_way: Option<(u64, TopUp)>,
}

impl Growth {
    /// Begins with what the first hold covers.
    pub(super) fn new(stake: &Stake, budgeted: bool) -> Self {
        let mut growth = Self { rest: u64::MAX, ..Self::default() };
        if budgeted {
            growth.covers(stake.output, stake);
        }
        growth
    }

    fn covers(&mut self, tokens: u64, stake: &Stake) {
        (self.covered, self.adrift) = (tokens, false);
        let ppm = u128::from(stake.unseen_ppm) + 1_000_000;
        let seen = |tokens: u64| u64::try_from(u128::from(tokens) * 1_000_000 / ppm).unwrap_or(u64::MAX);
        self.rest = if tokens < stake.cap { seen(tokens.saturating_sub(GUARD)) } else { stake.cap };
    }

    /// The upstream has told numbers.
    pub(super) fn told(&mut self) {
        self.told = self.rest < u64::MAX;
    }

    /// What is to be set aside next: so many completion tokens, and all that they may cost with the prompt. An answer
    /// that is finished is settled by its bill, so that is what must be there.
    fn wanted(&self, meter: &Meter, finished: bool) -> Option<(u64, Demand)> {
        let (stake, price) = (&meter.ranked.stake, meter.ranked.price.as_ref());
        if finished {
            let usage = meter.usage();
            let money = meter.price(&usage).map_or(Money::ZERO, |charge| charge.money);
            let demand = Demand { money, tokens: usage.input.saturating_add(usage.output) };
            return (!self.owed).then_some((self.covered, demand));
        }
        let needed = meter.most();
        let ahead = if self.adrift { 0 } else { GUARD };
        if self.covered >= stake.cap || needed.saturating_add(ahead) <= self.covered {
            return None;
        }
        let target = stake.next(self.covered, needed, self.little);
        let money = price.map_or(Money::ZERO, |price| stake.money(price, target));
        Some((target, Demand { money, tokens: meter.ranked.tokens(target) }))
    }

    /// Nothing to be done after so many tokens were seen.
    fn rests(&self, seen: u64) -> bool {
        seen <= self.rest && !self.told && self.under_way.is_none()
    }
}

impl Toll {
    /// Sees to it that what has been written is paid for: ready when the stream may go on, pending while it has caught
    /// up with what is held and more has been asked for. `finished` = no more tokens will come.
    ///
    /// # Errors
    /// [`Stop`] when there is no more money, the store cannot be asked, or the upstream writes past its cap. What was
    /// seen until then is charged.
    pub fn poll_paid(&mut self, context: &mut Context<'_>, finished: bool) -> Poll<Result<(), Stop>> {
        match &self.meter {
            Some(meter) if !self.growth.rests(meter.seen()) => self.poll_growth(context, finished),
            Some(_) | None => Poll::Ready(Ok(())),
        }
    }

    fn poll_growth(&mut self, context: &mut Context<'_>, finished: bool) -> Poll<Result<(), Stop>> {
        loop {
            let (Some(meter), Some(hold)) = (&self.meter, &mut self.hold) else { return Poll::Ready(Ok(())) };
            if let Some((target, under_way)) = &mut self.growth.under_way {
                let target = *target;
                let Poll::Ready(answer) = under_way.as_mut().poll(context) else {
                    let caught_up = finished || meter.most() > self.growth.covered;
                    return if caught_up { Poll::Pending } else { Poll::Ready(Ok(())) };
                };
                self.growth.under_way = None;
                match answer {
                    Ok(raised) => {
                        hold.raise(raised);
                        self.growth.covers(target, &meter.ranked.stake);
                    }
                    Err(error) => self.short(&error, finished)?,
                }
                continue;
            }
            if !finished && meter.ignores_cap() {
                return Poll::Ready(Err(Stop::past_the_cap()));
            }
            let wanted = self.growth.wanted(meter, finished);
            let top_up = wanted.map(|(target, demand)| (target, hold.top_up(demand, &[], self.gateway.now())));
            match top_up {
                Some((target, Some(top_up))) => self.growth.under_way = Some((target, top_up)),
                Some((target, None)) if !finished => self.growth.covers(target, &meter.ranked.stake),
                Some((_, None)) | None => {
                    self.growth.told = false;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// No more could be set aside.
    fn short(&mut self, error: &HoldError, finished: bool) -> Result<(), Stop> {
        let Some(meter) = &self.meter else { return Ok(()) };
        let growth = &mut self.growth;
        if finished {
            growth.owed = true;
            return Ok(());
        }
        match error {
            HoldError::Refused(_) if !growth.little => growth.little = true,
            HoldError::Refused(_) if self.team.midstream == Midstream::Finish => {
                let stake = &meter.ranked.stake;
                let whole = meter.ranked.price.as_ref().map_or(Money::ZERO, |price| stake.money(price, stake.cap));
                let charged = self.hold.as_ref().map_or(Money::ZERO, Hold::charged);
                self.overdraft = Some(charged + whole);
                growth.covers(stake.cap, stake);
            }
            HoldError::Refused(_) => return Err(Stop { label: "budget", refusal: Box::new(Refusal::cut(error)) }),
            HoldError::Away | HoldError::Journal(_) if meter.most() > growth.covered => {
                return Err(Stop { label: "budget_store", refusal: Box::new(Refusal::cut(error)) });
            }
            HoldError::Away | HoldError::Journal(_) => growth.adrift = true,
        }
        Ok(())
    }
}

impl Stop {
    fn past_the_cap() -> Self {
        let message = "the upstream wrote more than the answer's cap, which is all that was set aside";
        Self { label: "past_cap", refusal: Box::new(Refusal::new(Code::UpstreamError, message)) }
    }
}
