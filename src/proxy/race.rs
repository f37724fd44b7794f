//! One attempt, and a second beside it where the first is overdue: whoever begins to answer first serves, the other is
//! cancelled and its bill is booked.
//!
//! A hedge is one of the request's attempts and goes where another attempt might: to another server of the same
//! candidate, else to the next candidate of a new decision under the same requirements. It is made while nothing has come
//! of the answer, within the budget of its route, and only if the hold covers both. An answer that an upstream gives whole
//! tells nothing before its end, so that only what is streamed is hedged.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    attempt::{Failed, Given, attempt, streams, whole},
    course::Leg,
    live::{Flight, Missed, lock},
    report,
    rival::{Rival, Search},
    switches::{self, Cut},
    toll::{Bill, Hedges, Lane, Outcome, Till, Verdict},
};
use crate::{
    base::{catalog::CandidateId, money::Money},
    ledger::row::switches::SwitchRow,
    policy::{Decision, Ranked, balance::ReplicaId, patience, retry::AttemptSeen, value},
};

/// Who makes an attempt.
pub(super) struct Entrant {
    /// The candidate with its terms.
    pub(super) ranked: Ranked,
    /// Which of its endpoints.
    pub(super) endpoint: ReplicaId,
    /// With which of its credentials.
    pub(super) account: Arc<str>,
    /// Ends it when an operator says so.
    pub(super) cut: Cut,
    /// Of a hedge: what is said of it if it serves.
    pub(super) overtook: Option<String>,
}

impl Entrant {
    /// The usual one.
    pub(super) fn new(ranked: &Ranked, flight: &Flight, cut: Cut) -> Self {
        let account = flight.account().name.shared();
        Self { ranked: ranked.clone(), endpoint: flight.endpoint(), account, cut, overtook: None }
    }
}

/// What came of it. The lane of the entrant that is named is the toll's, and is not closed.
pub(super) enum Race {
    /// Something that can be given to the client.
    Given(Given, Entrant),
    /// Nothing; whoever failed before it is among the leg's failed attempts.
    Failed(Failed, Entrant),
    /// An operator ended it.
    Cut(Arc<SwitchRow>, Entrant),
}

/// How one attempt ended, or which switch ended it.
type Ended = Result<Result<Given, Failed>, Arc<SwitchRow>>;

impl Race {
    fn of(ended: Ended, entrant: Entrant) -> Self {
        match ended {
            Ok(Ok(given)) => Self::Given(given, entrant),
            Ok(Err(failed)) => Self::Failed(failed, entrant),
            Err(row) => Self::Cut(row, entrant),
        }
    }
}

/// An attempt that runs alone, from here or from now on. It comes pinned: a future that is handed over lies twice in the
/// one that awaits it.
async fn alone(cut: &mut Cut, attempt: impl Future<Output = Result<Given, Failed>> + Unpin) -> Ended {
    tokio::select! {
        biased;
        row = cut => Err(row),
        given = attempt => Ok(given),
    }
}

/// What the first of two attempts to end came to.
enum First {
    Lead(Ended),
    Rival(Ended),
}

/// What a hedge was expected to cost, taken from its route's budget; what it did cost is told when this is dropped.
pub(super) struct Taken {
    hedges: Hedges,
    expected: Money,
    cost: Money,
}

impl Taken {
    /// Takes it, if it is there.
    pub(super) fn take(hedges: &Hedges, expected: Money) -> Option<Self> {
        let taken = lock(&hedges.budget).try_take(expected);
        taken.then(|| Self { hedges: hedges.clone(), expected, cost: Money::ZERO })
    }

    /// Ends the attempt that was one too many.
    fn pay(&mut self, till: &mut Till, lane: &mut Lane, outcome: Outcome) -> Duration {
        let before = till.charged();
        let elapsed = till.close(lane, outcome);
        self.cost = till.charged() - before;
        elapsed
    }

    /// Both run. Should the client go away now, it pays for both, and nobody asks any more which was one too many.
    fn begin(&mut self) {
        self.cost = self.expected;
    }

    /// It stands in for the attempt that failed, as another one would.
    fn cost_nothing(&mut self) {
        self.cost = Money::ZERO;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        lock(&self.hedges.budget).settle(self.expected, self.cost);
    }
}

/// The end of an attempt that another one has overtaken.
fn lost() -> Outcome {
    let message = "another attempt was ahead".to_owned();
    Outcome { label: "lost", status: 0, message, verdict: Verdict::Unknown, bill: Bill::Metered }
}

impl Leg {
    /// Makes the attempt whose lane is open, and a second if it becomes overdue.
    pub(super) async fn race(&mut self, mut entrant: Entrant) -> Race {
        let began = Instant::now();
        let next = self.next_after(&entrant.ranked);
        let race = match self.overdue_after(&entrant.ranked) {
            // It is rare, and large: no other request makes room for it.
            Some(after) => Box::pin(self.hedged(entrant, after, next)).await,
            None => {
                let ended = {
                    let attempt = pin!(attempt(&self.ask, &entrant.ranked, next, self.toll.lane()));
                    alone(&mut entrant.cut, attempt).await
                };
                Race::of(ended, entrant)
            }
        };
        let race = match race {
            Race::Given(given @ Given::Parts(..), mut entrant) => {
                let ended = {
                    let whole = pin!(whole(given, &mut self.toll));
                    alone(&mut entrant.cut, whole).await
                };
                Race::of(ended, entrant)
            }
            race => race,
        };
        self.toll.paused(began.elapsed());
        race
    }

    /// When an attempt by `ranked` is overdue; `None` where nobody hedges it.
    fn overdue_after(&mut self, ranked: &Ranked) -> Option<Duration> {
        let hedge = self.ask.live.policies.routes.get(&self.decision.route)?.hedge?;
        let may = self.toll.attempts() < usize::try_from(self.decision.attempts).unwrap_or(usize::MAX);
        let streams = streams(&self.ask, ranked, self.toll.lane().flight()?.provider());
        hedge.overdue_after(ranked.seen.first_token_p95).filter(|_| may && streams)
    }

    /// When the one that would follow is expected to answer, where the request has a deadline.
    fn next_after(&self, ranked: &Ranked) -> Option<Duration> {
        self.ask.first_byte_by()?;
        patience::next(&self.seen, &self.decision, ranked, self.ask.chat.facts.stream)
    }

    async fn hedged(&mut self, mut lead: Entrant, after: Duration, next: Option<Duration>) -> Race {
        let ask = &*self.ask;
        let search = Search {
            gateway: &self.gateway,
            ask,
            decision: &self.decision,
            funds: &self.funds,
            standing: &self.standing,
            seen: &self.seen,
            missed: &self.missed,
            tried: &self.tried,
        };
        let (lane, second, till) = self.toll.split();
        let mut first = Box::pin(attempt(ask, &lead.ranked, next, lane));
        let place = (&lead.ranked, lead.endpoint);
        let rival = match engage(&search, place, &mut lead.cut, after, till, &mut first).await {
            Ok(rival) => rival,
            Err(Some(ended)) => {
                drop(first);
                return Race::of(ended, lead);
            }
            Err(None) => return Race::of(alone(&mut lead.cut, first).await, lead),
        };
        let Rival { entrant: mut rival, flight, mut taken, decision: elsewhere } = rival;
        let thinking = value::thinks(&rival.ranked.candidate.model, &ask.chat.facts);
        till.dispatch(second, &rival.ranked, flight, thinking, true);
        taken.begin();
        let mut other = Box::pin(attempt(ask, &rival.ranked, None, second));
        let ended = tokio::select! {
            biased;
            ended = alone(&mut lead.cut, &mut first) => First::Lead(ended),
            ended = alone(&mut rival.cut, &mut other) => First::Rival(ended),
        };
        let mut left = Aftermath::default();
        let race = match ended {
            First::Lead(ended) if leaves_rival(&ended) => {
                drop(first);
                taken.cost_nothing();
                let elapsed = till.close(lane, over(&ended));
                left.lead_failed(&ended, &lead, elapsed, elsewhere);
                let ended = alone(&mut rival.cut, other).await;
                self.toll.promote();
                Race::of(ended, rival)
            }
            First::Lead(ended) => {
                drop((first, other));
                taken.pay(till, second, lost());
                left.word = "lost";
                Race::of(ended, lead)
            }
            First::Rival(Ok(Ok(given))) => {
                drop((first, other));
                lane.outrun();
                taken.pay(till, lane, lost());
                self.toll.promote();
                left.word = "won";
                Race::Given(given, rival)
            }
            First::Rival(ended) => {
                drop(other);
                left.rival_failed(&ended, &rival.ranked, taken.pay(till, second, over(&ended)));
                Race::of(alone(&mut lead.cut, first).await, lead)
            }
        };
        self.take_in(left);
        race
    }

    fn take_in(&mut self, left: Aftermath) {
        report::hedge(&self.gateway.metrics, &self.decision.route, left.word);
        self.seen.extend(left.seen);
        self.missed.extend(left.missed.into_iter().map(|missed| (missed, Missed::Closed)));
        self.tried.extend(left.tried);
        // Who follows the second is picked by the decision that it came from.
        if let Some(decision) = left.decision {
            self.decision = decision;
            self.tried.clear();
        }
    }
}

/// What two attempts leave behind beside what came of them.
#[derive(Default)]
struct Aftermath {
    /// What became of the hedge, for metrics.
    word: &'static str,
    seen: Option<AttemptSeen>,
    missed: Option<CandidateId>,
    tried: Option<ReplicaId>,
    decision: Option<Arc<Decision>>,
}

impl Aftermath {
    /// The first failed or was ended and the second is left, on another server or by another decision.
    fn lead_failed(&mut self, ended: &Ended, lead: &Entrant, elapsed: Duration, elsewhere: Option<Arc<Decision>>) {
        self.word = "saved";
        match ended {
            Ok(Err(failed)) => {
                self.seen = failed.seen(&lead.ranked, elapsed);
                self.tried = Some(lead.endpoint);
            }
            Ok(Ok(_)) | Err(_) => self.missed = Some(lead.ranked.candidate.id),
        }
        self.decision = elsewhere;
    }

    /// The second failed or was ended, and the first is left.
    fn rival_failed(&mut self, ended: &Ended, ranked: &Ranked, elapsed: Duration) {
        self.word = "failed";
        match ended {
            Ok(Err(failed)) => self.seen = failed.seen(ranked, elapsed),
            Ok(Ok(_)) | Err(_) => self.missed = Some(ranked.candidate.id),
        }
    }
}

/// Whether an attempt that ended so leaves the other one to answer: it gave nothing, and that is no verdict on the
/// request, nor on who asks.
fn leaves_rival(ended: &Ended) -> bool {
    match ended {
        Ok(Ok(_)) => false,
        Ok(Err(failed)) => failed.leaves_others(),
        Err(row) => !switches::is_of_caller(row),
    }
}

/// The end of an attempt that gave nothing.
fn over(ended: &Ended) -> Outcome {
    match ended {
        Ok(Err(failed)) => failed.outcome.clone(),
        Err(row) => switches::ended(row),
        Ok(Ok(_)) => lost(),
    }
}

/// Waits until the attempt is overdue and finds a second one. `Err` with how the attempt ended meanwhile, or with `None`
/// where it goes on alone.
async fn engage(
    search: &Search<'_>,
    (ranked, endpoint): (&Ranked, ReplicaId),
    cut: &mut Cut,
    after: Duration,
    till: &mut Till,
    first: &mut (impl Future<Output = Result<Given, Failed>> + Unpin),
) -> Result<Rival, Option<Ended>> {
    let found = async {
        tokio::time::sleep(after).await;
        search.rival(ranked, endpoint, after, till).await
    };
    let found = tokio::select! {
        biased;
        ended = alone(cut, first) => return Err(Some(ended)),
        found = found => found,
    };
    found.map_err(|word| {
        report::hedge(&search.gateway.metrics, &search.decision.route, word);
        None
    })
}
