//! Benchmark scores on one scale: the register of rows, and the fitted chance of a right answer that they carry.
//!
//! The rows are the operator's and the catalog's; [`fit`] turns those known on a day into abilities and difficulties.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::civil;

use super::{
    facts::Category,
    names::{BenchmarkName, ModelName},
};

pub mod account;
pub mod fit;
mod reading;
mod solve;

pub use fit::{Fit, Right};
pub use reading::{Reading, wilson};

/// Who measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The vendor of the model.
    Vendor,
    /// Somebody else.
    Independent,
    /// The operator.
    Own,
}

/// One score.
#[derive(Clone, Debug)]
pub struct ScoreRow {
    /// The model: the catalog's name where the operator's model was recognised, else the operator's.
    pub model: ModelName,
    /// The benchmark with its metric.
    pub benchmark: BenchmarkName,
    /// The value in the benchmark's unit.
    pub value: f64,
    /// When it was measured, or the benchmark's edition.
    pub date: civil::Date,
    /// Who measured.
    pub by: By,
    /// Where it was read.
    pub source: Arc<str>,
    /// How many questions were asked, where that is known.
    pub sample: Option<u32>,
    /// The ends of its 95 % interval in the benchmark's unit, where they are known.
    pub interval: Option<(f64, f64)>,
    /// The first day on which it counts no more.
    pub expires: Option<civil::Date>,
}

/// What one benchmark measures. Rows of a benchmark that is not described are kept for
/// [`Scores::benchmark_value`], but stay out of the fit: so do averages of others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Benchmark {
    /// The kind of work.
    pub category: Category,
    /// How its values are read.
    pub unit: Unit,
}

/// The unit of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// Values between `floor` (what guessing reaches) and `ceiling` (what a faultless model reaches), both in percent.
    Percent {
        /// What guessing reaches, in percent.
        floor: f64,
        /// What a faultless model reaches, in percent.
        ceiling: f64,
    },
    /// Ratings: 400 points are a factor of ten in the odds. Every list has its own zero.
    Elo,
}

impl Unit {
    /// Values from 0 to 100.
    pub const PERCENT: Self = Self::Percent { floor: 0.0, ceiling: 100.0 };
}

/// How much a row counts by who measured it, and how fast that fades.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// Measured by the vendor of the model.
    pub vendor: f64,
    /// Measured by somebody else.
    pub independent: f64,
    /// Measured by the operator.
    pub own: f64,
    /// After so many days a row counts half. 0 = nothing fades.
    pub half_life_days: f64,
}

impl Default for Trust {
    /// `trust: {vendor: 0.5, independent: 1, half_life: 365d}`.
    fn default() -> Self {
        Self { vendor: 0.5, independent: 1.0, own: 1.0, half_life_days: 365.0 }
    }
}

/// The register of scores.
#[derive(Debug, Default)]
pub struct Scores {
    /// Sorted by model, benchmark, measurer, date and value, so that no result depends on the order of the files.
    rows: Vec<ScoreRow>,
    benchmarks: BTreeMap<BenchmarkName, Benchmark>,
    trust: Trust,
    /// The fit of the day asked for last: requests come in the order of time.
    cached: Mutex<Option<Arc<Fit>>>,
}

impl Scores {
    /// A register of these rows. Values that are not finite are left out.
    pub fn new(mut rows: Vec<ScoreRow>, benchmarks: BTreeMap<BenchmarkName, Benchmark>, trust: Trust) -> Self {
        rows.retain(|row| row.value.is_finite());
        rows.sort_by(|a, b| {
            let key = |row: &'_ ScoreRow| (row.by, row.date);
            a.model
                .cmp(&b.model)
                .then_with(|| a.benchmark.cmp(&b.benchmark))
                .then_with(|| key(a).cmp(&key(b)))
                .then_with(|| a.value.total_cmp(&b.value))
        });
        Self { rows, benchmarks, trust, cached: Mutex::new(None) }
    }

    /// The fit of what was known on `day`, made once and kept until another day is asked for.
    pub fn fit(&self, day: civil::Date) -> Arc<Fit> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fit) = cached.as_ref().filter(|fit| fit.day() == day) {
            return fit.clone();
        }
        let fit = Arc::new(Fit::new(self, day));
        *cached = Some(fit.clone());
        fit
    }

    /// All rows of a model, oldest first within a benchmark.
    pub fn rows_of(&self, model: &str) -> &[ScoreRow] {
        let start = self.rows.partition_point(|row| row.model.as_str() < model);
        let length = self.rows[start..].partition_point(|row| row.model.as_str() == model);
        &self.rows[start..start + length]
    }

    /// The value of a model in one benchmark, in thousandths of its unit, as known on `day`: the newest row counts,
    /// of two of the same date the operator's before the independent before the vendor's.
    pub fn benchmark_value(&self, model: &str, benchmark: &str, day: civil::Date) -> Option<i64> {
        let known = |row: &&ScoreRow| row.benchmark.as_str() == benchmark && row.date <= day;
        let newest = self.rows_of(model).iter().filter(known).max_by_key(|row| (row.date, row.by))?;
        Some(fit::thousandths(newest.value))
    }

    /// The benchmarks that are described, with the names of those that only have rows.
    pub fn benchmarks(&self) -> BTreeSet<&BenchmarkName> {
        self.benchmarks.keys().chain(self.rows.iter().map(|row| &row.benchmark)).collect()
    }

    /// How much a row counts by who measured it.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What a benchmark measures, if it is described.
    pub fn benchmark(&self, name: &str) -> Option<&Benchmark> {
        self.benchmarks.get(name)
    }

    /// Whether any row names this model.
    pub fn knows(&self, model: &str) -> bool {
        !self.rows_of(model).is_empty()
    }
}

#[cfg(test)]
mod tests;
