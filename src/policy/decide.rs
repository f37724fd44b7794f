//! The decision itself: rules, conditions, values, order.
//!
//! Every candidate is weighed alone ([`weigh`]), so that adding or removing one changes no other's number; only then
//! are they put in order. Ties are broken by cost, and at last by name: the order of the file decides nothing, except
//! where the route says `order`.

use std::{cmp::Ordering as Cmp, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use super::{
    Choice, Decision, Floor, Observations, Ordering, Policies, Prefer, Question, Ranked, Rejected, Rejection, Require,
    Route, Seen, Unavailable,
    filter::{Fence, bars},
    rent,
    rules::{Rule, Scope},
    split,
    stake::Stake,
    value::{output_cap, price_in_force, terms},
};
use crate::base::{
    catalog::{Candidate, CandidateId},
    facts::Category,
    money::Money,
    names::RouteName,
    scores::Fit,
};

/// When servers that are not ready may be: they are asked once a second.
const LOOKED_AT_AGAIN: Duration = Duration::from_secs(1);

/// Ranks the candidates of a route for one request.
pub fn decide(policies: &Policies, observations: &dyn Observations, question: &Question<'_>) -> Decision {
    let named = question.route;
    let (arm, withdrawn) = match &named.choice {
        Choice::Split { arms, by, .. } => split::deal(question, observations, arms, *by),
        Choice::Value { .. } | Choice::Order(_) => (None, Vec::new()),
    };
    let route = arm.and_then(|arm| policies.routes.get(arm)).map_or(named, Arc::as_ref);
    let mut plan = Plan::new(policies, observations, question, route);
    if question.affordable.is_some_and(|purse| purse.cheapest) {
        plan.order = Ordering::Prefer(Prefer::Cheapest);
    }
    let day = TimeZone::UTC.to_datetime(question.now).date();
    let fit = policies.scores.fit(day);
    let category = route.category.unwrap_or(question.facts.category);
    let confident = route.category.is_some() || question.facts.category_confident;
    let floors = bars(plan.floors.iter().copied(), policies, &fit, category, confident);
    let fence = Fence {
        policies,
        question,
        day,
        bars: floors,
        wanted: question.facts.wanted(),
        priced: question.budgeted
            || question.caller.team.has_budget()
            || plan.require.max_cost.is_some()
            || question.affordable.is_some(),
        require: &plan.require,
        route_cap: route.max_output,
    };
    let scale =
        Scale { fence, observations, route: &route.name, fit: &fit, category, confident, prefer: plan.prefer() };
    let ranking = plan.rank(policies, &scale);
    let mut decision = conclude(question, route, arm, &plan, &scale, ranking);
    decision.withdrawn = withdrawn;
    decision
}

fn conclude(
    question: &Question<'_>,
    route: &Route,
    arm: Option<&RouteName>,
    plan: &Plan<'_>,
    scale: &Scale<'_>,
    ranking: Ranking,
) -> Decision {
    let Ranking { ranked, rejected, last_resort, late } = ranking;
    let attempts = route.attempts.max(1);
    let within_reach = usize::try_from(attempts).unwrap_or(usize::MAX);
    Decision {
        route: route.name.clone(),
        arm: arm.cloned(),
        withdrawn: Vec::new(),
        category: scale.category,
        max_output: ranked
            .iter()
            .map(|ranked| ranked.max_output)
            .max()
            .unwrap_or_else(|| question.facts.max_output.unwrap_or(route.max_output)),
        attempts,
        ceiling: ranked.iter().take(within_reach).map(|ranked| ranked.stake.first).max().unwrap_or(Money::ZERO),
        break_even: rent::break_even(scale.fence.policies, scale.observations, question, &ranked, &rejected),
        ranked,
        rejected,
        rules: plan.matched.clone(),
        rule_errors: plan.rule_errors,
        fit: scale.fit.label(),
        order: plan.order,
        require: plan.require.clone(),
        last_resort,
        late,
        purse: question.affordable,
    }
}

/// What the route and its rules ask for on this request.
struct Plan<'a> {
    /// The candidates in force.
    candidates: &'a [CandidateId],
    /// Those of the route that a rule took out, and by which rule.
    replaced: Option<(&'a [CandidateId], Arc<str>)>,
    order: Ordering,
    require: Require,
    /// All floors: each has to be cleared, so that a rule's can tighten and never loosen.
    floors: Vec<&'a Floor>,
    matched: Vec<Arc<str>>,
    rule_errors: u32,
}

impl<'a> Plan<'a> {
    fn new(
        policies: &'a Policies,
        observations: &dyn Observations,
        question: &'a Question<'a>,
        route: &'a Route,
    ) -> Self {
        let (candidates, order): (&[CandidateId], _) = match &route.choice {
            Choice::Value { candidates, prefer } => (candidates, Ordering::Prefer(*prefer)),
            Choice::Order(candidates) => (candidates, Ordering::Listed),
            // An arm that is missing or a split itself is a fault at load; here it has no candidates.
            Choice::Split { .. } => (&[], Ordering::Listed),
        };
        let mut plan = Plan {
            candidates,
            replaced: None,
            order,
            require: Require::default(),
            floors: Vec::new(),
            matched: Vec::new(),
            rule_errors: 0,
        };
        let named = (!std::ptr::eq(question.route, route)).then_some(question.route);
        let routes = || named.into_iter().chain([route]);
        for route in routes() {
            plan.tighten(&route.require);
        }
        if routes().all(|route| route.rules.is_empty()) {
            return plan;
        }
        let scope = Scope::new(policies, observations, question);
        for rule in routes().flat_map(|route| &route.rules) {
            match rule.when.holds(&scope) {
                Ok(true) => plan.apply(rule),
                Ok(false) => {}
                Err(_) => plan.rule_errors += 1,
            }
        }
        plan
    }

    fn apply(&mut self, rule: &'a Rule) {
        self.matched.push(rule.name.clone());
        if let Some(candidates) = &rule.candidates {
            let before = self.replaced.take().map_or(self.candidates, |(before, _)| before);
            self.replaced = Some((before, rule.name.clone()));
            self.candidates = candidates;
        }
        if let Some(prefer) = rule.prefer {
            self.order = Ordering::Prefer(prefer);
        }
        self.bound(rule.right.as_ref(), rule.max_cost, rule.first_token_p95);
    }

    fn tighten(&mut self, require: &'a Require) {
        self.bound(require.right.as_ref(), require.max_cost, require.first_token_p95);
    }

    /// Adds conditions: a floor beside the others, an upper limit where it is lower.
    fn bound(&mut self, right: Option<&'a Floor>, max_cost: Option<Money>, p95: Option<Duration>) {
        if let Some(floor) = right {
            self.floors.push(floor);
            self.require.right = Some(floor.clone());
        }
        self.require.max_cost = lower(self.require.max_cost, max_cost);
        self.require.first_token_p95 = lower(self.require.first_token_p95, p95);
    }

    fn prefer(&self) -> Prefer {
        match self.order {
            Ordering::Prefer(prefer) => prefer,
            Ordering::Listed => Prefer::BALANCED,
        }
    }

    /// Weighs every candidate once and puts the able in order. Where nobody is in time, those who are able come late;
    /// where nobody is able, the one whose breaker is due first is tried all the same. Neither what was measured nor a
    /// breaker ever turns the last candidates into none: without a live try nobody would learn that they are well again.
    fn rank(&self, policies: &Policies, scale: &Scale<'_>) -> Ranking {
        let mut chosen = Marks::new(policies.candidates.len());
        let mut able = Vec::with_capacity(self.candidates.len());
        let (mut late, mut broken) = (Vec::new(), Vec::new());
        let mut rejected = Vec::new();
        for id in self.candidates.iter().filter(|id| chosen.mark(**id)) {
            let Some(candidate) = policies.candidates.get(id.0 as usize) else { continue };
            match weigh(candidate, scale) {
                Ok(ranked) => match ranked.seen.unavailable {
                    Some(why @ Unavailable::Broken(left)) => broken.push((left, why, ranked)),
                    // It is well, and may take one more.
                    Some(why @ Unavailable::Crowded) => broken.push((Duration::ZERO, why, ranked)),
                    // With no server at all there is nobody to try.
                    Some(why @ Unavailable::NotReady) if ranked.seen.servers == Some(0) => rejected.push(Rejected {
                        candidate: ranked.candidate,
                        why: Rejection::Unavailable(why),
                        terms: Some(ranked.terms),
                    }),
                    Some(why @ Unavailable::NotReady) => broken.push((LOOKED_AT_AGAIN, why, ranked)),
                    Some(Unavailable::Parked(_) | Unavailable::Full) | None => {
                        match scale.fence.late(&ranked.seen, &ranked.terms) {
                            Some(why) => late.push((why, ranked)),
                            None => able.push(ranked),
                        }
                    }
                },
                Err(loser) => rejected.push(loser),
            }
        }
        if let Some((before, rule)) = &self.replaced {
            let out = before.iter().filter(|id| chosen.mark(**id));
            rejected.extend(out.filter_map(|id| policies.candidates.get(id.0 as usize)).map(|candidate| Rejected {
                candidate: candidate.clone(),
                why: Rejection::Rule(rule.clone()),
                terms: None,
            }));
        }
        let is_late = able.is_empty() && !late.is_empty();
        if is_late {
            able.extend(late.drain(..).map(|(_, ranked)| ranked));
        }
        let last_resort = able.is_empty() && !broken.is_empty();
        if last_resort {
            broken.sort_by(|(a_left, _, a), (b_left, _, b)| {
                a_left.cmp(b_left).then_with(|| key(a, self.order).cmp(&key(b, self.order))).then_with(|| by_name(a, b))
            });
            able.push(broken.remove(0).2);
        }
        let broken = broken.into_iter().map(|(_, why, ranked)| (Rejection::Unavailable(why), ranked));
        rejected.extend(late.into_iter().chain(broken).map(|(why, ranked)| Rejected {
            candidate: ranked.candidate,
            why,
            terms: Some(ranked.terms),
        }));
        rejected.sort_by(|a, b| names(&a.candidate).cmp(&names(&b.candidate)));
        Ranking { ranked: in_order(able, self.order), rejected, last_resort, late: is_late }
    }
}

/// What became of the candidates.
struct Ranking {
    ranked: Vec<Ranked>,
    rejected: Vec<Rejected>,
    last_resort: bool,
    late: bool,
}

/// What every candidate is weighed with.
struct Scale<'a> {
    fence: Fence<'a>,
    observations: &'a dyn Observations,
    route: &'a RouteName,
    fit: &'a Fit,
    category: Category,
    confident: bool,
    prefer: Prefer,
}

/// Weighs one candidate alone. An open breaker and its times are left in [`Ranked::seen`], for the caller to judge.
fn weigh(candidate: &Arc<Candidate>, scale: &Scale<'_>) -> Result<Ranked, Rejected> {
    let fence = &scale.fence;
    if let Some(why) = scale.observations.off(candidate) {
        return Err(Rejected { candidate: candidate.clone(), why: Rejection::Off { why }, terms: None });
    }
    let mut seen: Seen = scale.observations.seen(candidate);
    let out = |why, terms| Rejected { candidate: candidate.clone(), why, terms };
    fence.before(candidate, &seen).map_err(|why| out(why, None))?;
    let question = fence.question;
    let price = price_in_force(fence.policies, candidate, question.now);
    let full = output_cap(&candidate.model, question.facts, fence.route_cap);
    let right = scale.fit.right(&candidate.model, scale.category, scale.confident);
    if question.facts.stream {
        seen.answer_p90 = scale.observations.answer_p90(candidate, scale.route);
    }
    let mut stake = Stake::new(candidate, question.facts, &seen, price.as_ref(), full);
    let payable = price.as_ref().zip(question.affordable).and_then(|(price, purse)| stake.payable(price, full, purse));
    let max_output = payable.unwrap_or(full);
    if payable.is_some() {
        stake = Stake::new(candidate, question.facts, &seen, price.as_ref(), max_output);
    }
    let terms = terms(question, candidate, &seen, price.as_ref(), right, max_output, scale.prefer);
    let ceiling = price.as_ref().map_or(Money::ZERO, |price| stake.money(price, stake.cap));
    fence.after(candidate, &seen, price.as_ref(), &terms, stake.first).map_err(|why| out(why, Some(terms)))?;
    Ok(Ranked {
        candidate: candidate.clone(),
        terms,
        seen,
        price,
        max_output,
        clamped: max_output < full,
        ceiling,
        stake,
    })
}

/// What is compared, the least first. A candidate without a price comes after those whose cost is known, wherever
/// cost is what decides: unknown is never counted as nothing.
fn key(ranked: &Ranked, order: Ordering) -> [i64; 4] {
    let unpriced = i64::from(ranked.is_unpriced());
    let cost = ranked.terms.marginal.nanousd();
    let wrong = -i64::from(ranked.terms.right_ppm);
    let ms = i64::try_from(ranked.terms.expected_ms).unwrap_or(i64::MAX);
    match order {
        Ordering::Listed => [0; 4],
        Ordering::Prefer(Prefer::Cheapest) => [unpriced, cost, wrong, ms],
        Ordering::Prefer(Prefer::Fastest) => [ms, unpriced, cost, wrong],
        Ordering::Prefer(Prefer::Best) => [wrong, unpriced, cost, ms],
        Ordering::Prefer(Prefer::Worth { .. }) => [unpriced, ranked.terms.value.nanousd().saturating_neg(), cost, ms],
    }
}

/// Sorts small keys, then moves each candidate once.
fn in_order(able: Vec<Ranked>, order: Ordering) -> Vec<Ranked> {
    if order == Ordering::Listed || able.len() < 2 {
        return able;
    }
    let mut places: Vec<([i64; 4], usize)> =
        able.iter().enumerate().map(|(place, ranked)| (key(ranked, order), place)).collect();
    places.sort_unstable_by(|(a, a_place), (b, b_place)| {
        a.cmp(b).then_with(|| by_name(&able[*a_place], &able[*b_place]))
    });
    let mut able: Vec<Option<Ranked>> = able.into_iter().map(Some).collect();
    places.into_iter().filter_map(|(_, place)| able[place].take()).collect()
}

fn by_name(a: &Ranked, b: &Ranked) -> Cmp {
    names(&a.candidate).cmp(&names(&b.candidate))
}

fn names(candidate: &Candidate) -> (&str, &str) {
    (&candidate.model.name, &candidate.backend.name)
}

/// The smaller of two limits, where there are two.
fn lower<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// One bit for each candidate: a candidate listed twice is weighed once.
struct Marks(Vec<u64>);

impl Marks {
    fn new(candidates: usize) -> Self {
        Self(vec![0; candidates.div_ceil(64)])
    }

    /// Marks a candidate; false if it was marked before or is not of this snapshot.
    fn mark(&mut self, id: CandidateId) -> bool {
        let Some(word) = self.0.get_mut(id.0 as usize / 64) else { return false };
        let bit = 1 << (id.0 % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

#[cfg(test)]
mod late;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
