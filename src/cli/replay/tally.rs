//! What all requests of a replay come to.
//!
//! The interval of an estimated cost: let ρ be the length of an answer by what was expected of it, as the recorded answers
//! tell. Of each estimated request its output cost `c` strays by ρ of its own, and those of one model stray together by
//! as much as the models' mean ρ differ: `var = Σ_m sd_m² Σ c² + between² Σ_m (Σ c)²`, and the interval is that of a normal
//! distribution with 80 %, ±1.2816 standard deviations. A model with fewer than 20 recorded answers takes the spread of all,
//! and with fewer than two such models `between` is that spread, too: then little is known.
#![allow(clippy::float_arithmetic, reason = "intervals of estimates are statistics; no amount is booked from them")]

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{
    fate::{Fate, length},
    fences::Exhausted,
    quantiles::Quantiles,
};
use crate::{
    admin::api::{ChangeLine, ExhaustedLine, MoveLine, SideLine},
    telemetry::record::{Line, line::Label},
};

/// How many requests are listed that changed most.
const LISTED: usize = 10;
/// Answers below which a model's own spread is not used.
const ENOUGH: f64 = 20.0;
/// Of the normal distribution, 80 % are within so many standard deviations.
const Z: f64 = 1.281_551_565_544_6;
/// What is taken for the spread where nothing is recorded: answers half or one and a half as long.
const UNKNOWN_SPREAD: f64 = 0.5;

/// The sums of one side.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    line: SideLine,
    right: u128,
    first_token: Quantiles,
    total: Quantiles,
    /// Estimated output costs: sum, sum of squares.
    estimates: HashMap<Label, [f64; 2]>,
}

impl Tally {
    /// Takes in a request.
    pub(super) fn add(&mut self, fate: &Fate) {
        let line = &mut self.line;
        line.cost_nanousd = line.cost_nanousd.saturating_add(fate.cost_nanousd);
        line.unpriced += u64::from(!fate.unpriced.is_empty());
        for label in &fate.unpriced {
            *line.unpriced_by_candidate.entry(label.clone()).or_default() += 1;
        }
        let Some(served) = &fate.served else {
            *line.refused.entry(fate.refused.clone()).or_default() += 1;
            return;
        };
        line.served += 1;
        let of = match line.by_candidate.get_mut(served) {
            Some(of) => of,
            None => line.by_candidate.entry(served.clone()).or_default(),
        };
        of.requests += 1;
        of.cost_nanousd = of.cost_nanousd.saturating_add(fate.cost_nanousd);
        self.right += u128::from(fate.right_ppm);
        if let Some(first) = fate.first_token_ms {
            self.first_token.add(first);
        }
        self.total.add(fate.total_ms);
        match fate.estimate {
            None => line.known += 1,
            Some(estimate) => {
                line.estimated += 1;
                line.estimated_nanousd = line.estimated_nanousd.saturating_add(fate.cost_nanousd);
                let cost = estimate.output_nanousd as f64;
                let sums = entry(&mut self.estimates, served);
                sums[0] += cost;
                sums[1] += cost * cost;
            }
        }
    }

    /// The sums, with intervals from the lengths that `known` tells.
    pub(super) fn finish(mut self, exhausted: Exhausted, known: &Lengths) -> SideLine {
        let line = &mut self.line;
        line.right_ppm = u64::try_from(self.right / u128::from(line.served.max(1))).unwrap_or(0);
        line.first_token_ms = self.first_token.three();
        line.total_ms = self.total.three();
        let line_of = |((budget, window), at)| ExhaustedLine { budget, window, at };
        line.exhausted = exhausted.into_iter().map(line_of).collect();
        let variance: f64 = self
            .estimates
            .iter()
            .map(|(label, [sum, squares])| known.own(label).powi(2) * squares + known.between.powi(2) * sum * sum)
            .sum();
        let half = (Z * variance.sqrt()).min(i64::MAX as f64) as i64;
        line.cost_high_nanousd = line.cost_nanousd.saturating_add(half);
        line.cost_low_nanousd = line.cost_nanousd.saturating_sub(half).max(line.cost_nanousd - line.estimated_nanousd);
        self.line
    }
}

/// How long the recorded answers were, whatever either side makes of their requests, so that what is said of one side does
/// not depend on the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// Lengths by expected ones: count, sum, sum of squares.
    lengths: HashMap<Label, [f64; 3]>,
}

impl Answers {
    /// Takes in a request.
    pub(super) fn add(&mut self, line: &Line) {
        let Some((label, known, expected)) = length(line).filter(|(_, _, expected)| *expected > 0) else { return };
        let share = known as f64 / expected as f64;
        let sums = entry(&mut self.lengths, label);
        sums[0] += 1.0;
        sums[1] += share;
        sums[2] += share * share;
    }

    /// What they tell of lengths.
    pub(super) fn lengths(&self) -> Lengths {
        let sd = |[count, sum, squares]: [f64; 3]| {
            let mean = sum / count;
            (squares / count - mean * mean).max(0.0).sqrt()
        };
        let mut all = [0.0; 3];
        for sums in self.lengths.values() {
            (0..3).for_each(|at| all[at] += sums[at]);
        }
        let overall = if all[0] >= ENOUGH { sd(all) } else { UNKNOWN_SPREAD };
        let mut enough: Vec<(&Label, [f64; 3])> =
            self.lengths.iter().filter(|(_, sums)| sums[0] >= ENOUGH).map(|(label, sums)| (label, *sums)).collect();
        // Floats are added in one order, whatever that of a hash map is.
        enough.sort_by(|a, b| a.0.cmp(b.0));
        let means: Vec<f64> = enough.iter().map(|(_, [count, sum, _])| sum / count).collect();
        let count = means.len() as f64;
        let mean = means.iter().sum::<f64>() / count.max(1.0);
        let between = if means.len() < 2 {
            overall
        } else {
            (means.iter().map(|other| (other - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
        };
        let own = enough.into_iter().map(|(label, sums)| (label.clone(), sd(sums))).collect();
        Lengths { own, overall, between }
    }
}

fn entry<'a, const N: usize>(sums: &'a mut HashMap<Label, [f64; N]>, label: &Label) -> &'a mut [f64; N] {
    if !sums.contains_key(label) {
        sums.insert(label.clone(), [0.0; N]);
    }
    sums.entry(label.clone()).or_insert([0.0; N])
}

/// How far answers stray from what is expected of them.
#[derive(Clone, Debug)]
pub(super) struct Lengths {
    own: HashMap<Label, f64>,
    overall: f64,
    between: f64,
}

impl Lengths {
    fn own(&self, label: &Label) -> f64 {
        self.own.get(label).copied().unwrap_or(self.overall)
    }
}

/// What changes between two sides.
#[derive(Debug, Default)]
pub(super) struct Changes {
    moves: HashMap<(Option<Label>, Option<Label>), Moved>,
    /// New cost less old.
    pub(super) difference: i64,
    most: Vec<ChangeLine>,
    pub(super) hours: BTreeMap<Timestamp, [i64; 2]>,
    hour: Option<(i64, Timestamp)>,
}

/// Requests of one move.
#[derive(Debug, Default)]
struct Moved {
    requests: u64,
    difference: i64,
    unpriced: u64,
}

impl Changes {
    /// Takes in a request of both sides.
    pub(super) fn add(&mut self, line: &Line, old: &Fate, new: &Fate) {
        let is_known = old.unpriced.is_empty() && new.unpriced.is_empty();
        let difference = if is_known { new.cost_nanousd.saturating_sub(old.cost_nanousd) } else { 0 };
        self.difference = self.difference.saturating_add(difference);
        if old.served != new.served {
            let moved = self.moves.entry((old.served.clone(), new.served.clone())).or_default();
            moved.requests += 1;
            moved.difference = moved.difference.saturating_add(difference);
            moved.unpriced += u64::from(!is_known);
        }
        if !is_known {
            return;
        }
        let hour = line.at.as_second().div_euclid(3600);
        let at = match self.hour {
            Some((known, at)) if known == hour => at,
            _ => Timestamp::from_second(hour * 3600).unwrap_or(line.at),
        };
        self.hour = Some((hour, at));
        let costs = self.hours.entry(at).or_default();
        costs[0] = costs[0].saturating_add(old.cost_nanousd);
        costs[1] = costs[1].saturating_add(new.cost_nanousd);
        let least = self.most.last().map_or(0, size);
        if difference == 0 || (self.most.len() == LISTED && difference.unsigned_abs() <= least) {
            return;
        }
        self.most.push(ChangeLine {
            id: line.id.clone(),
            at: line.at,
            from: old.served.clone(),
            to: new.served.clone(),
            old_nanousd: old.cost_nanousd,
            new_nanousd: new.cost_nanousd,
            estimated: new.estimate.is_some() || old.estimate.is_some(),
        });
        // Of two that changed as much, the earlier stays: the sort is stable.
        self.most.sort_by_key(|change| std::cmp::Reverse(size(change)));
        self.most.truncate(LISTED);
    }

    /// The moves, the most first, and the requests that changed most.
    pub(super) fn finish(self) -> (Vec<MoveLine>, Vec<ChangeLine>, BTreeMap<Timestamp, [i64; 2]>) {
        let line = |((from, to), Moved { requests, difference, unpriced })| MoveLine {
            from,
            to,
            requests,
            difference_nanousd: difference,
            unpriced,
        };
        let mut moves: Vec<MoveLine> = self.moves.into_iter().map(line).collect();
        moves.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to))));
        (moves, self.most, self.hours)
    }
}

fn size(change: &ChangeLine) -> u64 {
    change.new_nanousd.saturating_sub(change.old_nanousd).unsigned_abs()
}
