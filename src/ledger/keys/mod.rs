//! Client keys: how they are made, stored, changed and found. Only the SHA-256 of a key is ever kept.
//!
//! A key keeps its id for life: a rotation gives it another secret, so that books, budgets and rules that name the key
//! go on. What the store says about a secret stands above a `keys:` row of a policy file with the same secret: an
//! emergency needs no edit of a file.

mod act;
mod make;
mod merge;
mod ring;
mod store;
mod view;

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

pub use act::KeyError;
pub use make::{hash, id_of, make};
pub use ring::{Held, KeyRing, Standing};
pub use store::KeyStore;
pub use view::{KeyState, KeyView, Origin, listing};

use super::row::keys::{KeyActRow, KeyRow};
use crate::base::{
    names::{KeyId, TeamName},
    tenants::Key,
};

/// Why the store of keys failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// Another process has the file.
    #[error(
        "`{0}` is in use by another process\nhint: a gateway runs on this journal already; give each its own `journal`"
    )]
    InUse(String),
    /// The file is damaged, or may not be opened.
    #[error(
        "the key store `{path}` cannot be opened: {cause}\nhint: put a copy of it in its place; where it is moved away, its \
         keys and revocations are lost, but for those that a shared store has"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system or the store says.
        cause: Box<redb::Error>,
    },
    /// The file cannot be read or written.
    #[error("the key store (`keys.redb` in the journal's folder) failed: {0}")]
    Store(#[from] Box<redb::Error>),
    /// A row is not one of ours.
    #[error("the key store holds a damaged row `{0}`\nhint: put `keys.redb` back from a copy")]
    Damaged(String),
    /// The system gives no random bytes.
    #[error("the system's random source failed: {0}")]
    Random(String),
}

/// A key just made: the secret is shown once and kept nowhere.
#[derive(Debug)]
pub struct NewKey {
    /// What is stored.
    pub key: Key,
    /// The whole key as the client sends it.
    pub secret: SecretString,
}

/// What a new key is made for.
#[derive(Clone, Debug)]
pub struct KeyOrder {
    /// Who pays.
    pub team: TeamName,
    /// What its owner calls it.
    pub name: Option<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// May ask for decisions in a header.
    pub explain: bool,
}

/// A row of the store.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The key with its present secret.
    pub key: Key,
    /// When it was made; `None` in rows of version 1.
    pub created: Option<Timestamp>,
    /// The secrets it had before, in the order in which they end.
    pub former: Vec<Former>,
    /// When it was revoked: none of its secrets opens anything from then on.
    pub revoked: Option<Timestamp>,
    /// It stands for a `keys:` row of a policy file, and says only that this is revoked.
    pub of_file: bool,
    /// The newest act: between two gateways the later row counts.
    pub changed: Timestamp,
}

/// A secret that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Former {
    /// The first instant at which it is no longer valid.
    pub until: Timestamp,
    /// Its SHA-256.
    pub hash: [u8; 32],
}

/// Who does something, as it is booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name of the admin token, or of the local user.
    pub name: String,
    /// Which of the two.
    pub via: Via,
}

/// How somebody came to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// With a token of `admin.tokens`.
    Api,
    /// On the machine, with no gateway running.
    CommandLine,
}

/// When something is done, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// When, to the millisecond.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// Why, in their words.
    pub why: Option<String>,
}

impl Deed {
    /// A deed at this instant, cut to the millisecond that is stored.
    pub fn new(at: Timestamp, by: Actor, why: Option<String>) -> Self {
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        Self { at, by, why }
    }
}

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDeed {
    /// It was made.
    Created,
    /// It got another secret.
    Rotated {
        /// The first instant at which the secret before is no longer valid.
        until: Timestamp,
    },
    /// It was revoked.
    Revoked,
}

/// One act on a key; acts are never changed.
#[derive(Clone, Debug)]
pub struct KeyAct {
    /// Its own id, a version 7 UUID: ids sort by time, and the same act is never booked twice.
    pub id: Arc<str>,
    /// The key.
    pub key: KeyId,
    /// The team that paid for it then.
    pub team: TeamName,
    /// What was done.
    pub what: KeyDeed,
    /// When, by whom, why.
    pub deed: Deed,
}

/// All rows at one revision of the store.
#[derive(Clone, Debug, Default)]
pub struct KeySnapshot {
    /// Grows with every change of a row, in this store only.
    pub revision: u64,
    /// The rows.
    pub keys: Vec<StoredKey>,
}

impl StoredKey {
    /// The row as it is stored and sent between gateways.
    pub fn to_bytes(&self) -> Vec<u8> {
        KeyRow::write(self)
    }

    /// The row in `bytes`, `None` when they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        KeyRow::read(bytes)
    }

    /// Every secret it has or had.
    pub fn hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        std::iter::once(self.key.hash).chain(self.former.iter().map(|former| former.hash))
    }
}

impl KeyAct {
    /// The act as it is stored and sent between gateways.
    pub fn to_bytes(&self) -> Vec<u8> {
        KeyActRow::write(self)
    }

    /// The act in `bytes`, `None` when they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        KeyActRow::read(bytes)
    }
}
