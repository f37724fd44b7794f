//! The toll of one request: its hold, its attempts with their meters, and the one settlement that ends it.
//!
//! A [`Toll`] exists from the hold on. Whatever happens to the request, and even if its future is dropped because
//! the client went away, the toll closes the attempt under way with what was metered, settles the hold, and writes
//! the record. That makes "exactly one settlement on every path" a property of the type.

mod growth;
mod lane;
mod meter;
mod till;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    growth::Stop,
    lane::Lane,
    meter::{Timing, served},
    till::{Hedges, Till},
};
use super::{Gateway, admit::Ask, live::Flight};
use crate::{
    base::{failure::Fault, fences::Fence, money::Money},
    ledger::{Demand, Hold, HoldError},
    policy::{Decision, Ranked},
    telemetry::record::AttemptRecord,
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
    lane: Lane,
    // The hedge, while both run.
    second: Lane,
    till: Till,
}

impl Toll {
    /// Begins the toll of a request that was decided and held for. `hedges`: where what its route may spend on hedges is
    /// counted, if it has any.
    pub fn begin(gateway: &Arc<Gateway>, ask: &Ask, decision: &Decision, hold: Hold, hedges: Option<Hedges>) -> Self {
        let till = Till::new(gateway, ask, decision, hold, hedges);
        Self { lane: Lane::default(), second: Lane::default(), till }
    }

    /// Makes sure that `demand` beyond what is charged already is held, in the hold's fences and in `more`.
    ///
    /// # Errors
    /// [`HoldError`] when a fence has too little left or the store cannot be asked.
    pub async fn cover(&mut self, demand: Demand, more: &[Arc<Fence>]) -> Result<(), HoldError> {
        if let Some(top_up) = self.till.top_up(demand, more) {
            let raised = top_up.await?;
            self.till.raise(raised);
        }
        Ok(())
    }

    /// Begins an attempt, right before it is dispatched.
    pub fn dispatch(&mut self, ranked: &Ranked, flight: Flight, thinking: bool) {
        self.till.dispatch(&mut self.lane, ranked, flight, thinking, false);
    }

    /// The attempt under way.
    pub fn lane(&mut self) -> &mut Lane {
        &mut self.lane
    }

    /// The attempt under way, the place of its hedge, and what both share: each to be used while the others are.
    pub fn split(&mut self) -> (&mut Lane, &mut Lane, &mut Till) {
        (&mut self.lane, &mut self.second, &mut self.till)
    }

    /// The hedge is the attempt under way from now on; the one before is closed.
    pub fn promote(&mut self) {
        std::mem::swap(&mut self.lane, &mut self.second);
        self.lane.before = self.till.charged();
    }

    /// Notes time that was spent waiting for others.
    pub fn paused(&mut self, time: Duration) {
        self.till.waited += time;
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> usize {
        self.till.tried().len()
    }

    /// Every attempt with its outcome.
    pub fn tried(&self) -> &[AttemptRecord] {
        self.till.tried()
    }

    /// What has been charged for attempts that ended.
    pub fn charged(&self) -> Money {
        self.till.charged()
    }

    /// Ends the attempt under way and tells how long it took.
    pub fn close(&mut self, outcome: Outcome) -> Duration {
        self.till.close(&mut self.lane, outcome)
    }

    /// Notes who answers, for the record.
    pub fn won(&mut self, ranked: &Ranked, account: &str, reason: &str) {
        self.till.won(ranked, account, reason);
    }

    /// Notes that the first byte of the answer is about to be sent.
    pub fn first_byte(&mut self, status: u16) {
        self.till.first_byte(status);
    }

    /// Takes in an event of the answer, for an operator who keeps texts.
    pub fn hear(&mut self, data: Option<&Bytes>) {
        if let (Some(heard), Some(data)) = (&mut self.till.heard, data) {
            heard.event(data);
        }
    }

    /// Takes in a whole answer, for the same.
    pub fn hear_whole(&mut self, body: &Bytes) {
        if let Some(heard) = &mut self.till.heard {
            heard.whole(body);
        }
    }

    /// Settles the request. `code` is the error that the client saw, or empty.
    pub fn settle(&mut self, code: &'static str, end: &'static str) {
        self.till.settle(code, end);
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        if !self.till.is_open() {
            return;
        }
        // The request was dropped under way: the client went away, and the upstream with it.
        for lane in [&mut self.lane, &mut self.second] {
            let (label, message) = ("abandoned", String::new());
            let (verdict, bill) = (lane.unheard(), Bill::Metered);
            self.till.close(lane, Outcome { label, status: 0, message, verdict, bill });
        }
        self.till.abandon();
    }
}
