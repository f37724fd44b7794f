//! The course of one request: decide, hold, attempt, and again until somebody answers or nobody is left.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Gateway,
    admit::Ask,
    attempt::{Failed, Given, attempt},
    head::Head,
    refusal::{Code, Refusal},
    relay::Relay,
    report,
    toll::{self, Bill, Outcome, Toll, Verdict},
};
use crate::{
    base::{catalog::CandidateId, failure::Fault, fences::Unit, money::Money},
    ledger::{Demand, Order},
    policy::{
        BudgetSeen, Decision, Question, Ranked, Rejection, Unavailable,
        decide::decide,
        retry::{self, AttemptSeen, Next, StopReason},
        value,
    },
};

/// What a request's course ends in.
pub enum Delivery {
    /// A whole answer; it is settled.
    Plain {
        /// Its headers.
        head: Head,
        /// Its body.
        body: Bytes,
    },
    /// A stream that has begun.
    Stream {
        /// Its headers.
        head: Head,
        /// The rest.
        relay: Box<Relay>,
    },
}

/// A course under way.
pub type Course = Pin<Box<dyn Future<Output = Result<Delivery, Refusal>> + Send>>;

/// Runs the course of an admitted request.
///
/// # Errors
/// The [`Refusal`] for the client; whatever was spent on the way is settled.
pub async fn run(gateway: Arc<Gateway>, ask: Box<Ask>) -> Result<Delivery, Refusal> {
    let refused = |gateway: &Gateway, refusal: Refusal| {
        report::refused(gateway, &ask.id, &ask.caller.team.name, &ask.route.name, &refusal);
        refusal
    };
    let budget = tightest(&gateway, &ask);
    let decision = redecide(&gateway, &ask, budget, &[]);
    if decision.ranked.is_empty() {
        return Err(refused(&gateway, nobody(&decision)));
    }
    let order = Order {
        request: ask.uuid,
        about: Arc::clone(&ask.about),
        first: toll::served(&decision.ranked[0], "".into()),
        fences: ask.fences.clone(),
        demand: demand(&decision.ranked[0], decision.ceiling),
        on_store_loss: ask.caller.team.on_store_loss,
    };
    let hold = gateway.ledger.hold(order, gateway.now()).await;
    let hold = hold.map_err(|error| refused(&gateway, Refusal::hold(&error)))?;
    let toll = Box::new(Toll::begin(&gateway, &ask, &decision, hold));
    ask.live.on_request(&decision.route);
    let (seen, missed, tried, context_length) = (Vec::new(), Vec::new(), Vec::new(), false);
    Leg { gateway, ask, budget, decision, toll, seen, missed, tried, context_length }.go().await
}

/// The tightest budget of money, for rules.
fn tightest(gateway: &Gateway, ask: &Ask) -> BudgetSeen {
    let now = gateway.now();
    let budgets = ask.fences.iter().filter(|fence| fence.unit == Unit::Money);
    let seen = budgets.map(|fence| {
        let level = gateway.ledger.level(fence, now);
        let used_ppm = share_ppm(level.used(), fence.cap);
        let pace_ppm = used_ppm.saturating_mul(1_000_000) / level.window.elapsed_ppm(now);
        let left = Money::from_nanousd(fence.cap.saturating_sub(level.used()).max(0));
        BudgetSeen { used_ppm, left: Some(left), pace_ppm }
    });
    seen.max_by_key(|seen| seen.used_ppm).unwrap_or_default()
}

fn share_ppm(part: i64, whole: i64) -> u64 {
    u64::try_from(i128::from(part).max(0) * 1_000_000 / i128::from(whole).max(1)).unwrap_or(u64::MAX)
}

/// What is set aside before an attempt by `ranked`: `money`, and its tokens.
fn demand(ranked: &Ranked, money: Money) -> Demand {
    Demand { money, tokens: ranked.tokens(ranked.stake.output) }
}

fn redecide(gateway: &Gateway, ask: &Ask, budget: BudgetSeen, failed: &[CandidateId]) -> Decision {
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
        affordable: None,
    };
    let decision = decide(&ask.live.policies, ask.live.as_ref(), &question);
    gateway.metrics.rule_errors.inc_by(u64::from(decision.rule_errors));
    decision
}

/// The part of the course that has a hold.
struct Leg {
    gateway: Arc<Gateway>,
    // Boxed with the toll: the future of a course is moved whole, and both outlive most of it.
    ask: Box<Ask>,
    budget: BudgetSeen,
    decision: Decision,
    toll: Box<Toll>,
    /// Failed attempts in order.
    seen: Vec<AttemptSeen>,
    /// Candidates that could not be boarded after all: their place was taken since the decision.
    missed: Vec<CandidateId>,
    /// Endpoints of the candidate under trial that failed.
    tried: Vec<usize>,
    /// Somebody found the prompt too long.
    context_length: bool,
}

impl Leg {
    async fn go(mut self) -> Result<Delivery, Refusal> {
        loop {
            let Some(ranked) = self.decision.ranked.first().cloned() else {
                return Err(self.give_up(None));
            };
            let Some(flight) =
                self.ask.live.board(&ranked.candidate, &self.decision.route, &self.tried, self.decision.last_resort)
            else {
                self.missed.push(ranked.candidate.id);
                self.resolve();
                continue;
            };
            let demand = demand(&ranked, ranked.stake.first);
            if let Err(error) = self.toll.cover(demand, &[]).await {
                return Err(self.give_up(Some(Refusal::hold(&error))));
            }
            let (account, endpoint) = (flight.account().name.clone(), flight.endpoint());
            let thinking = value::thinks(&ranked.candidate.model, &self.ask.chat.facts);
            self.toll.dispatch(&ranked, flight, thinking);
            match attempt(&self.ask, &ranked, &mut self.toll).await {
                Ok(given) => return Ok(self.deliver(given, &ranked, &account)),
                Err(failed) => self.after(failed, &ranked, endpoint).await?,
            }
        }
    }

    /// Puts a failed attempt in the books and picks the way on.
    async fn after(&mut self, failed: Failed, ranked: &Ranked, endpoint: usize) -> Result<(), Refusal> {
        let Failed { outcome, class, context_length, verbatim } = failed;
        let verdict = outcome.verdict;
        self.context_length |= context_length;
        let elapsed = self.toll.close(outcome);
        let (Some(class), Verdict::Failed { fault, retry_after }) = (class, verdict) else {
            return Err(self.give_up(Some(Refusal::new(Code::DeadlineExceeded, "the request's deadline passed"))));
        };
        self.seen.push(AttemptSeen { candidate: ranked.candidate.id, class, fault, retry_after, elapsed });
        let mut budget = || self.ask.live.may_retry(&self.decision.route);
        let next = retry::next(&self.seen, &self.decision, &mut budget, self.ask.time_left());
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
            Next::Stop(StopReason::Deadline) => {
                Err(self.give_up(Some(Refusal::new(Code::DeadlineExceeded, "the request's deadline passed"))))
            }
            Next::Stop(StopReason::Attempts | StopReason::Budget | StopReason::NobodyLeft) => Err(self.give_up(None)),
        }
    }

    /// Decides again without those that failed, under the same floors.
    fn resolve(&mut self) {
        let mut out = retry::failed(&self.seen, &self.decision);
        out.extend(&self.missed);
        self.tried.clear();
        self.decision = redecide(&self.gateway, &self.ask, self.budget, &out);
    }

    fn deliver(mut self, given: Given, ranked: &Ranked, account: &str) -> Delivery {
        let reason = self.decision.reason();
        self.toll.won(ranked, account, &reason);
        let mut head = Head::new(&self.ask, &self.decision, ranked, account, reason, self.toll.attempts());
        match given {
            Given::Plain(body) => {
                let (label, verdict, bill) = ("ok", Verdict::Served, Bill::Metered);
                self.toll.close(Outcome { label, status: 200, message: String::new(), verdict, bill });
                head.cost = Some(self.toll.charged());
                self.toll.first_byte(200);
                self.toll.settle("", "whole");
                head.budget_left = self.toll.left();
                Delivery::Plain { head, body }
            }
            Given::Stream(opening) => {
                self.toll.first_byte(200);
                Delivery::Stream { head, relay: Box::new(Relay::new(*opening, self.toll)) }
            }
        }
    }

    /// The upstream's own verdict on the request goes to the client as it is.
    fn verdict(&mut self, verbatim: Option<(http::StatusCode, Bytes)>) -> Refusal {
        let mut refusal = self.exhausted();
        if verbatim.is_some() {
            refusal = Refusal { verbatim, ..Refusal::new(Code::InvalidRequest, refusal.message) };
        }
        self.end(refusal)
    }

    /// Nobody is left, or `why`.
    fn give_up(&mut self, why: Option<Refusal>) -> Refusal {
        let refusal = why.unwrap_or_else(|| self.exhausted());
        self.end(refusal)
    }

    fn end(&mut self, refusal: Refusal) -> Refusal {
        report::refusal(&self.gateway.metrics, &self.ask.caller.team.name, refusal.code.as_str());
        self.toll.first_byte(refusal.status().as_u16());
        let attempts = self.toll.attempts();
        self.toll.settle(refusal.code.as_str(), "failed");
        Refusal { attempts, ..refusal }
    }

    /// Every attempt failed: each is listed with its reason.
    fn exhausted(&self) -> Refusal {
        let tried = self.toll.tried();
        if tried.is_empty() {
            return nobody(&self.decision);
        }
        let attempts: Vec<Value> = tried
            .iter()
            .map(|row| {
                json!({
                    "model": row.model.as_ref(),
                    "backend": row.backend.as_ref(),
                    "outcome": row.outcome,
                    "status": row.upstream_status,
                    "message": row.message,
                })
            })
            .collect();
        if self.context_length {
            let message = "the prompt is too long for every candidate that could be asked";
            return Refusal::new(Code::ContextLengthExceeded, message).param("messages").detail("attempts", attempts);
        }
        if self.seen.iter().all(|attempt| attempt.fault == Fault::Quota) {
            let wait = self.seen.iter().filter_map(|attempt| attempt.retry_after).min();
            let message = "every upstream that could be asked is at its limit";
            return Refusal::new(Code::NoCandidate, message).retry_after(wait).detail("attempts", attempts);
        }
        let listed: Vec<String> = tried
            .iter()
            .map(|row| format!("{}@{}: {} ({})", row.model, row.backend, row.outcome, row.message))
            .collect();
        let message = format!("every attempt failed: {}", listed.join("; "));
        Refusal::new(Code::UpstreamError, message).detail("attempts", attempts)
    }
}

/// Nobody may be tried: the refusal that fits what stands in the way of all.
fn nobody(decision: &Decision) -> Refusal {
    let all = |test: fn(&Rejection) -> bool| decision.rejected.iter().all(|rejected| test(&rejected.why));
    let any = |test: fn(&Rejection) -> bool| decision.rejected.iter().any(|rejected| test(&rejected.why));
    let listed: Vec<String> =
        decision.rejected.iter().map(|rejected| format!("{}: {}", rejected.candidate.label(), rejected.why)).collect();
    let of_request = |why: &Rejection| {
        matches!(
            why,
            Rejection::Location { .. } | Rejection::Lacks(_) | Rejection::Context { .. } | Rejection::NoPrice { .. }
        )
    };
    let late = |why: &Rejection| matches!(why, Rejection::Deadline { .. });
    let code = if any(late) && !any(|why| matches!(why, Rejection::Unavailable(_))) {
        Code::DeadlineExceeded
    } else if decision.rejected.is_empty() || !all(of_request) {
        Code::NoCandidate
    } else if any(|why| matches!(why, Rejection::Context { .. })) {
        Code::ContextLengthExceeded
    } else if any(|why| matches!(why, Rejection::Lacks(_))) {
        Code::UnsupportedParameter
    } else if any(|why| matches!(why, Rejection::NoPrice { .. })) {
        Code::ModelHasNoPrice
    } else {
        Code::LocationNotAllowed
    };
    let message = format!("no candidate of route `{}` may serve this request: {}", decision.route, listed.join("; "));
    let rejected: Vec<Value> = decision
        .rejected
        .iter()
        .map(|rejected| json!({"candidate": rejected.candidate.label(), "reason": rejected.why.to_string()}))
        .collect();
    let refusal = Refusal::new(code, message).detail("rejected", rejected);
    let soonest = decision.rejected.iter().filter_map(|rejected| match rejected.why {
        Rejection::Unavailable(Unavailable::Broken(wait) | Unavailable::Parked(wait)) => Some(wait),
        _ => None,
    });
    if code == Code::NoCandidate { refusal.retry_after(soonest.min()) } else { refusal }
}
