//! Rows as they are stored: versioned, readable by later releases.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::{hex, tenants::Key};

/// A client key at rest.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRow {
    id: String,
    team: String,
    /// SHA-256 of the key, in hex.
    hash: String,
    name: Option<String>,
    /// Seconds since 1970.
    expires: Option<i64>,
    explain: bool,
}

impl From<&Key> for KeyRow {
    fn from(key: &Key) -> Self {
        Self {
            id: key.id.to_string(),
            team: key.team.to_string(),
            hash: hex::digits(&key.hash),
            name: key.name.as_deref().map(str::to_owned),
            expires: key.expires.map(Timestamp::as_second),
            explain: key.explain,
        }
    }
}

impl KeyRow {
    /// The row as JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The row in `bytes`, `None` when it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The key that the row holds, `None` when a field is damaged.
    pub fn into_key(self) -> Option<Key> {
        let expires = match self.expires {
            Some(second) => Some(Timestamp::from_second(second).ok()?),
            None => None,
        };
        Some(Key {
            id: self.id.into(),
            team: self.team.into(),
            hash: hex::digest(&self.hash)?,
            name: self.name.map(Arc::from),
            expires,
            explain: self.explain,
        })
    }
}
