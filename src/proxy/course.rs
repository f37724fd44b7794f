//! The course of one request: decide, hold, attempt, and again until somebody answers or nobody is left.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{
    Gateway,
    admit::Ask,
    attempt::Failed,
    delivery::Delivery,
    explain::{self, Notes},
    funds::Funds,
    live::{Boarding, Missed},
    nobody::too_late,
    race::{Entrant, Race},
    refusal::Refusal,
    report,
    standing::Standing,
    switches::{self, Cut},
    toll::{self, Toll},
    wait::Stand,
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        failure::Fault,
        fences::{Fence, Unit},
        money::Money,
    },
    ledger::{Demand, HoldError, Order, row::switches::SwitchRow},
    policy::{
        Decision, Question, Ranked, Rejection, Unavailable,
        balance::ReplicaId,
        decide::decide,
        retry::{self, AttemptSeen, Next, StopReason},
        value,
    },
    telemetry::record::Made,
};

/// A course under way.
pub type Course = Pin<Box<dyn Future<Output = Result<Delivery, Refusal>> + Send>>;

/// Runs the course of an admitted request.
///
/// # Errors
/// The [`Refusal`] for the client; whatever was spent on the way is settled.
pub async fn run(gateway: Arc<Gateway>, mut ask: Box<Ask>) -> Result<Delivery, Refusal> {
    let team = Arc::clone(&ask.caller.team);
    let mut standing = standing(&gateway, &ask);
    let (mut funds, mut stand) = (Funds::default(), Stand::default());
    let held = loop {
        let decision = redecide(&gateway, &ask, &standing, &funds, &[]);
        if ask.arm.is_none() && decision.arm.is_some() {
            ask.deal(decision.arm.as_ref());
        }
        let Some(first) = decision.ranked.first() else {
            if funds.shorten(&team) {
                continue;
            }
            let refusal = match stand.wait(&gateway, &ask, &full(&decision, &[])).await {
                Ok(true) => continue,
                Ok(false) => funds.refusal(&decision).unwrap_or_else(|| gateway.nobody(&decision)),
                Err(refusal) => refusal,
            };
            gateway.judge_refused(&ask.live, &ask.route.name, ask.arm.as_ref(), refusal.code);
            break Err(refusal);
        };
        match gateway.ledger.hold(order(&ask, &decision, first), gateway.now()).await {
            Ok(hold) => break Ok((decision, hold)),
            Err(HoldError::Refused(why)) if funds.short(&team, first.candidate.id, &why, Money::ZERO) => {}
            Err(error) => break Err(Refusal::hold(&error)),
        }
    };
    standing = self::standing(&gateway, &ask);
    let (decision, hold) = held.map_err(|refusal| {
        report::refused(&gateway, &ask.id, &team.name, &ask.route.name, &refusal, Some(&ask));
        let arm = ask.arm.as_ref().map(|arm| arm.shared());
        refusal.standing(standing).decided(arm, explain::header(&ask, None))
    })?;
    let hedges = ask.live.hedges(&decision.route).cloned();
    let toll = Box::new(Toll::begin(&gateway, &ask, &decision, hold, hedges));
    ask.live.on_request(&decision.route);
    gateway.cast_shadow(&ask, &decision.route);
    let (seen, missed, tried, context_length) = (Vec::new(), Vec::new(), Vec::new(), false);
    Leg { gateway, ask, standing, stand, funds, decision, toll, seen, missed, tried, context_length }.go().await
}

pub(super) fn standing(gateway: &Gateway, ask: &Ask) -> Standing {
    Standing::of(&gateway.ledger, &ask.fences, gateway.now())
}

/// Those who could serve the request if they had a place. `missed`: who could not be boarded after all.
fn full(decision: &Decision, missed: &[(CandidateId, Missed)]) -> Vec<Arc<Candidate>> {
    let full = decision.rejected.iter().filter(|rejected| match rejected.why {
        Rejection::Unavailable(Unavailable::Full) => true,
        Rejection::Failed => missed.contains(&(rejected.candidate.id, Missed::Place)),
        _ => false,
    });
    full.map(|rejected| Arc::clone(&rejected.candidate)).collect()
}

/// What is held before the first attempt: in the fences of the request, of the arm that decided, and of the candidate.
fn order(ask: &Ask, decision: &Decision, first: &Ranked) -> Order {
    let arm = decision.arm.as_ref().and_then(|arm| ask.live.policies.routes.get(arm));
    let of_arm = arm.into_iter().flat_map(|arm| arm.fences.iter());
    let fences = ask.fences.iter().chain(of_arm).chain(first.candidate.fences()).cloned().collect();
    Order {
        request: ask.uuid,
        about: Arc::clone(&ask.about),
        first: toll::served(first, "".into()),
        fences,
        demand: demand(first, decision.ceiling),
        on_store_loss: ask.caller.team.on_store_loss,
        revision: ask.live.revision,
    }
}

/// What is set aside before an attempt by `ranked`: `money`, and its tokens.
pub(super) fn demand(ranked: &Ranked, money: Money) -> Demand {
    Demand { money, tokens: ranked.tokens(ranked.stake.output) }
}

pub(super) fn redecide(
    gateway: &Gateway,
    ask: &Ask,
    standing: &Standing,
    funds: &Funds,
    failed: &[CandidateId],
) -> Arc<Decision> {
    let budget = standing.budget;
    let question = Question {
        route: &ask.route,
        facts: &ask.chat.facts,
        caller: ask.policy_caller(),
        budget,
        // A price holds at the instant of the dispatch, so a later attempt is decided at a later one.
        now: gateway.now(),
        time_left: ask.time_left(),
        seed: ask.seed,
        failed,
        affordable: funds.purse,
        budgeted: ask.fences.iter().any(|fence| fence.unit == Unit::Money),
        exhausted: &funds.exhausted,
    };
    let switches = gateway.ledger.books().switches().load();
    let watching = ask.live.watching(ask.turn).of(&ask.chat.facts);
    let watching = watching.heeding(Arc::clone(&switches), question.now).dealt(ask.arm.as_ref());
    let notes = Notes::on(ask.trail.as_ref(), &watching);
    let decision = Arc::new(decide(&ask.live.policies, notes.observations(), &question));
    ask.live.note(&decision);
    gateway.metrics.rule_errors.inc_by(u64::from(decision.rule_errors));
    if let Some(trail) = &ask.trail {
        trail.add(Made {
            at: question.now,
            time_left: question.time_left,
            budget,
            fence: standing.tightest.and_then(|place| ask.fences.get(place)).map(|fence| Arc::clone(&fence.id)),
            budgeted: question.budgeted,
            failed: failed.to_vec(),
            exhausted: funds.exhausted.clone(),
            noted: notes.noted(),
            decision: Arc::clone(&decision),
        });
    }
    decision
}

/// The part of the course that has a hold.
pub(super) struct Leg {
    pub(super) gateway: Arc<Gateway>,
    // Boxed with the toll: the future of a course is moved whole, and both outlive most of it.
    pub(super) ask: Box<Ask>,
    pub(super) standing: Standing,
    stand: Stand,
    pub(super) funds: Funds,
    pub(super) decision: Arc<Decision>,
    pub(super) toll: Box<Toll>,
    /// Failed attempts in order.
    pub(super) seen: Vec<AttemptSeen>,
    /// Candidates that could not be boarded after all, since something changed after the decision.
    pub(super) missed: Vec<(CandidateId, Missed)>,
    /// Endpoints of the candidate under trial that failed.
    pub(super) tried: Vec<ReplicaId>,
    /// Somebody found the prompt too long.
    pub(super) context_length: bool,
}

impl Leg {
    async fn go(mut self) -> Result<Delivery, Refusal> {
        loop {
            let Some(ranked) = self.decision.ranked.first().cloned() else {
                if self.funds.shorten(&self.ask.caller.team) {
                    self.resolve();
                    continue;
                }
                if self.waited().await? {
                    continue;
                }
                let refusal = self.funds.refusal(&self.decision);
                return Err(self.give_up(refusal));
            };
            let boarded = self.ask.live.board(&ranked.candidate, &self.decision.route, &self.boarding(&ranked));
            let flight = match boarded {
                Ok(flight) => flight,
                Err(missed) => {
                    self.missed.push((ranked.candidate.id, missed));
                    self.resolve();
                    continue;
                }
            };
            self.stand.seated(&ranked.candidate.backend.name);
            let flight = flight.carrying(self.ask.turn, ranked.seen.warm_tokens);
            let demand = demand(&ranked, ranked.stake.first);
            let around: Vec<Arc<Fence>> = ranked.candidate.fences().cloned().collect();
            if let Err(error) = self.toll.cover(demand, &around).await {
                if self.is_short(&ranked, &error) {
                    self.resolve();
                    continue;
                }
                return Err(self.give_up(Some(Refusal::hold(&error))));
            }
            let cut = Cut::enter(&self.gateway, &self.ask.caller, &ranked.candidate);
            if let Some(row) = self.gateway.in_the_way(&self.ask.caller, &ranked.candidate) {
                self.leave(&row, &ranked)?;
                continue;
            }
            let entrant = Entrant::new(&ranked, &flight, cut);
            let thinking = value::thinks(&ranked.candidate.model, &self.ask.chat.facts);
            self.toll.dispatch(&ranked, flight, thinking);
            match self.race(entrant).await {
                Race::Given(given, entrant) => return Ok(self.deliver(given, entrant)),
                Race::Failed(failed, entrant) => self.after(failed, &entrant).await?,
                Race::Cut(row, entrant) => self.leave(&row, &entrant.ranked)?,
            }
        }
    }

    /// Goes elsewhere, since an operator has switched off what was about to answer or was answering; if that is the
    /// caller itself, nobody may.
    fn leave(&mut self, row: &SwitchRow, ranked: &Ranked) -> Result<(), Refusal> {
        self.toll.close(switches::ended(row));
        if switches::is_of_caller(row) {
            return Err(self.give_up(Some(switches::refusal(row))));
        }
        self.missed.push((ranked.candidate.id, Missed::Closed));
        self.resolve();
        Ok(())
    }

    /// Waits for a place where only a place is missing; whether there is a new decision.
    async fn waited(&mut self) -> Result<bool, Refusal> {
        let full = full(&self.decision, &self.missed);
        let (ask, stand) = (&self.ask, &mut self.stand);
        // Who finds a place that has come free a moment ago need not wait.
        let waited = if full.iter().any(|full| !ask.live.must_wait(full, ask.priority)) {
            Ok(true)
        } else {
            stand.wait(&self.gateway, ask, &full).await
        };
        match waited {
            Ok(true) => {
                self.missed.retain(|(missed, _)| full.iter().all(|full| full.id != *missed));
                self.resolve();
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(refusal) => Err(self.give_up(Some(refusal))),
        }
    }

    fn boarding(&self, ranked: &Ranked) -> Boarding<'_> {
        Boarding {
            chat: &self.ask.chat,
            affinity: [&self.ask.session, &self.ask.user, &self.ask.caller.key],
            // Another try draws anew.
            seed: self.ask.seed.wrapping_add(self.seen.len() as u64),
            tried: &self.tried,
            turn: self.ask.turn,
            tokens: ranked.expected_tokens(self.ask.chat.facts.answers),
            class: self.ask.priority,
            called: self.stand.at(),
            anyway: self.decision.last_resort,
        }
    }

    /// Takes in that there was no more to be held; whether a new decision may find a way.
    fn is_short(&mut self, ranked: &Ranked, error: &HoldError) -> bool {
        let HoldError::Refused(refused) = error else { return false };
        self.funds.short(&self.ask.caller.team, ranked.candidate.id, refused, self.toll.charged())
    }

    /// Puts a failed attempt in the books and picks the way on.
    async fn after(&mut self, failed: Failed, entrant: &Entrant) -> Result<(), Refusal> {
        let (ranked, endpoint) = (&entrant.ranked, entrant.endpoint);
        self.context_length |= failed.context_length;
        let elapsed = self.toll.close(failed.outcome.clone());
        let Some(seen) = failed.seen(ranked, elapsed) else {
            return Err(self.give_up(Some(too_late(self.toll.tried()))));
        };
        let (fault, verbatim) = (seen.fault, failed.verbatim);
        self.seen.push(seen);
        let at_rest = self.ask.live.is_at_rest(&ranked.candidate, endpoint, &entrant.account, fault);
        let mut budget = || self.ask.live.may_retry(&self.decision.route);
        let next = retry::next(&self.seen, &self.decision, at_rest, &mut budget, self.ask.time_left());
        match next {
            Next::Try { delay, .. } => {
                if fault == Fault::Backend {
                    self.tried.push(endpoint);
                }
                tokio::time::sleep(delay).await;
                self.toll.paused(delay);
                Ok(())
            }
            Next::Resolve => {
                self.resolve();
                Ok(())
            }
            Next::Stop(StopReason::Verdict) => Err(self.verdict(verbatim)),
            Next::Stop(StopReason::Deadline) => Err(self.give_up(Some(too_late(self.toll.tried())))),
            Next::Stop(StopReason::Attempts | StopReason::Budget | StopReason::NobodyLeft) => Err(self.give_up(None)),
        }
    }

    /// Decides again without those that failed, under the same floors.
    fn resolve(&mut self) {
        let mut out = retry::failed(&self.seen, &self.decision);
        out.extend(self.missed.iter().map(|(missed, _)| missed));
        self.tried.clear();
        self.decision = redecide(&self.gateway, &self.ask, &self.standing, &self.funds, &out);
    }
}
