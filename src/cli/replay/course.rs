//! The course of one recorded request through some policies.
//!
//! As long as decisions have the recorded winner, the record is followed: what was tried, used and waited for is known,
//! and only prices may differ. From the first other winner on, what the record knows of a candidate still counts (it
//! failed on this request, or answered with so many tokens); of one that was not asked, the expected prompt and answer are
//! taken, each scaled by how the bill of the known answer differed from what was expected of whoever gave it. What somebody
//! without a price uses costs nobody knows what: it is left out of the sums, and told.

use std::{sync::Arc, time::Duration};

use super::{
    fate::{Estimate, Fate, times, uses_tokens, why},
    fences::{Around, Before, Fences, Short, Spent, still_exhausted, was_refused},
};
use crate::{
    base::{
        catalog::CandidateId,
        fences::{Purpose, Unit},
        money::Money,
        tenants::OnEmpty,
        tier::Tier,
        usage::Usage,
    },
    ledger::Demand,
    policy::{BudgetSeen, Decision, Policies, Purse, Ranked, value},
    telemetry::record::{
        Line,
        line::{AttemptLine, Label},
        recall::{Again, Change, Lately, Unplaced},
    },
};

/// One side of a replay.
pub(super) struct Side<'p> {
    /// The policies.
    pub(super) policies: &'p Policies,
    /// How its budgets and limits stand.
    pub(super) fences: Fences,
}

impl<'p> Side<'p> {
    /// A side of which nothing is used beyond what is recorded.
    pub(super) fn new(policies: &'p Policies) -> Self {
        Self { policies, fences: Fences::default() }
    }

    /// What becomes of a request here. `before`: the policies that it was recorded under, where they are known.
    pub(super) fn fate(&mut self, line: &Line, lately: &Lately, before: Option<&Before>) -> Fate {
        let again = match Again::new(self.policies, line, Some(lately)) {
            Ok(again) => again,
            Err(Unplaced::Route) => return Fate::nobody("model_not_found", 0),
            Err(Unplaced::Team) => return Fate::nobody("team_unknown", 0),
            Err(Unplaced::MayNot) => return Fate::nobody("model_not_allowed", 0),
        };
        let around = self.fences.around(&again, before);
        let mut course = Course {
            fences: &mut self.fences,
            again,
            around,
            before,
            spent: Vec::with_capacity(line.attempts.len().max(1)),
            unpriced: Vec::new(),
            ms: 0,
        };
        let fate = course.run();
        let Course { again, around, spent, unpriced, .. } = course;
        let fate = Fate { unpriced, ..fate };
        self.fences.spent(&again, &around, &spent);
        fate
    }
}

/// One request on its way through other policies.
struct Course<'b, 'a> {
    fences: &'b mut Fences,
    again: Again<'a>,
    around: Around,
    before: Option<&'b Before>,
    spent: Vec<Spent>,
    /// Who used tokens at a price that is not known.
    unpriced: Vec<Label>,
    ms: u64,
}

impl Course<'_, '_> {
    fn run(&mut self) -> Fate {
        let line = self.again.line;
        let (budget, budgeted) = self.budget();
        let mut made: Vec<Decision> = Vec::with_capacity(line.decisions.len());
        for (number, recorded) in line.decisions.iter().enumerate() {
            let fenced = &recorded.asked.exhausted;
            let still = still_exhausted(self.fences, &self.again, fenced, self.before);
            let change = Change { budget, budgeted, exhausted: Some(&still), ..Change::default() };
            let decision = self.again.decide(&recorded.asked, &change);
            let same = match (decision.ranked.first(), recorded.winner()) {
                (Some(winner), Some(label)) => label.is(&winner.candidate),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same || self.fences_tell_otherwise(&decision, number) {
                return self.go_elsewhere(decision, number, still);
            }
            made.push(decision);
            for attempt in line.attempts.iter().filter(|attempt| attempt.decision as usize == number) {
                // Another try of a candidate may follow a decision on who is asked beside it.
                let mut all = made.iter().rev().flat_map(|decision| &decision.ranked);
                if let Some(ranked) = all.find(|ranked| attempt.candidate.is(&ranked.candidate)) {
                    self.pay(ranked, attempt);
                }
            }
        }
        self.as_recorded(&made)
    }

    /// The tightest budget as this side has it, and whether there is any; `None` where both are as recorded.
    fn budget(&mut self) -> (Option<BudgetSeen>, Option<bool>) {
        if !self.around.touched {
            return (None, None);
        }
        (Some(self.fences.seen(&self.around, self.again.line.at)), Some(self.around.has_money()))
    }

    fn cost(&self) -> Money {
        self.spent.iter().fold(Money::ZERO, |sum, spent| sum + spent.used.money)
    }

    fn nobody(&self, why: &str) -> Fate {
        Fate::nobody(why, self.cost().nanousd())
    }

    /// Every decision had the recorded winner: it ends as it did.
    fn as_recorded(&mut self, made: &[Decision]) -> Fate {
        let line = self.again.line;
        self.fences.as_recorded(line, self.before);
        let Some(served) = &line.served else { return self.nobody(&why(line)) };
        let mut all = made.iter().rev().flat_map(|decision| &decision.ranked);
        let ranked = all.find(|ranked| served.is(&ranked.candidate));
        let (first_token_ms, total_ms) = times(line);
        Fate {
            served: Some(served.clone()),
            cost_nanousd: self.cost().nanousd(),
            right_ppm: ranked.map_or(0, |ranked| ranked.terms.right_ppm),
            first_token_ms,
            total_ms,
            ..Fate::default()
        }
    }

    /// Whether fences that stand otherwise than recorded turn away whom the recorded ones let in, or the other way round.
    fn fences_tell_otherwise(&mut self, decision: &Decision, number: usize) -> bool {
        let line = self.again.line;
        let (Some(winner), Some(made)) = (decision.ranked.first(), line.decisions.get(number)) else { return false };
        // With a purse the budget has had its say.
        if made.asked.purse.is_some() {
            return false;
        }
        if !self.around.touched && !self.fences.touched(&self.again, &winner.candidate, self.before) {
            return false;
        }
        let spent = (!self.spent.is_empty()).then(|| self.cost());
        let need = need(decision, winner, spent);
        let short = self.fences.short(&self.around, &winner.candidate, need, line.at).is_some();
        let passed_over = line
            .decisions
            .get(number + 1)
            .is_some_and(|next| next.asked.purse.is_some() || next.asked.exhausted.len() > made.asked.exhausted.len());
        let was_short = passed_over || (was_refused(line) && number + 1 == line.decisions.len());
        short != was_short
    }

    /// Another one is tried than was: `decision` is the first that says so. `exhausted`: whose own fences are reached.
    fn go_elsewhere(
        &mut self,
        mut decision: Decision,
        number: usize,
        mut exhausted: Vec<(CandidateId, Arc<str>)>,
    ) -> Fate {
        let line = self.again.line;
        let asked = &line.decisions[number].asked;
        let mut failed: Vec<CandidateId> = asked.failed.iter().filter_map(|label| self.again.id(label)).collect();
        let (budget, budgeted) = self.budget();
        let (mut purse, mut refused) = (None, None);
        if asked.purse.is_some() {
            let change =
                Change { budget, budgeted, failed: Some(&failed), purse: Some(None), exhausted: Some(&exhausted) };
            decision = self.again.decide(asked, &change);
        }
        loop {
            let Some(winner) = decision.ranked.first().cloned() else {
                let without = if self.spent.is_empty() { "no_candidate" } else { "upstream_error" };
                return self.nobody(refused.unwrap_or(without));
            };
            match self.turned_away(&decision, &winner, purse.is_some()) {
                Away::No => {
                    if let Some(fate) = self.attempt(&winner) {
                        return fate;
                    }
                    failed.push(winner.candidate.id);
                    if self.spent.len() >= decision.attempts as usize {
                        return self.nobody("upstream_error");
                    }
                }
                Away::Candidate(label, code) => {
                    exhausted.push((winner.candidate.id, label));
                    refused = Some(code);
                }
                Away::Less(less) => purse = Some(less),
                Away::Refused(code) => return self.nobody(code),
            }
            let change =
                Change { budget, budgeted, failed: Some(&failed), purse: Some(purse), exhausted: Some(&exhausted) };
            decision = self.again.decide(asked, &change);
        }
    }

    /// What the fences say of an attempt by the winner. `affordable`: the decision was made for what a budget has left.
    fn turned_away(&mut self, decision: &Decision, winner: &Ranked, affordable: bool) -> Away {
        let line = self.again.line;
        let touched = self.around.touched || self.fences.touched(&self.again, &winner.candidate, self.before);
        if !touched && !was_refused(line) {
            return Away::No;
        }
        let spent = (!self.spent.is_empty()).then(|| self.cost());
        let need = need(decision, winner, spent);
        let Some(Short { fence, left }) = self.fences.short(&self.around, &winner.candidate, need, line.at) else {
            return Away::No;
        };
        let code = if fence.purpose == Purpose::Budget { "budget_exceeded" } else { "rate_limit_exceeded" };
        if fence.owner.of_attempts() {
            return Away::Candidate(fence.label().into(), code);
        }
        let team = self.again.team();
        let left = Money::from_nanousd(left) - spent.unwrap_or(Money::ZERO);
        let (cheapest, clamp) = (team.on_empty == OnEmpty::Downgrade, team.clamp_output);
        let of_money = fence.purpose == Purpose::Budget && fence.unit == Unit::Money;
        if !of_money || affordable || left <= Money::ZERO || !(cheapest || clamp) {
            return Away::Refused(code);
        }
        Away::Less(Purse { left, cheapest, clamp })
    }

    /// Tries a candidate: by what the record knows of it, else by what is expected. `None` = it failed.
    fn attempt(&mut self, winner: &Ranked) -> Option<Fate> {
        let line = self.again.line;
        let known: Vec<&AttemptLine> =
            line.attempts.iter().filter(|attempt| attempt.candidate.is(&winner.candidate)).collect();
        let right_ppm = winner.terms.right_ppm;
        let served = Some(Label::of(&winner.candidate));
        let Some(last) = known.last() else { return Some(self.estimate(winner)) };
        let before = self.ms;
        for attempt in &known {
            self.pay(winner, attempt);
        }
        let until_last = self.ms - before - last.total_ms;
        // The client left while it answered, or it was cut: that is no failure of its own.
        let ended_there = line.served.as_ref().is_some_and(|label| label.is(&winner.candidate));
        if !last.is_ok() && !ended_there {
            return None;
        }
        Some(Fate {
            served,
            cost_nanousd: self.cost().nanousd(),
            right_ppm,
            first_token_ms: last.first_token_ms.map(|first| before + until_last + first),
            total_ms: self.ms,
            ..Fate::default()
        })
    }

    /// Takes in what a known attempt cost and took.
    fn pay(&mut self, ranked: &Ranked, attempt: &AttemptLine) {
        self.ms += attempt.total_ms;
        let money = if uses_tokens(attempt) { self.charge(ranked, &attempt.usage()) } else { Money::ZERO };
        let used = Demand { money, tokens: attempt.input.saturating_add(attempt.output) };
        self.spent.push(Spent { by: ranked.candidate.id, used });
    }

    /// What that use costs; where no price is known, nothing, and that is noted. Servers that are rented need none: their
    /// rent is paid anyway.
    fn charge(&mut self, ranked: &Ranked, usage: &Usage) -> Money {
        if let Some(price) = &ranked.price {
            return price.charge(usage, value::thinks(&ranked.candidate.model, self.again.facts())).money;
        }
        let label = Label::of(&ranked.candidate);
        if ranked.is_unpriced() && !self.unpriced.contains(&label) {
            self.unpriced.push(label);
        }
        Money::ZERO
    }

    /// What is expected of a candidate that was not asked.
    fn estimate(&mut self, winner: &Ranked) -> Fate {
        let terms = &winner.terms;
        let expected = terms.output_tokens.max(1);
        let known = self.known();
        let output = known.as_ref().map_or(expected, |known| {
            scaled(expected, known.output, known.of_output).clamp(1, winner.max_output.max(1))
        });
        // A bill that says nothing of the prompt is no measure of it.
        let prompt = |tokens: u64| match &known {
            Some(known) if known.input > 0 => scaled(tokens, known.input, known.of_input),
            Some(_) | None => tokens,
        };
        let (input, cached_input) = (prompt(terms.input_tokens), prompt(terms.cached_tokens));
        let usage = |output: u64| Usage {
            input,
            cached_input,
            output: output.saturating_mul(self.answers()),
            tier: if terms.tier == Tier::Unknown { Tier::Standard } else { terms.tier },
            estimated: true,
            ..Usage::default()
        };
        let (whole, prompt_alone) = (usage(output), usage(0));
        let [whole, without] = [whole, prompt_alone].map(|usage| self.charge(winner, &usage).nanousd());
        let first = value::first_token(&winner.candidate, &winner.seen);
        let writing = Duration::from_millis(terms.expected_ms).saturating_sub(first).as_millis();
        let writing = writing * u128::from(output) / u128::from(expected);
        let (first_ms, writing_ms) = (millis(first.as_millis()), millis(writing));
        let tokens = input.saturating_add(output.saturating_mul(self.answers()));
        let used = Demand { money: Money::from_nanousd(whole), tokens };
        self.spent.push(Spent { by: winner.candidate.id, used });
        Fate {
            served: Some(Label::of(&winner.candidate)),
            cost_nanousd: self.cost().nanousd(),
            estimate: Some(Estimate { output_nanousd: whole.saturating_sub(without) }),
            right_ppm: terms.right_ppm,
            first_token_ms: self.again.facts().stream.then_some(self.ms + first_ms),
            total_ms: self.ms + first_ms + writing_ms,
            ..Fate::default()
        }
    }

    /// What the bill of the recorded answer says, and what had been expected of whoever gave it.
    fn known(&self) -> Option<Known> {
        let line = self.again.line;
        let served = line.served.as_ref()?;
        let answered = line.attempts.iter().rfind(|attempt| attempt.is_ok() && !attempt.estimated)?;
        let decision = line.decisions.get(answered.decision as usize)?;
        let ranked = decision.decided.ranked.iter().find(|ranked| ranked.candidate == *served)?;
        Some(Known {
            input: answered.input,
            of_input: ranked.terms.input,
            output: answered.output / self.answers(),
            of_output: ranked.terms.output,
        })
    }

    fn answers(&self) -> u64 {
        self.again.facts().answers.max(1)
    }
}

/// Tokens that were billed, and those that had been expected.
struct Known {
    input: u64,
    of_input: u64,
    output: u64,
    of_output: u64,
}

/// `tokens`, as far off as `known` is from what was expected.
fn scaled(tokens: u64, known: u64, expected: u64) -> u64 {
    let scaled = u128::from(tokens) * u128::from(known) / u128::from(expected.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// What the fences say of an attempt.
enum Away {
    /// It may be made.
    No,
    /// Somebody else may do: a fence of the candidate is reached. What is said of it, and the code.
    Candidate(Arc<str>, &'static str),
    /// A decision for what a budget has left may do.
    Less(Purse),
    /// The request is refused.
    Refused(&'static str),
}

/// What has to be left for an attempt by the winner: before the first what the decision sets aside, later (`spent`) what
/// this attempt does beyond what was spent.
fn need(decision: &Decision, winner: &Ranked, spent: Option<Money>) -> Demand {
    let money = spent.map_or(decision.ceiling, |spent| winner.stake.first + spent);
    Demand { money, tokens: winner.tokens(winner.stake.output) }
}

fn millis(ms: u128) -> u64 {
    u64::try_from(ms).unwrap_or(u64::MAX)
}
