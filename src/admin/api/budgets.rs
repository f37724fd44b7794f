//! Bodies of `/api/v1/budgets`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer to `GET /api/v1/budgets`.
#[derive(Debug, Serialize, Deserialize)]
pub struct BudgetList {
    /// The budgets.
    pub budgets: Vec<BudgetLine>,
}

/// One budget now. Amounts are decimals in the unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BudgetLine {
    /// What everything is booked under, and what `raise` takes.
    pub id: String,
    /// `team`, `user`, `key`, `route`, `model`, `backend` or `provider`.
    pub kind: String,
    /// The owner.
    pub owner: String,
    /// The budget's own name.
    pub name: String,
    /// `usd`, `tokens` or `requests`.
    pub unit: String,
    /// The length of a window.
    pub per: String,
    /// The amount of a window, raises included.
    pub limit: String,
    /// Of this, what raises add.
    pub raised: String,
    /// Settled and held.
    pub used: String,
    /// Of this, held by requests under way.
    pub held: String,
    /// What is left.
    pub left: String,
    /// The share used ÷ the share of the window gone by, in per cent: above 100, it runs out early.
    pub pace_percent: u64,
    /// When the window began.
    pub since: Timestamp,
    /// When the next one begins.
    pub renews_at: Timestamp,
    /// Raises in force.
    pub raises: Vec<RaiseLine>,
    /// Of an act: whether it is in the store from which the other gateways have it within a second, or waits until that
    /// is back; absent where there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
}

/// One raise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RaiseLine {
    /// What it adds.
    pub amount: String,
    /// When it ends.
    pub until: Timestamp,
    /// Who raised.
    pub who: String,
    /// Why.
    pub why: String,
}

/// The body of `POST /api/v1/budgets/raise`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseBudget {
    /// The budget's id, as in `team/search/month`.
    pub budget: String,
    /// What to add, as in `100 USD`.
    pub amount: String,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub why: String,
}
