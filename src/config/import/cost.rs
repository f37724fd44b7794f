//! LiteLLM's costs: dollars for one token, as decimals with exponents, against Turnpike's prices per million tokens.
//!
//! Names as of `model_prices_and_context_window.json` in 2026: `input_cost_per_token`, `output_cost_per_token`,
//! `cache_read_input_token_cost`, `cache_creation_input_token_cost`, `output_cost_per_reasoning_token`,
//! `input_cost_per_audio_token`, `output_cost_per_audio_token`; each with `_above_200k_tokens` (a prompt longer than
//! that is charged so as a whole), `_flex`, `_priority` and `_batches`; `tiered_pricing` as a list of ranges; and
//! `off_peak_pricing`, beside which the plain costs are those of the peak.

use super::super::tree::{Node, Value};
use crate::base::{
    price::{Rate, When},
    tier::Tier,
};

/// A decimal that is not negative, with an exponent or without, times 10^`places`: rounded down, and whether it had to
/// be. What is too large for the integer is its largest. `None` for what is no number, or negative.
pub fn scaled(text: &str, places: i32) -> Option<(i128, bool)> {
    let text = text.trim();
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || digits.len() > 36 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = digits.parse().ok()?;
    let shift = exponent.checked_sub(i32::try_from(part.len()).ok()?)?.checked_add(places)?;
    let mut rounded = false;
    if shift >= 0 {
        let power = 10_i128.checked_pow(u32::try_from(shift).ok()?).or((value == 0).then_some(1));
        value = power.and_then(|power| value.checked_mul(power)).unwrap_or(i128::MAX);
    } else {
        for _ in 0..shift.unsigned_abs().min(40) {
            rounded |= value % 10 != 0;
            value = value.div_euclid(10);
        }
    }
    Some((value, rounded))
}

/// A whole number, also as Python writes a float: `256000.0`, `1e6`.
pub fn whole(text: &str) -> Option<u64> {
    let (value, rounded) = scaled(text, 0)?;
    u64::try_from(value).ok().filter(|_| !rounded)
}

/// A cost in dollars for one token, in billionths of a dollar per million tokens; and whether it had to be rounded (up,
/// at the ninth place of the price). `None` for what is no number, negative, or beyond what a price holds.
pub fn per_million(text: &str) -> Option<(i64, bool)> {
    // Dollars a token times 10⁶ tokens times 10⁹ billionths: fifteen places to the left.
    let (value, rounded) = scaled(text, 15)?;
    Some((i64::try_from(value.checked_add(i128::from(rounded))?).ok()?, rounded))
}

/// What the costs of one entry come to.
#[derive(Debug, Default)]
pub struct Costs {
    /// Rates in the order in which they are tried; empty = no cost for tokens is stated.
    pub rates: Vec<Rate>,
    /// Amounts that were rounded.
    pub rounded: usize,
    /// Keys about money that are not carried over.
    pub left_out: Vec<String>,
    /// What is odd about them though they are carried over, in words.
    pub odd: Vec<&'static str>,
}

const KINDS: [&str; 7] = [
    "input_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "output_cost_per_token",
    "output_cost_per_reasoning_token",
    "input_cost_per_audio_token",
    "output_cost_per_audio_token",
];
const TIERS: [(&str, Tier); 4] =
    [("", Tier::Standard), ("_flex", Tier::Flex), ("_priority", Tier::Priority), ("_batches", Tier::Batch)];

/// The costs of an entry, of a deployment's `litellm_params` or of a row of the price map.
pub fn costs(node: &Node) -> Costs {
    let mut costs = Costs::default();
    let thresholds = thresholds(node);
    for (suffix, tier) in TIERS {
        of_tier(node, suffix, tier, &thresholds, &mut costs);
    }
    // Ranges stand over plain costs beside them, as in LiteLLM.
    if node.get("tiered_pricing").is_some_and(|ranges| !ranges.items().is_empty()) {
        costs.rates.retain(|rate| rate.when.tier != Tier::Standard);
        match tiered(node, &mut costs.odd) {
            Some(tiers) => drop(costs.rates.splice(..0, tiers)),
            None => costs.left_out.push("tiered_pricing".to_owned()),
        }
    }
    // A price without one for the usual tier would charge all by another.
    if costs.rates.iter().all(|rate| rate.when.tier != Tier::Standard) {
        costs.rates.clear();
    }
    if let [only] = costs.rates.as_slice()
        && only.prices().iter().all(|nano| *nano == 0)
    {
        costs.odd.push("free: a budget never ends by it");
    }
    let known = |key: &str| {
        let bare = TIERS[1..].iter().find_map(|(suffix, _)| key.strip_suffix(suffix)).unwrap_or(key);
        let bare =
            bare.split_once("_above_").filter(|(_, rest)| rest.ends_with("k_tokens")).map_or(bare, |(bare, _)| bare);
        KINDS.contains(&bare) || key == "tiered_pricing"
    };
    let money = |key: &str| key.contains("cost") || key.ends_with("_pricing");
    let nothing = |node: &Node| node.text().and_then(per_million).is_some_and(|(nano, _)| nano == 0);
    let read = |key: &str, value: &Node| known(key) && value.text().is_none_or(|text| per_million(text).is_some());
    let lost = |key: &str, value: &Node| money(key) && !read(key, value) && !nothing(value);
    let entries = node.entries().iter().filter(|(key, value)| lost(&key.text, value));
    costs.left_out.extend(entries.map(|(key, _)| key.text.clone()));
    costs
}

/// The rates of a tier of service, shorter prompts first: a rate holds up to where the next begins. Costs that make no
/// rate, such as those of batches for the prompt alone, are left out beside a price that is whole.
fn of_tier(node: &Node, suffix: &str, tier: Tier, thresholds: &[u64], costs: &mut Costs) {
    let amounts = |end: &str, costs: &mut Costs| {
        KINDS.map(|kind| {
            let (nano, rounded) = node.word(&format!("{kind}{end}")).and_then(per_million)?;
            costs.rounded += usize::from(rounded);
            Some(nano)
        })
    };
    let base = amounts(suffix, costs);
    let usual = When { tier, ..When::default() };
    if rate(usual, base).is_none() {
        if tier != Tier::Standard {
            let of_tier = |key: &str| KINDS.iter().any(|kind| key.starts_with(kind)) && key.ends_with(suffix);
            let stated = |value: &Node| value.text().and_then(per_million).is_some_and(|(nano, _)| nano > 0);
            let keys = node.entries().iter().filter(|(key, value)| of_tier(&key.text) && stated(value));
            costs.left_out.extend(keys.map(|(key, _)| key.text.clone()));
        }
        return;
    }
    let mut below = base;
    for threshold in thresholds {
        let above = amounts(&format!("_above_{}k_tokens{suffix}", threshold / 1000), costs);
        if above.iter().all(Option::is_none) {
            continue;
        }
        costs.rates.extend(rate(When { input_upto: Some(*threshold), ..usual }, below));
        // What a longer prompt has no cost of its own for is charged as before.
        let filled: Vec<Option<i64>> = above.iter().zip(below).map(|(a, b)| a.or(b)).collect();
        below = filled.try_into().unwrap_or(below);
    }
    costs.rates.extend(rate(usual, below));
}

/// The lengths of prompts in tokens beyond which other costs hold, rising.
fn thresholds(node: &Node) -> Vec<u64> {
    let above = |key: &str| {
        let (_, rest) = key.split_once("_above_")?;
        rest.split_once("k_tokens")?.0.parse::<u64>().ok()?.checked_mul(1000)
    };
    let mut found: Vec<u64> = node.entries().iter().filter_map(|(key, _)| above(&key.text)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The ranges of `tiered_pricing`, shorter prompts first; `None` where they cannot be read as such: a range of unreadable
/// ends or without its costs, two that overlap. What is read though it is odd is put into words.
fn tiered(node: &Node, odd: &mut Vec<&'static str>) -> Option<Vec<Rate>> {
    /// Where a range begins and ends, and what holds in it.
    type Range = (u64, Option<u64>, Rate);
    let mut tiers: Vec<Range> = Vec::new();
    for tier in node.get("tiered_pricing").map(Node::items).unwrap_or_default() {
        let ends = tier.get("range").map(Node::items).unwrap_or_default();
        let start = ends.first().map_or(Some(0), |start| start.text().and_then(whole))?;
        let open = |text: &str| matches!(text, "null" | "inf" | ".inf" | "Infinity");
        let end = match ends.get(1) {
            None => None,
            Some(end) if matches!(end.value, Value::Null) || end.text().is_some_and(open) => None,
            Some(end) => Some(end.text().and_then(whole)?),
        };
        let amounts = KINDS.map(|kind| {
            let own = tier.word(kind).or_else(|| node.word(kind));
            own.and_then(per_million).map(|(nano, _)| nano)
        });
        let when = When { input_upto: end, ..When::default() };
        tiers.push((start, end, rate(when, amounts)?));
    }
    let bound = |end: &Option<u64>| end.unwrap_or(u64::MAX);
    if !tiers.is_sorted_by_key(|(_, end, _)| bound(end)) {
        odd.push("the ranges of `tiered_pricing` are out of order: the shorter prompts go first");
        tiers.sort_by_key(|(_, end, _)| bound(end));
    }
    let mut before = 0_u64;
    for (start, end, _) in &tiers {
        if *start < before {
            return None;
        }
        // `[0, 1000]` may be followed by `[1000, …]` or by `[1001, …]`.
        if *start > before.saturating_add(1) {
            odd.push("the ranges of `tiered_pricing` leave a gap: each rate holds up to its end");
        }
        before = bound(end);
    }
    // The last one ends with the model's context; LiteLLM charges what is longer by it, too.
    tiers.iter_mut().next_back().into_iter().for_each(|(_, _, rate)| rate.when.input_upto = None);
    Some(tiers.into_iter().map(|(_, _, rate)| rate).collect())
}

fn rate(when: When, amounts: [Option<i64>; 7]) -> Option<Rate> {
    let [input, cached_input, cache_write, output, reasoning, audio_input, audio_output] = amounts;
    let (input, output) = (input?, output?);
    Some(Rate {
        when,
        input,
        cached_input: cached_input.unwrap_or(input),
        // 0 stands for no surcharge in LiteLLM's table, not for nothing.
        cache_write: cache_write.filter(|nano| *nano > 0).unwrap_or(input),
        output,
        reasoning: reasoning.unwrap_or(output),
        audio_input: audio_input.unwrap_or(input),
        audio_output: audio_output.unwrap_or(output),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{diagnostic::Report, tree},
        *,
    };

    #[test]
    fn costs_with_exponents_are_read_to_the_last_digit() {
        for (text, nano) in [
            ("2.5e-06", 2_500_000_000),
            ("2.5E-6", 2_500_000_000),
            ("0.0000025", 2_500_000_000),
            ("1.25e-06", 1_250_000_000),
            ("3.75e-07", 375_000_000),
            ("3.625e-09", 3_625_000),
            ("1e-15", 1),
            ("0", 0),
            ("0.0", 0),
            ("0e-40", 0),
            ("1e-05", 10_000_000_000),
            ("0.00006", 60_000_000_000),
        ] {
            assert_eq!(per_million(text), Some((nano, false)), "{text}");
        }
        assert_eq!(per_million("1.3888888888888889e-07"), Some((138_888_889, true)), "up at the ninth place");
        assert_eq!(per_million("1e-99"), Some((1, true)));
        assert_eq!(
            ["256000", "256000.0", "2.56e5", "1E6", "0.5", "many"].map(whole),
            [Some(256_000), Some(256_000), Some(256_000), Some(1_000_000), None, None]
        );
        for bad in ["", "-1e-6", "free", "1e", "e-6", "1e99", "NaN", "1e-6 USD", "0x1"] {
            assert_eq!(per_million(bad), None, "{bad}");
        }
    }

    /// Up to which length of a prompt a token of it costs so much.
    type Tiers = Vec<(Option<u64>, i64)>;

    /// The rates of a `tiered_pricing` and what is odd about it; `None` where it is left out.
    fn tiers(ranges: &str) -> Option<(Tiers, usize)> {
        let text = format!("{{tiered_pricing: [{ranges}]}}");
        let mut report = Report::default();
        let (file, source) = report.add("x.yaml".into(), text);
        let node = tree::parse(&mut report, file, &source.text).ok().flatten().unwrap();
        let costs = costs(&node);
        let rates: Vec<_> = costs.rates.iter().map(|rate| (rate.when.input_upto, rate.input)).collect();
        assert_eq!(costs.left_out.is_empty(), !rates.is_empty(), "{ranges}: {:?}", costs.left_out);
        (!rates.is_empty()).then_some((rates, costs.odd.len()))
    }

    #[test]
    fn a_range_ends_where_it_says_however_the_number_is_written() {
        let range = |range: &str, cost: u8| {
            format!("{{range: {range}, input_cost_per_token: {cost}e-6, output_cost_per_token: 1e-6}}")
        };
        let two = |first: &str, second: &str| tiers(&format!("{}, {}", range(first, 1), range(second, 2)));
        let (one, other) = (1_000_000_000, 2_000_000_000);
        let sound = Some((vec![(Some(256_000), one), (None, other)], 0));
        for end in ["256000", "256000.0", "2.56e5", "2.56E+05", "\"256000\""] {
            assert_eq!(two(&format!("[0, {end}]"), "[256000.0, 1e6]"), sound, "{end}");
        }
        assert_eq!(two("[0, 256000]", "[256001]"), sound);
        assert_eq!(two("[0, 256000]", "[256000, null]"), sound);
        let turned = Some((vec![(Some(256_000), other), (None, one)], 1));
        assert_eq!(two("[256000, 1e6]", "[0, 256000]"), turned, "out of order");
        assert_eq!(two("[256000]", "[0, 256000]"), turned, "without an end before the last");
        assert_eq!(two("[0, 256000]", "[512000, 1e6]"), Some((vec![(Some(256_000), one), (None, other)], 1)), "a gap");
        for odd in ["[0, 256000.5]", "[0, many]", "[0, -1]", "[0]", "[0, 1e6]"] {
            assert_eq!(two(odd, "[256000, 1e6]"), None, "{odd}");
        }
        assert_eq!(tiers("{range: [0, 5], input_cost_per_token: 1e-6}"), None, "without its costs");
        let beside = format!("{}], input_cost_per_token: 9e-6, output_cost_per_token: 9e-6, x: [", range("[0, 5]", 1));
        assert_eq!(tiers(&beside), Some((vec![(None, one)], 0)), "ranges stand over plain costs");
    }
}
