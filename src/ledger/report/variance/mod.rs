//! Why one stretch of time cost more or less than another: the difference, split into parts that sum to it exactly.
//!
//! The method is sequential substitution in a fixed order. It begins with what the first stretch cost and changes one
//! thing after the other into what it was in the second; each part is what its step adds:
//!
//! 1. volume: as many requests as in the second, each at the first's mean cost (attempts beyond the serving one and
//!    estimates included);
//! 2. mix: served by the second's models and backends;
//! 3. prompts as long as the second's; 4. answers as long, with their shares of reasoning and audio;
//! 5. prompts cached (and written to caches, and spoken) to the second's shares;
//! 6. the second's list prices, in the vendors' currencies, calendars and tiers included; 7. its exchange rates;
//! 8. what the second's retries and hedges cost; 9. what its estimated, swept and corrected rows add;
//! 10. rent that no request paid for, which is no request's cost and scales with none;
//! 11. what is left: each attempt's charge is rounded up to a nano-dollar, and so are these parts to the nearest.
//!
//! Steps 2 to 7 look at serving attempts that were measured, group by group (model, backend). A group that is in one
//! stretch only has the same tokens and prices in both, so that all of it is mix. A later step sees what earlier ones
//! have changed: where length and price both rose, the rise of the price is counted on the new length.

mod chain;
mod side;

pub use side::Side;

use super::divided;

#[cfg(test)]
mod tests;

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// More or fewer requests.
    Volume,
    /// Other models or backends.
    Mix,
    /// Longer or shorter prompts.
    InputTokens,
    /// Longer or shorter answers.
    OutputTokens,
    /// More or less of the prompts from caches.
    CachedShare,
    /// Other prices.
    ListPrice,
    /// Other exchange rates.
    ExchangeRate,
    /// Attempts beyond the serving one.
    Retries,
    /// Rows that were estimated, swept or corrected.
    Estimates,
    /// Rent that no request paid for.
    Rent,
    /// What rounding leaves.
    Rounding,
}

impl Part {
    /// All of them, in the order of their steps.
    pub const ALL: [Self; 11] = [
        Self::Volume,
        Self::Mix,
        Self::InputTokens,
        Self::OutputTokens,
        Self::CachedShare,
        Self::ListPrice,
        Self::ExchangeRate,
        Self::Retries,
        Self::Estimates,
        Self::Rent,
        Self::Rounding,
    ];

    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Mix => "mix",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CachedShare => "cached_share",
            Self::ListPrice => "list_price",
            Self::ExchangeRate => "exchange_rate",
            Self::Retries => "retries_and_hedges",
            Self::Estimates => "estimates",
            Self::Rent => "unallocated_rent",
            Self::Rounding => "rounding",
        }
    }

    /// What it means.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Volume => "how many requests",
            Self::Mix => "who served: model and backend",
            Self::InputTokens => "prompt tokens per request",
            Self::OutputTokens => "answer tokens per request",
            Self::CachedShare => "share of the prompts from caches",
            Self::ListPrice => "list prices, calendars and tiers",
            Self::ExchangeRate => "exchange rates",
            Self::Retries => "attempts beyond the serving one",
            Self::Estimates => "estimated, swept and corrected",
            Self::Rent => "rent that no request paid for",
            Self::Rounding => "rounding to the nano-dollar",
        }
    }
}

/// The split difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What the first stretch cost, in nano-USD.
    pub before: i128,
    /// What the second cost.
    pub after: i128,
    /// The parts in their order; they sum to the difference.
    pub parts: [(Part, i128); 11],
}

/// Splits what `after` cost more than `before`.
pub fn explain(before: &Side, after: &Side) -> Why {
    let (n0, n1) = (i128::from(before.requests), i128::from(after.requests));
    // Without requests to begin with nothing can be scaled: all of it is volume.
    let scaled = |amount: i128| if n0 == 0 { 0 } else { divided(amount.saturating_mul(n1), n0) };
    let (used, used_before) = (after.charge - after.rent, before.charge - before.rent);
    let volume = if n0 == 0 { used - used_before } else { scaled(used_before) - used_before };
    let mut parts = Part::ALL.map(|part| (part, 0));
    parts[0].1 = volume;
    if n0 > 0 {
        let steps = chain::steps(before, after);
        parts[7].1 = after.extra - scaled(before.extra);
        let last = steps.old_requests.last().copied().unwrap_or_default();
        let more_measured = chain::difference(last, steps.new_requests);
        parts[8].1 = after.estimated - scaled(before.estimated) + more_measured;
        for (index, pair) in steps.old_requests.windows(2).enumerate() {
            parts[index + 1].1 = chain::difference(pair[0], pair[1]);
        }
    }
    parts[9].1 = after.rent - before.rent;
    let told: i128 = parts.iter().map(|(_, amount)| amount).sum();
    parts[10].1 = after.charge - before.charge - told;
    Why { before: before.charge, after: after.charge, parts }
}
