//! The keys of guarded change: what withdraws an arm of a split, and what answers unseen.

use super::super::shape::{Kind, Shape, Unit, may, must};

use Kind::{Amount, Text};

/// `guard`.
pub const GUARD: Shape = Shape {
    name: "`guard`",
    fields: &[
        may("error_rate", Amount(Unit::ErrorBound), "failed requests at most; `+2%` = beyond the control's"),
        may("cost", Amount(Unit::Excess), "by how much more than the control's a request may cost on average"),
        may(
            "first_token_p95",
            Amount(Unit::Duration),
            "the longest 95th percentile of the time to the first token of streams",
        ),
        may("min_requests", Amount(Unit::Count(20, 1_000_000)), "looked at together; 500 unless stated"),
    ],
    later: &[],
};

/// `shadow`.
pub const SHADOW: Shape = Shape {
    name: "`shadow`",
    fields: &[
        must("to", Text, "the model (or model@backend) that answers too"),
        must("share", Amount(Unit::Share), "of how many requests"),
        must("limit", Amount(Unit::Spend), "what it may cost the operator, as in `20 USD/day`"),
    ],
    later: &[],
};
