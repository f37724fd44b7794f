//! The fit: one ability per model and category, one difficulty per benchmark, and the chance that follows from both.
//!
//! `y = ability(model) + leaning(model, category) − difficulty(benchmark) + noise` on the logit scale (a Rasch model
//! with continuous answers). `leaning` is drawn to zero, `ability` to the mean of all models: a model with rows in
//! other categories only is judged by its overall ability, with a wider interval. A row weighs trust × freshness × precision
//! (`reading.rs`).
//! Percentages are stretched between the benchmark's floor and ceiling and clamped to 1–99 %; a rating `r` enters as
//! `r ÷ 400 × ln 10` (the Elo scale), and the difficulty of its list is the list's free offset.
//!
//! `P = sigmoid(ability + leaning − reference)`, where the reference is the weighted median difficulty among the
//! percent benchmarks of the category that two models took (among all such, where it has none). The low end is `Z` standard errors below:
//! given the difficulties, `var = 1 / (1 / (var of the ability from other categories + leaning's variance) + the
//! category's own information)`, the posterior of the two-level normal model; a row's information is its weight times
//! the share of its benchmark that others measured, so a benchmark that nobody else took tells nothing.
//!
//! Nothing new wins on hope: a model without a telling row counts as the weakest tenth of those fitted, low end 1 %.
#![allow(clippy::float_arithmetic, reason = "scores are fitted on the logit scale; no amount of money is touched")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use jiff::civil;
use sha2::{Digest, Sha256};

use super::{
    Benchmark, ScoreRow, Scores, Trust, Unit,
    reading::{Reading, days},
    solve::{Observation, Size, Solution, solve},
};
use crate::base::{catalog::Model, facts::Category, names::ModelName};

/// Standard deviation of one row of weight 1 around the fit, in logits: the in-sample residual of the catalog's
/// 3,661 category rows of 2026-11-23 is 0.31–0.36, the held-out one 0.67.
pub(super) const NOISE: f64 = 0.5;
/// `NOISE² ÷ variance of the leanings`: leanings spread by about 0.5 logits; best held-out error at 0.5–2.
const RIDGE_LEANING: f64 = 1.0;
/// `NOISE² ÷ variance of the abilities`: abilities spread by about 0.9 logits.
const RIDGE_ABILITY: f64 = 0.3;
/// The low end is the 10th percentile of the normal distribution.
const Z: f64 = 1.281_551_565_544_6;
/// The low end of a model of which nothing is known: 1 %.
const UNKNOWN_LOW_PPM: u32 = 10_000;
/// The upper end of one: 99 %.
const UNKNOWN_HIGH_PPM: u32 = 990_000;
/// The chance of a model of which nothing is known, where no other is known either.
const UNKNOWN_PPM: u32 = 500_000;

const CATEGORIES: usize = Category::ALL.len();

/// A chance of a right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The chance, in parts per million.
    pub ppm: u32,
    /// The lower end of its interval (one-sided 90 %), in parts per million.
    pub low_ppm: u32,
    /// The upper end of the same interval, in parts per million.
    pub high_ppm: u32,
    /// How many rows carried it: of the category where it has any, else all of the model's.
    pub rows: u32,
}

/// What the rows known on one day say of every model.
#[derive(Debug)]
pub struct Fit {
    day: civil::Date,
    label: Arc<str>,
    /// Read by name; where it is walked, the result is sorted: the order of a hash map reaches no result.
    models: HashMap<ModelName, Chances>,
    unknown: Chances,
}

/// What the rows of one model come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chances {
    pub(super) overall: Right,
    pub(super) by_category: [Right; CATEGORIES],
}

impl Fit {
    /// The day whose knowledge it holds.
    pub fn day(&self) -> civil::Date {
        self.day
    }

    /// `2026-11-23 ab12cd34`: the day, and the hash of the rows, benchmarks and trust that went in.
    pub fn label(&self) -> Arc<str> {
        self.label.clone()
    }

    /// The chance that `model` is right in `category`; where the category is not `confident`, by overall ability.
    pub fn right(&self, model: &Model, category: Category, confident: bool) -> Right {
        let by = |name: &ModelName| self.models.get(name);
        let chances = model.catalog.as_ref().and_then(by).or_else(|| by(&model.name)).unwrap_or(&self.unknown);
        if confident { chances.by_category[category as usize] } else { chances.overall }
    }

    pub(super) fn new(scores: &Scores, day: civil::Date) -> Self {
        let fitted = Fitted::on(scores, day);
        let label = format!("{day} {}", fitted.known.hash(&scores.trust)).into();
        let models = fitted.chances;
        let unknown = Chances {
            overall: unknown(models.values().map(|chances| chances.overall)),
            by_category: Category::ALL
                .map(|category| unknown(models.values().map(|chances| chances.by_category[category as usize]))),
        };
        Self { day, label, models, unknown }
    }
}

/// A fit with all that went into it.
pub(super) struct Fitted<'a> {
    known: Known<'a>,
    solution: Solution,
    references: References,
    chances: HashMap<ModelName, Chances>,
}

impl<'a> Fitted<'a> {
    pub(super) fn on(scores: &'a Scores, day: civil::Date) -> Self {
        let known = Known::on(scores, day);
        let size = Size { models: known.models.len(), pairs: known.pairs.len(), benchmarks: known.benchmarks.len() };
        let solution = solve(&known.observations, size, RIDGE_ABILITY, RIDGE_LEANING);
        let compared = known.compared(size);
        let information = known.information(size, &compared);
        let references = known.references(&solution, &compared);
        let telling = (0..size.models).filter(|&model| information[model].rows() > 0);
        let chances = telling.map(|model| {
            (known.models[model].clone(), known.chances(model, &solution, &information[model], &references))
        });
        let chances = chances.collect();
        Self { known, solution, references, chances }
    }

    /// The chances of a model with a telling row.
    pub(super) fn chances(&self, model: &ModelName) -> Option<&Chances> {
        self.chances.get(model)
    }

    /// The number of a row that counted.
    pub(super) fn place(&self, row: &ScoreRow) -> Option<usize> {
        // The rows are in the order of the register, so the same row is the same place in memory.
        self.known.rows.iter().position(|(known, _)| std::ptr::eq(*known, row))
    }

    /// Where the fit expects that row, on the logit scale.
    pub(super) fn expected(&self, place: usize) -> f64 {
        let observation = &self.known.observations[place];
        let solution = &self.solution;
        solution.ability[observation.model] + solution.leaning[observation.pair]
            - solution.difficulty[observation.benchmark]
    }

    /// A model's ability in a category against the reference, on the logit scale.
    pub(super) fn logit(&self, model: &ModelName, category: Category) -> Option<f64> {
        let model = self.known.models.iter().position(|known| *known == model)?;
        Some(self.known.logit(model, category, &self.solution, &self.references))
    }
}

/// The rows known on one day, numbered.
struct Known<'a> {
    rows: Vec<(&'a ScoreRow, &'a Benchmark)>,
    models: Vec<&'a ModelName>,
    pairs: BTreeMap<(usize, Category), usize>,
    benchmarks: Vec<&'a Benchmark>,
    observations: Vec<Observation>,
}

impl<'a> Known<'a> {
    /// Of several rows of one measurer for the same model and benchmark, only the newest by `day` counts.
    fn on(scores: &'a Scores, day: civil::Date) -> Self {
        let in_time = |row: &&ScoreRow| row.date <= day && row.expires.is_none_or(|expires| day < expires);
        let known = scores.rows.iter().filter(in_time);
        let mut rows: Vec<(&ScoreRow, &Benchmark)> =
            known.filter_map(|row| Some((row, scores.benchmarks.get(&row.benchmark)?))).collect();
        rows.reverse();
        rows.dedup_by(|(later, _), (kept, _)| {
            later.model == kept.model && later.benchmark == kept.benchmark && later.by == kept.by
        });
        rows.reverse();
        let mut known = Known {
            rows: Vec::with_capacity(rows.len()),
            models: Vec::new(),
            pairs: BTreeMap::new(),
            benchmarks: Vec::new(),
            observations: Vec::with_capacity(rows.len()),
        };
        let mut numbers = BTreeMap::new();
        for (row, benchmark) in rows {
            let Some(reading) = Reading::new(row, benchmark.unit, &scores.trust, day) else { continue };
            let (y, weight) = (reading.logit, reading.weight());
            if weight <= 0.0 {
                continue;
            }
            if known.models.last() != Some(&&row.model) {
                known.models.push(&row.model);
            }
            let model = known.models.len() - 1;
            let next = known.pairs.len();
            let pair = *known.pairs.entry((model, benchmark.category)).or_insert(next);
            let number = *numbers.entry(&row.benchmark).or_insert_with(|| {
                known.benchmarks.push(benchmark);
                known.benchmarks.len() - 1
            });
            known.rows.push((row, benchmark));
            known.observations.push(Observation { model, pair, benchmark: number, y, weight });
        }
        known
    }

    /// Eight hex digits of the SHA-256 of everything that the fit reads.
    fn hash(&self, trust: &Trust) -> String {
        let mut sha = Sha256::new();
        for number in [trust.vendor, trust.independent, trust.own, trust.half_life_days] {
            sha.update(number.to_le_bytes());
        }
        for (row, benchmark) in &self.rows {
            for text in [row.model.as_str(), row.benchmark.as_str(), benchmark.category.as_str()] {
                sha.update(text.as_bytes());
                sha.update([0]);
            }
            let (floor, ceiling) = match benchmark.unit {
                Unit::Percent { floor, ceiling } => (floor, ceiling),
                Unit::Elo => (f64::MAX, f64::MAX),
            };
            for number in [row.value, floor, ceiling] {
                sha.update(number.to_le_bytes());
            }
            row.sample.iter().for_each(|sample| sha.update(sample.to_le_bytes()));
            if let Some((low, high)) = row.interval {
                sha.update(low.to_le_bytes());
                sha.update(high.to_le_bytes());
            }
            sha.update([row.by as u8]);
            sha.update(days(row.date).to_le_bytes());
        }
        sha.finalize().iter().take(4).fold(String::with_capacity(8), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Which benchmarks tell something: those where two models meet. Two measurers of the same model are no comparison.
    fn compared(&self, size: Size) -> Vec<bool> {
        let mut first = vec![None; size.benchmarks];
        let mut compared = vec![false; size.benchmarks];
        for observation in &self.observations {
            let model = *first[observation.benchmark].get_or_insert(observation.model);
            compared[observation.benchmark] |= model != observation.model;
        }
        compared
    }

    fn information(&self, size: Size, compared: &[bool]) -> Vec<Information> {
        let mut totals = vec![0.0; size.benchmarks];
        for observation in &self.observations {
            totals[observation.benchmark] += observation.weight;
        }
        let mut information = vec![Information::default(); size.models];
        for (observation, (_, benchmark)) in self.observations.iter().zip(&self.rows) {
            if compared[observation.benchmark] {
                let others = 1.0 - observation.weight / totals[observation.benchmark];
                let of_model = &mut information[observation.model];
                of_model.weight[benchmark.category as usize] += observation.weight * others;
                of_model.rows[benchmark.category as usize] += 1;
            }
        }
        information
    }

    /// The reference difficulties: weighted medians, see the head of the file.
    fn references(&self, solution: &Solution, compared: &[bool]) -> References {
        let mut weights = vec![0.0; self.benchmarks.len()];
        for observation in self.observations.iter().filter(|observation| compared[observation.benchmark]) {
            weights[observation.benchmark] += observation.weight;
        }
        let median = |category: Option<Category>| {
            let mut chosen: Vec<(f64, f64)> = (self.benchmarks.iter().zip(&solution.difficulty).zip(&weights))
                .filter(|((benchmark, _), _)| matches!(benchmark.unit, Unit::Percent { .. }))
                .filter(|((benchmark, _), _)| category.is_none_or(|category| benchmark.category == category))
                .filter(|(_, weight)| **weight > 0.0)
                .map(|((_, difficulty), weight)| (*difficulty, *weight))
                .collect();
            weighted_median(&mut chosen)
        };
        let overall = median(None).unwrap_or(0.0);
        References { overall, by_category: Category::ALL.map(|category| median(Some(category)).unwrap_or(overall)) }
    }

    fn chances(
        &self,
        model: usize,
        solution: &Solution,
        information: &Information,
        references: &References,
    ) -> Chances {
        let ability = solution.ability[model];
        let overall = right(ability - references.overall, information.variance(None), information.rows());
        let by_category = Category::ALL.map(|category| {
            let at = category as usize;
            let rows = if information.rows[at] > 0 { information.rows[at] } else { information.rows() };
            let logit = self.logit(model, category, solution, references);
            right(logit, information.variance(Some(category)), rows)
        });
        Chances { overall, by_category }
    }

    fn logit(&self, model: usize, category: Category, solution: &Solution, references: &References) -> f64 {
        let leaning = self.pairs.get(&(model, category)).map_or(0.0, |&pair| solution.leaning[pair]);
        solution.ability[model] + leaning - references.by_category[category as usize]
    }
}

/// What the rows of one model tell, by category, in rows of weight 1.
#[derive(Clone, Debug, Default)]
struct Information {
    weight: [f64; CATEGORIES],
    rows: [u32; CATEGORIES],
}

impl Information {
    fn rows(&self) -> u32 {
        self.rows.iter().sum()
    }

    /// The variance of the ability in a category (`None` = the overall ability), in squared logits.
    fn variance(&self, category: Option<Category>) -> f64 {
        let noise = NOISE * NOISE;
        let leaning = noise / RIDGE_LEANING;
        let mut precision = RIDGE_ABILITY / noise;
        for (at, weight) in self.weight.iter().enumerate() {
            if *weight > 0.0 && category.is_none_or(|category| category as usize != at) {
                precision += 1.0 / (leaning + noise / weight);
            }
        }
        match category {
            None => 1.0 / precision,
            Some(category) => 1.0 / (1.0 / (1.0 / precision + leaning) + self.weight[category as usize] / noise),
        }
    }
}

struct References {
    overall: f64,
    by_category: [f64; CATEGORIES],
}

/// The chance at the end of the weakest tenth, which no order of the models changes.
fn unknown(models: impl Iterator<Item = Right>) -> Right {
    let mut chances: Vec<u32> = models.map(|right| right.ppm).collect();
    chances.sort_unstable();
    let ppm = chances.get(chances.len() / 10).copied().unwrap_or(UNKNOWN_PPM);
    Right { ppm, low_ppm: UNKNOWN_LOW_PPM.min(ppm), high_ppm: UNKNOWN_HIGH_PPM.max(ppm), rows: 0 }
}

fn right(logit: f64, variance: f64, rows: u32) -> Right {
    let reach = Z * libm::sqrt(variance);
    Right { ppm: ppm(logit), low_ppm: ppm(logit - reach), high_ppm: ppm(logit + reach), rows }
}

/// `sigmoid(logit)` in parts per million, within 1–99 %.
pub(super) fn ppm(logit: f64) -> u32 {
    let chance = 1.0 / (1.0 + libm::exp(-logit));
    libm::round(chance.clamp(0.01, 0.99) * 1e6) as u32
}

/// The weighted median, between the values whose middles enclose half of the weight: a row more or less moves it a
/// little, never from one benchmark's difficulty to another's.
fn weighted_median(values: &mut [(f64, f64)]) -> Option<f64> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
    let half = values.iter().fold(0.0, |sum, (_, weight)| sum + weight) / 2.0;
    let mut below: Option<(f64, f64)> = None;
    let mut reached = 0.0;
    for (value, weight) in values.iter() {
        let middle = reached + weight / 2.0;
        reached += weight;
        if middle >= half {
            let between = |(lower, at): (f64, f64)| lower + (value - lower) * (half - at) / (middle - at);
            return Some(below.filter(|(_, at)| *at < middle).map_or(*value, between));
        }
        below = Some((*value, middle));
    }
    below.map(|(value, _)| value)
}

/// A score in thousandths of its unit.
pub(super) fn thousandths(value: f64) -> i64 {
    libm::round(value * 1000.0) as i64
}
