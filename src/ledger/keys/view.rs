//! The list of keys as operators see it: the store's and the policy files' together.

use std::collections::HashMap;

use jiff::Timestamp;

use super::StoredKey;
use crate::base::{names::KeyId, tenants::Key};

/// A key as it is listed.
#[derive(Clone, Debug)]
pub struct KeyView {
    /// The key.
    pub key: Key,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
    /// When it was last used, to the second.
    pub used: Option<Timestamp>,
    /// What it is worth.
    pub state: KeyState,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a key is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It opens.
    Active,
    /// It opens, and so does a secret it had before.
    Rotating {
        /// When that secret ends.
        until: Timestamp,
    },
    /// It has ended.
    Expired,
    /// It was revoked.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `turnpike key create`.
    Store,
    /// The `keys:` of a policy file.
    File,
    /// Both have a row of this id.
    Both,
}

/// The keys of the store and of the policy files, by team, then by age.
pub fn listing<'k>(
    stored: &'k [StoredKey],
    files: impl IntoIterator<Item = &'k Key>,
    uses: &HashMap<KeyId, Timestamp>,
    now: Timestamp,
) -> Vec<KeyView> {
    let mut views: HashMap<&KeyId, KeyView> = HashMap::new();
    let mut ends: HashMap<[u8; 32], KeyState> = HashMap::new();
    for row in stored {
        let until = row.former.iter().map(|former| former.until).max().filter(|until| now < *until);
        let state = match (row.revoked, until) {
            (Some(at), _) => KeyState::Revoked { at },
            (None, Some(until)) => KeyState::Rotating { until },
            (None, None) => KeyState::Active,
        };
        let origin = if row.of_file { Origin::File } else { Origin::Store };
        ends.extend(row.former.iter().map(|former| {
            let replaced = if now < former.until { state } else { KeyState::Expired };
            (former.hash, if row.revoked.is_some() { state } else { replaced })
        }));
        ends.insert(row.key.hash, state);
        let (key, used) = (row.key.clone(), uses.get(&row.key.id).copied());
        views.insert(&row.key.id, KeyView { key, created: row.created, used, state, origin });
    }
    for key in files {
        let state = ends.get(&key.hash).copied().unwrap_or(KeyState::Active);
        match views.get_mut(&key.id) {
            // What is revoked of an id says nothing of another secret that the file gives it.
            Some(view) if view.origin == Origin::Store && (view.key.hash == key.hash || !view.is_revoked()) => {
                view.origin = Origin::Both;
            }
            known => {
                let created = known.and_then(|view| view.created);
                let used = uses.get(&key.id).copied();
                views.insert(&key.id, KeyView { key: key.clone(), created, used, state, origin: Origin::File });
            }
        }
    }
    let mut views: Vec<KeyView> = views.into_values().collect();
    for view in &mut views {
        let expired = view.key.expires.is_some_and(|end| now >= end);
        if expired && !view.is_revoked() {
            view.state = KeyState::Expired;
        }
    }
    views.sort_by(|a, b| (&a.key.team, a.created, &a.key.id).cmp(&(&b.key.team, b.created, &b.key.id)));
    views
}

impl KeyView {
    fn is_revoked(&self) -> bool {
        matches!(self.state, KeyState::Revoked { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Former, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(id: &str, hash: u8, expires: Option<i64>) -> Key {
        Key { id: id.into(), team: "t".into(), hash: [hash; 32], name: None, expires: expires.map(at), explain: false }
    }

    fn stored(key: Key, revoked: Option<i64>, of_file: bool) -> StoredKey {
        StoredKey { key, created: Some(at(5)), former: Vec::new(), revoked: revoked.map(at), of_file, changed: at(5) }
    }

    #[test]
    fn every_key_is_listed_once_with_what_it_is_worth() {
        let mut rotating = stored(key("rotating", 1, None), None, false);
        rotating.former.push(Former { until: at(200), hash: [2; 32] });
        let rows = [
            rotating,
            stored(key("expired", 3, Some(100)), None, false),
            stored(key("revoked", 4, Some(100)), Some(50), false),
            stored(key("of_file", 5, None), Some(50), true),
            stored(key("renewed", 6, None), Some(50), true),
            stored(key("both", 7, None), None, false),
        ];
        let file = [key("of_file", 5, None), key("renewed", 60, None), key("both", 7, None), key("renamed", 4, None)];
        let uses = HashMap::from([(KeyId::from("both"), at(90))]);
        let views = listing(&rows, &file, &uses, at(100));
        let seen: HashMap<&str, (KeyState, Origin)> =
            views.iter().map(|view| (view.key.id.as_str(), (view.state, view.origin))).collect();
        let revoked = KeyState::Revoked { at: at(50) };
        assert_eq!(seen["rotating"], (KeyState::Rotating { until: at(200) }, Origin::Store));
        assert_eq!(seen["expired"], (KeyState::Expired, Origin::Store));
        assert_eq!(seen["revoked"], (revoked, Origin::Store));
        assert_eq!(seen["of_file"], (revoked, Origin::File));
        assert_eq!(seen["renewed"], (KeyState::Active, Origin::File));
        assert_eq!(seen["both"], (KeyState::Active, Origin::Both));
        assert_eq!(seen["renamed"], (revoked, Origin::File));
        assert_eq!(views.len(), 7);
        let used: Vec<_> = views.iter().filter(|view| view.used == Some(at(90))).map(|view| &*view.key.id).collect();
        assert_eq!(used, ["both"]);
    }
}
