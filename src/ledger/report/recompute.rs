//! A charge computed again from its own row.

use jiff::Timestamp;

use crate::{
    base::{
        money::{Currency, Money},
        price::{PriceRow, Rate, When},
        usage::Usage,
    },
    ledger::row::{PriceUsed, Row, Tokens},
};

impl Row {
    /// What the row's tokens come to at the row's price: in billionths of the vendor's currency's unit, and in dollars.
    /// `None` without a price, or when its currency is damaged.
    pub fn recomputed(&self) -> Option<(i64, Money)> {
        self.price.as_ref()?.charge(&self.tokens)
    }
}

impl PriceUsed {
    /// What `tokens` come to: in billionths of the vendor's currency's unit, and in dollars. `None` when the currency
    /// is damaged.
    pub fn charge(&self, tokens: &Tokens) -> Option<(i64, Money)> {
        let [input, cached_input, cache_write, output, reasoning, audio_input, audio_output] = self.rates;
        let when = When::default();
        let rate = Rate { when, input, cached_input, cache_write, output, reasoning, audio_input, audio_output };
        let row = PriceRow {
            currency: Currency::parse(&self.currency)?,
            from: Timestamp::MIN,
            until: None,
            rates: vec![rate],
            calendar: Vec::new(),
            source: "".into(),
            own: false,
        };
        let usage = Usage {
            input: tokens.input,
            cached_input: tokens.cached_input,
            cache_write: tokens.cache_write,
            audio_input: tokens.audio_input,
            output: tokens.output,
            reasoning: tokens.reasoning,
            audio_output: tokens.audio_output,
            ..Usage::default()
        };
        let charge = row.charge(&usage, false, self.factor_ppm, self.exchange_nanousd);
        Some((i64::try_from(charge.native.nano).unwrap_or(i64::MAX), charge.money))
    }
}
