//! A recorded decision made again, from what it was told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    decided::AskedLine,
    line::{Label, Line},
    seen::SeenLine,
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        facts::Facts,
        money::Money,
        names::RouteName,
        tenants::Team,
    },
    policy::{BudgetSeen, Caller, Decision, Observations, Policies, Purse, Question, Route, Seen, decide::decide},
};

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
