//! What has been seen, as decisions ask for it: of every candidate, and of one conversation's.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    Live, lock,
    warm::{Place, Turn},
};
use crate::{
    base::{catalog::Candidate, facts::Facts, names::RouteName},
    ledger::switches::Known,
    policy::{Choice, Observations, Seen, Unavailable, value},
    proxy::switches,
};

/// What has been seen, as one turn of a conversation finds it.
pub struct Watching<'a> {
    live: &'a Live,
    /// When it was asked for, since the epoch of the gateway: a decision sees all candidates at one instant.
    at: Duration,
    last: Option<Place>,
    facts: Option<&'a Facts>,
    switches: Option<(Arc<Known>, Timestamp)>,
    /// The arm that the request was dealt to.
    arm: Option<&'a RouteName>,
}

impl Live {
    /// What has been seen of every candidate, with what this conversation left warm at one of them.
    pub fn watching(&self, turn: Turn) -> Watching<'_> {
        Watching { live: self, at: self.elapsed(), last: self.warm.find(turn), facts: None, switches: None, arm: None }
    }

    /// What has been seen of a candidate by `now`, for a request with these facts.
    fn look(&self, candidate: &Candidate, facts: Option<&Facts>, now: Duration) -> Seen {
        let Some(state) = self.candidates.get(candidate.id.0 as usize) else { return Seen::default() };
        let backend = self.backends.get(&candidate.backend.name);
        let (mut seen, broken) = {
            let watched = lock(&state.seen);
            (watched.meter.seen(now, None), watched.breaker.broken_for(now))
        };
        let tokens = facts.map_or(0, |facts| tokens(candidate, facts, &seen));
        let closed = || backend.and_then(|backend| backend.closed(candidate, tokens, now));
        let not_ready = || backend.is_some_and(|backend| backend.servers.none_ready()).then_some(Unavailable::NotReady);
        // Who is parked or full cannot be tried at all; who is broken or not ready may, where nobody else is left.
        seen.unavailable = broken.map(Unavailable::Broken).or_else(closed).or_else(not_ready);
        seen.servers = backend.and_then(|backend| u32::try_from(backend.servers.count()).ok());
        seen.line = backend.map(|backend| backend.line(now)).unwrap_or_default();
        seen
    }
}

/// Tokens that a request is expected to use.
fn tokens(candidate: &Candidate, facts: &Facts, seen: &Seen) -> u64 {
    let answer = value::expected_output(&candidate.model, seen, facts.max_output.unwrap_or(u64::MAX));
    facts.input_for(candidate.model.tokenizer).saturating_add(answer.saturating_mul(facts.answers.max(1)))
}

impl Observations for Live {
    fn seen(&self, candidate: &Candidate) -> Seen {
        self.look(candidate, None, self.elapsed())
    }

    fn answer_p90(&self, candidate: &Candidate, route: &RouteName) -> Option<u64> {
        self.lengths.of(route, candidate.id)?.p90()
    }
}

impl<'a> Watching<'a> {
    /// The same for a request with these facts: whether an account takes it depends on its size.
    #[must_use]
    pub fn of(self, facts: &'a Facts) -> Self {
        Self { facts: Some(facts), ..self }
    }

    /// The same, heeding what operators have switched off.
    #[must_use]
    pub fn heeding(self, switches: Arc<Known>, now: Timestamp) -> Self {
        Self { switches: Some((switches, now)), ..self }
    }

    /// The same for a request that has been dealt to `arm` already: it stays there.
    #[must_use]
    pub fn dealt(self, arm: Option<&'a RouteName>) -> Self {
        Self { arm, ..self }
    }
}

impl Observations for Watching<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        let seen = self.live.look(candidate, self.facts, self.at);
        let Some(last) = &self.last else { return seen };
        let here = self.live.candidates.get(candidate.id.0 as usize);
        if here.is_none_or(|here| !Arc::ptr_eq(here, &last.candidate)) {
            return seen;
        }
        let backend = self.live.backends.get(&candidate.backend.name);
        let tokens = backend.map_or(0, |backend| {
            let now = self.at;
            // A cache belongs to an account.
            let passage = backend.passage(candidate, 0);
            let kept = last.seat.as_ref().is_none_or(|seat| backend.accounts.keeps(seat, &passage, now));
            if kept { last.tokens_at(now, backend.provider.prompt_cache()) } else { 0 }
        });
        Seen { warm_tokens: tokens, ..seen }
    }

    fn answer_p90(&self, candidate: &Candidate, route: &RouteName) -> Option<u64> {
        self.live.answer_p90(candidate, route)
    }

    fn off(&self, candidate: &Candidate) -> Option<Arc<str>> {
        let (switches, now) = self.switches.as_ref()?;
        switches::off(switches, candidate, *now).map(|row| switches::told(row).into())
    }

    fn withdrawn(&self, route: &RouteName, arm: &RouteName) -> Option<Arc<str>> {
        if let Some(dealt) = self.arm {
            return (dealt != arm).then(|| "another was dealt".into());
        }
        let (switches, now) = self.switches.as_ref()?;
        if switches.is_empty() {
            return None;
        }
        let Choice::Split { revision, .. } = &self.live.policies.routes.get(route)?.choice else { return None };
        switches.withdrawn(route, arm, revision, *now).map(|row| row.reason().into())
    }
}
