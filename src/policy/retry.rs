//! After a failed attempt: who is tried next, after which delay, or why nobody is.
//!
//! [`next`] never walks the old list: it says `Resolve`, and the decision is made again without those that failed,
//! under the same floors and with the time that is left. Only another replica or account of the same candidate, or a
//! second try of a sole candidate, is a plain [`Next::Try`].

use std::time::Duration;

use super::{Decision, Ranked, Rejection, Unavailable};
use crate::base::{
    catalog::{Candidate, CandidateId},
    failure::{Class, Fault},
};

/// The first wait before a sole candidate is tried again; it doubles with every attempt.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest wait: beyond it, the client decides better than the gateway.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// One failed attempt of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptSeen {
    /// Who was tried.
    pub candidate: CandidateId,
    /// Where the request may go.
    pub class: Class,
    /// Whose fault it was.
    pub fault: Fault,
    /// How long the backend asked to be left alone.
    pub retry_after: Option<Duration>,
    /// How long the attempt took.
    pub elapsed: Duration,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try this candidate after this delay: the same one, on another replica or account where it has one.
    Try {
        /// The candidate.
        candidate: CandidateId,
        /// How long to wait before.
        delay: Duration,
    },
    /// Decide again without [`failed`].
    Resolve,
    /// Stop, and tell the client why.
    Stop(StopReason),
}

/// Why nobody is tried any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The failure is an answer: nobody else would give another one.
    Verdict,
    /// As many attempts were made as the route allows.
    Attempts,
    /// Somebody could be tried, but the route's budget of retries is spent: more would make an overload worse.
    Budget,
    /// The time limit of the request is reached.
    Deadline,
    /// Nobody else is able, and the one that failed cannot be tried again in time.
    NobodyLeft,
}

/// What to do after the last of `attempts` failed. `budget` is [`RetryBudget::try_take`] of the route: it is asked once,
/// and only when there is somebody to try, so that an attempt that is not made takes nothing. `time_left` is what the
/// request's time limit leaves, `None` = no limit.
///
/// `at_rest` says that nobody is sent for now to where the last attempt failed: its breaker is open, its account parked,
/// its replica shunned. To go elsewhere from there costs the budget nothing, for only those can who were under way when it
/// closed. Where all are closed and one is tried as a last resort, everybody pays.
pub fn next(
    attempts: &[AttemptSeen],
    decision: &Decision,
    at_rest: bool,
    budget: &mut dyn FnMut() -> bool,
    time_left: Option<Duration>,
) -> Next {
    match way_on(attempts, decision, time_left) {
        next @ Next::Stop(_) => next,
        next if at_rest && !decision.last_resort && next.leads_elsewhere() => next,
        _ if !budget() => Next::Stop(StopReason::Budget),
        next => next,
    }
}

impl Next {
    /// To another candidate, or to a replica or account of the same one that this request has not tried.
    fn leads_elsewhere(self) -> bool {
        matches!(self, Next::Resolve | Next::Try { delay: Duration::ZERO, .. })
    }
}

/// [`next`] as if the budget allowed everything.
pub(super) fn way_on(attempts: &[AttemptSeen], decision: &Decision, time_left: Option<Duration>) -> Next {
    let Some(last) = attempts.last() else { return Next::Resolve };
    if last.class == Class::Never {
        return Next::Stop(StopReason::Verdict);
    }
    let allowed = usize::try_from(decision.attempts).unwrap_or(usize::MAX);
    let left = allowed.saturating_sub(attempts.len());
    if left == 0 {
        return Next::Stop(StopReason::Attempts);
    }
    if time_left == Some(Duration::ZERO) {
        return Next::Stop(StopReason::Deadline);
    }
    let failed = failed(attempts, decision);
    let other = decision.ranked.iter().any(|ranked| !failed.contains(&ranked.candidate.id));
    let mine = decision.ranked.iter().find(|mine| mine.candidate.id == last.candidate);
    // The last attempt is another candidate's if there is one: a backend with as many dead replicas as there are
    // attempts must not keep a healthy one from answering.
    let stay = last.class == Class::Elsewhere && !(other && left == 1);
    if stay && mine.is_some_and(|mine| has_another(mine, attempts, last.fault)) {
        return Next::Try { candidate: last.candidate, delay: Duration::ZERO };
    }
    if other || may_come_back(decision, &failed) {
        return Next::Resolve;
    }
    again(attempts, last, mine.map(|mine| &*mine.candidate), time_left)
}

/// The candidates that the next decision must leave out: those that failed; where a model could not serve the
/// request, that model on every backend.
pub fn failed(attempts: &[AttemptSeen], decision: &Decision) -> Vec<CandidateId> {
    let mut failed: Vec<CandidateId> = attempts.iter().map(|attempt| attempt.candidate).collect();
    let known = || {
        let rejected = decision.rejected.iter().map(|rejected| &rejected.candidate);
        decision.ranked.iter().map(|ranked| &ranked.candidate).chain(rejected)
    };
    for attempt in attempts.iter().filter(|attempt| attempt.class == Class::NotHere) {
        let Some(unable) = known().find(|candidate| candidate.id == attempt.candidate) else { continue };
        failed.extend(known().filter(|other| other.model.name == unable.model.name).map(|other| other.id));
    }
    failed.sort_unstable();
    failed.dedup();
    failed
}

/// Whether the candidate has a replica (for a broken one) or an account (for a quota, a bill or a key) that this
/// request has not tried.
fn has_another(mine: &Ranked, attempts: &[AttemptSeen], fault: Fault) -> bool {
    let candidate = &mine.candidate;
    let places = match fault {
        Fault::Backend => mine.seen.servers.map_or(candidate.backend.endpoints.len(), |servers| servers as usize),
        Fault::Quota | Fault::Account => candidate.backend.accounts.len(),
        Fault::Request => 1,
    };
    let tried = attempts.iter().filter(|attempt| attempt.candidate == candidate.id).count();
    tried < places
}

/// Whether the candidate has an account that this request has not seen turned away.
fn has_free_account(candidate: &Candidate, attempts: &[AttemptSeen]) -> bool {
    let of_account = |attempt: &&AttemptSeen| matches!(attempt.fault, Fault::Quota | Fault::Account);
    let turned_away = attempts.iter().filter(|attempt| attempt.candidate == candidate.id).filter(of_account).count();
    turned_away < candidate.backend.accounts.len()
}

/// Whether somebody would be tried if nobody else is left: as a last resort for an open breaker, or though expected late.
fn may_come_back(decision: &Decision, failed: &[CandidateId]) -> bool {
    decision.rejected.iter().any(|rejected| {
        matches!(
            rejected.why,
            Rejection::Unavailable(Unavailable::Broken(_) | Unavailable::NotReady | Unavailable::Crowded)
                | Rejection::Deadline { .. }
        ) && !failed.contains(&rejected.candidate.id)
    })
}

/// The sole candidate once more, if it is worth it and in time.
fn again(attempts: &[AttemptSeen], last: &AttemptSeen, mine: Option<&Candidate>, time_left: Option<Duration>) -> Next {
    let worth_it = last.class == Class::Elsewhere
        && match last.fault {
            Fault::Backend => true,
            // Without a word on how long, its account is parked for longer than any wait here.
            Fault::Quota => last.retry_after.is_some() || mine.is_some_and(|mine| has_free_account(mine, attempts)),
            Fault::Account | Fault::Request => false,
        };
    let doublings = u32::try_from(attempts.len().saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let delay = last.retry_after.unwrap_or(FIRST_DELAY.saturating_mul(1 << doublings));
    if !worth_it || delay > LONGEST_DELAY {
        return Next::Stop(StopReason::NobodyLeft);
    }
    if time_left.is_some_and(|left| delay >= left) {
        return Next::Stop(StopReason::Deadline);
    }
    Next::Try { candidate: last.candidate, delay }
}

/// The budget of retries of one route: 20 % of its requests and 10 a second beside, so that retries never multiply
/// an outage. A token bucket in thousandths of a retry, on a given clock.
///
/// It pays for failures that go on and open no breaker; the breaker opens where they pass the same 20 %, so that with a
/// healthy candidate beside it the budget is not what fails a request. What is under way when something breaks at once
/// goes elsewhere beyond it ([`next`]).
#[derive(Clone, Debug)]
pub struct RetryBudget {
    milli: u64,
    filled: Duration,
}

/// What one request adds.
const PER_REQUEST: u64 = 200;
/// What one second adds.
const PER_SECOND: u64 = 10_000;
/// What one retry takes.
const RETRY: u64 = 1_000;
/// The most that can be saved up: ten seconds' worth.
const SAVED: u64 = 10 * PER_SECOND;

impl Default for RetryBudget {
    fn default() -> Self {
        // Full: nothing has failed yet, and the first burst of failures is what failover is for.
        Self { milli: SAVED, filled: Duration::ZERO }
    }
}

impl RetryBudget {
    /// A request came.
    pub fn on_request(&mut self, now: Duration) {
        self.fill(now);
        self.milli = (self.milli + PER_REQUEST).min(SAVED);
    }

    /// Takes one retry, if there is one.
    pub fn try_take(&mut self, now: Duration) -> bool {
        self.fill(now);
        let left = self.milli.checked_sub(RETRY);
        self.milli = left.unwrap_or(self.milli);
        left.is_some()
    }

    /// Takes one for a hedge, if more than half of what can be saved up is there: hedges never leave failures without.
    pub fn try_spare(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.milli > SAVED / 2 && self.try_take(now)
    }

    /// What is saved up, in thousandths of a retry.
    pub fn left_milli(&mut self, now: Duration) -> u64 {
        self.fill(now);
        self.milli
    }

    fn fill(&mut self, now: Duration) {
        let passed = u64::try_from(now.saturating_sub(self.filled).as_millis()).unwrap_or(u64::MAX);
        let added = passed.min(60_000) * PER_SECOND / 1_000;
        if added > 0 {
            self.milli = (self.milli + added).min(SAVED);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests;
