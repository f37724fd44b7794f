//! How long a request would wait at a pool of own servers, and what its coming costs those behind it.
//!
//! Two estimates of the wait, of which the longer counts (R. Ibrahim and W. Whitt, "Real-Time Delay Estimation Based on
//! Delay History", Manufacturing & Service Operations Management 11(3), 2009):
//! - by the length of the queue: requests ahead × the time that each of them has lately added to a wait, which is
//!   measured as what first tokens took beyond an unhindered one, divided by the requests that were ahead of them;
//! - by the head of the line: how long the oldest request has waited that nobody has overtaken. It sees a pool that
//!   stops answering before the first late answer does.
//!
//! Requests ahead are those that this gateway sent and that have not been answered yet, and those that others sent and
//! that wait as the engines tell ([`Company`]), less one a server. Where engines tell nothing, each of several gateways sees
//! a part of the queue, and a request of its part stands for a longer wait; it sees none while its own are fewer than the
//! servers.
//!
//! What a request costs those behind it: every later one of the busy period that it comes into waits longer by the time
//! `x` that it takes. With `ρ` the load and `w` the wait that it finds, that is `ρ ÷ (1 − ρ) × (w + x ÷ 2)` in all
//! (M. Haviv and Y. Ritov, "Externalities, Tangible Externalities, and Queue Disciplines", Management Science 44(6),
//! 1998, for first come, first served and a request of the mean size; its mean in an M/M/1 queue is Mendelson's
//! `λ ÷ (μ − λ)²`, Communications of the ACM 28(3), 1985). It is nothing where nothing comes.
//!
//! Whole answers tell their wait only together with their writing, so they have an unhindered time of their own, and none
//! of them is ever the head of the line.

use std::{collections::VecDeque, time::Duration};

use super::flow::Flow;

/// What is measured loses half of its weight in this time.
const HALVING: Duration = Duration::from_secs(30);
/// So many requests ahead are taken to have added nothing, so that a few odd samples make no queue.
const PRIOR: u64 = 8;
/// Arrivals are counted over this time.
const ARRIVALS: Duration = Duration::from_secs(10);
/// The load is taken to be no higher, in parts per million: beyond, what one more costs has no bound.
const MOST_LOAD: u64 = 950_000;
/// An unhindered first token, until one was seen.
const UNSEEN: Duration = Duration::from_secs(1);

/// Who else is at a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// The servers.
    pub servers: u32,
    /// Requests of other gateways that have not been answered yet, as far as the engines tell.
    pub unanswered: u64,
    /// For each request that this gateway has under way there are so many in all, in thousandths; below 1,000 counts as
    /// 1,000. By Little's law arrivals come in the same proportion, as long as all ask for alike.
    pub times_milli: u64,
}

impl Company {
    /// Nobody else.
    pub fn alone(servers: u32) -> Self {
        Self { servers, ..Self::default() }
    }
}

/// What a request would find at a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// How long it would wait before its turn comes.
    pub wait: Duration,
    /// By how much it would lengthen the wait of the next.
    pub each: Duration,
    /// The load, in parts per million: arrivals a second × `each`, at most 950,000.
    pub load_ppm: u64,
    /// The servers that share it.
    pub servers: u32,
}

impl Line {
    /// How much longer all who come behind it would wait, together: `ρ ÷ (1 − ρ) × (w + x ÷ 2)`.
    pub fn behind(&self) -> Duration {
        let each = self.wait.as_nanos().saturating_add(self.each.as_nanos() / 2);
        let load = u128::from(self.load_ppm.min(MOST_LOAD));
        let nanos = each.saturating_mul(load) / (1_000_000 - load);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    at: Duration,
    ahead: u64,
    servers: u32,
    streams: bool,
}

/// The queue of one pool as one gateway sees it. Every `now` is a time since one fixed origin.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    number: u64,
    /// The latest request that was answered: those before it have been overtaken.
    answered: u64,
    arrivals: Flow,
    /// Microseconds of an unhindered answer: of whole ones, and of first tokens.
    usual: [Option<u64>; 2],
    /// Microseconds beyond that, and the requests that were ahead meanwhile.
    beyond: i64,
    ahead: u64,
    halved: Duration,
}

impl Queue {
    /// A request is sent; gives the number that it is known by.
    pub fn sent(&mut self, company: Company, streams: bool, now: Duration) -> u64 {
        let (ahead, servers) = (self.ahead_of(company), company.servers.max(1));
        self.number += 1;
        self.waiting.push_back(Waiting { number: self.number, at: now, ahead, servers, streams });
        self.arrivals.add(1, ARRIVALS, now);
        self.number
    }

    /// Its first token came, or all of a whole answer.
    pub fn answered(&mut self, number: u64, now: Duration) {
        let Some(waited) = self.take(number) else { return };
        self.fade(now);
        let took = micros(now.saturating_sub(waited.at));
        if waited.streams {
            self.answered = self.answered.max(number);
        }
        let usual = &mut self.usual[usize::from(waited.streams)];
        // Until one went unhindered, each of those ahead is taken to have had its own time with one of the servers.
        let share =
            u128::from(took) * u128::from(waited.servers) / (u128::from(waited.servers) + u128::from(waited.ahead));
        let known = *usual.get_or_insert(u64::try_from(share).unwrap_or(took));
        if waited.ahead == 0 {
            // An eighth of the way: one long prompt is no new usual.
            *usual = Some(known - known / 8 + took / 8);
            return;
        }
        *usual = Some(known.min(took));
        let beyond = took.saturating_sub(known.min(took));
        self.beyond = self.beyond.saturating_add(i64::try_from(beyond).unwrap_or(i64::MAX));
        self.ahead = self.ahead.saturating_add(waited.ahead);
    }

    /// It ended before that, or its client went away.
    pub fn left(&mut self, number: u64) {
        let _ = self.take(number);
    }

    /// What a request would find now.
    pub fn line(&self, company: Company, now: Duration) -> Line {
        let each = u64::try_from(self.beyond).unwrap_or(0) / self.ahead.saturating_add(PRIOR);
        let ahead = self.ahead_of(company);
        let by_length = Duration::from_micros(each.saturating_mul(ahead));
        let wait = if ahead == 0 { Duration::ZERO } else { by_length.max(self.head_of_the_line(now)) };
        let arrivals = self.arrivals.within(ARRIVALS, now).saturating_mul(company.times_milli.max(1_000)) / 1_000;
        let load = arrivals.saturating_mul(each) / ARRIVALS.as_secs().max(1);
        Line { wait, each: Duration::from_micros(each), load_ppm: load.min(MOST_LOAD), servers: company.servers }
    }

    /// Requests that have not been answered yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Each server has one at hand; the others wait.
    fn ahead_of(&self, company: Company) -> u64 {
        let all = (self.waiting.len() as u64).saturating_add(company.unanswered).saturating_add(1);
        all.saturating_sub(u64::from(company.servers.max(1)))
    }

    fn head_of_the_line(&self, now: Duration) -> Duration {
        let head = self.waiting.iter().find(|waiting| waiting.streams && waiting.number > self.answered);
        let usual = self.usual[1].map_or(UNSEEN, Duration::from_micros);
        head.map_or(Duration::ZERO, |head| now.saturating_sub(head.at).saturating_sub(usual))
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.number == number)?;
        self.waiting.remove(place)
    }

    fn fade(&mut self, now: Duration) {
        let halvings = now.saturating_sub(self.halved).as_secs() / HALVING.as_secs();
        if halvings > 0 {
            let shift = u32::try_from(halvings).unwrap_or(63).min(63);
            self.beyond >>= shift;
            self.ahead >>= shift;
            self.halved = now;
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
