//! One attempt under way: which endpoint and account it has, and what is learned from how it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    CandidateState,
    accounts::{Berth, Rest},
    backend::BackendState,
    lengths::Length,
    lock,
    servers::Server,
    warm::{Place, Turn, Warm},
};
use crate::{
    base::{
        catalog::{Account, SpeedPrior},
        failure::Fault,
        usage::Usage,
    },
    net::pool::Origin,
    policy::{
        account,
        balance::{End, ReplicaId, Ticket},
        breaker::{Change, Outcome, Permit},
        patience::Usual,
        stake::Stake,
    },
    provider::Provider,
    proxy::toll::{Timing, Verdict},
};

/// How long an account is parked that its vendor turned away without saying for how long.
const PARK: Duration = Duration::from_secs(60);
/// For how long others are sent first after a 429 without `retry-after`.
const EASE: Duration = Duration::from_secs(5);

/// The statuses of an upstream that has too much to do.
const OVERLOADED: [u16; 2] = [503, 529];

/// The right to send one request: an endpoint and an account, in flight until it is dropped.
#[derive(Debug)]
pub struct Flight {
    pub(super) state: Arc<BackendState>,
    pub(super) candidate: Arc<CandidateState>,
    pub(super) server: Arc<Server>,
    /// What goes back to the backend's pool, if it has one.
    pub(super) ticket: Option<Ticket>,
    /// Its place in the backend's queue, if anybody looks at that.
    pub(super) queued: Option<u64>,
    pub(super) berth: Berth,
    pub(super) permit: Permit,
    pub(super) lengths: Option<Arc<Length>>,
    pub(super) reported: AtomicBool,
    pub(super) epoch: Instant,
    pub(super) warm: Arc<Warm>,
    pub(super) turn: Turn,
    // What the vendor should have of the prompt.
    pub(super) warm_tokens: u64,
}

impl Flight {
    /// Says which turn of which conversation it carries, and how much of the prompt the vendor should have.
    #[must_use]
    pub fn carrying(mut self, turn: Turn, warm_tokens: u64) -> Self {
        (self.turn, self.warm_tokens) = (turn, warm_tokens);
        self
    }

    /// The credential that is used.
    pub fn account(&self) -> &Account {
        &self.state.backend.accounts[self.berth.number]
    }

    /// The backend's dialect.
    pub fn provider(&self) -> &'static dyn Provider {
        self.state.provider
    }

    /// Which server of the backend it has.
    pub fn endpoint(&self) -> ReplicaId {
        self.server.id
    }

    /// Whether it is one server of several that share one account: what turns it away there is that server's own
    /// doing, for the others would have gone on.
    pub fn is_one_of_several(&self) -> bool {
        self.state.backend.accounts.len() == 1 && self.state.servers.count() > 1
    }

    /// The address of the endpoint's chat path.
    pub fn uri(&self) -> &http::Uri {
        &self.server.uri
    }

    /// The endpoint's connections.
    pub fn origin(&self) -> Origin {
        self.server.origin.clone()
    }

    /// Notes the first meaningful event.
    pub fn first_token(&self, after: Duration) {
        let now = self.epoch.elapsed();
        if let Some(ticket) = &self.ticket {
            self.state.servers.first_token(ticket, now);
        }
        self.state.answered(self.queued, now);
        lock(&self.candidate.seen).meter.first_token(after, now);
    }

    /// What is usual of the candidate as it served.
    pub fn usual(&self, prior: SpeedPrior) -> Usual {
        lock(&self.candidate.seen).meter.usual(prior, self.epoch.elapsed())
    }

    /// Tokens that nine of ten answers on this route do not pass, where it is known.
    pub fn answer_p90(&self) -> Option<u64> {
        self.lengths.as_ref().and_then(|length| length.p90())
    }

    /// Notes that nothing had come after so long, when another attempt made this one needless. Were it left out, only quick
    /// answers would be counted, and more and more would pass for overdue.
    pub fn outrun(&self, after: Duration) {
        lock(&self.candidate.seen).meter.outrun(after, self.epoch.elapsed());
    }

    /// Notes what the upstream billed for an answer of which so many tokens were seen, against what was held for it.
    pub fn billed(&self, stake: &Stake, seen: u64, usage: &Usage) {
        if let Some(length) = &self.lengths {
            length.add(usage.output / stake.answers);
        }
        let mut watched = lock(&self.candidate.seen);
        let margins = watched.meter.margins();
        margins.input(stake.counted, stake.input.saturating_sub(stake.margin), usage.input);
        if stake.tells {
            margins.output(seen, usage.output);
        }
    }

    /// Hands the endpoint back. Returns whether another one is sound.
    fn left(&self, end: End, now: Duration) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| self.state.servers.ended(ticket, end, now))
    }

    /// Notes how the attempt ended, and with which status: latency, breaker, what becomes of the account. Returns what that
    /// did to the candidate's breaker.
    pub fn ended(&self, verdict: Verdict, status: u16, timing: &Timing, usage: &Usage) -> Option<Change> {
        let now = self.epoch.elapsed();
        let end = match verdict {
            Verdict::Served => End::Served { cached: if usage.estimated { 0 } else { usage.cached_input } },
            Verdict::Failed { fault: Fault::Backend, retry_after } => End::Failed { retry_after },
            Verdict::Failed { .. } | Verdict::Unknown => End::Unknown,
        };
        let others = self.left(end, now);
        if verdict == Verdict::Served {
            self.state.answered(self.queued, now);
        }
        self.state.unqueue(self.queued);
        let (outcome, rest) = judge(verdict, others);
        let tokens = usage.input.saturating_add(usage.output);
        let seen = match verdict {
            Verdict::Served => account::End::Served { tokens },
            Verdict::Failed { fault: Fault::Quota, .. } => account::End::Refused,
            // One server of a pool that has too much to do is no reason to send less to all.
            Verdict::Failed { fault: Fault::Backend, .. } if OVERLOADED.contains(&status) && !others => {
                account::End::Refused
            }
            Verdict::Failed { .. } | Verdict::Unknown => account::End::Other { tokens },
        };
        if let Some(wait) = self.berth.ended(seen, rest, now) {
            self.told_parked(status, wait);
        }
        if verdict == Verdict::Served {
            let (candidate, seat) = (Arc::clone(&self.candidate), Some(Arc::clone(&self.berth.seat)));
            let place = Place { candidate, seat, tokens: usage.input, at: now };
            self.warm.keep(self.turn, place);
        }
        let mut watched = lock(&self.candidate.seen);
        self.reported.store(true, Ordering::Relaxed);
        let change = watched.breaker.report(self.permit, outcome, now);
        match verdict {
            Verdict::Served => {
                let &Timing { first_token, total, prior } = timing;
                if self.warm_tokens > 0 && !usage.estimated {
                    watched.meter.warm_turn(self.warm_tokens.min(usage.input), usage.cached_input);
                }
                // The mean share is that of conversations which are new to the vendor.
                let input = if self.warm_tokens > 0 || usage.estimated { 0 } else { usage.input };
                let (output, cached) = (usage.output, usage.cached_input);
                match first_token {
                    Some(first) => watched.meter.answer(output, total.saturating_sub(first), input, cached, now),
                    None => watched.meter.whole_answer(total, output, input, cached, prior, now),
                }
            }
            Verdict::Failed { fault: Fault::Backend | Fault::Quota, retry_after } => {
                // What one server of several asks for is not asked of the others.
                watched.meter.failure(retry_after.filter(|_| !others), now);
            }
            Verdict::Failed { .. } | Verdict::Unknown => {}
        }
        change
    }

    /// Logs that the account was parked: names and numbers, nothing that its vendor said.
    fn told_parked(&self, status: u16, wait: Duration) {
        let (backend, account) = (&self.state.backend.name, &self.berth.seat.name);
        tracing::warn!(%backend, %account, status, seconds = wait.as_secs(), "an account is left alone");
    }
}

/// What an attempt that ended so says of the candidate, and how its account is to be left alone. `others`: its pool has
/// other servers that serve.
fn judge(verdict: Verdict, others: bool) -> (Outcome, Option<Rest>) {
    match verdict {
        Verdict::Served => (Outcome::Success, None),
        Verdict::Unknown => (Outcome::Unknown, None),
        Verdict::Failed { fault, retry_after } => match fault {
            // The pool is as good as its other servers: one that is dead must not take them all out.
            Fault::Backend if others => (Outcome::Unknown, None),
            Fault::Backend => (Outcome::Failure, None),
            // It answered, whatever the answer was.
            Fault::Request => (Outcome::Success, None),
            Fault::Quota => (Outcome::Unknown, Some(retry_after.map_or(Rest::Eased(EASE), Rest::Parked))),
            Fault::Account => (Outcome::Unknown, Some(Rest::Parked(retry_after.unwrap_or(PARK)))),
        },
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.candidate.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.state.lineup.call();
        if !self.reported.load(Ordering::Relaxed) {
            // It was boarded and never sent: a probe must not be lost with it.
            let now = self.epoch.elapsed();
            self.left(End::Unknown, now);
            self.state.unqueue(self.queued);
            self.berth.ended(account::End::Other { tokens: 0 }, None, now);
            lock(&self.candidate.seen).breaker.report(self.permit, Outcome::Unknown, now);
        }
    }
}
