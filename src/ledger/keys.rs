//! Client keys: how they are made, stored and found. Only the SHA-256 of a key is ever kept.

use std::{collections::HashMap, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rand::{TryRngCore, rngs::OsRng};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::row::KeyRow;
use crate::base::{
    names::{KeyId, TeamName},
    tenants::Key,
};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys.v1");
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LENGTH: usize = 8;
/// 33 digits to the base 62 carry 196 random bits.
const SECRET_LENGTH: usize = 33;
const CHECKSUM_LENGTH: usize = 6;

/// Why the store of keys failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// Another process has the file.
    #[error("`{0}` is in use by another process")]
    InUse(String),
    /// The file cannot be read or written.
    #[error("the key store failed: {0}")]
    Store(#[from] Box<redb::Error>),
    /// A row is not one of ours.
    #[error("the key store holds a damaged row for key `{0}`")]
    Damaged(String),
    /// The system gives no random bytes.
    #[error("the system's random source failed: {0}")]
    Random(String),
}

fn store_error(error: impl Into<redb::Error>) -> KeyStoreError {
    KeyStoreError::Store(Box::new(error.into()))
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

/// The SHA-256 of a key as clients send it.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The public id inside a key of our own making, `None` for keys brought from elsewhere.
pub fn id_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("tpk_")?;
    let (id, secret) = rest.split_at_checked(ID_LENGTH)?;
    let whole = secret.strip_prefix('_').is_some_and(|secret| secret.len() == SECRET_LENGTH + CHECKSUM_LENGTH);
    whole.then_some(id)
}

/// Makes a key: `tpk_` id `_` secret checksum. The checksum lets scanners of leaked secrets tell it from noise.
///
/// # Errors
/// [`KeyStoreError::Random`] when the system gives no random bytes.
pub fn make(order: &KeyOrder) -> Result<NewKey, KeyStoreError> {
    let (id, secret) = (random_text(ID_LENGTH)?, random_text(SECRET_LENGTH)?);
    let body = format!("tpk_{id}_{secret}");
    let text = format!("{body}{}", checksum(&body));
    let key = Key {
        id: KeyId::from(id),
        team: order.team.clone(),
        hash: hash(&text),
        name: order.name.as_deref().map(Arc::from),
        expires: order.expires,
        explain: order.explain,
    };
    Ok(NewKey { key, secret: text.into() })
}

fn random_text(length: usize) -> Result<String, KeyStoreError> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| KeyStoreError::Random(error.to_string()))?;
        // 248 is the largest multiple of 62 below 256: beyond it the first letters would come up more often.
        let even = bytes.iter().filter(|&&byte| byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(even.map(char::from).take(length - text.len()));
    }
    Ok(text)
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().take(CHECKSUM_LENGTH).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])).collect()
}

/// The keys created with `turnpike key create`, in one redb file that belongs to one process.
#[derive(Debug)]
pub struct KeyStore {
    database: Database,
}

impl KeyStore {
    /// Opens `keys.redb` in the journal's folder, making both if need be.
    ///
    /// # Errors
    /// [`KeyStoreError::InUse`] when another process has it, [`KeyStoreError::Store`] when it cannot be opened.
    pub fn open(journal: &Path) -> Result<Self, KeyStoreError> {
        std::fs::create_dir_all(journal).map_err(redb::Error::Io).map_err(store_error)?;
        let path = journal.join("keys.redb");
        let database = Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => KeyStoreError::InUse(path.display().to_string()),
            other => store_error(other),
        })?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).map_err(redb::Error::Io).map_err(store_error)?;
        Ok(Self { database })
    }

    /// Stores a key; on return it is on disk.
    ///
    /// # Errors
    /// [`KeyStoreError::Store`] when the file cannot be written.
    pub fn insert(&self, key: &Key) -> Result<(), KeyStoreError> {
        let row = KeyRow::from(key).to_bytes();
        let write = self.database.begin_write().map_err(store_error)?;
        {
            let mut table = write.open_table(TABLE).map_err(store_error)?;
            table.insert(key.id.as_str(), row.as_slice()).map_err(store_error)?;
        }
        write.commit().map_err(store_error)
    }

    /// All stored keys.
    ///
    /// # Errors
    /// [`KeyStoreError::Damaged`] for a row that cannot be read, [`KeyStoreError::Store`] for a file that cannot.
    pub fn all(&self) -> Result<Vec<Key>, KeyStoreError> {
        let read = self.database.begin_read().map_err(store_error)?;
        let table = match read.open_table(TABLE) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(store_error(error)),
        };
        let rows = table.iter().map_err(store_error)?;
        rows.map(|row| {
            let (id, bytes) = row.map_err(store_error)?;
            let damaged = || KeyStoreError::Damaged(id.value().to_owned());
            KeyRow::from_bytes(bytes.value()).and_then(KeyRow::into_key).ok_or_else(damaged)
        })
        .collect()
    }
}

/// Keys in memory, by public id and by hash; replaced as a whole.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: ArcSwap<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<KeyId, Arc<Key>>,
    by_hash: HashMap<[u8; 32], Arc<Key>>,
}

impl KeyRing {
    /// Puts `keys` in place of all that were there.
    pub fn replace(&self, keys: impl IntoIterator<Item = Arc<Key>>) {
        let mut index = Index::default();
        for key in keys {
            index.by_hash.insert(key.hash, Arc::clone(&key));
            index.by_id.insert(key.id.clone(), key);
        }
        self.keys.store(Arc::new(index));
    }

    /// The key that `presented` is, if it is one. The hash is compared in constant time; looking a foreign key up by
    /// its hash tells an attacker nothing, since a hash cannot be steered byte by byte.
    pub fn find(&self, presented: &SecretString) -> Option<Arc<Key>> {
        let presented = presented.expose_secret();
        let hash = hash(presented);
        let index = self.keys.load();
        let key = match id_of(presented) {
            Some(id) => index.by_id.get(id).or_else(|| index.by_hash.get(&hash)),
            None => index.by_hash.get(&hash),
        }?;
        bool::from(key.hash.ct_eq(&hash)).then(|| Arc::clone(key))
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.load().by_hash.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> KeyOrder {
        KeyOrder { team: "search".into(), name: Some("ci".into()), expires: None, explain: false }
    }

    #[test]
    fn a_made_key_is_found_by_its_secret_and_by_nothing_else() {
        let made = make(&order()).unwrap();
        let text = made.secret.expose_secret().to_owned();
        assert_eq!(text.len(), 4 + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH);
        let ring = KeyRing::default();
        ring.replace([Arc::new(made.key.clone())]);
        assert_eq!(ring.find(&made.secret).unwrap().id, made.key.id);
        let mut wrong = text.into_bytes();
        let last = wrong.len() - 1;
        wrong[last] = if wrong[last] == b'a' { b'b' } else { b'a' };
        assert!(ring.find(&String::from_utf8(wrong).unwrap().into()).is_none());
    }

    #[test]
    fn a_key_brought_from_elsewhere_is_found_by_its_hash() {
        let ring = KeyRing::default();
        let key = Key { hash: hash("sk-from-elsewhere"), ..make(&order()).unwrap().key };
        ring.replace([Arc::new(key)]);
        assert!(ring.find(&"sk-from-elsewhere".to_owned().into()).is_some());
        assert!(ring.find(&"sk-from-nowhere".to_owned().into()).is_none());
    }

    #[test]
    fn stored_keys_outlive_the_process_and_the_file_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let made = make(&order()).unwrap();
        let store = KeyStore::open(folder.path()).unwrap();
        assert!(store.all().unwrap().is_empty());
        store.insert(&made.key).unwrap();
        assert!(matches!(KeyStore::open(folder.path()), Err(KeyStoreError::InUse(_))));
        drop(store);
        let again = KeyStore::open(folder.path()).unwrap().all().unwrap();
        assert_eq!((again.len(), again[0].hash), (1, made.key.hash));
        assert_eq!(again[0].name.as_deref(), Some("ci"));
    }
}
