//! What becomes of one recorded request under some policies.
//!
//! As long as decisions have the recorded winner, the record is followed: what was tried, used and waited for is known,
//! and only prices may differ. From the first other winner on, what the record knows of a candidate still counts (it
//! failed on this request, or answered with so many tokens); of one that was not asked, the expected answer is taken,
//! scaled by how the known answer's length differed from what was expected of it.

use std::{sync::Arc, time::Duration};

use super::budgets::{Around, Budgets};
use crate::{
    base::{catalog::CandidateId, money::Money, tenants::OnEmpty, tier::Tier, usage::Usage},
    policy::{Decision, Policies, Purse, Ranked, value},
    telemetry::record::{
        Line,
        line::{AttemptLine, Label},
        recall::{Again, Change, Lately, Unplaced},
    },
};

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fate {
    /// Who answered; `None` = nobody.
    pub(super) served: Option<Label>,
    /// Why nobody did; empty when somebody did.
    pub(super) refused: Arc<str>,
    /// What it cost.
    pub(super) cost_nanousd: i64,
    /// What was not recorded and had to be estimated.
    pub(super) estimate: Option<Estimate>,
    /// The chance of a right answer.
    pub(super) right_ppm: u32,
    /// To the first token; `None` = whole answers do not tell.
    pub(super) first_token_ms: Option<u64>,
    /// All attempts together.
    pub(super) total_ms: u64,
    /// Of a known answer: its tokens, and those that were expected.
    pub(super) length: Option<(u64, u64)>,
}

/// What is estimated of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// The part of the cost that its answer's length makes.
    pub(super) output_nanousd: i64,
}

/// One side of a replay.
pub(super) struct Side<'p> {
    /// The policies.
    pub(super) policies: &'p Policies,
    /// How its budgets stand.
    pub(super) budgets: Budgets,
}

impl Fate {
    /// As it is recorded.
    pub(super) fn recorded(line: &Line) -> Self {
        let mut all = line.decisions.iter().rev().flat_map(|decision| &decision.decided.ranked);
        let ranked = |label: &Label| all.find(|ranked| ranked.candidate == *label);
        let served = line.served.clone();
        let terms = served.as_ref().and_then(ranked).map(|ranked| &ranked.terms);
        let (first_token_ms, total_ms) = times(line);
        let answered = line.attempts.iter().rfind(|attempt| attempt.is_ok() && !attempt.estimated);
        Self {
            refused: if served.is_none() { why(line) } else { "".into() },
            cost_nanousd: line.cost_nanousd,
            estimate: None,
            right_ppm: terms.map_or(0, |terms| terms.right_ppm),
            first_token_ms,
            total_ms,
            length: terms.zip(answered).map(|(terms, attempt)| (attempt.output, terms.output)),
            served,
        }
    }

    fn nobody(why: &str, cost_nanousd: i64) -> Self {
        Self { refused: why.into(), cost_nanousd, ..Self::default() }
    }
}

/// Why nobody answered.
fn why(line: &Line) -> Arc<str> {
    if line.code.is_empty() { line.end.clone() } else { line.code.clone() }
}

/// To the first token of the last attempt, and of all attempts. Where two ran at once, what the client saw.
fn times(line: &Line) -> (Option<u64>, u64) {
    let attempts = &line.attempts;
    if attempts.iter().any(|attempt| attempt.hedge) {
        return (line.first_byte_ms.filter(|_| line.facts.stream), line.total_ms);
    }
    let all: u64 = attempts.iter().map(|attempt| attempt.total_ms).sum();
    let last = attempts.last();
    let before = all - last.map_or(0, |last| last.total_ms);
    (last.and_then(|last| last.first_token_ms).map(|first| before + first), all)
}

impl<'p> Side<'p> {
    /// A side of which nothing is spent beyond what is recorded.
    pub(super) fn new(policies: &'p Policies) -> Self {
        Self { policies, budgets: Budgets::default() }
    }

    /// What becomes of a request here. `before`: the policies that it was recorded under, where they are known.
    pub(super) fn fate(&mut self, line: &Line, lately: &Lately, before: Option<&Policies>) -> Fate {
        let again = match Again::new(self.policies, line, Some(lately)) {
            Ok(again) => again,
            Err(Unplaced::Route) => return Fate::nobody("model_not_found", 0),
            Err(Unplaced::Team) => return Fate::nobody("team_unknown", 0),
            Err(Unplaced::MayNot) => return Fate::nobody("model_not_allowed", 0),
        };
        let around = self.budgets.around(&again, before);
        let mut course = Course { budgets: &mut self.budgets, again, around, cost: 0, tried: 0, ms: 0 };
        let fate = course.run();
        let around = course.around;
        self.budgets.spent(&around, fate.cost_nanousd, line.cost_nanousd, line.at);
        fate
    }
}

/// One request on its way through other policies.
struct Course<'b, 'a> {
    budgets: &'b mut Budgets,
    again: Again<'a>,
    around: Around<'a>,
    cost: i64,
    tried: usize,
    ms: u64,
}

impl Course<'_, '_> {
    fn run(&mut self) -> Fate {
        let line = self.again.line;
        let budget = (!self.around.as_recorded).then(|| self.budgets.seen(&self.around, line.at));
        let mut made: Vec<Decision> = Vec::with_capacity(line.decisions.len());
        for (number, recorded) in line.decisions.iter().enumerate() {
            let decision = self.again.decide(&recorded.asked, &Change { budget, ..Change::default() });
            let winner = decision.ranked.first();
            let same = match (winner, recorded.winner()) {
                (Some(winner), Some(label)) => label.is(&winner.candidate),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            let of_money = !self.around.as_recorded && recorded.asked.purse.is_none();
            if !same || (of_money && self.money_tells_otherwise(&decision, number)) {
                return self.go_elsewhere(decision, number);
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

    /// Every decision had the recorded winner: it ends as it did.
    fn as_recorded(&mut self, made: &[Decision]) -> Fate {
        let line = self.again.line;
        self.budgets.refused(&self.again);
        let Some(served) = &line.served else { return Fate::nobody(&why(line), self.cost) };
        let mut all = made.iter().rev().flat_map(|decision| &decision.ranked);
        let ranked = all.find(|ranked| served.is(&ranked.candidate));
        let answered = line.attempts.iter().rfind(|attempt| attempt.is_ok() && !attempt.estimated);
        let expected = ranked.map(|ranked| ranked.terms.output_tokens * self.answers());
        let (first_token_ms, total_ms) = times(line);
        Fate {
            served: Some(served.clone()),
            cost_nanousd: self.cost,
            right_ppm: ranked.map_or(0, |ranked| ranked.terms.right_ppm),
            first_token_ms,
            total_ms,
            length: answered.zip(expected).map(|(attempt, expected)| (attempt.output, expected)),
            ..Fate::default()
        }
    }

    /// Whether budgets that stand otherwise than recorded refuse what was served, or pay what was refused.
    fn money_tells_otherwise(&mut self, decision: &Decision, number: usize) -> bool {
        let line = self.again.line;
        let Some(winner) = decision.ranked.first() else { return false };
        let short = self.budgets.short(&self.around, winner.stake.first, line.at).is_some();
        let was_short = line.code.as_ref() == "budget_exceeded" && line.attempts.is_empty()
            || line.decisions.get(number + 1).is_some_and(|next| next.asked.purse.is_some());
        short != was_short
    }

    /// Another one is tried than was: `decision` is the first that says so.
    fn go_elsewhere(&mut self, mut decision: Decision, number: usize) -> Fate {
        let line = self.again.line;
        let asked = &line.decisions[number].asked;
        let mut failed: Vec<CandidateId> = asked.failed.iter().filter_map(|label| self.again.id(label)).collect();
        let mut change = Change { budget: None, failed: None, purse: Some(None) };
        if !self.around.as_recorded {
            change.budget = Some(self.budgets.seen(&self.around, line.at));
        }
        if asked.purse.is_some() {
            decision = self.again.decide(asked, &Change { failed: Some(&failed), ..change.clone() });
        }
        loop {
            let Some(winner) = decision.ranked.first().cloned() else {
                return Fate::nobody(if self.tried > 0 { "upstream_error" } else { "no_candidate" }, self.cost);
            };
            let spent = Money::from_nanousd(self.cost);
            let affordable = matches!(change.purse, Some(Some(_)));
            if let Some(left) = self.budgets.short(&self.around, winner.stake.first + spent, line.at)
                && (!self.around.as_recorded || line.code.as_ref() == "budget_exceeded")
            {
                let left = left - spent;
                let downgrade = self.again.team().on_empty == OnEmpty::Downgrade;
                let clamp = self.again.team().clamp_output;
                if affordable || left <= Money::ZERO || !(downgrade || clamp) {
                    return Fate::nobody("budget_exceeded", self.cost);
                }
                change.purse = Some(Some(Purse { left, cheapest: downgrade, clamp }));
                decision = self.again.decide(asked, &Change { failed: Some(&failed), ..change.clone() });
                continue;
            }
            if let Some(fate) = self.attempt(&winner) {
                return fate;
            }
            failed.push(winner.candidate.id);
            if self.tried >= decision.attempts as usize {
                return Fate::nobody("upstream_error", self.cost);
            }
            decision = self.again.decide(asked, &Change { failed: Some(&failed), ..change.clone() });
        }
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
            cost_nanousd: self.cost,
            right_ppm,
            first_token_ms: last.first_token_ms.map(|first| before + until_last + first),
            total_ms: self.ms,
            length: (last.is_ok() && !last.estimated)
                .then_some((last.output, winner.terms.output_tokens * self.answers())),
            ..Fate::default()
        })
    }

    /// Takes in what a known attempt cost and took.
    fn pay(&mut self, ranked: &Ranked, attempt: &AttemptLine) {
        self.tried += 1;
        self.ms += attempt.total_ms;
        let thinking = value::thinks(&ranked.candidate.model, self.again.facts());
        if let Some(price) = &ranked.price {
            let money = price.charge(&attempt.usage(), thinking).money;
            self.cost = self.cost.saturating_add(money.nanousd());
        }
    }

    /// What is expected of a candidate that was not asked.
    fn estimate(&mut self, winner: &Ranked) -> Fate {
        let terms = &winner.terms;
        let expected = terms.output_tokens.max(1);
        let output = self.known_ratio().map_or(expected, |(known, of)| {
            let scaled = u128::from(expected) * u128::from(known) / u128::from(of.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX).clamp(1, winner.max_output.max(1))
        });
        let usage = |output: u64| Usage {
            input: terms.input_tokens,
            cached_input: terms.cached_tokens,
            output: output.saturating_mul(self.answers()),
            tier: if terms.tier == Tier::Unknown { Tier::Standard } else { terms.tier },
            estimated: true,
            ..Usage::default()
        };
        let thinking = value::thinks(&winner.candidate.model, self.again.facts());
        let charge =
            |usage: &Usage| winner.price.as_ref().map_or(0, |price| price.charge(usage, thinking).money.nanousd());
        let (whole, without) = (charge(&usage(output)), charge(&usage(0)));
        let first = value::first_token(&winner.candidate, &winner.seen);
        let writing = Duration::from_millis(terms.expected_ms).saturating_sub(first).as_millis();
        let writing = writing * u128::from(output) / u128::from(expected);
        let (first_ms, writing_ms) = (millis(first.as_millis()), millis(writing));
        self.tried += 1;
        let cost = self.cost.saturating_add(whole);
        Fate {
            served: Some(Label::of(&winner.candidate)),
            cost_nanousd: cost,
            estimate: Some(Estimate { output_nanousd: whole.saturating_sub(without) }),
            right_ppm: terms.right_ppm,
            first_token_ms: self.again.facts().stream.then_some(self.ms + first_ms),
            total_ms: self.ms + first_ms + writing_ms,
            ..Fate::default()
        }
    }

    /// Tokens of the recorded answer, and how many had been expected of whoever gave it.
    fn known_ratio(&self) -> Option<(u64, u64)> {
        let line = self.again.line;
        let served = line.served.as_ref()?;
        let answered = line.attempts.iter().rfind(|attempt| attempt.is_ok() && !attempt.estimated)?;
        let decision = line.decisions.get(answered.decision as usize)?;
        let ranked = decision.decided.ranked.iter().find(|ranked| ranked.candidate == *served)?;
        Some((answered.output / self.answers(), ranked.terms.output))
    }

    fn answers(&self) -> u64 {
        self.again.facts().answers.max(1)
    }
}

fn millis(ms: u128) -> u64 {
    u64::try_from(ms).unwrap_or(u64::MAX)
}
