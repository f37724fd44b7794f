//! Invoices: what the vendors' own arithmetic makes of a usage, against what the catalog's rows charge for it. Each sum
//! stands as the vendor's price page has it: tokens × price per million, kind by kind.

use jiff::Timestamp;

use super::built_in;
use crate::base::{
    price::{Bound, PriceRow, in_force},
    usage::Usage,
};

fn row(provider: &str, region: Option<&str>, upstream: &str, at: &str) -> std::sync::Arc<PriceRow> {
    let rows = built_in().prices_of(provider, region, upstream);
    in_force(&rows, at.parse().unwrap()).unwrap().clone()
}

fn usage(input: u64, cached_input: u64, output: u64) -> Usage {
    Usage { input, cached_input, output, ..Usage::default() }
}

/// As the vendor bills it, at an instant.
fn billed(row: &PriceRow, usage: &Usage, thinking: bool, at: &str) -> String {
    let at: Timestamp = at.parse().unwrap();
    row.charge(usage, thinking, row.factor_ppm(at), 138_900_000).native.to_string()
}

#[test]
fn openai_bills_cached_input_at_half_price_and_reasoning_as_output() {
    // The usage of OpenAI's example of prompt caching: 86 × 2.50 + 1,920 × 1.25 + 300 × 10.
    let at = "2025-01-15T12:00:00Z";
    let gpt = row("openai", None, "gpt-4o-2024-08-06", at);
    assert_eq!(billed(&gpt, &usage(2_006, 1_920, 300), false, at), "0.005615 USD");
    // o1: 1,000 × 15 + 2,000 × 60, of which 1,856 were reasoned with and never shown.
    let o1 = row("openai", None, "o1", at);
    let reasoned = Usage { reasoning: 1_856, ..usage(1_000, 0, 2_000) };
    assert_eq!(billed(&o1, &reasoned, true, at), "0.135 USD");
}

#[test]
fn deepseek_bills_twice_at_its_peaks_and_never_on_weekends_and_holidays_in_beijing() {
    let flash = row("deepseek", Some("intl"), "deepseek-flash", "2026-11-23T00:00:00Z");
    // 20,000 × 0.15 + 80,000 × 0.003 + 2,000 × 0.60, and twice that.
    let (once, twice) = ("0.00444 USD", "0.00888 USD");
    for (at, expected) in [
        // A Monday: peaks from 01 to 04 and from 06 to 10 UTC.
        ("2026-11-23T00:59:59.999Z", once),
        ("2026-11-23T01:00:00Z", twice),
        ("2026-11-23T03:59:59.999Z", twice),
        ("2026-11-23T04:00:00Z", once),
        ("2026-11-23T05:59:59.999Z", once),
        ("2026-11-23T06:00:00Z", twice),
        ("2026-11-23T09:59:59.999Z", twice),
        ("2026-11-23T10:00:00Z", once),
        // Friday in Europe's evening is Saturday in Beijing, and Sunday evening in New York is its Monday.
        ("2026-11-20T03:00:00Z", twice),
        ("2026-11-20T20:00:00-05:00", once),
        ("2026-11-21T10:00:00+08:00", once),
        ("2026-11-22T15:00:00+08:00", once),
        ("2026-11-22T20:30:00-05:00", twice),
        // The eve of the National Day, its seven days off (a Thursday to a Wednesday), and the first day of work.
        ("2026-09-30T15:00:00+08:00", twice),
        ("2026-10-01T09:00:00+08:00", once),
        ("2026-10-05T10:00:00+08:00", once),
        ("2026-10-07T17:59:59+08:00", once),
        ("2026-10-08T09:00:00+08:00", twice),
        // The Saturday after is worked in lieu, and still no Monday to Friday.
        ("2026-10-10T10:00:00+08:00", once),
        // The Mid-Autumn Festival, a Friday.
        ("2026-09-25T10:00:00+08:00", once),
    ] {
        assert_eq!(billed(&flash, &usage(100_000, 80_000, 2_000), false, at), expected, "{at}");
    }
}

#[test]
fn the_next_change_of_the_hour_is_found_across_weekends_and_the_longest_holidays() {
    let flash = row("deepseek", Some("intl"), "deepseek-flash", "2026-11-23T00:00:00Z");
    let next = |at: &str| {
        let (at, ppm) = flash.next_factor(at.parse().unwrap()).unwrap();
        (at.to_string(), ppm / 1_000_000)
    };
    assert_eq!(next("2026-11-23T00:00:00Z"), ("2026-11-23T01:00:00Z".to_owned(), 2));
    assert_eq!(next("2026-11-23T01:00:00Z"), ("2026-11-23T04:00:00Z".to_owned(), 1));
    assert_eq!(next("2026-11-20T10:00:00Z"), ("2026-11-23T01:00:00Z".to_owned(), 2), "over the weekend");
    assert_eq!(next("2026-09-30T10:00:00Z"), ("2026-10-08T01:00:00Z".to_owned(), 2), "over the National Day");
    let flat = row("openai", None, "gpt-4o", "2026-11-23T00:00:00Z");
    assert_eq!(flat.next_factor("2026-11-23T00:00:00Z".parse().unwrap()), None);
}

#[test]
fn deepseeks_discount_of_2025_ran_over_midnight_in_utc() {
    let at = "2025-03-15T12:00:00Z";
    let v3 = row("deepseek", Some("cn"), "deepseek-chat", at);
    // 2,000 × 2 + 1,000 × 0.5 + 500 × 8 yuan, and half of it from 00:30 to 08:30 in Beijing.
    let bill = |at| billed(&v3, &usage(3_000, 1_000, 500), false, at);
    assert_eq!(
        (bill("2025-03-15T00:29:59+08:00"), bill("2025-03-15T00:30:00+08:00")),
        ("0.0085 CNY".into(), "0.00425 CNY".into())
    );
    assert_eq!(
        (bill("2025-03-15T08:29:59+08:00"), bill("2025-03-15T08:30:00+08:00")),
        ("0.00425 CNY".into(), "0.0085 CNY".into())
    );
}

#[test]
fn qwen_plus_bills_by_the_length_of_the_prompt_and_by_thinking() {
    let at = "2026-10-15T12:00:00Z";
    let plus = row("qwen", Some("cn"), "qwen-plus", at);
    for (input, thinking, expected) in [
        // 0.8 in, 2 out; thinking 8 out.
        (128_000, false, "0.1044 CNY"),
        (128_000, true, "0.1104 CNY"),
        // 2.4 in, 20 or 24 out, for the whole request and not only for what is beyond.
        (128_001, false, "0.3272024 CNY"),
        (256_000, true, "0.6384 CNY"),
        // 4.8 in, 48 or 64 out.
        (256_001, false, "1.2768048 CNY"),
        (256_001, true, "1.2928048 CNY"),
    ] {
        let used = Usage { reasoning: if thinking { 600 } else { 0 }, ..usage(input, 0, 1_000) };
        assert_eq!(billed(&plus, &used, thinking, at), expected, "{input} {thinking}");
    }
    // 27,000 × 0.8 + 100,000 × 0.16 + 1,000 × 2.
    assert_eq!(billed(&plus, &usage(127_000, 100_000, 1_000), false, at), "0.0396 CNY");
}

#[test]
fn doubao_bills_short_answers_to_short_prompts_at_a_lower_price() {
    let at = "2026-10-15T12:00:00Z";
    let doubao = row("volcengine", None, "doubao-seed-1.8", at);
    for (input, cached, output, expected) in [
        // Up to 32,000 in and 200 out: 0.8 in, 2 out; one token more of the answer, and all of it costs 8.
        (10_000, 0, 200, "0.0084 CNY"),
        (10_000, 0, 201, "0.009608 CNY"),
        (32_000, 0, 200, "0.026 CNY"),
        // Beyond, the length of the answer does not count: 1.2 in, 16 out.
        (32_001, 0, 200, "0.0416012 CNY"),
        (128_000, 100_000, 1_000, "0.0656 CNY"),
        // 2.4 in, 24 out, and no other tier behind it.
        (128_001, 0, 10, "0.3074424 CNY"),
        (300_000, 0, 1_000, "0.744 CNY"),
    ] {
        assert_eq!(billed(&doubao, &usage(input, cached, output), false, at), expected, "{input} {output}");
    }
    // A hold covers the dearer tier that an answer may still reach.
    let bound =
        |output| doubao.upper_bound(Bound { input: 10_000, output, audio: false }, |_| false, 1_000_000, 1_000_000_000);
    assert_eq!(bound(200).to_string(), "0.0084");
    assert_eq!(bound(4_096).to_string(), "0.040768");
}
