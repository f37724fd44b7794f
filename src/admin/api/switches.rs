//! Bodies of `/api/v1/switches`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer to `GET /api/v1/switches`: what is off.
#[derive(Debug, Serialize, Deserialize)]
pub struct SwitchList {
    /// Each thing that is off, once for each who switched it off: an operator, or the policies.
    pub switches: Vec<SwitchLine>,
}

/// One switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwitchLine {
    /// What it is of, as in `backend:qwen`.
    pub target: String,
    /// Off, or on again.
    pub off: bool,
    /// When it was switched; null where the policies say so.
    pub since: Option<Timestamp>,
    /// When it ends by itself; null = when it is switched on.
    pub until: Option<Timestamp>,
    /// What was under way was ended too.
    pub cut: bool,
    /// Who switched; null where the policies say so.
    pub who: Option<String>,
    /// Why.
    pub why: String,
    /// Of an act: whether it is in the store from which the other gateways have it within a second, or waits until that
    /// is back; absent where there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
}

/// The body of `POST /api/v1/switches`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// `backend:X`, `provider:X`, `model:X`, `team:X`, `key:X` or `arm:X@ROUTE`.
    pub target: String,
    /// Off, or on again.
    pub off: bool,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Instead, after how long (`4h`), on the clock of who books it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
    /// End what is under way too.
    #[serde(default)]
    pub cut: bool,
    /// Why.
    pub why: String,
}
