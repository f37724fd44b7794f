//! One account of a backend: whether it takes a request now, by what its vendor said, what it refused and what was
//! agreed with it.
//!
//! Parked is who was turned away (401, 402) or asked to wait (429). Full is who has as many requests under way as were
//! agreed (`concurrent`), as the vendor is known to take of a model, or as it took before it last refused
//! ([`super::aimd`]), and who has sent as many requests or tokens as its limits allow. What is counted is what this
//! gateway sent. Every `now` is a time since one fixed origin.

use std::{sync::Arc, time::Duration};

use super::{aimd::Aimd, flow::Flow};
use crate::base::tenants::{Limits, Period, Rate};

/// Why an account takes no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Busy {
    /// It is parked, or has sent what its limits allow: for so long.
    For(Duration),
    /// As many requests are under way as it takes.
    Full,
    /// It refused one for its load a moment ago, or as many are under way as it took before it last did: what was learned,
    /// and may be wrong.
    Crowded,
}

/// One request as its account sees it.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// What the vendor calls the model.
    pub model: &'a Arc<str>,
    /// How many requests for it the vendor takes at once from one account; `None` = not known.
    pub cap: Option<u32>,
    /// Tokens that it is expected to use; 0 = not known.
    pub tokens: u64,
}

/// A request that its account has let through; to be handed back with [`Account::left`].
#[derive(Clone, Debug)]
#[must_use = "a request that is not handed back is under way for ever"]
pub struct Boarded {
    model: Option<Arc<str>>,
    tokens: u64,
    /// How many were under way with it.
    under_way: u32,
    at: Duration,
}

/// How a request ended, as far as its account is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was served, with so many tokens.
    Served {
        /// Prompt and completion.
        tokens: u64,
    },
    /// Its vendor refused it for its load: a quota, an overload.
    Refused,
    /// Nothing of that; so many tokens may have been used.
    Other {
        /// Prompt and completion.
        tokens: u64,
    },
}

/// What is known of one account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    under_way: u32,
    /// Of models whose vendor has a cap on each.
    models: Vec<(Arc<str>, u32)>,
    requests: Flow,
    tokens: Flow,
    aimd: Aimd,
    /// What this gateway was told by the vendor.
    parked_until: Duration,
    /// What another gateway was told.
    hinted_until: Duration,
    /// It refused for its load and did not say for how long.
    eased_until: Duration,
    /// How often the limit was lowered by what this gateway was refused.
    lowered: u64,
}

impl Account {
    /// Why it takes no such request at `now`, if it does not.
    pub fn busy(&self, limits: &Limits, passage: &Passage<'_>, now: Duration) -> Option<Busy> {
        let until = self.parked_until.max(self.hinted_until);
        let parked = until.saturating_sub(now);
        let asked = limits.requests.map(|rate| beyond(&self.requests, rate, 1, now)).unwrap_or_default();
        let used = limits.tokens.map(|rate| beyond(&self.tokens, rate, passage.tokens, now)).unwrap_or_default();
        let wait = parked.max(asked).max(used);
        if !wait.is_zero() {
            return Some(Busy::For(wait));
        }
        let agreed = limits.concurrent.is_some_and(|most| u64::from(self.under_way) >= most);
        let learned = self.eased_until > now || self.aimd.limit(now).is_some_and(|most| self.under_way >= most);
        let of_model = passage.cap.is_some_and(|cap| self.of_model(passage.model) >= cap);
        match (agreed || of_model, learned) {
            (true, _) => Some(Busy::Full),
            (false, true) => Some(Busy::Crowded),
            (false, false) => None,
        }
    }

    /// Lets a request through; `anyway` = also beyond what was learned.
    ///
    /// # Errors
    /// [`Busy`] when it takes none.
    pub fn board(
        &mut self,
        limits: &Limits,
        passage: &Passage<'_>,
        anyway: bool,
        now: Duration,
    ) -> Result<Boarded, Busy> {
        if let Some(busy) = self.busy(limits, passage, now).filter(|busy| !(anyway && *busy == Busy::Crowded)) {
            return Err(busy);
        }
        self.under_way += 1;
        if let Some(rate) = limits.requests {
            self.requests.add(1, span(rate), now);
        }
        if let Some(rate) = limits.tokens {
            self.tokens.add(passage.tokens, span(rate), now);
        }
        let model = passage.cap.map(|_| Arc::clone(passage.model));
        if let Some(model) = &model {
            match self.models.iter_mut().find(|(known, _)| known == model) {
                Some((_, count)) => *count += 1,
                None => self.models.push((Arc::clone(model), 1)),
            }
        }
        Ok(Boarded { model, tokens: passage.tokens, under_way: self.under_way, at: now })
    }

    /// A request is over. Whether its limit is lower now.
    pub fn ended(&mut self, limits: &Limits, boarded: &Boarded, end: End, now: Duration) -> bool {
        let (used, lowered) = match end {
            End::Served { tokens } => {
                self.aimd.served(boarded.under_way, now);
                (tokens, false)
            }
            End::Refused => (0, self.aimd.refused(boarded.under_way, boarded.at, now)),
            End::Other { tokens } => (tokens, false),
        };
        self.lowered += u64::from(lowered);
        if let Some(rate) = limits.tokens {
            self.tokens.add(used.saturating_sub(boarded.tokens), span(rate), now);
            self.tokens.take_back(boarded.tokens.saturating_sub(used), span(rate), now);
        }
        lowered
    }

    /// A request is no longer under way.
    pub fn left(&mut self, boarded: &Boarded) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(model) = &boarded.model else { return };
        if let Some(place) = self.models.iter().position(|(known, _)| known == model) {
            self.models[place].1 = self.models[place].1.saturating_sub(1);
            if self.models[place].1 == 0 {
                self.models.swap_remove(place);
            }
        }
    }

    /// Leaves it alone for so long, as its vendor said.
    pub fn park(&mut self, wait: Duration, now: Duration) {
        self.parked_until = self.parked_until.max(now.saturating_add(wait));
    }

    /// Sends others first for so long, and it only where nobody else can: it has too much to do, and nobody said for how
    /// long.
    pub fn ease(&mut self, wait: Duration, now: Duration) {
        self.eased_until = self.eased_until.max(now.saturating_add(wait));
    }

    /// For how long it is left alone, at least while others can be sent.
    pub fn parked(&self, now: Duration) -> Option<Duration> {
        let until = self.parked_until.max(self.hinted_until).max(self.eased_until);
        (until > now).then(|| until - now)
    }

    /// Requests under way.
    pub fn under_way(&self) -> u32 {
        self.under_way
    }

    /// How many it takes at once, as learned from refusals.
    pub fn learned(&self, now: Duration) -> Option<u32> {
        self.aimd.limit(now)
    }

    /// What others may be told: for how long its vendor parked it here, and how often it was refused here for its load.
    pub fn told_here(&self, now: Duration) -> (Duration, u64) {
        (self.parked_until.saturating_sub(now), self.lowered)
    }

    /// Another gateway was told to leave it alone for so long.
    pub fn hint_parked(&mut self, wait: Duration, now: Duration) {
        self.hinted_until = self.hinted_until.max(now.saturating_add(wait));
    }

    /// Another gateway was refused for its load: its limit holds what is under way here at most.
    pub fn hint_refused(&mut self, now: Duration) {
        self.aimd.refused(self.under_way, now, now);
    }

    fn of_model(&self, model: &Arc<str>) -> u32 {
        self.models.iter().find(|(known, _)| known == model).map_or(0, |(_, count)| *count)
    }
}

/// For how long `more` is too much; one that is larger than all that is allowed goes when nothing else was.
fn beyond(flow: &Flow, rate: Rate, more: u64, now: Duration) -> Duration {
    let room = rate.amount.saturating_sub(more.min(rate.amount)).saturating_add(1);
    flow.below(room, span(rate), now)
}

/// The length of a window: limits of vendors slide, so no calendar is asked.
const fn span(rate: Rate) -> Duration {
    Duration::from_secs(match rate.per {
        Period::Minute => 60,
        Period::Hour => 3_600,
        Period::Day => 86_400,
        Period::Week => 7 * 86_400,
        Period::Month => 30 * 86_400,
    })
}

#[cfg(test)]
mod tests;
