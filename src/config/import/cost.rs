//! LiteLLM's costs: dollars for one token, as decimals with exponents, against Turnpike's prices per million tokens.
//!
//! Names as of `model_prices_and_context_window.json` in 2026: `input_cost_per_token`, `output_cost_per_token`,
//! `cache_read_input_token_cost`, `cache_creation_input_token_cost`, `output_cost_per_reasoning_token`,
//! `input_cost_per_audio_token`, `output_cost_per_audio_token`; each with `_above_200k_tokens` (a prompt longer than
//! that is charged so as a whole), `_flex`, `_priority` and `_batches`; `tiered_pricing` as a list of ranges; and
//! `off_peak_pricing`, beside which the plain costs are those of the peak.

use super::super::tree::Node;
use crate::base::{
    price::{Rate, When},
    tier::Tier,
};

/// A cost in dollars for one token, in billionths of a dollar per million tokens; and whether it had to be rounded (up,
/// at the ninth place of the price). `None` for what is no number, negative, or beyond what a price holds.
pub fn per_million(text: &str) -> Option<(i64, bool)> {
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
    // Dollars a token times 10⁶ tokens times 10⁹ billionths: fifteen places to the left.
    let shift = exponent.checked_sub(i32::try_from(part.len()).ok()?)?.checked_add(15)?;
    let mut rounded = false;
    if shift >= 0 {
        let power = 10_i128.checked_pow(u32::try_from(shift).ok()?).or((value == 0).then_some(1))?;
        value = value.checked_mul(power)?;
    } else {
        for _ in 0..shift.unsigned_abs().min(40) {
            rounded |= value % 10 != 0;
            value = value.div_euclid(10);
        }
        value += i128::from(rounded);
    }
    Some((i64::try_from(value).ok()?, rounded))
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
    let amounts = |suffix: &str, costs: &mut Costs| {
        KINDS.map(|kind| {
            let (nano, rounded) = node.word(&format!("{kind}{suffix}")).and_then(per_million)?;
            costs.rounded += usize::from(rounded);
            Some(nano)
        })
    };
    let thresholds = thresholds(node);
    for (tier_suffix, tier) in TIERS {
        let base = amounts(tier_suffix, &mut costs);
        let usual = When { tier, ..When::default() };
        // Shorter prompts first: a rate holds up to where the next begins.
        let mut below: Option<[Option<i64>; 7]> = Some(base);
        for threshold in &thresholds {
            let above = amounts(&format!("_above_{}k_tokens{tier_suffix}", threshold / 1000), &mut costs);
            if above.iter().all(Option::is_none) {
                continue;
            }
            let when = When { input_upto: Some(*threshold), ..usual };
            costs.rates.extend(below.and_then(|amounts| rate(when, amounts)));
            // What a longer prompt has no cost of its own for is charged as before.
            let filled: Vec<Option<i64>> = above.iter().zip(below.unwrap_or(base)).map(|(a, b)| a.or(b)).collect();
            below = filled.try_into().ok();
        }
        costs.rates.extend(below.and_then(|amounts| rate(usual, amounts)));
    }
    if costs.rates.iter().all(|rate| rate.when.tier != Tier::Standard) {
        costs.rates.splice(..0, tiered(node));
    }
    // A price without one for the usual tier would charge all by another.
    if costs.rates.iter().all(|rate| rate.when.tier != Tier::Standard) {
        costs.rates.clear();
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
    costs.left_out = entries.map(|(key, _)| key.text.clone()).collect();
    costs
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

/// The ranges of `tiered_pricing`; a last one that ends is taken for anything beyond it.
fn tiered(node: &Node) -> Vec<Rate> {
    let mut tiers: Vec<(u64, Rate)> = Vec::new();
    for tier in node.get("tiered_pricing").map(Node::items).unwrap_or_default() {
        let end = tier.get("range").and_then(|range| range.items().get(1)).and_then(Node::text);
        let end = end.and_then(|end| end.parse::<u64>().ok());
        let amounts = KINDS.map(|kind| {
            let own = tier.word(kind).or_else(|| node.word(kind));
            own.and_then(per_million).map(|(nano, _)| nano)
        });
        let when = When { input_upto: end, ..When::default() };
        tiers.extend(rate(when, amounts).map(|rate| (end.unwrap_or(u64::MAX), rate)));
    }
    tiers.sort_by_key(|(end, _)| *end);
    tiers.into_iter().map(|(_, rate)| rate).collect()
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
    use super::*;

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
        for bad in ["", "-1e-6", "free", "1e", "e-6", "1e99", "NaN", "1e-6 USD", "0x1"] {
            assert_eq!(per_million(bad), None, "{bad}");
        }
    }
}
