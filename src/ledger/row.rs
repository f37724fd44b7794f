//! Rows as they are stored: versioned, readable by later releases.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::tenants::Key;

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
            hash: hex(&key.hash),
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
            hash: from_hex(&self.hash)?,
            name: self.name.map(Arc::from),
            expires,
            explain: self.explain,
        })
    }
}

/// Lower-case hex digits of a hash.
pub fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash that 64 hex digits spell.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let bytes: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        let digits =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}
