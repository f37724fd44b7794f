//! The terms of a candidate's value, each in money or to be read beside it.

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
