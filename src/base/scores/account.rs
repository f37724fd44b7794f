//! The account of a fit: which rows carried each model's number, how much each weighed, what the fit makes of it, and
//! where a vendor's word and other people's measurements part.
//!
//! Vendor and others are compared by their rows' residuals: `Δ = mean residual of the vendor's rows − mean residual of
//! the others'`, each row weighed by freshness × precision (trust is an opinion about just this difference, so it is
//! left out). With `NOISE` as the standard deviation of a row, `Δ` has the standard error `NOISE × √(1/W_v + 1/W_o)`;
//! they part where `|Δ|` passes 1.645 of these (a one-in-ten chance if both measured alike).
#![allow(clippy::float_arithmetic, reason = "scores are fitted on the logit scale; no amount of money is touched")]

use jiff::civil;

use super::{
    Benchmark, By, Right, ScoreRow, Scores,
    fit::{Chances, Fitted, NOISE, ppm},
    reading::{Reading, value_of},
};
use crate::base::{facts::Category, names::ModelName};

/// Two-sided 90 %.
const PARTED: f64 = 1.644_853_626_951_472;

/// What is known of one model on one day.
#[derive(Debug)]
pub struct Account<'a> {
    /// The model, under the register's name.
    pub model: &'a ModelName,
    /// Every row until that day, by benchmark, oldest first.
    pub rows: Vec<Carried<'a>>,
    /// The chance of a right answer by overall ability; `None` where no row tells anything.
    pub overall: Option<Right>,
    /// The same by category, and what each side's rows would say alone.
    pub categories: Vec<(Category, Option<Right>, Option<Sides>)>,
}

/// One row of an account.
#[derive(Debug)]
pub struct Carried<'a> {
    /// The row.
    pub row: &'a ScoreRow,
    /// What its benchmark measures; `None` = not described, so it stays out of the fit.
    pub benchmark: Option<&'a Benchmark>,
    /// How it was read; `None` where it did not count.
    pub reading: Option<Reading>,
    /// Why it did not count.
    pub out: Option<Out>,
    /// What the fit expects there, in the benchmark's unit.
    pub expected: Option<f64>,
}

/// Why a row does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// Its benchmark is not described.
    NotDescribed,
    /// Its day is over.
    Expired,
    /// The same measurer has a newer one.
    Superseded,
    /// Its measurer is not trusted, or it is too old to weigh anything.
    Weightless,
}

/// What the vendor's rows and the others' say of one category, as chances in parts per million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sides {
    /// By the vendor's rows alone.
    pub vendor_ppm: u32,
    /// By the others' alone.
    pub others_ppm: u32,
    /// They differ by more than chance.
    pub parted: bool,
}

impl Scores {
    /// The accounts of all models that have a row by `day`, in the order of their names.
    pub fn accounts(&self, day: civil::Date) -> Vec<Account<'_>> {
        let fitted = Fitted::on(self, day);
        let mut accounts: Vec<Account<'_>> = Vec::new();
        let until = self.rows.iter().filter(|row| row.date <= day);
        for row in until {
            let account = match accounts.last_mut().filter(|account| account.model == &row.model) {
                Some(account) => account,
                None => {
                    accounts.push(Account { model: &row.model, rows: vec![], overall: None, categories: vec![] });
                    let Some(last) = accounts.last_mut() else { continue };
                    last
                }
            };
            account.rows.push(self.carried(&fitted, row, day));
        }
        for account in &mut accounts {
            let chances = fitted.chances(account.model);
            account.overall = chances.map(|chances| chances.overall);
            account.categories = Category::ALL.map(|category| fitted.category(account, chances, category)).into();
        }
        accounts
    }

    fn carried<'a>(&'a self, fitted: &Fitted<'a>, row: &'a ScoreRow, day: civil::Date) -> Carried<'a> {
        let benchmark = self.benchmarks.get(&row.benchmark);
        let place = fitted.place(row);
        let reading = benchmark.and_then(|benchmark| Reading::new(row, benchmark.unit, &self.trust, day));
        let weightless = reading.is_none_or(|reading| reading.weight() <= 0.0);
        let out = match (benchmark, place) {
            (_, Some(_)) => None,
            (None, _) => Some(Out::NotDescribed),
            _ if row.expires.is_some_and(|expires| expires <= day) => Some(Out::Expired),
            _ if weightless => Some(Out::Weightless),
            _ => Some(Out::Superseded),
        };
        let expected = place.zip(benchmark).map(|(place, benchmark)| value_of(fitted.expected(place), benchmark.unit));
        Carried { row, benchmark, reading: reading.filter(|_| out.is_none()), out, expected }
    }
}

impl Fitted<'_> {
    fn category(
        &self,
        account: &Account<'_>,
        chances: Option<&Chances>,
        category: Category,
    ) -> (Category, Option<Right>, Option<Sides>) {
        let right = chances.map(|chances| chances.by_category[category as usize]);
        (category, right, self.sides(account, category))
    }

    /// What each side's rows say of a category, where both have any.
    fn sides(&self, account: &Account<'_>, category: Category) -> Option<Sides> {
        // Sums of weight and of weight × residual, the vendor's first.
        let mut sums = [(0.0, 0.0); 2];
        let counted = account.rows.iter().filter(|carried| {
            carried.out.is_none() && carried.benchmark.is_some_and(|benchmark| benchmark.category == category)
        });
        for carried in counted {
            let (Some(reading), Some(place)) = (carried.reading, self.place(carried.row)) else { continue };
            let weight = reading.freshness * reading.precision;
            let side = &mut sums[usize::from(carried.row.by != By::Vendor)];
            side.0 += weight;
            side.1 += weight * (reading.logit - self.expected(place));
        }
        let [(vendor_weight, vendor), (others_weight, others)] = sums;
        if vendor_weight <= 0.0 || others_weight <= 0.0 {
            return None;
        }
        let (vendor, others) = (vendor / vendor_weight, others / others_weight);
        let middle = self.logit(account.model, category)?;
        let error = NOISE * libm::sqrt(1.0 / vendor_weight + 1.0 / others_weight);
        let parted = (vendor - others).abs() > PARTED * error;
        Some(Sides { vendor_ppm: ppm(middle + vendor), others_ppm: ppm(middle + others), parted })
    }
}
