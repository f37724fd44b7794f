//! Bodies of the admin API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/keys`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// Who pays.
    pub team: String,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// May ask for decisions in a header.
    #[serde(default)]
    pub explain: bool,
}

/// The answer: the only place where the secret ever stands.
#[derive(Serialize, Deserialize)]
pub struct CreatedKey {
    /// The public id.
    pub id: String,
    /// The whole key.
    pub secret: String,
}
