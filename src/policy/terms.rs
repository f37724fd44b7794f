//! The terms of a candidate's value, each in money or to be read beside it.

use std::{fmt, time::Duration};

use super::decision::{Percent, Seconds};
use crate::base::{money::Money, tier::Tier};

/// The terms of a candidate's value; every one is in money or can be read beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// The chance of a right answer, in parts per million.
    pub right_ppm: u32,
    /// The lower end of its interval: what a floor tests.
    pub right_low_ppm: u32,
    /// How many score rows carried it.
    pub score_rows: u32,
    /// Expected milliseconds to the last token.
    pub expected_ms: u64,
    /// Expected prompt tokens, as this model counts them.
    pub input_tokens: u64,
    /// Of these, expected to be read from the vendor's cache.
    pub cached_tokens: u64,
    /// Expected output tokens of one answer.
    pub output_tokens: u64,
    /// The tier of service that it is expected to be served at.
    pub tier: Tier,
    /// Expected cost: what would be charged.
    pub cost: Money,
    /// What one more request costs: `cost` where tokens are paid for; at rented servers, which are paid anyway, what the
    /// longer wait of those behind it is worth. It is what candidates are compared by.
    pub marginal: Money,
    /// The value, in nano-USD: what the ranked are sorted by under `prefer: {right_answer, second}`, and what
    /// `balanced` would make of the candidate under any other preference.
    pub value: Money,
}

/// ` (640 cached)`, or nothing.
struct Cached(u64);

impl fmt::Display for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, " ({} cached)", self.0) } else { Ok(()) }
    }
}

/// ` (0.0001 USD more if sent there)` where that is not the cost, or nothing.
struct Marginal<'a>(&'a Terms);

impl fmt::Display for Marginal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Terms { cost, marginal, .. } = self.0;
        if cost == marginal { Ok(()) } else { write!(f, " ({marginal} USD more if sent there)") }
    }
}

impl fmt::Display for Terms {
    /// One line: `right 71.2% (at least 68.0%, 14 rows), 2.41 s, 1210+380 tokens (640 cached), cost 0.0031 USD, value
    /// 0.0110 USD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Seconds(Duration::from_millis(self.expected_ms));
        write!(
            f,
            "right {} (at least {}, {} rows), {time}, {}+{} tokens{}, cost {} USD{}, value {} USD",
            Percent(self.right_ppm),
            Percent(self.right_low_ppm),
            self.score_rows,
            self.input_tokens,
            self.output_tokens,
            Cached(self.cached_tokens),
            self.cost,
            Marginal(self),
            self.value
        )
    }
}
