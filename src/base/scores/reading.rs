//! How one row is read: its place on the logit scale, and how much it weighs.
//!
//! A row weighs trust × freshness × precision. Precision is `NOISE² ÷ (NOISE² + var)`, where `var` is the sampling
//! variance of the row itself on the logit scale: a suite of forty questions says less than one of a thousand. A row
//! that tells neither its sample size nor an interval is taken as exact.
//!
//! With `n` questions, `k` of them right, the share is taken as `(k + ½) ÷ (n + 1)`, so that eight right ones of eight
//! are not certainty (the empirical logit: Haldane 1956, Anscombe 1956; the smoothed share for both terms of the
//! delta method's variance `a (1 − a) ÷ n`, see Agresti, Categorical Data Analysis, 3.1).
#![allow(clippy::float_arithmetic, reason = "scores are fitted on the logit scale; no amount of money is touched")]

use jiff::civil;

use super::{By, ScoreRow, Trust, Unit, fit::NOISE};

/// Half the width of a 95 % interval in standard errors.
const HALF_95: f64 = 1.959_963_984_540_054;

/// One row as the fit takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Its place on the logit scale.
    pub logit: f64,
    /// How much it is trusted, by who measured.
    pub trust: f64,
    /// What is left of it by its age, 0 to 1.
    pub freshness: f64,
    /// How exact it is itself, 0 to 1.
    pub precision: f64,
}

impl Reading {
    /// The row as of `day`; `None` for a value that cannot be read.
    pub fn new(row: &ScoreRow, unit: Unit, trust: &Trust, day: civil::Date) -> Option<Self> {
        let (logit, variance) = match (unit, row.sample) {
            (Unit::Percent { floor, ceiling }, Some(sample)) => sampled(row.value, sample, floor, ceiling)?,
            _ => (logit_of(row.value, unit)?, variance_of_interval(row, unit)),
        };
        let age = f64::from(days(day) - days(row.date));
        let fresh = if trust.half_life_days > 0.0 { libm::exp2(-age / trust.half_life_days) } else { 1.0 };
        let precision = NOISE * NOISE / (NOISE * NOISE + variance);
        Some(Self { logit, trust: trust.of(row.by), freshness: fresh, precision })
    }

    /// The weight in the fit.
    pub fn weight(&self) -> f64 {
        self.trust * self.freshness * self.precision
    }
}

/// Place and variance of a share of `sample` questions, in percent between guessing and perfect.
fn sampled(value: f64, sample: u32, floor: f64, ceiling: f64) -> Option<(f64, f64)> {
    let (n, width) = (f64::from(sample), (ceiling - floor) / 100.0);
    if sample == 0 || width <= 0.0 {
        return None;
    }
    let smooth = (value / 100.0 * n + 0.5) / (n + 1.0);
    let share = ((smooth - floor / 100.0) / width).clamp(0.01, 0.99);
    let slope = 1.0 / (share * (1.0 - share) * width);
    Some((libm::log(share / (1.0 - share)), slope * slope * smooth * (1.0 - smooth) / n))
}

/// The variance that a stated 95 % interval amounts to; 0 without one.
fn variance_of_interval(row: &ScoreRow, unit: Unit) -> f64 {
    let Some((low, high)) = row.interval else { return 0.0 };
    let ends = (logit_of(low, unit), logit_of(high, unit));
    let (Some(low), Some(high)) = ends else { return 0.0 };
    let error = (high - low) / (2.0 * HALF_95);
    error * error
}

/// The place of a value on the logit scale.
pub(super) fn logit_of(value: f64, unit: Unit) -> Option<f64> {
    match unit {
        Unit::Elo => Some(value / 400.0 * core::f64::consts::LN_10),
        Unit::Percent { floor, ceiling } if floor < ceiling => {
            let share = ((value - floor) / (ceiling - floor)).clamp(0.01, 0.99);
            Some(libm::log(share / (1.0 - share)))
        }
        Unit::Percent { .. } => None,
    }
}

/// The value that stands at a place on the logit scale.
pub(super) fn value_of(logit: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Elo => logit * 400.0 / core::f64::consts::LN_10,
        Unit::Percent { floor, ceiling } => floor + (ceiling - floor) / (1.0 + libm::exp(-logit)),
    }
}

/// Days since 1970-01-01.
pub(super) fn days(date: civil::Date) -> i32 {
    date.duration_since(civil::date(1970, 1, 1)).as_hours().div_euclid(24) as i32
}

/// The share that `right` of `asked` is, with its interval, all in percent: E. B. Wilson's score interval at 95 %
/// (Journal of the American Statistical Association 22, 1927), which stays within 0 and 100 and is not empty at either.
/// `None` where nothing was asked.
pub fn wilson(right: u32, asked: u32) -> Option<(f64, f64, f64)> {
    if asked == 0 {
        return None;
    }
    let (n, share) = (f64::from(asked), f64::from(right) / f64::from(asked));
    let z2 = HALF_95 * HALF_95;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = HALF_95 / (1.0 + z2 / n) * libm::sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n));
    Some((100.0 * share, 100.0 * (middle - half).max(0.0), 100.0 * (middle + half).min(1.0)))
}

impl Trust {
    /// The trust in who measured.
    pub fn of(&self, by: By) -> f64 {
        match by {
            By::Vendor => self.vendor,
            By::Independent => self.independent,
            By::Own => self.own,
        }
    }

    /// The day on which a row of `date` counts half; `None` where nothing fades, or that is beyond the calendar.
    pub fn half_day(&self, date: civil::Date) -> Option<civil::Date> {
        let days = libm::round(self.half_life_days) as i64;
        (days > 0).then(|| date.checked_add(jiff::Span::new().try_days(days).ok()?).ok())?
    }
}
