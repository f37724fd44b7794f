//! Client keys, and what was done to them, as they are stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::{hex, names::KeyId, tenants::Key};
use crate::ledger::keys::{Actor, Deed, Former, KeyAct, KeyDeed, StoredKey, Via};

/// A client key at rest. A row without the fields from `created` on was written by version 1.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRow {
    id: String,
    team: String,
    /// SHA-256 of the key, in hex.
    hash: String,
    name: Option<String>,
    /// Seconds since 1970; all instants below are milliseconds.
    expires: Option<i64>,
    explain: bool,
    #[serde(default)]
    created: Option<i64>,
    #[serde(default)]
    former: Vec<FormerRow>,
    #[serde(default)]
    revoked: Option<i64>,
    #[serde(default)]
    of_file: bool,
    #[serde(default)]
    changed: i64,
}

/// A secret that was replaced.
#[derive(Debug, Serialize, Deserialize)]
struct FormerRow {
    hash: String,
    until: i64,
}

/// An act on a client key at rest.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyActRow {
    id: String,
    at: i64,
    key: String,
    team: String,
    what: What,
    by: String,
    via: Way,
    why: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Created,
    Rotated { until: i64 },
    Revoked,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Api,
    CommandLine,
}

fn instant(millisecond: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(millisecond).ok()
}

impl KeyRow {
    /// A stored key as JSON.
    pub fn write(stored: &StoredKey) -> Vec<u8> {
        let key = &stored.key;
        let former = stored.former.iter();
        let row = Self {
            id: key.id.to_string(),
            team: key.team.to_string(),
            hash: hex::digits(&key.hash),
            name: key.name.as_deref().map(str::to_owned),
            expires: key.expires.map(Timestamp::as_second),
            explain: key.explain,
            created: stored.created.map(Timestamp::as_millisecond),
            former: former
                .map(|former| FormerRow { hash: hex::digits(&former.hash), until: former.until.as_millisecond() })
                .collect(),
            revoked: stored.revoked.map(Timestamp::as_millisecond),
            of_file: stored.of_file,
            changed: stored.changed.as_millisecond(),
        };
        serde_json::to_vec(&row).unwrap_or_default()
    }

    /// The stored key in `bytes`, `None` when they are damaged.
    pub fn read(bytes: &[u8]) -> Option<StoredKey> {
        let row: Self = serde_json::from_slice(bytes).ok()?;
        let expires = match row.expires {
            Some(second) => Some(Timestamp::from_second(second).ok()?),
            None => None,
        };
        let key = Key {
            id: row.id.into(),
            team: row.team.into(),
            hash: hex::digest(&row.hash)?,
            name: row.name.map(Arc::from),
            expires,
            explain: row.explain,
        };
        let former = row.former.into_iter();
        let former = former.map(|row| Some(Former { hash: hex::digest(&row.hash)?, until: instant(row.until)? }));
        Some(StoredKey {
            key,
            created: row.created.and_then(instant),
            former: former.collect::<Option<_>>()?,
            // A revocation whose instant is damaged is a revocation all the same.
            revoked: row.revoked.map(|at| instant(at).unwrap_or(Timestamp::UNIX_EPOCH)),
            of_file: row.of_file,
            changed: instant(row.changed)?,
        })
    }
}

impl KeyActRow {
    /// An act as JSON.
    pub fn write(act: &KeyAct) -> Vec<u8> {
        let row = Self {
            id: act.id.to_string(),
            at: act.deed.at.as_millisecond(),
            key: act.key.to_string(),
            team: act.team.to_string(),
            what: match act.what {
                KeyDeed::Created => What::Created,
                KeyDeed::Rotated { until } => What::Rotated { until: until.as_millisecond() },
                KeyDeed::Revoked => What::Revoked,
            },
            by: act.deed.by.name.clone(),
            via: match act.deed.by.via {
                Via::Api => Way::Api,
                Via::CommandLine => Way::CommandLine,
            },
            why: act.deed.why.clone(),
        };
        serde_json::to_vec(&row).unwrap_or_default()
    }

    /// The act in `bytes`, `None` when they are damaged.
    pub fn read(bytes: &[u8]) -> Option<KeyAct> {
        let row: Self = serde_json::from_slice(bytes).ok()?;
        let what = match row.what {
            What::Created => KeyDeed::Created,
            What::Rotated { until } => KeyDeed::Rotated { until: instant(until)? },
            What::Revoked => KeyDeed::Revoked,
        };
        let via = match row.via {
            Way::Api => Via::Api,
            Way::CommandLine => Via::CommandLine,
        };
        let deed = Deed { at: instant(row.at)?, by: Actor { name: row.by, via }, why: row.why };
        Some(KeyAct { id: row.id.into(), key: KeyId::from(row.key), team: row.team.into(), what, deed })
    }
}
