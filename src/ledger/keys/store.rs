//! The file of client keys: rows, acts and last uses, in one redb file that belongs to one process.

use std::{collections::HashMap, path::Path};

use jiff::Timestamp;
use redb::{
    Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, TableHandle, WriteTransaction,
};

use super::{KeyAct, KeySnapshot, KeyStoreError, StoredKey};
use crate::base::names::KeyId;

/// Rows of version 1: fields up to `explain`. They are moved to [`KEYS`] when the file is opened.
const KEYS_1: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys.v1");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys.v2");
/// By the act's id, which begins with its time.
const ACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("key_acts.v1");
/// Seconds since 1970 by the key's id; apart from the rows, since a use is no change of the key.
const USES: TableDefinition<'_, &str, i64> = TableDefinition::new("key_uses.v1");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("key_numbers.v1");
const REVISION: &str = "revision";
const FILE: &str = "keys.redb";

fn failed(error: impl Into<redb::Error>) -> KeyStoreError {
    KeyStoreError::Store(Box::new(error.into()))
}

/// The keys created with `turnpike key create`, what was done to them, and when they were last used.
#[derive(Debug)]
pub struct KeyStore {
    database: Database,
}

impl KeyStore {
    /// Whether there is a store in the journal's folder.
    pub fn is_in(journal: &Path) -> bool {
        journal.join(FILE).exists()
    }

    /// Opens `keys.redb` in the journal's folder, making both if need be.
    ///
    /// # Errors
    /// [`KeyStoreError::InUse`] when another process has it, [`KeyStoreError::Unreadable`] when it is damaged or may not be
    /// opened.
    pub fn open(journal: &Path) -> Result<Self, KeyStoreError> {
        std::fs::create_dir_all(journal).map_err(redb::Error::Io).map_err(failed)?;
        let path = journal.join(FILE);
        let database = Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => KeyStoreError::InUse(path.display().to_string()),
            other => KeyStoreError::Unreadable { path: path.display().to_string(), cause: Box::new(other.into()) },
        })?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).map_err(redb::Error::Io).map_err(failed)?;
        let store = Self { database };
        if !store.is_current()? {
            store.make_current()?;
        }
        Ok(store)
    }

    fn is_current(&self) -> Result<bool, KeyStoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let names: Vec<String> = read.list_tables().map_err(failed)?.map(|table| table.name().to_owned()).collect();
        let has = |name: &str| names.iter().any(|other| other == name);
        Ok([KEYS.name(), ACTS.name(), USES.name(), NUMBERS.name()].into_iter().all(has) && !has(KEYS_1.name()))
    }

    /// Makes the tables that are missing and moves rows of version 1, all or nothing.
    fn make_current(&self) -> Result<(), KeyStoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut tables = Tables::open(&write)?;
            write.open_table(USES).map_err(failed)?;
            let old = write.open_table(KEYS_1).map_err(failed)?;
            for row in old.iter().map_err(failed)? {
                let (id, bytes) = row.map_err(failed)?;
                let damaged = || KeyStoreError::Damaged(id.value().to_owned());
                tables.put(&StoredKey::from_bytes(bytes.value()).ok_or_else(damaged)?)?;
            }
            tables.advance()?;
        }
        write.delete_table(KEYS_1).map_err(failed)?;
        write.commit().map_err(failed)
    }

    /// Runs `work` on the tables; what it did is on disk on return, and undone if it failed.
    pub(super) fn change<T, E: From<KeyStoreError>>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let write = self.database.begin_write().map_err(failed)?;
        let done = work(&mut Tables::open(&write)?)?;
        write.commit().map_err(failed)?;
        Ok(done)
    }

    /// All rows, with the revision they make up.
    ///
    /// # Errors
    /// [`KeyStoreError::Damaged`] for a row that cannot be read, [`KeyStoreError::Store`] for a file that cannot.
    pub fn export(&self) -> Result<KeySnapshot, KeyStoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let revision = read.open_table(NUMBERS).map_err(failed)?.get(REVISION).map_err(failed)?;
        let table = read.open_table(KEYS).map_err(failed)?;
        let rows = table.iter().map_err(failed)?.map(|row| {
            let (id, bytes) = row.map_err(failed)?;
            StoredKey::from_bytes(bytes.value()).ok_or_else(|| KeyStoreError::Damaged(id.value().to_owned()))
        });
        Ok(KeySnapshot { revision: revision.map_or(0, |number| number.value()), keys: rows.collect::<Result<_, _>>()? })
    }

    /// The rows of those keys; unknown ones have none.
    ///
    /// # Errors
    /// As [`Self::export`].
    pub fn find<'i>(&self, ids: impl IntoIterator<Item = &'i str>) -> Result<Vec<StoredKey>, KeyStoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(KEYS).map_err(failed)?;
        let mut rows = Vec::new();
        for id in ids {
            if let Some(bytes) = table.get(id).map_err(failed)? {
                let row = StoredKey::from_bytes(bytes.value());
                rows.push(row.ok_or_else(|| KeyStoreError::Damaged(id.to_owned()))?);
            }
        }
        Ok(rows)
    }

    /// Takes in rows and acts from another store. For each key the row that [`StoredKey::merged`] chooses is kept;
    /// acts that are known are passed over. The ids of the keys that changed.
    ///
    /// # Errors
    /// [`KeyStoreError::Damaged`] and [`KeyStoreError::Store`]; nothing was taken in then.
    pub fn import(&self, keys: &[StoredKey], acts: &[KeyAct]) -> Result<Vec<KeyId>, KeyStoreError> {
        self.change(|tables| {
            let mut changed = Vec::new();
            for theirs in keys {
                let ours = tables.get(&theirs.key.id)?;
                let before = ours.as_ref().map(StoredKey::to_bytes);
                let merged = ours.into_iter().fold(theirs.clone(), StoredKey::merged);
                if before.as_ref() != Some(&merged.to_bytes()) {
                    tables.put(&merged)?;
                    changed.push(merged.key.id);
                }
            }
            for act in acts {
                tables.book(act)?;
            }
            if !changed.is_empty() {
                tables.advance()?;
            }
            Ok(changed)
        })
    }

    /// What was done to `key`, or to all keys, the oldest first.
    ///
    /// # Errors
    /// As [`Self::export`].
    pub fn acts(&self, key: Option<&str>) -> Result<Vec<KeyAct>, KeyStoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(ACTS).map_err(failed)?;
        let mut acts = Vec::new();
        for row in table.iter().map_err(failed)? {
            let (id, bytes) = row.map_err(failed)?;
            let damaged = || KeyStoreError::Damaged(id.value().to_owned());
            let act = KeyAct::from_bytes(bytes.value()).ok_or_else(damaged)?;
            if key.is_none_or(|key| act.key.as_str() == key) {
                acts.push(act);
            }
        }
        Ok(acts)
    }

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// [`KeyStoreError::Store`] when the file cannot be written.
    pub fn note_uses(&self, uses: &[(KeyId, Timestamp)]) -> Result<(), KeyStoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        let mut is_new = false;
        {
            let mut table = write.open_table(USES).map_err(failed)?;
            for (id, at) in uses {
                let known = table.get(id.as_str()).map_err(failed)?.map(|second| second.value());
                if known.is_none_or(|known| known < at.as_second()) {
                    table.insert(id.as_str(), at.as_second()).map_err(failed)?;
                    is_new = true;
                }
            }
        }
        // A commit waits for the disk, which need not turn for nothing.
        if is_new { write.commit().map_err(failed) } else { write.abort().map_err(failed) }
    }

    /// When keys were last used, to the second.
    ///
    /// # Errors
    /// [`KeyStoreError::Store`] when the file cannot be read.
    pub fn uses(&self) -> Result<HashMap<KeyId, Timestamp>, KeyStoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = match read.open_table(USES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(HashMap::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut uses = HashMap::new();
        for row in table.iter().map_err(failed)? {
            let (id, second) = row.map_err(failed)?;
            // A damaged instant is a use that is not known; nothing depends on it.
            uses.extend(Timestamp::from_second(second.value()).ok().map(|at| (KeyId::from(id.value()), at)));
        }
        Ok(uses)
    }
}

/// The tables while they are written.
pub(super) struct Tables<'t> {
    keys: Table<'t, &'static str, &'static [u8]>,
    acts: Table<'t, &'static str, &'static [u8]>,
    numbers: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn open(write: &'t WriteTransaction) -> Result<Self, KeyStoreError> {
        Ok(Self {
            keys: write.open_table(KEYS).map_err(failed)?,
            acts: write.open_table(ACTS).map_err(failed)?,
            numbers: write.open_table(NUMBERS).map_err(failed)?,
        })
    }

    /// The row of a key.
    pub(super) fn get(&self, id: &str) -> Result<Option<StoredKey>, KeyStoreError> {
        let Some(bytes) = self.keys.get(id).map_err(failed)? else { return Ok(None) };
        let stored = StoredKey::from_bytes(bytes.value());
        stored.map(Some).ok_or_else(|| KeyStoreError::Damaged(id.to_owned()))
    }

    /// Writes a row.
    pub(super) fn put(&mut self, stored: &StoredKey) -> Result<(), KeyStoreError> {
        let bytes = stored.to_bytes();
        self.keys.insert(stored.key.id.as_str(), bytes.as_slice()).map(|_| ()).map_err(failed)
    }

    /// Writes an act.
    pub(super) fn book(&mut self, act: &KeyAct) -> Result<(), KeyStoreError> {
        let bytes = act.to_bytes();
        self.acts.insert(&*act.id, bytes.as_slice()).map(|_| ()).map_err(failed)
    }

    /// Begins the next revision.
    pub(super) fn advance(&mut self) -> Result<(), KeyStoreError> {
        let revision = self.numbers.get(REVISION).map_err(failed)?.map_or(0, |number| number.value());
        self.numbers.insert(REVISION, revision + 1).map(|_| ()).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
