//! Spend and tokens in groups, from the books.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};

use super::{Dimension, Filter, Stretch, divided};
use crate::{
    base::{
        money::{Currency, ExchangeRate, NANO},
        price::rate_in_force,
    },
    ledger::row::{Row, SWEPT, SettleRow, Tokens},
};

/// What is asked of the books.
#[derive(Clone, Debug)]
pub struct Query {
    /// When.
    pub stretch: Stretch,
    /// In which groups.
    pub by: Vec<Dimension>,
    /// Of which rows.
    pub filter: Filter,
    /// Whose calendar tells days and months.
    pub zone: TimeZone,
    /// In which currency besides dollars.
    pub currency: Option<Exchange>,
}

/// A currency, and what it was worth when.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which.
    pub currency: Currency,
    /// The operator's rates, sorted by `from`.
    pub rates: Vec<ExchangeRate>,
}

/// The sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests. One that made attempts in several groups counts where its last one was made.
    pub requests: u64,
    /// Attempts.
    pub attempts: u64,
    /// Tokens by kind.
    pub tokens: Tokens,
    /// What was charged, in nano-USD.
    pub charge: i128,
    /// Of this, by numbers that Turnpike estimated itself.
    pub estimated: i128,
    /// Of this, what had been held by requests of which nothing more was heard.
    pub swept: i128,
    /// Of this, rent that no request paid for; below nothing where requests paid more than the rent.
    pub unallocated: i128,
    /// Rows whose price was not known: they are booked as nothing.
    pub unpriced: u64,
    /// What the vendors billed, in billionths of their currencies' units.
    pub native: BTreeMap<String, i128>,
    /// Charges that were not billed in the wanted currency: nano-USD by the rate in force, `None` where none is known.
    pub exchanged: BTreeMap<Option<i64>, i128>,
}

impl Sums {
    fn add(&mut self, row: &Row, exchange: Option<&Exchange>) {
        let charge = i128::from(row.charge_nanousd);
        if row.is_rent() {
            self.unallocated += charge;
        } else if row.revision == 0 {
            self.attempts += 1;
        }
        self.charge += charge;
        if row.swept || row.attempt == 0 {
            self.swept += charge;
        } else if row.estimated {
            self.estimated += charge;
        }
        self.unpriced += u64::from(row.price.is_none() && !row.swept && row.tokens != Tokens::default());
        add_tokens(&mut self.tokens, &row.tokens);
        let currency = row.price.as_ref().map(|price| &*price.currency);
        if let Some(currency) = currency
            && row.native_nano != 0
        {
            match self.native.get_mut(currency) {
                Some(sum) => *sum += i128::from(row.native_nano),
                None => {
                    self.native.insert(currency.to_owned(), row.native_nano.into());
                }
            }
        }
        let Some(exchange) = exchange else { return };
        // What a vendor bills in the wanted currency needs no rate. A swept row has no bill, only what was held.
        if charge != 0 && (row.swept || currency != Some(exchange.currency.as_str())) {
            let at = Timestamp::from_millisecond(row.at_ms).unwrap_or_default();
            let rate = rate_in_force(&exchange.rates, at).map(|rate| rate.nanousd).filter(|rate| *rate > 0);
            *self.exchanged.entry(rate).or_default() += charge;
        }
    }

    /// Counts the attempt and request no more that another node's word stood for.
    fn take_back(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.requests = self.requests.saturating_sub(1);
    }

    /// The charge in `currency`, in billionths of its unit: what vendors billed in it, and everything else at the
    /// operator's rate at dispatch, rounded once for each rate. `None` when a rate is missing.
    pub fn in_currency(&self, currency: Currency) -> Option<i128> {
        if currency == Currency::USD {
            return Some(self.charge);
        }
        let mut sum = self.native.get(currency.as_str()).copied().unwrap_or(0);
        for (rate, charge) in &self.exchanged {
            sum += divided(charge * i128::from(NANO), i128::from((*rate)?));
        }
        Some(sum)
    }
}

fn add_tokens(sum: &mut Tokens, more: &Tokens) {
    for (sum, more) in [
        (&mut sum.input, more.input),
        (&mut sum.cached_input, more.cached_input),
        (&mut sum.cache_write, more.cache_write),
        (&mut sum.audio_input, more.audio_input),
        (&mut sum.output, more.output),
        (&mut sum.reasoning, more.reasoning),
        (&mut sum.audio_output, more.audio_output),
    ] {
        *sum = sum.saturating_add(more);
    }
}

/// What the books say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sums by the values of the dimensions that were asked for, sorted by them.
    pub groups: BTreeMap<Vec<String>, Sums>,
    /// The sums of all.
    pub total: Sums,
}

impl Usage {
    /// Adds what a request came to.
    pub fn add(&mut self, settled: &SettleRow, query: &Query) {
        let counts = |row: &&Row| query.stretch.has(row) && query.filter.lets(row, &query.zone);
        let key_of = |row: &Row| -> Vec<String> {
            query.by.iter().map(|dimension| dimension.value(row, &query.zone).into_owned()).collect()
        };
        let exchange = query.currency.as_ref();
        let mut last = None;
        for row in settled.rows.iter().filter(counts) {
            let key = key_of(row);
            self.total.add(row, exchange);
            self.groups.entry(key.clone()).or_default().add(row, exchange);
            // Of two that ran at once the one that lost may be booked last.
            if !row.is_rent() && row.revision == 0 && (last.is_none() || &*row.outcome != "lost") {
                last = Some(key);
            }
        }
        if let Some(group) = last.and_then(|key| self.groups.get_mut(&key)) {
            group.requests += 1;
            self.total.requests += 1;
        }
        // Attempt 0 is another node's word: once it is corrected, the owner's own attempts count, and it does not any more
        // where it was counted.
        for row in settled.rows.iter().filter(|row| row.attempt == 0 && row.revision > 0) {
            let swept = Row { revision: 0, outcome: SWEPT.into(), ..row.clone() };
            if let Some(group) = Some(&swept).filter(counts).and_then(|row| self.groups.get_mut(&key_of(row))) {
                group.take_back();
                self.total.take_back();
            }
        }
    }
}
