//! Prices: dated rows in the vendor's currency, and the one function that turns usage into money.

use std::sync::Arc;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{
    money::{Currency, ExchangeRate, Money, NANO, Native},
    tier::Tier,
    usage::Usage,
};

/// A price per million tokens, in billionths of the currency's unit (2.50 USD = 2,500,000,000).
pub type NanoPerMillion = i64;

/// One row of the price register: what one upstream model costs between two instants.
#[derive(Clone, Debug)]
pub struct PriceRow {
    /// The vendor's currency; every rate of the row is in it.
    pub currency: Currency,
    /// The first instant at which the row holds.
    pub from: Timestamp,
    /// The first instant at which it holds no more.
    pub until: Option<Timestamp>,
    /// Rates by tier of service, size and kind of the request; the first that matches is charged. At least one is for
    /// the usual tier.
    pub rates: Vec<Rate>,
    /// Hours in which the price is multiplied.
    pub calendar: Vec<Window>,
    /// Where the numbers were read.
    pub source: Arc<str>,
    /// The operator wrote it; the rest are the catalog's.
    pub own: bool,
}

/// Prices per million tokens under one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The condition.
    pub when: When,
    /// Prompt tokens.
    pub input: NanoPerMillion,
    /// Prompt tokens read from the vendor's cache; `input` where the vendor names none.
    pub cached_input: NanoPerMillion,
    /// Prompt tokens written into the vendor's cache; `input` where the vendor names none.
    pub cache_write: NanoPerMillion,
    /// Completion tokens.
    pub output: NanoPerMillion,
    /// Reasoning tokens; `output` where the vendor names none.
    pub reasoning: NanoPerMillion,
    /// Audio in the prompt; `input` where the vendor names none.
    pub audio_input: NanoPerMillion,
    /// Audio in the answer; `output` where the vendor names none.
    pub audio_output: NanoPerMillion,
}

/// When a rate applies; an absent bound matches everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// The tier of service.
    pub tier: Tier,
    /// Prompts of at most so many tokens.
    pub input_upto: Option<u64>,
    /// Answers of at most so many tokens.
    pub output_upto: Option<u64>,
    /// Thinking on or off.
    pub thinking: Option<bool>,
}

impl When {
    /// Whether usage of this size and kind, within the tier, falls under it.
    fn matches(self, usage: &Usage, thinking: bool) -> bool {
        self.input_upto.is_none_or(|upto| usage.input <= upto)
            && self.output_upto.is_none_or(|upto| usage.output <= upto)
            && self.thinking.is_none_or(|wanted| wanted == thinking)
    }
}

/// A recurring window of wall-clock hours in which prices are multiplied by a factor.
#[derive(Clone, Debug)]
pub struct Window {
    /// The zone that the hours are read in.
    pub zone: TimeZone,
    /// Monday first: on which days the window opens.
    pub days: [bool; 7],
    /// Dates on which it does not open (public holidays), sorted.
    pub not_on: Arc<[civil::Date]>,
    /// When it opens.
    pub opens: civil::Time,
    /// When it closes; before `opens` means the next day.
    pub closes: civil::Time,
    /// Parts per million by which prices are multiplied (2 = 2,000,000).
    pub factor_ppm: i64,
}

impl Window {
    /// Whether the window is open at `at`. A window that crosses midnight belongs to the day on which it opened.
    pub fn is_open(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.clone()).datetime();
        let (day, time) = (local.date(), local.time());
        if self.opens < self.closes {
            return self.opens_on(day) && self.opens <= time && time < self.closes;
        }
        let since_today = self.opens_on(day) && time >= self.opens;
        let since_yesterday = time < self.closes && day.yesterday().is_ok_and(|day| self.opens_on(day));
        since_today || since_yesterday
    }

    /// Whether both are open at some instant of yesterday or of the three weeks after `at`: then one is when the other
    /// opens.
    pub fn meet(one: &Self, other: &Self, at: Timestamp) -> bool {
        let opens_within =
            |one: &Self, other: &Self| one.edges(at).into_iter().any(|edge| one.is_open(edge) && other.is_open(edge));
        opens_within(one, other) || opens_within(other, one)
    }

    /// The instants around and after `at` at which it may open or close: those of yesterday and of the next three weeks.
    fn edges(&self, at: Timestamp) -> Vec<Timestamp> {
        let today = at.to_zoned(self.zone.clone()).date();
        let days = (-1_i32..22).filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok());
        let instants = days.flat_map(|day| [day.to_datetime(self.opens), day.to_datetime(self.closes)]);
        instants.filter_map(|edge| Some(edge.to_zoned(self.zone.clone()).ok()?.timestamp())).collect()
    }

    fn opens_on(&self, day: civil::Date) -> bool {
        let weekday = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or(0);
        self.days[weekday] && self.not_on.binary_search(&day).is_err()
    }
}

/// The most that an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens of all answers.
    pub output: u64,
    /// The prompt has audio in it.
    pub audio: bool,
}

/// The cost of some usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// As the vendor bills it, before the exchange, rounded up to a billionth of the unit.
    pub native: Native,
    /// In dollars, rounded up once.
    pub money: Money,
}

const PER_MILLION: u64 = 1_000_000;

impl PriceRow {
    /// Whether the row holds at `at`.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }

    /// The product of the factors of all windows open at `at`, in parts per million.
    pub fn factor_ppm(&self, at: Timestamp) -> i64 {
        self.calendar.iter().filter(|window| window.is_open(at)).fold(1_000_000, |product, window| {
            i64::try_from(i128::from(product) * i128::from(window.factor_ppm) / i128::from(PER_MILLION))
                .unwrap_or(i64::MAX)
        })
    }

    /// The next instant after `at` at which the factor changes, and what it is then; `None` within the next three weeks
    /// (the longest public holidays, with the weekends around them, are shorter).
    pub fn next_factor(&self, at: Timestamp) -> Option<(Timestamp, i64)> {
        let now = self.factor_ppm(at);
        let mut edges: Vec<Timestamp> = self.calendar.iter().flat_map(|window| window.edges(at)).collect();
        edges.sort_unstable();
        let changes = edges.into_iter().filter(|edge| *edge > at).map(|edge| (edge, self.factor_ppm(edge)));
        changes.into_iter().find(|(_, factor)| *factor != now)
    }

    /// Whether it has a rate for this tier of service.
    pub fn has(&self, tier: Tier) -> bool {
        self.rates.iter().any(|rate| rate.when.tier == tier)
    }

    /// The rate for this usage: the first for its tier of service whose condition matches, else the first for the usual
    /// tier, else the last of those (the vendor's largest size).
    pub fn rate(&self, usage: &Usage, thinking: bool) -> Option<&Rate> {
        let of = |tier| self.rates.iter().filter(move |rate| rate.when.tier == tier);
        let matching = |tier| of(tier).find(|rate| rate.when.matches(usage, thinking));
        let own = (usage.tier != Tier::Standard).then(|| matching(usage.tier)).flatten();
        own.or_else(|| matching(Tier::Standard)).or_else(|| of(Tier::Standard).next_back()).or(self.rates.last())
    }

    /// What `usage` costs when dispatched at an instant whose factor is `factor_ppm`:
    /// `Σ tokens × price × factor ÷ 10⁶ ÷ 10⁶`, exchanged, rounded up once.
    pub fn charge(&self, usage: &Usage, thinking: bool, factor_ppm: i64, exchange_nanousd: i64) -> Charge {
        let sum = self.rate(usage, thinking).map_or(0, |rate| rate.sum(usage));
        self.exchange(sum, factor_ppm, exchange_nanousd)
    }

    /// An upper bound on what [`PriceRow::charge`] can say of any usage within `most`, thinking or not, at any tier
    /// that `reaches` allows besides the usual: every token at the dearest kind of the dearest rate in reach.
    pub fn upper_bound(
        &self,
        most: Bound,
        reaches: impl Fn(Tier) -> bool,
        factor_ppm: i64,
        exchange_nanousd: i64,
    ) -> Money {
        let sum = match self.rates.as_slice() {
            [only] => only.most(most),
            rates => {
                let mut dearest =
                    self.dearest(most, Tier::Standard, false).max(self.dearest(most, Tier::Standard, true));
                // Few rates, fewer tiers: a tier that comes up again is only looked at again.
                for tier in rates.iter().map(|rate| rate.when.tier) {
                    if tier != Tier::Standard && reaches(tier) {
                        dearest = self.dearest(most, tier, false).max(self.dearest(most, tier, true)).max(dearest);
                    }
                }
                dearest
            }
        };
        self.exchange(sum, factor_ppm, exchange_nanousd).money
    }

    /// The dearest sum among the rates of a tier that a usage within the bound may fall under: all up to the first that
    /// matches the bound itself, for that one matches everything below it too.
    fn dearest(&self, bound: Bound, tier: Tier, thinking: bool) -> i128 {
        let usage = Usage { input: bound.input, output: bound.output, ..Usage::default() };
        let of_tier = || self.rates.iter().filter(|rate| rate.when.tier == tier);
        let mut most = 0;
        for rate in of_tier().filter(|rate| rate.when.thinking.is_none_or(|wanted| wanted == thinking)) {
            most = most.max(rate.most(bound));
            if rate.when.matches(&usage, thinking) {
                return most;
            }
        }
        let last = if tier == Tier::Standard { of_tier().next_back().or(self.rates.last()) } else { None };
        most.max(last.map_or(0, |rate| rate.most(bound)))
    }

    fn exchange(&self, sum: i128, factor_ppm: i64, exchange_nanousd: i64) -> Charge {
        // Tokens are below 2⁶⁴ and prices below 2⁶³: a product may pass i128 only for usage that no upstream reports.
        let scaled = match i64::try_from(sum) {
            Ok(sum) => i128::from(sum) * i128::from(factor_ppm),
            Err(_) => sum.saturating_mul(i128::from(factor_ppm)),
        };
        let native = ceil_div(scaled, PER_MILLION * PER_MILLION);
        let nanousd = if self.currency == Currency::USD {
            native
        } else {
            // Rounding up twice is rounding up once: ⌈⌈x ÷ a⌉ ÷ b⌉ = ⌈x ÷ ab⌉.
            let exact = scaled.checked_mul(i128::from(exchange_nanousd));
            exact.map_or(i128::MAX, |exact| ceil_div(ceil_div(exact, PER_MILLION * PER_MILLION), NANO.unsigned_abs()))
        };
        Charge { native: Native { nano: native, currency: self.currency }, money: Money::saturating_from(nanousd) }
    }
}

impl Rate {
    /// Its seven prices, in the order of its fields.
    pub const fn prices(&self) -> [NanoPerMillion; 7] {
        [
            self.input,
            self.cached_input,
            self.cache_write,
            self.output,
            self.reasoning,
            self.audio_input,
            self.audio_output,
        ]
    }

    /// Tokens times prices, in billionths of the unit per million. No product of a u64 and an i64 leaves i128.
    fn sum(&self, usage: &Usage) -> i128 {
        let special_in = usage.cached_input.saturating_add(usage.cache_write).saturating_add(usage.audio_input);
        let special_out = usage.reasoning.saturating_add(usage.audio_output);
        let terms = [
            (usage.input.saturating_sub(special_in), self.input),
            (usage.cached_input, self.cached_input),
            (usage.cache_write, self.cache_write),
            (usage.audio_input, self.audio_input),
            (usage.output.saturating_sub(special_out), self.output),
            (usage.reasoning, self.reasoning),
            (usage.audio_output, self.audio_output),
        ];
        terms
            .into_iter()
            .fold(0_i128, |sum, (tokens, price)| sum.saturating_add(i128::from(tokens) * i128::from(price)))
    }
}

impl Rate {
    /// Every token of `bound` at the price of its dearest kind.
    fn most(&self, bound: Bound) -> i128 {
        let text = self.input.max(self.cached_input).max(self.cache_write);
        let input = if bound.audio { text.max(self.audio_input) } else { text };
        let output = self.output.max(self.reasoning).max(self.audio_output);
        let input = i128::from(bound.input) * i128::from(input);
        input.saturating_add(i128::from(bound.output) * i128::from(output))
    }
}

/// `a ÷ b` rounded up, for `b` > 0, in one division.
fn ceil_div(a: i128, b: u64) -> i128 {
    let size = a.unsigned_abs();
    let quotient = size / u128::from(b);
    let inexact = quotient * u128::from(b) != size;
    // Below zero, up is towards zero. A quotient of i128::MIN by 1 alone would not fit.
    match i128::try_from(quotient) {
        Ok(quotient) if a < 0 => -quotient,
        Ok(quotient) => quotient + i128::from(inexact),
        Err(_) => i128::MIN,
    }
}

/// The row that holds at `at`, of rows sorted by `from`: the latest that has begun and not ended.
pub fn in_force(rows: &[Arc<PriceRow>], at: Timestamp) -> Option<&Arc<PriceRow>> {
    rows.iter().rev().find(|row| row.holds(at))
}

/// The exchange rate that holds at `at`, of rates sorted by `from`.
pub fn rate_in_force(rates: &[ExchangeRate], at: Timestamp) -> Option<ExchangeRate> {
    rates.iter().rev().find(|rate| rate.from <= at).copied()
}

#[cfg(test)]
mod tests;
