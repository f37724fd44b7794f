//! Bodies of `/api/v1/keys`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger::keys::{KeyAct, KeyDeed, KeyState, KeyView, Origin, Via};

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
    /// Why it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The body of `POST /api/v1/keys/{id}/rotate`; an empty one is `{}`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the secret before stays valid (`7d`); not at all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The body of `POST /api/v1/keys/{id}/revoke`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeKey {
    /// Why.
    pub why: String,
}

/// The answer to a creation or a rotation: the only place where the secret ever stands.
#[derive(Serialize, Deserialize)]
pub struct NewSecret {
    /// The public id.
    pub id: String,
    /// The whole key.
    pub secret: String,
    /// Of a rotation: when the secret before ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until: Option<Timestamp>,
    /// Of an act: whether it is in the store from which the other gateways have it within a second, or waits until that
    /// is back; absent where there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
}

/// The answer to a revocation: the key as it is now.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// The key.
    #[serde(flatten)]
    pub key: Option<KeyLine>,
    /// Of an act: whether it is in the store from which the other gateways have it within a second, or waits until that
    /// is back; absent where there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
}

/// The answer to `GET /api/v1/keys`.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyLine>,
}

/// One key.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyLine {
    /// The public id.
    pub id: String,
    /// Who pays.
    pub team: String,
    /// What its owner calls it.
    pub name: Option<String>,
    /// When it was made; null where that is not known, as for keys of policy files.
    pub created: Option<Timestamp>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the second.
    pub last_used: Option<Timestamp>,
    /// `active`, `rotating`, `expired` or `revoked`.
    pub state: String,
    /// While it is rotating: when the secret before ends.
    pub rotating_until: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// `store`, `policy_file` or `both`.
    pub from: String,
    /// May ask for decisions in a header.
    pub explain: bool,
}

/// The answer to `GET /api/v1/keys/{id}`: the key, and what was done to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyDetail {
    /// The key.
    pub key: KeyLine,
    /// What was done to it, the oldest first.
    pub acts: Vec<KeyActLine>,
}

/// One act on a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyActLine {
    /// When.
    pub at: Timestamp,
    /// `created`, `rotated` or `revoked`.
    pub act: String,
    /// Of a rotation: when the secret before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until: Option<Timestamp>,
    /// By whom: the name of a token or of a local user.
    pub by: String,
    /// `api` or `command_line`.
    pub via: String,
    /// Why.
    pub why: Option<String>,
}

impl From<&KeyView> for KeyLine {
    fn from(view: &KeyView) -> Self {
        let (state, rotating_until, revoked) = match view.state {
            KeyState::Active => ("active", None, None),
            KeyState::Rotating { until } => ("rotating", Some(until), None),
            KeyState::Expired => ("expired", None, None),
            KeyState::Revoked { at } => ("revoked", None, Some(at)),
        };
        let from = match view.origin {
            Origin::Store => "store",
            Origin::File => "policy_file",
            Origin::Both => "both",
        };
        Self {
            id: view.key.id.to_string(),
            team: view.key.team.to_string(),
            name: view.key.name.as_deref().map(str::to_owned),
            created: view.created,
            expires: view.key.expires,
            last_used: view.used,
            state: state.to_owned(),
            rotating_until,
            revoked,
            from: from.to_owned(),
            explain: view.key.explain,
        }
    }
}

impl From<&KeyAct> for KeyActLine {
    fn from(act: &KeyAct) -> Self {
        let (name, former_until) = match act.what {
            KeyDeed::Created => ("created", None),
            KeyDeed::Rotated { until } => ("rotated", Some(until)),
            KeyDeed::Revoked => ("revoked", None),
        };
        let via = match act.deed.by.via {
            Via::Api => "api",
            Via::CommandLine => "command_line",
        };
        Self {
            at: act.deed.at,
            act: name.to_owned(),
            former_until,
            by: act.deed.by.name.clone(),
            via: via.to_owned(),
            why: act.deed.why.clone(),
        }
    }
}
