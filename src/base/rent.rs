//! What own servers cost: a rent that is paid whatever they do, and what a token's share of it is.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    money::{Currency, Money, NANO},
    price::{PriceRow, Rate, When},
};

const MILLION: i128 = 1_000_000;

/// The rent of one server of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rent {
    /// What an hour of it costs, in billionths of the currency's unit: the price of a GPU hour times its GPUs.
    pub hour: i64,
    /// In which currency it is paid.
    pub currency: Currency,
    /// What it does in an hour; `None` = not declared, so that its tokens have no price of their own.
    pub capacity: Option<Capacity>,
}

/// What one server does in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Prompt tokens, if it does nothing but read.
    pub input: u64,
    /// Completion tokens, if it does nothing but write.
    pub output: u64,
}

impl Rent {
    /// The price of its tokens: `rent ÷ declared tokens an hour`, rounded up to a billionth of the unit per million. A
    /// server that reads for a part of an hour and writes for the rest brings in its rent exactly.
    pub fn row(&self) -> Option<PriceRow> {
        let capacity = self.capacity?;
        let share = |tokens: u64| {
            let (rent, tokens) = (i128::from(self.hour) * MILLION, i128::from(tokens.max(1)));
            i64::try_from((rent + tokens - 1) / tokens).unwrap_or(i64::MAX)
        };
        let (input, output) = (share(capacity.input), share(capacity.output));
        let rate = Rate {
            when: When::default(),
            input,
            cached_input: input,
            cache_write: input,
            output,
            reasoning: output,
            audio_input: input,
            audio_output: output,
        };
        Some(PriceRow {
            currency: self.currency,
            from: Timestamp::MIN,
            until: None,
            rates: vec![rate],
            calendar: Vec::new(),
            source: Arc::from("rent"),
            own: true,
        })
    }

    /// What an hour of `servers` costs where one unit of the currency is worth `exchange_nanousd`, rounded up.
    pub fn of(&self, servers: u32, exchange_nanousd: i64) -> Money {
        let native = i128::from(self.hour) * i128::from(servers);
        let nano = i128::from(NANO);
        Money::saturating_from(native.saturating_mul(i128::from(exchange_nanousd)).saturating_add(nano - 1) / nano)
    }
}

/// A stretch of time in which so many servers were rented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Milliseconds.
    pub millis: u64,
    /// The servers.
    pub servers: u32,
    /// What an hour of one costs, in billionths of the currency's unit.
    pub hour: i64,
    /// What one unit of the currency is worth, in nano-USD.
    pub exchange_nanousd: i64,
}

/// What all stretches cost together: `Σ hour × servers × time × exchange`, rounded up once.
pub fn due(stretches: impl IntoIterator<Item = Stretch>) -> Money {
    let hour_nano = i128::from(NANO) * 3_600_000;
    let cost = |stretch: Stretch| {
        let time = i128::from(stretch.servers).saturating_mul(stretch.millis.into());
        let native = i128::from(stretch.hour).saturating_mul(time);
        // Whole and part are exchanged apart, since their product need not fit.
        let (whole, part, exchange) = (native / hour_nano, native % hour_nano, i128::from(stretch.exchange_nanousd));
        (whole.saturating_mul(exchange), part.saturating_mul(exchange))
    };
    let sum =
        |(whole, part): (i128, i128), more: (i128, i128)| (whole.saturating_add(more.0), part.saturating_add(more.1));
    let (whole, part) = stretches.into_iter().map(cost).fold((0, 0), sum);
    Money::saturating_from(whole.saturating_add(part / hour_nano + i128::from(part % hour_nano > 0)))
}

/// From how many tokens an hour on a rent costs no more than buying them, where `tokens` are bought for `cost`:
/// `rent × tokens ÷ cost`, rounded up. `None` = what is bought costs nothing.
pub fn break_even(rent: Money, tokens: u64, cost: Money) -> Option<u64> {
    let (rent, cost) = (u128::try_from(rent.nanousd()).ok()?, u128::try_from(cost.nanousd()).ok()?);
    let whole = rent.saturating_mul(u128::from(tokens));
    (cost > 0).then(|| u64::try_from(whole.div_ceil(cost)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::usage::Usage;

    /// 8 GPUs at 2.10 USD.
    const RENT: Rent = Rent {
        hour: 16_800_000_000,
        currency: Currency::USD,
        capacity: Some(Capacity { input: 40_000_000, output: 6_000_000 }),
    };

    fn charge(input: u64, output: u64) -> i64 {
        let usage = Usage { input, output, ..Usage::default() };
        RENT.row().unwrap().charge(&usage, false, 1_000_000, NANO).money.nanousd()
    }

    #[test]
    fn an_hour_of_reading_or_writing_or_both_brings_in_the_rent() {
        assert_eq!(charge(40_000_000, 0), RENT.hour);
        assert_eq!(charge(0, 6_000_000), RENT.hour);
        assert_eq!(charge(10_000_000, 4_500_000), RENT.hour);
        // 0.42 USD and 2.80 USD per million.
        assert_eq!(charge(1_000, 100), 420_000 + 280_000);
    }

    #[test]
    fn a_share_that_does_not_come_out_even_is_rounded_up() {
        let odd = Rent { capacity: Some(Capacity { input: 7, output: 3_000_001 }), hour: 1, ..RENT };
        let rate = &odd.row().unwrap().rates[0];
        assert_eq!((rate.input, rate.output), (142_858, 1));
        let dear = Rent { hour: i64::MAX, capacity: Some(Capacity { input: 1, output: 1 }), ..RENT };
        assert_eq!(dear.row().unwrap().rates[0].input, i64::MAX);
        assert!(Rent { capacity: None, ..RENT }.row().is_none());
    }

    #[test]
    fn stretches_come_to_what_was_rented_rounded_up_once() {
        let stretch = |millis, servers| Stretch { millis, servers, hour: RENT.hour, exchange_nanousd: NANO };
        assert_eq!(due([stretch(3_600_000, 2)]), RENT.of(2, NANO));
        assert_eq!(due([stretch(1_800_000, 1), stretch(1_800_000, 3)]), RENT.of(2, NANO));
        let third = Stretch { millis: 1_200_000, servers: 1, hour: 1, exchange_nanousd: NANO };
        assert_eq!(due([third, third]).nanousd(), 1);
        assert_eq!(due([third, third, third]).nanousd(), 1);
        assert_eq!(due([third; 4]).nanousd(), 2);
        let yuan = Stretch { exchange_nanousd: 138_900_001, ..stretch(3_600_000, 1) };
        assert_eq!(due([yuan]), RENT.of(1, 138_900_001));
        let dearest = Stretch { millis: u64::MAX, servers: u32::MAX, hour: i64::MAX, exchange_nanousd: i64::MAX };
        assert_eq!((due([dearest, dearest]), due([])), (Money::MAX, Money::ZERO));
    }

    #[test]
    fn the_break_even_is_where_buying_the_same_tokens_costs_the_rent() {
        let cent = Money::from_nanousd(10_000_000);
        assert_eq!(RENT.of(2, NANO), Money::from_nanousd(33_600_000_000));
        assert_eq!(RENT.of(1, 138_900_001), Money::from_nanousd(2_333_520_017));
        assert_eq!(break_even(RENT.of(1, NANO), 1_500, cent), Some(2_520_000));
        assert_eq!(break_even(RENT.of(1, NANO), 1_500, Money::ZERO), None);
        assert_eq!(break_even(Money::MAX, u64::MAX, Money::from_nanousd(1)), Some(u64::MAX));
        assert_eq!(break_even(Money::ZERO, 1_500, cent), Some(0));
    }
}
