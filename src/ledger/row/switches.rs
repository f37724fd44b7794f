//! What operators have switched off and on again, as it is stored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Something that was switched off, or on again: by whom and why. Of two rows of one thing the newer counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRow {
    /// Its own id.
    pub id: Uuid,
    /// What kind of thing.
    pub kind: SwitchKind,
    /// Its name; of a key the public id.
    pub name: Arc<str>,
    /// Off, or on again.
    pub off: bool,
    /// Streams under way end too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// From when, in milliseconds since 1970: newer than the row that it replaces.
    pub from_ms: i64,
    /// The first instant at which it holds no more, in milliseconds since 1970; `None` = until it is switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Of an arm: the revision of the split that it holds for; `None` = for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Arc<str>>,
    /// Who switched.
    pub who: String,
    /// Why.
    pub why: String,
}

/// What can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchKind {
    /// One site of a provider, or a pool of own servers.
    Backend,
    /// All backends of a provider.
    Provider,
    /// A model, whoever serves it.
    Model,
    /// A team, and the teams below it.
    Team,
    /// A client key.
    Key,
    /// An arm of a split, as `arm@route`.
    Arm,
}

impl SwitchKind {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 6] = [Self::Backend, Self::Provider, Self::Model, Self::Team, Self::Key, Self::Arm];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Team => "team",
            Self::Key => "key",
            Self::Arm => "arm",
        }
    }
}
