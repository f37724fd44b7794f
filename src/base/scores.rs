//! Benchmark scores on one scale: the rows, and the fitted chance of a right answer that they carry.

use std::sync::Arc;

use jiff::civil;

use super::names::{BenchmarkName, ModelName};

/// Who measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The model: an operator's name or the catalog's.
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
}

/// The register of scores.
pub struct Scores;
