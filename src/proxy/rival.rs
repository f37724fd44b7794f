//! Who makes a second attempt beside one that is overdue.

use std::{sync::Arc, time::Duration};

use super::{
    Gateway,
    admit::Ask,
    course::{demand, redecide},
    funds::Funds,
    live::{Boarding, Flight, Missed},
    race::{Entrant, Taken},
    standing::Standing,
    switches::Cut,
    toll::Till,
};
use crate::{
    base::{catalog::CandidateId, fences::Fence},
    policy::{
        Decision, Ranked,
        balance::ReplicaId,
        retry::{self, AttemptSeen},
    },
};

/// What the search looks at: the state of the request's course.
pub(super) struct Search<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) ask: &'a Ask,
    pub(super) decision: &'a Decision,
    pub(super) funds: &'a Funds,
    pub(super) standing: &'a Standing,
    pub(super) seen: &'a [AttemptSeen],
    pub(super) missed: &'a [(CandidateId, Missed)],
    pub(super) tried: &'a [ReplicaId],
}

/// Somebody who is ready to go.
pub(super) struct Rival {
    pub(super) entrant: Entrant,
    pub(super) flight: Flight,
    /// What it is expected to cost.
    pub(super) taken: Taken,
    /// Where it is another candidate: the decision for it.
    pub(super) decision: Option<Arc<Decision>>,
}

impl Search<'_> {
    /// Finds a second for an attempt by `lead` on its `endpoint`, which is overdue after `after`, and sets aside what both
    /// may cost.
    ///
    /// # Errors
    /// The word for metrics that says why there is none: `nobody`, `no_budget`, `no_hold`, `pressed` (there is
    /// too little for all).
    pub(super) async fn rival(
        &self,
        lead: &Ranked,
        endpoint: ReplicaId,
        after: Duration,
        till: &mut Till,
    ) -> Result<Rival, &'static str> {
        if self.gateway.gate.is_pressed() {
            return Err("pressed");
        }
        let (ranked, flight, decision) = self.replica(lead, endpoint).or_else(|| self.other(lead)).ok_or("nobody")?;
        let (live, route) = (&self.ask.live, &self.decision.route);
        let hedges = live.hedges(route).ok_or("nobody")?;
        let taken = Taken::take(hedges, ranked.terms.cost).ok_or("no_budget")?;
        if !live.may_hedge(route) {
            return Err("no_budget");
        }
        let both = demand(lead, lead.stake.first).plus(demand(&ranked, ranked.stake.first));
        let around: Vec<Arc<Fence>> = ranked.candidate.fences().cloned().collect();
        if let Some(top_up) = till.top_up(both, &around) {
            let raised = top_up.await.map_err(|_| "no_hold")?;
            till.raise(raised);
        }
        let cut = Cut::enter(self.gateway, &self.ask.caller, &ranked.candidate);
        if self.gateway.in_the_way(&self.ask.caller, &ranked.candidate).is_some() {
            return Err("nobody");
        }
        let overtook =
            format!("hedge: {} had not begun to answer after {} ms", lead.candidate.label(), after.as_millis());
        let entrant = Entrant { overtook: Some(overtook), ..Entrant::new(&ranked, &flight, cut) };
        Ok(Rival { entrant, flight, taken, decision })
    }

    /// Another server of the same candidate: the same model at the same price.
    fn replica(&self, lead: &Ranked, endpoint: ReplicaId) -> Option<(Ranked, Flight, Option<Arc<Decision>>)> {
        if lead.seen.servers.is_none_or(|servers| servers < 2) {
            return None;
        }
        let tried: Vec<ReplicaId> = self.tried.iter().copied().chain([endpoint]).collect();
        let flight = self.board(lead, &tried).filter(|flight| !tried.contains(&flight.endpoint()))?;
        Some((lead.clone(), flight, None))
    }

    /// The next candidate, decided anew: under the same requirements, at the price of now, in the time that is left.
    fn other(&self, lead: &Ranked) -> Option<(Ranked, Flight, Option<Arc<Decision>>)> {
        let mut out = retry::failed(self.seen, self.decision);
        out.extend(self.missed.iter().map(|(missed, _)| missed));
        out.push(lead.candidate.id);
        let decision = redecide(self.gateway, self.ask, self.standing, self.funds, &out);
        let first = decision.ranked.first().filter(|_| !decision.last_resort)?.clone();
        let flight = self.board(&first, &[])?;
        Some((first, flight, Some(decision)))
    }

    fn board(&self, ranked: &Ranked, tried: &[ReplicaId]) -> Option<Flight> {
        let boarding = Boarding {
            turn: self.ask.turn,
            tokens: ranked.expected_tokens(self.ask.chat.facts.answers),
            chat: &self.ask.chat,
            affinity: [&self.ask.session, &self.ask.user, &self.ask.caller.key],
            // Another attempt draws anew.
            seed: self.ask.seed.wrapping_sub(1 + self.seen.len() as u64),
            tried,
            class: self.ask.priority,
            called: None,
            anyway: false,
        };
        let flight = self.ask.live.board(&ranked.candidate, &self.decision.route, &boarding).ok()?;
        Some(flight.carrying(self.ask.turn, ranked.seen.warm_tokens))
    }
}
