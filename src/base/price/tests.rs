//! Prices against the vendors' own arithmetic, and against a recomputation in numbers of any length.

use jiff::civil::{date, time};
use proptest::prelude::*;

use super::*;
use crate::base::tier::Asked;

/// Digits in base 2³², the lowest first.
#[derive(Clone, Debug, PartialEq)]
struct Big(Vec<u32>);

impl Big {
    fn new(number: u64) -> Self {
        Self(vec![(number & 0xFFFF_FFFF) as u32, (number >> 32) as u32])
    }

    fn add(mut self, other: &Self) -> Self {
        self.0.resize(self.0.len().max(other.0.len()) + 1, 0);
        let mut carry = 0;
        for (place, digit) in self.0.iter_mut().enumerate() {
            let sum = u64::from(*digit) + u64::from(other.0.get(place).copied().unwrap_or(0)) + carry;
            (*digit, carry) = (sum as u32, sum >> 32);
        }
        self
    }

    fn times(&self, by: u64) -> Self {
        let by = Self::new(by);
        let mut out = vec![0_u32; self.0.len() + 3];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0_u64;
            for (j, b) in by.0.iter().chain(&[0]).enumerate() {
                let sum = u64::from(*a) * u64::from(*b) + u64::from(out[i + j]) + carry;
                (out[i + j], carry) = (sum as u32, sum >> 32);
            }
        }
        Self(out)
    }

    /// Divided by a power of ten, rounded up.
    fn over_ten_to(mut self, power: u32) -> Self {
        let mut inexact = false;
        for _ in 0..power {
            let mut rest = 0_u64;
            for digit in self.0.iter_mut().rev() {
                let number = rest << 32 | u64::from(*digit);
                (*digit, rest) = ((number / 10) as u32, number % 10);
            }
            inexact |= rest != 0;
        }
        if inexact { self.add(&Self::new(1)) } else { self }
    }

    fn money(&self) -> Money {
        let wide = self.0.iter().rev().try_fold(0_i128, |sum, digit| {
            sum.checked_mul(1 << 32).and_then(|sum| sum.checked_add(i128::from(*digit)))
        });
        Money::saturating_from(wide.unwrap_or(i128::MAX))
    }
}

fn rate(when: When, input: i64, cached: i64, output: i64) -> Rate {
    Rate {
        when,
        input,
        cached_input: cached,
        cache_write: input,
        output,
        reasoning: output,
        audio_input: input,
        audio_output: output,
    }
}

fn row(currency: &str, rates: Vec<Rate>, calendar: Vec<Window>) -> PriceRow {
    PriceRow {
        currency: Currency::parse(currency).unwrap(),
        from: Timestamp::UNIX_EPOCH,
        until: None,
        rates,
        calendar,
        source: "test".into(),
        own: false,
    }
}

/// Hundredths of the unit per million.
const fn cents(cents: i64) -> i64 {
    cents * (NANO / 100)
}

fn most(input: u64, output: u64, audio: bool) -> Bound {
    Bound { input, output, audio }
}

fn usage(input: u64, cached: u64, output: u64) -> Usage {
    Usage { input, cached_input: cached, output, ..Usage::default() }
}

#[test]
fn openai_bills_cached_input_at_its_own_price() {
    // gpt-4o-2024-08-06: 2.50 in, 1.25 cached, 10.00 out. The usage of OpenAI's own example of prompt caching.
    let row = row("USD", vec![rate(When::default(), cents(250), cents(125), cents(1000))], vec![]);
    let usage = Usage { reasoning: 0, ..usage(2006, 1920, 300) };
    assert_eq!(row.charge(&usage, false, 1_000_000, NANO).money.to_string(), "0.005615");
}

#[test]
fn a_vendor_in_yuan_is_rounded_up_once_after_the_exchange() {
    // deepseek-chat of February 2025: 2 CNY in, 0.5 cached, 8 out; 0.1389 USD for a yuan.
    let row = row("CNY", vec![rate(When::default(), cents(200), cents(50), cents(800))], vec![]);
    let charge = row.charge(&usage(1_001, 640, 77), false, 1_000_000, 138_900_000);
    assert_eq!(charge.native.to_string(), "0.001658 CNY");
    assert_eq!(charge.money.nanousd(), 230_297, "230,296.2 rounded up");
}

#[test]
fn qwen_plus_is_billed_by_tier_and_thinking() {
    let when = |upto, thinking| When { input_upto: upto, thinking: Some(thinking), ..When::default() };
    let tiers = [
        (Some(128_000), false, 80, 16, 200),
        (Some(128_000), true, 80, 16, 800),
        (Some(256_000), false, 240, 48, 2000),
        (Some(256_000), true, 240, 48, 2400),
        (None, false, 480, 96, 4800),
        (None, true, 480, 96, 6400),
    ];
    let rates = tiers.map(|(upto, thinking, input, cached, output)| {
        rate(when(upto, thinking), cents(input), cents(cached), cents(output))
    });
    let row = row("CNY", rates.to_vec(), vec![]);
    let yuan = |input, thinking| {
        let usage = Usage { reasoning: 500, ..usage(input, 0, 1_000) };
        row.charge(&usage, thinking, 1_000_000, 138_900_000).native.to_string()
    };
    assert_eq!(yuan(128_000, false), "0.1044 CNY");
    assert_eq!(yuan(128_000, true), "0.1104 CNY");
    assert_eq!(yuan(128_001, false), "0.3272024 CNY");
    assert_eq!(yuan(256_000, true), "0.6384 CNY");
    assert_eq!(yuan(256_001, true), "1.2928048 CNY");
    let bound = |input| row.upper_bound(most(input, 1_000, false), |_| false, 1_000_000, 138_900_000);
    assert_eq!(bound(128_000), row.charge(&usage(128_000, 0, 1_000), true, 1_000_000, 138_900_000).money);
    assert_eq!(bound(300_000), row.charge(&usage(300_000, 0, 1_000), true, 1_000_000, 138_900_000).money);
}

#[test]
fn openai_bills_the_tier_that_it_served() {
    // gpt-5 in November 2026 (developers.openai.com/api/docs/pricing): 1.25 in, 0.125 cached, 10 out; flex half of it,
    // priority twice. The cached prices of both tiers are not in the source, so they are taken as uncached.
    let at = |tier, input, cached, output| rate(When { tier, ..When::default() }, input, cached, output);
    let rates = vec![
        at(Tier::Flex, NANO * 5 / 8, NANO * 5 / 8, cents(500)),
        at(Tier::Standard, cents(125), NANO / 8, cents(1000)),
        at(Tier::Priority, cents(250), cents(250), cents(2000)),
    ];
    let row = row("USD", rates, vec![]);
    let dollars = |tier| {
        let usage = Usage { tier, ..usage(2_000, 1_000, 100) };
        row.charge(&usage, false, 1_000_000, NANO).money.to_string()
    };
    assert_eq!(dollars(Tier::Flex), "0.00175", "2,000 × 0.625 + 100 × 5");
    assert_eq!(dollars(Tier::Standard), "0.002375", "1,000 × 1.25 + 1,000 × 0.125 + 100 × 10");
    assert_eq!(dollars(Tier::Priority), "0.007", "2,000 × 2.5 + 100 × 20");
    assert_eq!(dollars(Tier::Scale), dollars(Tier::Standard), "a tier without a rate");
    let bound = |asked: Asked| {
        let reaches = |tier| asked.reaches(tier, Tier::Standard);
        row.upper_bound(most(2_000, 100, false), reaches, 1_000_000, NANO).to_string()
    };
    assert_eq!(bound(Asked::Unsaid), "0.0035");
    assert_eq!(bound(Asked::Named(Tier::Flex)), "0.0035", "it may be served at the usual tier");
    assert_eq!(bound(Asked::Named(Tier::Priority)), "0.007");
    assert_eq!(bound(Asked::Auto), "0.007", "it may be served at any");
}

fn window(opens: (i8, i8), closes: (i8, i8), days: [bool; 7], zone: &str, factor_ppm: i64) -> Window {
    Window {
        zone: TimeZone::get(zone).unwrap(),
        days,
        not_on: [date(2026, 10, 1), date(2026, 10, 2)].into(),
        opens: time(opens.0, opens.1, 0, 0),
        closes: time(closes.0, closes.1, 0, 0),
        factor_ppm,
    }
}

#[test]
fn deepseeks_peak_begins_and_ends_to_the_second_on_chinese_working_days() {
    let weekdays = [true, true, true, true, true, false, false];
    let peak = |opens, closes| window(opens, closes, weekdays, "Asia/Shanghai", 2_000_000);
    let calendar = vec![peak((9, 0), (12, 0)), peak((14, 0), (18, 0))];
    let row = row("USD", vec![rate(When::default(), cents(28), cents(3), cents(42))], calendar);
    for (at, factor) in [
        ("2026-11-23T08:59:59+08:00", 1),
        ("2026-11-23T09:00:00+08:00", 2),
        ("2026-11-23T11:59:59.999999999+08:00", 2),
        ("2026-11-23T12:00:00+08:00", 1),
        ("2026-11-23T14:00:00+08:00", 2),
        ("2026-11-23T18:00:00+08:00", 1),
        ("2026-11-20T15:00:00+08:00", 2),
        ("2026-11-21T15:00:00+08:00", 1),
        ("2026-11-22T15:00:00+08:00", 1),
        // Sunday in New York, Monday morning in Beijing.
        ("2026-11-22T20:30:00-05:00", 2),
        // The national holiday, a Thursday and a Friday, and the Monday after.
        ("2026-10-01T10:00:00+08:00", 1),
        ("2026-10-02T10:00:00+08:00", 1),
        ("2026-10-05T10:00:00+08:00", 2),
    ] {
        assert_eq!(row.factor_ppm(at.parse().unwrap()), factor * 1_000_000, "{at}");
    }
}

#[test]
fn a_window_that_crosses_midnight_belongs_to_the_day_on_which_it_opened() {
    // DeepSeek's discount of spring 2025: 16:30 to 00:30 UTC, here on Fridays only.
    let fridays = [false, false, false, false, true, false, false];
    let window = window((16, 30), (0, 30), fridays, "UTC", 500_000);
    for (at, open) in [
        ("2026-11-20T16:29:59Z", false),
        ("2026-11-20T16:30:00Z", true),
        ("2026-11-20T23:59:59Z", true),
        ("2026-11-21T00:29:59Z", true),
        ("2026-11-21T00:30:00Z", false),
        ("2026-11-21T17:00:00Z", false),
        ("2026-11-20T00:10:00Z", false),
    ] {
        assert_eq!(window.is_open(at.parse().unwrap()), open, "{at}");
    }
}

#[test]
fn the_latest_row_that_has_begun_and_not_ended_holds() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let dated = |from: &str, until: Option<&str>| {
        Arc::new(PriceRow { from: at(from), until: until.map(at), ..row("USD", vec![], vec![]) })
    };
    let rows = [
        dated("2024-12-26T00:00:00Z", None),
        dated("2025-02-08T16:00:00Z", Some("2025-09-05T16:00:00Z")),
        dated("2026-01-01T00:00:00Z", None),
    ];
    let held = |text| in_force(&rows, at(text)).map(|row| row.from.to_string());
    assert_eq!(held("2024-12-25T23:59:59Z"), None);
    assert_eq!(held("2025-02-08T15:59:59Z").as_deref(), Some("2024-12-26T00:00:00Z"));
    assert_eq!(held("2025-02-08T16:00:00Z").as_deref(), Some("2025-02-08T16:00:00Z"));
    assert_eq!(held("2025-09-05T16:00:00Z").as_deref(), Some("2024-12-26T00:00:00Z"));
    assert_eq!(held("2026-06-01T00:00:00Z").as_deref(), Some("2026-01-01T00:00:00Z"));
}

fn any_tier() -> impl Strategy<Value = Tier> {
    prop_oneof![3 => Just(Tier::Standard), 1 => Just(Tier::Flex), 1 => Just(Tier::Priority)]
}

prop_compose! {
    fn any_usage(most: u64)(
        input in 0..=most, output in 0..=most, shares in prop::array::uniform5(0_u64..=1000), tier in any_tier(),
    ) -> Usage {
        let cached_input = input * shares[0] / 1000;
        let cache_write = (input - cached_input) * shares[1] / 1000;
        let audio_input = (input - cached_input - cache_write) * shares[2] / 1000;
        let reasoning = output * shares[3] / 1000;
        let audio_output = (output - reasoning) * shares[4] / 1000;
        Usage { input, cached_input, cache_write, audio_input, output, reasoning, audio_output, tier, ..Usage::default() }
    }
}

prop_compose! {
    fn any_rate(last: bool)(
        prices in prop::array::uniform7(0_i64..10_000_000_000_000),
        tier in any_tier(),
        input_upto in prop::option::of(0_u64..300_000),
        output_upto in prop::option::of(0_u64..300_000),
        thinking in prop::option::of(any::<bool>()),
    ) -> Rate {
        let [input, cached_input, cache_write, output, reasoning, audio_input, audio_output] = prices;
        let when = if last { When::default() } else { When { tier, input_upto, output_upto, thinking } };
        Rate { when, input, cached_input, cache_write, output, reasoning, audio_input, audio_output }
    }
}

fn any_rates() -> impl Strategy<Value = Vec<Rate>> {
    (prop::collection::vec(any_rate(false), 0..5), any_rate(true), any::<bool>()).prop_map(
        |(mut rates, last, closed)| {
            if closed || rates.is_empty() {
                rates.push(last);
            }
            rates
        },
    )
}

#[test]
fn division_rounds_up_on_both_sides_of_zero() {
    assert_eq!([7, 6, 0, -6, -7].map(|a| ceil_div(a, 3)), [3, 2, 0, -2, -2]);
    assert_eq!(ceil_div(i128::MAX, 1_000_000_000_000), i128::MAX / 1_000_000_000_000 + 1);
}

proptest! {
    #[test]
    fn a_charge_equals_its_recomputation_in_big_numbers(
        usage in any_usage(10_000_000), rate in any_rate(true), factor in 0_i64..10_000_000,
        exchange in 1_i64..2_000_000_000, dollars in any::<bool>(),
    ) {
        let text = usage.input - usage.cached_input - usage.cache_write - usage.audio_input;
        let words = usage.output - usage.reasoning - usage.audio_output;
        let sum = [
            (text, rate.input), (usage.cached_input, rate.cached_input), (usage.cache_write, rate.cache_write),
            (usage.audio_input, rate.audio_input), (words, rate.output), (usage.reasoning, rate.reasoning),
            (usage.audio_output, rate.audio_output),
        ].into_iter().fold(Big::new(0), |sum, (tokens, price)| sum.add(&Big::new(tokens).times(price as u64)));
        let scaled = sum.times(factor as u64);
        let (currency, expected) = if dollars {
            ("USD", scaled.over_ten_to(12))
        } else {
            ("CNY", scaled.times(exchange as u64).over_ten_to(21))
        };
        let charged = row(currency, vec![rate], vec![]).charge(&usage, false, factor, exchange).money;
        prop_assert_eq!(charged, expected.money());
    }

    #[test]
    fn no_usage_within_the_bounds_costs_more_than_the_upper_bound(
        rates in any_rates(), usage in any_usage(400_000), slack in (0_u64..1000, 0_u64..1000),
        thinking in any::<bool>(), factor in 0_i64..4_000_000, dollars in any::<bool>(),
    ) {
        let row = row(if dollars { "USD" } else { "CNY" }, rates, vec![]);
        let (input, output) = (usage.input + slack.0, usage.output + slack.1);
        let most = most(input, output, usage.audio_input > 0);
        let bound = row.upper_bound(most, |tier| tier == usage.tier, factor, 138_900_000);
        prop_assert!(row.charge(&usage, thinking, factor, 138_900_000).money <= bound);
    }
}
