//! How a hold grows with the answer that it pays for.
//!
//! The first hold of a stream covers what most answers need. As more is seen of one, more is set aside, ahead of it by
//! [`GUARD`] tokens; the stream flows on meanwhile, and waits only if it catches up with what is held. Between two
//! top-ups an event costs one comparison.

use std::task::{Context, Poll};

use jiff::Timestamp;

use super::Toll;
use crate::{
    base::{money::Money, tenants::Midstream},
    ledger::{Demand, Hold, HoldError, Raised, TopUp},
    policy::stake::{GUARD, Stake},
    proxy::{code::Code, refusal::Refusal},
};

/// Why a stream ends before its answer does.
#[derive(Debug)]
pub struct Stop {
    /// The outcome in metrics.
    pub label: &'static str,
    /// What the client is told.
    pub refusal: Box<Refusal>,
}

/// What is seen of the stream.
struct Sight<'a> {
    stake: &'a Stake,
    // Completion tokens at most.
    most: u64,
    ignores_cap: bool,
    // What is held for so many completion tokens.
    demand: &'a dyn Fn(u64) -> Demand,
    // What it costs, once no more tokens will come.
    bill: Option<Demand>,
    midstream: Midstream,
}

/// What holds the money.
trait Source {
    /// Asks for so much in all; `None` when it is there.
    fn ask(&self, demand: Demand) -> Option<TopUp>;
    /// Takes over what has come.
    fn take(&mut self, raised: Raised);
}

impl Source for (&mut Hold, Timestamp) {
    fn ask(&self, demand: Demand) -> Option<TopUp> {
        self.0.top_up(demand, &[], self.1)
    }

    fn take(&mut self, raised: Raised) {
        self.0.raise(raised);
    }
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
    // The team lets the stream go on though a budget has nothing left for it.
    pub(super) overdrawn: bool,
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
    fn wanted(&self, sight: &Sight<'_>) -> Option<(u64, Demand)> {
        if let Some(bill) = sight.bill {
            return (!self.owed).then_some((self.covered, bill));
        }
        let ahead = if self.adrift { 0 } else { GUARD };
        if sight.most.saturating_add(ahead) <= self.covered {
            return None;
        }
        let target = sight.stake.next(self.covered, sight.most, self.little)?;
        Some((target, (sight.demand)(target)))
    }

    /// Goes on as far as it can without waiting: ready when the stream may flow, pending when it has caught up.
    fn poll(
        &mut self,
        sight: &Sight<'_>,
        source: &mut dyn Source,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        loop {
            if let Some((target, under_way)) = &mut self.under_way {
                let target = *target;
                let Poll::Ready(answer) = under_way.as_mut().poll(context) else {
                    let caught_up = sight.bill.is_some() || sight.most > self.covered;
                    return if caught_up { Poll::Pending } else { Poll::Ready(Ok(())) };
                };
                self.under_way = None;
                match answer {
                    Ok(raised) => {
                        source.take(raised);
                        self.covers(target, sight.stake);
                    }
                    Err(error) => self.short(&error, sight)?,
                }
                continue;
            }
            if sight.bill.is_none() && sight.ignores_cap {
                return Poll::Ready(Err(Stop::past_the_cap()));
            }
            let asked = self.wanted(sight).map(|(target, demand)| (target, source.ask(demand)));
            match asked {
                Some((target, Some(top_up))) => self.under_way = Some((target, top_up)),
                // It is set aside already: the hold was the dearest candidate's.
                Some((target, None)) if sight.bill.is_none() => self.covers(target, sight.stake),
                Some((_, None)) | None => {
                    self.told = false;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// No more could be set aside.
    fn short(&mut self, error: &HoldError, sight: &Sight<'_>) -> Result<(), Stop> {
        if sight.bill.is_some() {
            self.owed = true;
            return Ok(());
        }
        match error {
            HoldError::Refused(_) if !self.little => self.little = true,
            HoldError::Refused(_) if sight.midstream == Midstream::Finish => {
                self.overdrawn = true;
                self.covers(sight.stake.cap, sight.stake);
            }
            HoldError::Refused(_) => return Err(Stop { label: "budget", refusal: Box::new(Refusal::cut(error)) }),
            HoldError::Away | HoldError::Journal(_) if sight.most > self.covered => {
                return Err(Stop { label: "budget_store", refusal: Box::new(Refusal::cut(error)) });
            }
            HoldError::Away | HoldError::Journal(_) => self.adrift = true,
        }
        Ok(())
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
        let Some(meter) = &self.lane.meter else { return Poll::Ready(Ok(())) };
        let hold = &self.till.hold;
        let budgeted = || hold.as_ref().is_some_and(Hold::is_budgeted);
        let growth = self.till.growth.get_or_insert_with(|| Growth::new(&meter.ranked.stake, budgeted()));
        if std::mem::take(&mut self.lane.told) {
            growth.told();
        }
        if growth.rests(meter.seen()) { Poll::Ready(Ok(())) } else { self.poll_growth(context, finished) }
    }

    fn poll_growth(&mut self, context: &mut Context<'_>, finished: bool) -> Poll<Result<(), Stop>> {
        let till = &mut self.till;
        let (Some(meter), Some(hold), Some(growth)) = (&self.lane.meter, &mut till.hold, &mut till.growth) else {
            return Poll::Ready(Ok(()));
        };
        let (stake, price) = (&meter.ranked.stake, meter.ranked.price.as_ref());
        let money = |tokens| price.map_or(Money::ZERO, |price| stake.money(price, tokens));
        let sight = Sight {
            stake,
            most: meter.most(),
            ignores_cap: meter.ignores_cap(),
            demand: &|tokens| Demand { money: money(tokens), tokens: meter.ranked.tokens(tokens) },
            bill: finished.then(|| meter.bill()),
            midstream: till.team.midstream,
        };
        let polled = growth.poll(&sight, &mut (&mut *hold, till.gateway.now()), context);
        if growth.overdrawn && till.overdraft.is_none() {
            till.overdraft = Some(hold.charged() + money(stake.cap));
        }
        if let Poll::Ready(Err(Stop { refusal, .. })) = &polled
            && let Some(empty) = &refusal.empty
        {
            till.gateway.told_empty(empty);
        }
        polled
    }
}

impl Stop {
    fn past_the_cap() -> Self {
        let message = "the upstream wrote more than the answer's cap, which is all that was set aside";
        Self { label: "past_cap", refusal: Box::new(Refusal::new(Code::UpstreamError, message)) }
    }
}

#[cfg(test)]
mod tests;
