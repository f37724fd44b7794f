//! What may be done to a key: create, rotate, revoke. Each act is on disk with who, when and why before it counts.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    Deed, Former, KeyAct, KeyDeed, KeyOrder, KeyStore, KeyStoreError, NewKey, StoredKey,
    make::{make, remake},
    store::Tables,
};
use crate::base::tenants::Key;

/// The longest name of a key, in characters.
const MAX_NAME: usize = 200;
/// The longest reason, in characters.
const MAX_WHY: usize = 1000;
/// The most secrets that one key had before and that are remembered.
const MAX_FORMER: usize = 8;

/// Why something was not done to a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither the store nor a policy file has it.
    #[error("there is no key `{0}`")]
    Unknown(String),
    /// It was revoked before.
    #[error("key `{id}` was revoked at {at}\nhint: `turnpike key list {id}` says by whom and why")]
    Revoked {
        /// The key.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// It has ended.
    #[error("key `{id}` expired at {at}, and another secret would not open anything\nhint: create another key")]
    Expired {
        /// The key.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// Its secret stands in a policy file.
    #[error(
        "key `{0}` comes from a policy file, and its secret is replaced there\n\
         hint: `turnpike key create --yaml` prints another row; take the old one out when its clients have changed"
    )]
    OfFile(String),
    /// Too many of its secrets are valid.
    #[error("key `{0}` has {MAX_FORMER} former secrets that are still valid\nhint: wait for one to end, or revoke it")]
    TooManySecrets(String),
    /// A text is not one that can be booked.
    #[error("`{field}`: {problem}")]
    Unfit {
        /// Which text.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
}

/// A text that goes into tables on operators' screens: of some length, and without control characters.
fn fit(field: &'static str, text: Option<&str>, most: usize) -> Result<(), KeyError> {
    let Some(text) = text else { return Ok(()) };
    let problem = if text.trim().is_empty() {
        "says nothing".to_owned()
    } else if text.chars().count() > most {
        format!("longer than {most} characters")
    } else if text.chars().any(char::is_control) {
        "holds control characters, such as line ends".to_owned()
    } else {
        return Ok(());
    };
    Err(KeyError::Unfit { field, problem })
}

impl KeyStore {
    /// Makes a key and stores it.
    ///
    /// # Errors
    /// [`KeyError::Unfit`] for a name or a reason that cannot be booked, [`KeyError::Store`].
    pub fn create(&self, order: &KeyOrder, deed: &Deed) -> Result<NewKey, KeyError> {
        fit("name", order.name.as_deref(), MAX_NAME)?;
        fit("why", deed.why.as_deref(), MAX_WHY)?;
        self.change(|tables| {
            let mut made = make(order)?;
            while tables.get(&made.key.id)?.is_some() {
                made = make(order)?;
            }
            let stored = StoredKey {
                key: made.key.clone(),
                created: Some(deed.at),
                former: Vec::new(),
                revoked: None,
                of_file: false,
                changed: deed.at,
            };
            tables.settle(&stored, KeyDeed::Created, deed)?;
            Ok(made)
        })
    }

    /// Gives the key `id` another secret. All secrets it had before end when `overlap` is over, or earlier where that
    /// was said before. Team, name, expiry and rights stay. `in_file`: the `keys:` row of that id.
    ///
    /// # Errors
    /// [`KeyError`] for a key that is unknown, revoked, expired, or not of this store.
    pub fn rotate(
        &self,
        id: &str,
        in_file: Option<&Key>,
        overlap: Duration,
        deed: &Deed,
    ) -> Result<(NewKey, Timestamp), KeyError> {
        fit("why", deed.why.as_deref(), MAX_WHY)?;
        self.change(|tables| {
            let mut stored = match tables.get(id)? {
                Some(stored) if !stored.of_file => stored,
                Some(_) => return Err(KeyError::OfFile(id.to_owned())),
                None if in_file.is_some() => return Err(KeyError::OfFile(id.to_owned())),
                None => return Err(KeyError::Unknown(id.to_owned())),
            };
            stored.is_open(deed.at)?;
            let until = SignedDuration::try_from(overlap).ok().and_then(|overlap| deed.at.checked_add(overlap).ok());
            let until = until.unwrap_or(Timestamp::MAX);
            let Key { team, name, expires, explain, .. } = stored.key.clone();
            let order = KeyOrder { team, name: name.map(|name| name.to_string()), expires, explain };
            let made = remake(&stored.key.id, &order)?;
            stored.replace(made.key.clone(), until, deed.at)?;
            tables.settle(&stored, KeyDeed::Rotated { until }, deed)?;
            Ok((made, until))
        })
    }

    /// Revokes the key `id` with all its secrets, for good. `in_file`: the `keys:` row of that id, whose secret is
    /// revoked too.
    ///
    /// # Errors
    /// [`KeyError`] for a key that is unknown or revoked already; [`KeyError::Unfit`] without a reason.
    pub fn revoke(&self, id: &str, in_file: Option<&Key>, deed: &Deed) -> Result<(), KeyError> {
        fit("why", Some(deed.why.as_deref().unwrap_or_default()), MAX_WHY)?;
        self.change(|tables| {
            let stored = match (tables.get(id)?, in_file) {
                (None, None) => return Err(KeyError::Unknown(id.to_owned())),
                (None, Some(key)) => StoredKey {
                    key: key.clone(),
                    created: None,
                    former: Vec::new(),
                    revoked: Some(deed.at),
                    of_file: true,
                    changed: deed.at,
                },
                (Some(mut stored), in_file) => {
                    let unknown = in_file.filter(|key| stored.hashes().all(|hash| hash != key.hash));
                    match (stored.revoked, unknown) {
                        (Some(at), None) => return Err(KeyError::Revoked { id: id.to_owned(), at }),
                        // The row in the file got another secret since.
                        (_, Some(key)) => stored.former.push(Former { until: deed.at, hash: key.hash }),
                        (None, None) => {}
                    }
                    StoredKey { revoked: Some(deed.at), changed: stored.after(deed.at), ..stored }
                }
            };
            tables.settle(&stored, KeyDeed::Revoked, deed)
        })
    }
}

impl StoredKey {
    /// The time of an act that builds on this row: later than what it builds on, whatever the clock says.
    fn after(&self, at: Timestamp) -> Timestamp {
        let next = self.changed.checked_add(SignedDuration::from_millis(1)).unwrap_or(self.changed);
        at.max(next)
    }

    /// Whether it opens anything at `now`.
    fn is_open(&self, now: Timestamp) -> Result<(), KeyError> {
        let id = || self.key.id.to_string();
        match (self.revoked, self.key.expires) {
            (Some(at), _) => Err(KeyError::Revoked { id: id(), at }),
            (None, Some(at)) if at <= now => Err(KeyError::Expired { id: id(), at }),
            _ => Ok(()),
        }
    }

    fn replace(&mut self, key: Key, until: Timestamp, now: Timestamp) -> Result<(), KeyError> {
        for former in &mut self.former {
            former.until = former.until.min(until);
        }
        self.former.push(Former { until, hash: self.key.hash });
        self.former.sort_unstable();
        let excess = self.former.len().saturating_sub(MAX_FORMER);
        if self.former[..excess].iter().any(|former| now < former.until) {
            return Err(KeyError::TooManySecrets(self.key.id.to_string()));
        }
        self.former.drain(..excess);
        self.changed = self.after(now);
        self.key = key;
        Ok(())
    }
}

impl Tables<'_> {
    /// Writes what an act made of a key, and the act.
    fn settle(&mut self, stored: &StoredKey, what: KeyDeed, deed: &Deed) -> Result<(), KeyError> {
        let millis = u64::try_from(deed.at.as_millisecond()).unwrap_or(0);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
        let id: Arc<str> = id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_string().into();
        let (key, team) = (stored.key.id.clone(), stored.key.team.clone());
        self.put(stored)?;
        self.book(&KeyAct { id, key, team, what, deed: deed.clone() })?;
        Ok(self.advance()?)
    }
}

#[cfg(test)]
mod tests;
