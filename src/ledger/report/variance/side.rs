//! What the split of a difference needs to know of one stretch of time.

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;

use crate::ledger::{
    report::{Filter, Stretch},
    row::{PriceUsed, Row, SettleRow},
};

/// Kinds of tokens: prompt text, cached, cache write, prompt audio, answer text, reasoning, answer audio.
pub(super) const KINDS: usize = 7;
/// The first four are prompt tokens.
pub(super) const OF_INPUT: usize = 4;

/// One stretch of time.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// What was charged in all, in nano-USD.
    pub charge: i128,
    /// Of this, rent that no request paid for.
    pub(super) rent: i128,
    /// Requests.
    pub requests: u64,
    /// Charged for attempts beyond the serving one: retries and hedges.
    pub(super) extra: i128,
    /// Charged by rows that were estimated, swept or corrected.
    pub(super) estimated: i128,
    /// Requests whose serving attempt was measured.
    pub(super) measured: u64,
    /// These, by model and backend.
    pub(super) groups: BTreeMap<(Arc<str>, Arc<str>), Group>,
}

/// Measured serving attempts of one model on one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) requests: u64,
    pub(super) kinds: [Kind; KINDS],
    /// Currencies of their prices; more than one are not told apart from dollars.
    pub(super) currencies: Vec<Arc<str>>,
    /// The sum of their exchange rates, in nano-USD.
    pub(super) exchanges: u128,
}

/// Tokens of one kind. Money is in millionths of a nano-unit, so that a rounding per row does not add up to anything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kind {
    pub(super) tokens: u128,
    /// What they cost in the vendor's currency.
    pub(super) native: u128,
    /// What they cost in dollars.
    pub(super) usd: u128,
    /// The sum over rows of the price of one token, used or not, in the vendor's currency.
    pub(super) list: u128,
    /// The same in dollars.
    pub(super) list_usd: u128,
}

impl Side {
    /// Adds what a request came to, as far as it was dispatched in `stretch` and is let through.
    pub fn add(&mut self, settled: &SettleRow, stretch: Stretch, filter: &Filter, zone: &TimeZone) {
        let first_words = || settled.rows.iter().filter(|row| row.revision == 0);
        // Among hedges the last need not be the one that served.
        let serving = first_words().rfind(|row| &*row.outcome == "ok").or_else(|| first_words().next_back());
        let serving = serving.map(|row| row.attempt);
        for row in settled.rows.iter().filter(|row| stretch.has(row) && filter.lets(row, zone)) {
            let charge = i128::from(row.charge_nanousd);
            self.charge += charge;
            if row.is_rent() {
                self.rent += charge;
                continue;
            }
            let serves = row.revision == 0 && serving == Some(row.attempt);
            self.requests += u64::from(serves);
            // What another node has swept is no request of its own once its owner has told of it.
            if row.attempt == 0 && row.revision > 0 {
                self.requests = self.requests.saturating_sub(1);
            }
            // What lost to the attempt beside it has no numbers of its vendor's, and is a hedge's cost all the same.
            let hedged = !serves && row.revision == 0 && !row.swept && &*row.outcome == "lost";
            if hedged {
                self.extra += charge;
            } else if row.estimated || row.swept || row.revision > 0 {
                self.estimated += charge;
            } else if serves {
                self.measured += 1;
                let key = (Arc::clone(&row.served.model), Arc::clone(&row.served.backend));
                self.groups.entry(key).or_default().add(row);
            } else {
                self.extra += charge;
            }
        }
    }
}

impl Group {
    fn add(&mut self, row: &Row) {
        self.requests += 1;
        for (kind, tokens) in self.kinds.iter_mut().zip(by_kind(row)) {
            kind.tokens += u128::from(tokens);
        }
        let Some(price) = &row.price else { return };
        if !self.currencies.contains(&price.currency) {
            self.currencies.push(Arc::clone(&price.currency));
        }
        let exchange = exchange(price);
        self.exchanges += exchange;
        let factor = u128::try_from(price.factor_ppm).unwrap_or(0);
        for ((kind, tokens), rate) in self.kinds.iter_mut().zip(by_kind(row)).zip(rates(price)) {
            let list = rate.saturating_mul(factor);
            let native = list.saturating_mul(u128::from(tokens));
            kind.list += list / MILLION;
            kind.list_usd += exchanged(list, exchange) / MILLION;
            kind.native += native / MILLION;
            kind.usd += exchanged(native, exchange) / MILLION;
        }
    }

    pub(super) fn input(&self) -> u128 {
        self.kinds[..OF_INPUT].iter().map(|kind| kind.tokens).sum()
    }

    pub(super) fn output(&self) -> u128 {
        self.kinds[OF_INPUT..].iter().map(|kind| kind.tokens).sum()
    }
}

const MILLION: u128 = 1_000_000;
const BILLION: u128 = 1_000_000_000;

fn exchanged(amount: u128, exchange: u128) -> u128 {
    if exchange == BILLION {
        return amount;
    }
    amount.checked_mul(exchange).map_or_else(|| (amount / BILLION).saturating_mul(exchange), |exact| exact / BILLION)
}

/// In nano-USD; a dollar is a dollar, whatever was written beside it.
fn exchange(price: &PriceUsed) -> u128 {
    if &*price.currency == "USD" { BILLION } else { u128::try_from(price.exchange_nanousd).unwrap_or(0) }
}

/// As the price counts them: what is neither cached nor written nor audio is text.
fn by_kind(row: &Row) -> [u64; KINDS] {
    let tokens = &row.tokens;
    let special = tokens.cached_input.saturating_add(tokens.cache_write).saturating_add(tokens.audio_input);
    let thought = tokens.reasoning.saturating_add(tokens.audio_output);
    [
        tokens.input.saturating_sub(special),
        tokens.cached_input,
        tokens.cache_write,
        tokens.audio_input,
        tokens.output.saturating_sub(thought),
        tokens.reasoning,
        tokens.audio_output,
    ]
}

/// In the order of the kinds, never below nothing.
fn rates(price: &PriceUsed) -> [u128; KINDS] {
    let [input, cached, write, output, reasoning, audio_in, audio_out] = price.rates;
    [input, cached, write, audio_in, output, reasoning, audio_out].map(|rate| u128::try_from(rate).unwrap_or(0))
}
