//! Keys in memory, found by the hash of what a client sends; replaced as a whole.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::{StoredKey, make::hash};
use crate::base::{names::KeyId, tenants::Key};

/// A last use that never was.
const NEVER: i64 = i64::MIN;

/// The keys that the gateway knows, also those that no longer open anything: their holders are told so.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: ArcSwap<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_hash: HashMap<[u8; 32], Arc<Held>>,
    /// One clock for each key, carried over when the ring is replaced.
    uses: HashMap<KeyId, Arc<AtomicI64>>,
}

/// One secret of a key.
#[derive(Debug)]
pub struct Held {
    /// The key.
    pub key: Arc<Key>,
    hash: [u8; 32],
    /// The secret was replaced, and ends then.
    until: Option<Timestamp>,
    revoked: bool,
    /// Seconds since 1970.
    used: Arc<AtomicI64>,
}

/// What a secret is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It opens.
    Valid,
    /// The key has ended.
    Expired,
    /// The key has another secret, and the overlap is over.
    Replaced,
    /// The key was revoked.
    Revoked,
}

impl Held {
    /// What the secret is worth at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked {
            Standing::Revoked
        } else if self.until.is_some_and(|end| now >= end) {
            Standing::Replaced
        } else if self.key.expires.is_some_and(|end| now >= end) {
            Standing::Expired
        } else {
            Standing::Valid
        }
    }

    /// Notes a use. A key that is in use all the time is written once a second only, so that requests on several
    /// cores do not take the line from each other.
    pub fn note_use(&self, now: Timestamp) {
        let second = now.as_second();
        if self.used.load(Ordering::Relaxed) < second {
            self.used.store(second, Ordering::Relaxed);
        }
    }
}

impl KeyRing {
    /// Puts these keys in place of all that were there: the rows of the store, and those of the policy files. Of a
    /// secret that both know, the file says whose it is, and the store whether it still opens anything.
    pub fn replace<'k>(&self, stored: &[StoredKey], files: impl IntoIterator<Item = &'k Arc<Key>>) {
        let before = self.keys.load();
        let mut index = Index::default();
        for row in stored {
            let key = Arc::new(row.key.clone());
            let former = row.former.iter().map(|former| (former.hash, Some(former.until)));
            for (hash, until) in former.chain([(row.key.hash, None)]) {
                index.add(&before, Held::new(&key, hash, until, row.revoked.is_some()));
            }
        }
        for key in files {
            let known = index.by_hash.get(&key.hash);
            let (until, revoked) = known.map_or((None, false), |held| (held.until, held.revoked));
            index.add(&before, Held::new(key, key.hash, until, revoked));
        }
        self.keys.store(Arc::new(index));
    }

    /// The secret that `presented` is, if it is one. The hash is compared in constant time; looking it up tells an
    /// attacker nothing, since a hash cannot be steered byte by byte.
    pub fn find(&self, presented: &str) -> Option<Arc<Held>> {
        let hash = hash(presented);
        let keys = self.keys.load();
        let held = keys.by_hash.get(&hash)?;
        bool::from(held.hash.ct_eq(&hash)).then(|| Arc::clone(held))
    }

    /// Whether there is a key of that id, whatever it is worth.
    pub fn has(&self, id: &str) -> bool {
        self.keys.load().uses.contains_key(id)
    }

    /// Whether there is no key at all, not even one that no longer opens anything.
    pub fn is_empty(&self) -> bool {
        self.keys.load().by_hash.is_empty()
    }

    /// The keys that were used at `since` or later, with their last use, to the second.
    pub fn uses(&self, since: Timestamp) -> Vec<(KeyId, Timestamp)> {
        let keys = self.keys.load();
        let uses = keys.uses.iter().map(|(id, used)| (id, used.load(Ordering::Relaxed)));
        let uses = uses.filter(|(_, second)| *second != NEVER && *second >= since.as_second());
        uses.filter_map(|(id, second)| Some((id.clone(), Timestamp::from_second(second).ok()?))).collect()
    }
}

impl Held {
    fn new(key: &Arc<Key>, hash: [u8; 32], until: Option<Timestamp>, revoked: bool) -> Self {
        Self { key: Arc::clone(key), hash, until, revoked, used: Arc::default() }
    }
}

impl Index {
    fn add(&mut self, before: &Self, mut held: Held) {
        if !held.revoked && self.by_hash.get(&held.hash).is_some_and(|other| other.revoked) {
            return;
        }
        let id = &held.key.id;
        let used = self.uses.get(id).or_else(|| before.uses.get(id)).cloned();
        held.used = used.unwrap_or_else(|| Arc::new(AtomicI64::new(NEVER)));
        self.uses.insert(id.clone(), Arc::clone(&held.used));
        self.by_hash.insert(held.hash, Arc::new(held));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Former, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(id: &str, secret: &str) -> Key {
        Key { id: id.into(), team: "search".into(), hash: hash(secret), name: None, expires: None, explain: false }
    }

    fn stored(key: Key, former: &[(&str, i64)], revoked: bool) -> StoredKey {
        let former = former.iter().map(|&(secret, until)| Former { until: at(until), hash: hash(secret) });
        let former = former.collect();
        let revoked = revoked.then(|| at(50));
        StoredKey { key, created: None, former, revoked, of_file: false, changed: at(50) }
    }

    fn standing(ring: &KeyRing, secret: &str, now: i64) -> Option<Standing> {
        ring.find(secret).map(|held| held.standing(at(now)))
    }

    #[test]
    fn a_key_is_found_by_each_of_its_secrets_and_by_nothing_else() {
        let ring = KeyRing::default();
        assert!(ring.is_empty());
        let ending = Key { expires: Some(at(300)), ..key("a", "new") };
        ring.replace(&[stored(ending, &[("old", 100)], false)], &[Arc::new(key("b", "sk-from-elsewhere"))]);
        assert_eq!(standing(&ring, "sk-from-elsewhere", 0), Some(Standing::Valid));
        assert_eq!(standing(&ring, "sk-from-nowhere", 0), None);
        assert_eq!(standing(&ring, "old", 99), Some(Standing::Valid));
        assert_eq!(standing(&ring, "old", 100), Some(Standing::Replaced));
        assert_eq!(standing(&ring, "new", 299), Some(Standing::Valid));
        assert_eq!(standing(&ring, "new", 300), Some(Standing::Expired));
        assert_eq!(ring.find("old").unwrap().key.id, ring.find("new").unwrap().key.id);
    }

    #[test]
    fn the_store_stands_above_the_file_whatever_the_row_there_is_called() {
        let ring = KeyRing::default();
        let rows = [
            stored(key("a", "leaked"), &[("leaked before", 10)], true),
            stored(key("b", "new"), &[("old", 100)], false),
        ];
        let file = [key("a", "leaked"), key("c", "leaked before"), key("b", "old"), key("d", "fresh")].map(Arc::new);
        ring.replace(&rows, &file);
        assert_eq!(standing(&ring, "leaked", 0), Some(Standing::Revoked));
        assert_eq!(standing(&ring, "leaked before", 0), Some(Standing::Revoked));
        assert_eq!(standing(&ring, "old", 99), Some(Standing::Valid));
        assert_eq!(standing(&ring, "old", 100), Some(Standing::Replaced));
        assert_eq!(standing(&ring, "new", 100), Some(Standing::Valid));
        assert_eq!(standing(&ring, "fresh", 100), Some(Standing::Valid));
    }

    #[test]
    fn of_a_secret_that_both_know_the_file_says_whose_it_is() {
        let ring = KeyRing::default();
        let moved = Key { team: "ads".into(), ..key("a", "secret") };
        ring.replace(&[stored(key("a", "secret"), &[], false)], &[Arc::new(moved)]);
        assert_eq!(ring.find("secret").unwrap().key.team.as_str(), "ads");
    }

    #[test]
    fn the_last_use_outlives_the_ring_and_is_one_for_all_secrets() {
        let ring = KeyRing::default();
        ring.replace(&[stored(key("a", "first"), &[], false)], &[]);
        assert!(ring.uses(at(0)).is_empty());
        let held = ring.find("first").unwrap();
        held.note_use(at(70));
        ring.replace(&[stored(key("a", "second"), &[("first", 900)], false)], &[]);
        // A request that began with the ring before.
        held.note_use(at(71));
        assert_eq!(ring.uses(at(71)), [("a".into(), at(71))]);
        ring.find("second").unwrap().note_use(at(80));
        held.note_use(at(79));
        assert_eq!(ring.uses(at(0)), [("a".into(), at(80))]);
        assert!(ring.uses(at(81)).is_empty());
    }
}
