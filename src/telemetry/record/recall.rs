//! What a decision was told, as it is written; and the same decision made again from it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    decided::{AskedLine, nanos},
    line::{Label, Line, is_default},
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        facts::Facts,
        money::Money,
        names::RouteName,
        tenants::Team,
    },
    policy::{
        BudgetSeen, Caller, Decision, Observations, Policies, Purse, Question, Route, Seen, Unavailable,
        decide::decide,
        observe::{
            margins::{Margin, Margins},
            noting::Noted,
        },
        queue::Line as Queued,
    },
};

/// What had been seen of one candidate. What is absent had never been measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenLine {
    /// Whom.
    pub candidate: Label,
    /// Why an operator had switched it off; then nothing else was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<Arc<str>>,
    /// It was asked for nothing but whether it is off.
    #[serde(skip_serializing_if = "is_default")]
    pub unasked: bool,
    /// Mean time to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ns: Option<u64>,
    /// 95th percentile of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p95_ns: Option<u64>,
    /// Mean time for each further token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_token_ns: Option<u64>,
    /// Mean tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Share of a new conversation's prompt that the vendor reads from its cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_ppm: u32,
    /// Tokens of this conversation in the vendor's cache.
    #[serde(skip_serializing_if = "is_default")]
    pub warm_tokens: u64,
    /// How much of what should be warm is read from the cache.
    #[serde(skip_serializing_if = "is_default")]
    pub warm_ppm: u32,
    /// Tokens that nine of ten answers do not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_p90: Option<u64>,
    /// By how much bills pass what was counted.
    #[serde(skip_serializing_if = "is_default")]
    pub margins: MarginsLine,
    /// What a request would have found at its queue, where one is looked at.
    #[serde(skip_serializing_if = "is_default")]
    pub queue: QueueLine,
    /// How many servers it had, where that is not what its file lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<u32>,
    /// None of its servers was ready.
    #[serde(skip_serializing_if = "is_default")]
    pub not_ready: bool,
    /// Its breaker was open for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_ns: Option<u64>,
    /// Its accounts were parked for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_ns: Option<u64>,
    /// It had as many requests in flight as it takes.
    #[serde(skip_serializing_if = "is_default")]
    pub full: bool,
    /// It had as many in flight as it took before it last refused.
    #[serde(skip_serializing_if = "is_default")]
    pub crowded: bool,
}

/// A queue at own servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLine {
    /// How long a request would have waited.
    pub wait_ns: u64,
    /// By how much it would have lengthened the next one's wait.
    pub each_ns: u64,
    /// The load.
    pub load_ppm: u64,
    /// The servers that share it.
    pub servers: u32,
}

/// Margins between counts and bills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MarginsLine {
    /// On a counted prompt, as a share.
    #[serde(skip_serializing_if = "is_default")]
    pub counted_ppm: u32,
    /// On a counted prompt, in tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub counted_tokens: u64,
    /// On any other, as a share.
    #[serde(skip_serializing_if = "is_default")]
    pub uncounted_ppm: u32,
    /// On any other, in tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub uncounted_tokens: u64,
    /// On an answer, as a share of what was seen of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_ppm: Option<u32>,
}

impl SeenLine {
    /// What is written of a note on `candidate`.
    pub(super) fn of(noted: &Noted, candidate: Label) -> Self {
        let Some(seen) = noted.seen else {
            return Self { candidate, unasked: noted.off.is_none(), off: noted.off.clone(), ..Self::default() };
        };
        let Seen {
            first_token,
            first_token_p95,
            per_token,
            output_tokens,
            cached_ppm,
            warm_tokens,
            warm_ppm,
            answer_p90,
            margins,
            line: Queued { wait, each, load_ppm, servers: sharing },
            servers,
            unavailable,
        } = seen;
        let Margins { counted, uncounted, output_ppm } = margins;
        let away = Self::away(unavailable);
        Self {
            candidate,
            off: noted.off.clone(),
            unasked: false,
            first_token_ns: first_token.map(nanos),
            first_token_p95_ns: first_token_p95.map(nanos),
            per_token_ns: per_token.map(nanos),
            output: output_tokens,
            cached_ppm,
            warm_tokens,
            warm_ppm,
            answer_p90,
            margins: MarginsLine {
                counted_ppm: counted.ppm,
                counted_tokens: counted.tokens,
                uncounted_ppm: uncounted.ppm,
                uncounted_tokens: uncounted.tokens,
                output_ppm,
            },
            queue: QueueLine { wait_ns: nanos(wait), each_ns: nanos(each), load_ppm, servers: sharing },
            servers,
            ..away
        }
    }

    /// The fields that say why it could not be tried. A reason that is added must be written down too, or a decision made
    /// again would be another.
    fn away(unavailable: Option<Unavailable>) -> Self {
        let none = Self::default();
        match unavailable {
            None => none,
            Some(Unavailable::Broken(left)) => Self { broken_ns: Some(nanos(left)), ..none },
            Some(Unavailable::NotReady) => Self { not_ready: true, ..none },
            Some(Unavailable::Parked(left)) => Self { parked_ns: Some(nanos(left)), ..none },
            Some(Unavailable::Full) => Self { full: true, ..none },
            Some(Unavailable::Crowded) => Self { crowded: true, ..none },
        }
    }

    /// The observation itself.
    pub fn seen(&self) -> Seen {
        let margins = &self.margins;
        let broken = self.broken_ns.map(|left| Unavailable::Broken(Duration::from_nanos(left)));
        let busy = || self.full.then_some(Unavailable::Full).or(self.crowded.then_some(Unavailable::Crowded));
        let not_ready = self.not_ready.then_some(Unavailable::NotReady);
        let parked = || self.parked_ns.map(|left| Unavailable::Parked(Duration::from_nanos(left)));
        Seen {
            first_token: self.first_token_ns.map(Duration::from_nanos),
            first_token_p95: self.first_token_p95_ns.map(Duration::from_nanos),
            per_token: self.per_token_ns.map(Duration::from_nanos),
            output_tokens: self.output,
            cached_ppm: self.cached_ppm,
            warm_tokens: self.warm_tokens,
            warm_ppm: self.warm_ppm,
            answer_p90: None,
            margins: Margins {
                counted: Margin { ppm: margins.counted_ppm, tokens: margins.counted_tokens },
                uncounted: Margin { ppm: margins.uncounted_ppm, tokens: margins.uncounted_tokens },
                output_ppm: margins.output_ppm,
            },
            line: Queued {
                wait: Duration::from_nanos(self.queue.wait_ns),
                each: Duration::from_nanos(self.queue.each_ns),
                load_ppm: self.queue.load_ppm,
                servers: self.queue.servers,
            },
            servers: self.servers,
            unavailable: broken.or_else(parked).or_else(busy).or(not_ready),
        }
    }
}

/// What has been recorded of candidates, most lately: for those that a decision was not told of.
#[derive(Debug, Default)]
pub struct Lately {
    seen: HashMap<Label, SeenLine>,
}

impl Lately {
    /// Takes in what a request was told. What belongs to its own conversation is not kept.
    pub fn learn(&mut self, line: &Line) {
        for seen in line.decisions.first().into_iter().flat_map(|decision| &decision.asked.seen) {
            if seen.unasked || seen.off.is_some() {
                continue;
            }
            match self.seen.get_mut(&seen.candidate) {
                Some(known) => {
                    known.clone_from(seen);
                    known.warm_tokens = 0;
                }
                None => {
                    self.seen.insert(seen.candidate.clone(), SeenLine { warm_tokens: 0, ..seen.clone() });
                }
            }
        }
    }
}

/// The observations of one recorded decision.
pub struct Recalled<'a> {
    asked: &'a AskedLine,
    lately: Option<&'a Lately>,
}

impl Recalled<'_> {
    fn of(&self, candidate: &Candidate) -> Option<&SeenLine> {
        self.asked.seen.iter().find(|seen| !seen.unasked && seen.candidate.is(candidate))
    }
}

impl Observations for Recalled<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        if let Some(seen) = self.of(candidate) {
            return seen.seen();
        }
        let lately = self.lately.and_then(|lately| lately.seen.get(&Label::of(candidate)));
        lately.map_or_else(Seen::unmeasured, SeenLine::seen)
    }

    fn answer_p90(&self, candidate: &Candidate, _: &RouteName) -> Option<u64> {
        self.of(candidate)?.answer_p90
    }

    fn off(&self, candidate: &Candidate) -> Option<Arc<str>> {
        self.of(candidate)?.off.clone()
    }

    fn withdrawn(&self, _: &RouteName, arm: &RouteName) -> Option<Arc<str>> {
        let known = self.asked.withdrawn.iter().find(|(known, _)| **known == **arm)?;
        Some(Arc::clone(&known.1))
    }
}

/// A recorded request before some policies, ready to be decided again.
pub struct Again<'a> {
    /// The policies.
    pub policies: &'a Policies,
    /// The request.
    pub line: &'a Line,
    facts: Facts,
    route: &'a Route,
    team: &'a Team,
    lately: Option<&'a Lately>,
}

/// Why a recorded request has no place before some policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// They have no such route, model or alias.
    Route,
    /// They have no such team.
    Team,
    /// The team may not use the route.
    MayNot,
}

/// What may differ from what a decision was asked.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// Another state of the budget.
    pub budget: Option<BudgetSeen>,
    /// Others have failed.
    pub failed: Option<&'a [CandidateId]>,
    /// Something else can be paid (`Some(None)`: anything).
    pub purse: Option<Option<Purse>>,
    /// Whether a budget of money binds the request.
    pub budgeted: Option<bool>,
    /// The fences of other candidates are reached.
    pub exhausted: Option<&'a [(CandidateId, Arc<str>)]>,
}

impl<'a> Again<'a> {
    /// A request before `policies`; of candidates that it was not told of, `lately` tells.
    ///
    /// # Errors
    /// [`Unplaced`].
    pub fn new(policies: &'a Policies, line: &'a Line, lately: Option<&'a Lately>) -> Result<Self, Unplaced> {
        let route = policies.route(&line.facts.model).ok_or(Unplaced::Route)?;
        let team = policies.teams.get(line.team.as_ref()).ok_or(Unplaced::Team)?;
        if !team.may_name(&line.facts.model) && !team.may_name(&route.name) {
            return Err(Unplaced::MayNot);
        }
        Ok(Self { policies, line, facts: Facts::from(&line.facts), route, team, lately })
    }

    /// The team that pays.
    pub fn team(&self) -> &'a Team {
        self.team
    }

    /// The route that was named.
    pub fn route(&self) -> &'a Route {
        self.route
    }

    /// What was known of the request.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The number of a candidate of these policies.
    pub fn id(&self, label: &Label) -> Option<CandidateId> {
        self.policies.candidates.iter().find(|candidate| label.is(candidate)).map(|candidate| candidate.id)
    }

    /// Makes the decision again that was asked `asked`, but for `change`.
    pub fn decide(&self, asked: &AskedLine, change: &Change<'_>) -> Decision {
        let recorded: Vec<CandidateId>;
        let failed = match change.failed {
            Some(failed) => failed,
            None => {
                recorded = asked.failed.iter().filter_map(|label| self.id(label)).collect();
                &recorded
            }
        };
        let fenced: Vec<_>;
        let exhausted = match change.exhausted {
            Some(exhausted) => exhausted,
            None => {
                let known = asked.exhausted.iter();
                fenced = known.filter_map(|(label, fence)| Some((self.id(label)?, Arc::clone(fence)))).collect();
                &fenced
            }
        };
        let question = Question {
            route: self.route,
            facts: &self.facts,
            caller: Caller { team: self.team, key: &self.line.key, user: &self.line.user, session: &self.line.session },
            budget: change.budget.unwrap_or_else(|| asked.budget_seen()),
            now: asked.at,
            time_left: asked.time_left_ns.map(Duration::from_nanos),
            seed: self.line.seed.0,
            failed,
            affordable: change.purse.unwrap_or_else(|| asked.purse()),
            budgeted: change.budgeted.unwrap_or(asked.budgeted),
            exhausted,
        };
        decide(self.policies, &Recalled { asked, lately: self.lately }, &question)
    }
}

impl AskedLine {
    /// The budget as it stood.
    pub fn budget_seen(&self) -> BudgetSeen {
        self.budget.as_ref().map_or_else(BudgetSeen::default, |budget| BudgetSeen {
            used_ppm: budget.used_ppm,
            left: Some(Money::from_nanousd(budget.left_nanousd)),
            pace_ppm: budget.pace_ppm,
        })
    }

    fn purse(&self) -> Option<Purse> {
        let purse = self.purse?;
        let left = Money::from_nanousd(purse.left_nanousd);
        Some(Purse { left, cheapest: purse.cheapest, clamp: purse.clamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_not_to_try_a_candidate_comes_back_as_it_was() {
        let left = Duration::from_millis(1500);
        let reasons = [
            Unavailable::Broken(left),
            Unavailable::NotReady,
            Unavailable::Parked(left),
            Unavailable::Full,
            Unavailable::Crowded,
        ];
        for reason in reasons.into_iter().map(Some).chain([None]) {
            let line = SeenLine::away(reason);
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<SeenLine>(&text).unwrap().seen().unavailable, reason, "{text}");
        }
    }
}
