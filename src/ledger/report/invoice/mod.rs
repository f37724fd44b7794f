//! The books beside a vendor's bill: what both say of each day and model, and where they differ.

mod shapes;

use std::collections::BTreeMap;

pub use shapes::{Shape, read};

use super::csv::CsvError;

/// What one side says of one model on one day. What a side does not tell is `None`, and is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Prompt tokens, cached ones among them.
    pub input: Option<u64>,
    /// Of these, from the vendor's cache.
    pub cached: Option<u64>,
    /// Completion tokens.
    pub output: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
    /// Amounts in billionths, by currency.
    pub amounts: BTreeMap<String, i128>,
}

/// A day and a model, as the vendor calls it; a bill that names no models has an empty one.
pub type Key = (String, String);

/// A vendor's bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Whose form it has.
    pub shape: Shape,
    /// What it says.
    pub lines: BTreeMap<Key, Told>,
}

/// Why a file is no bill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// It is no table.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// Nothing is in it.
    #[error("the file is empty")]
    Empty,
    /// Its columns are nobody's.
    #[error(
        "the columns `{0}` are of no known bill\n\
         hint: `date,model,input_tokens,cached_input_tokens,output_tokens,amount,currency` is read from anybody"
    )]
    Unknown(String),
    /// A field cannot be read.
    #[error("line {line}: `{column}` is `{value}`, not {wanted}")]
    Field {
        /// Its line, from 1.
        line: usize,
        /// Its column.
        column: String,
        /// What stands there.
        value: String,
        /// What should.
        wanted: &'static str,
    },
}

/// By how much both may differ and still agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Of the bill's number, in parts per million.
    pub ppm: u32,
    /// Of an amount, in billionths of its unit.
    pub nano: i128,
}

/// One number of which both tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What it is: `input`, `cached`, `output`, `requests`, or a currency.
    pub what: String,
    /// What the books say; amounts in billionths.
    pub books: i128,
    /// What the bill says.
    pub bill: i128,
    /// Whether they are as good as equal.
    pub agree: bool,
}

/// What both say of one day and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The day.
    pub day: String,
    /// The model, as the vendor calls it.
    pub model: String,
    /// Every number of which the bill tells, and amounts that only the books have.
    pub pairs: Vec<Pair>,
}

impl Compared {
    /// Whether all of it agrees.
    pub fn agrees(&self) -> bool {
        self.pairs.iter().all(|pair| pair.agree)
    }
}

/// Lays the books beside a bill. Days that the bill does not cover are left out: bills end when they were drawn up.
pub fn compare(books: &BTreeMap<Key, Told>, invoice: &Invoice, tolerance: Tolerance) -> Vec<Compared> {
    let invoice = &under_our_names(books, &invoice.lines);
    let days = invoice.keys().map(|(day, _)| day);
    let (Some(first), Some(last)) = (days.clone().min(), days.max()) else { return Vec::new() };
    // A bill by days alone is laid beside the sums of all models.
    let by_model = invoice.keys().any(|(_, model)| !model.is_empty());
    let mut ours: BTreeMap<Key, Told> = BTreeMap::new();
    for ((day, model), told) in books.iter().filter(|((day, _), _)| first <= day && day <= last) {
        let model = if by_model { model.clone() } else { String::new() };
        ours.entry((day.clone(), model)).or_default().add(told);
    }
    let told = tells(invoice);
    let mut keys: Vec<&Key> = ours.keys().chain(invoice.keys()).collect();
    keys.sort();
    keys.dedup();
    let nothing = Told::default();
    let compared = keys.into_iter().map(|key| {
        let (ours, bill) = (ours.get(key).unwrap_or(&nothing), invoice.get(key).unwrap_or(&nothing));
        Compared { day: key.0.clone(), model: key.1.clone(), pairs: pairs(ours, bill, &told, tolerance) }
    });
    compared.filter(|compared| compared.pairs.iter().any(|pair| pair.books != 0 || pair.bill != 0)).collect()
}

/// A bill names the dated model that an undated name stood for (`gpt-4o-2024-08-06` for `gpt-4o`): where the books
/// know the undated name only, it counts as that.
fn under_our_names(books: &BTreeMap<Key, Told>, invoice: &BTreeMap<Key, Told>) -> BTreeMap<Key, Told> {
    let known = |model: &str| books.keys().any(|(_, ours)| ours == model);
    let mut renamed: BTreeMap<Key, Told> = BTreeMap::new();
    for ((day, model), told) in invoice {
        let undated = model.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
        let ours = if !known(model) && known(undated) { undated } else { model };
        renamed.entry((day.clone(), ours.to_owned())).or_default().add(told);
    }
    renamed
}

/// Which numbers the bill has anywhere: where it leaves one of these out, it says nothing was used.
fn tells(invoice: &BTreeMap<Key, Told>) -> Told {
    let mut all = Told::default();
    invoice.values().for_each(|told| all.add(told));
    all
}

fn pairs(books: &Told, bill: &Told, tells: &Told, tolerance: Tolerance) -> Vec<Pair> {
    let numbers = [
        ("input", books.input, bill.input, tells.input),
        ("cached", books.cached, bill.cached, tells.cached),
        ("output", books.output, bill.output, tells.output),
        ("requests", books.requests, bill.requests, tells.requests),
    ];
    let numbers = numbers.into_iter().filter(|(.., told)| told.is_some()).map(|(what, books, bill, _)| {
        let (books, bill) = (i128::from(books.unwrap_or(0)), i128::from(bill.unwrap_or(0)));
        Pair { what: what.to_owned(), books, bill, agree: near(books, bill, tolerance.ppm, 0) }
    });
    let mut pairs: Vec<Pair> = numbers.collect();
    for currency in tells.amounts.keys() {
        let of = |told: &Told| told.amounts.get(currency).copied().unwrap_or(0);
        let (books, bill) = (of(books), of(bill));
        let agree = near(books, bill, tolerance.ppm, tolerance.nano);
        pairs.push(Pair { what: currency.clone(), books, bill, agree });
    }
    pairs
}

fn near(books: i128, bill: i128, ppm: u32, nano: i128) -> bool {
    let apart = (books - bill).abs();
    apart <= nano || apart.saturating_mul(1_000_000) <= bill.abs().saturating_mul(i128::from(ppm))
}

impl Told {
    /// Adds what `other` tells.
    pub fn add(&mut self, other: &Self) {
        let sum = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        sum(&mut self.input, other.input);
        sum(&mut self.cached, other.cached);
        sum(&mut self.output, other.output);
        sum(&mut self.requests, other.requests);
        for (currency, nano) in &other.amounts {
            *self.amounts.entry(currency.clone()).or_default() += nano;
        }
    }
}

#[cfg(test)]
mod tests;
