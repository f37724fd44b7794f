//! The index of the journal: checkpoints in one redb file, which also says whose the folder is.
//!
//! Nothing is only here. A file that is gone or damaged costs the time to read the journal from its beginning.

use std::path::Path;

use redb::{Database, ReadOnlyDatabase, ReadableDatabase, TableDefinition};

use super::{BooksError, row::Checkpoint};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("checkpoint.v1");
const LAST: &str = "last";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Index {
    database: Database,
}

impl Index {
    /// Opens `index.redb` in the journal's folder, or makes it; a damaged one is put aside.
    pub(super) fn open(folder: &Path) -> Result<Self, BooksError> {
        let path = folder.join("index.redb");
        let database = match Database::create(&path) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(BooksError::InUse(folder.display().to_string()));
            }
            Err(error) => {
                tracing::warn!(%error, "the index of the journal is damaged and made anew");
                std::fs::rename(&path, folder.join("index.damaged"))?;
                Database::create(&path).map_err(redb::Error::from).map_err(Box::new)?
            }
        };
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only)?;
        Ok(Self { database })
    }

    /// The last checkpoint, if there is a readable one.
    pub(super) fn last(&self) -> Option<Checkpoint> {
        let read = self.database.begin_read().ok()?;
        let table = read.open_table(TABLE).ok()?;
        let bytes = table.get(LAST).ok()??;
        serde_json::from_slice(bytes.value()).ok()
    }

    /// The last checkpoint of a folder whose gateway is not running. Changes nothing.
    pub(super) fn peek(folder: &Path) -> Result<Option<Checkpoint>, BooksError> {
        let database = match ReadOnlyDatabase::open(folder.join("index.redb")) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(BooksError::InUse(folder.display().to_string()));
            }
            // None yet, or one that its owner did not close well: the journal says it all.
            Err(_) => return Ok(None),
        };
        let Ok(read) = database.begin_read() else { return Ok(None) };
        let Ok(table) = read.open_table(TABLE) else { return Ok(None) };
        let bytes = table.get(LAST).ok().flatten();
        Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes.value()).ok()))
    }

    /// Puts `checkpoint` in place of the last one.
    pub(super) fn put(&self, checkpoint: &Checkpoint) -> Result<(), BooksError> {
        let bytes = serde_json::to_vec(checkpoint).map_err(std::io::Error::from)?;
        let written = (|| -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            write.open_table(TABLE)?.insert(LAST, bytes.as_slice())?;
            write.commit()?;
            Ok(())
        })();
        written.map_err(|error| BooksError::Index(Box::new(error)))
    }
}
