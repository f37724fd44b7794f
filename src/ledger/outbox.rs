//! Messages to operators that have not been delivered, and what has been told already: one redb file in the journal's
//! folder. What is put there is delivered at least once, whatever ends the process.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

/// Messages by their number.
const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages.v1");
/// Marks with the second since 1970 from which they mean nothing any more.
const MARKS: TableDefinition<'_, &str, i64> = TableDefinition::new("marks.v1");
const FILE: &str = "notices.redb";
/// The most messages that wait: a receiver that never answers must not fill the disk.
pub const MOST: u64 = 10_000;

/// Why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file failed.
    #[error("the outbox of notices failed: {0}")]
    Store(#[from] Box<redb::Error>),
    /// Too much waits.
    #[error("{MOST} notices wait already, so this one is not kept")]
    Full,
}

fn failed(error: impl Into<redb::Error>) -> OutboxError {
    OutboxError::Store(Box::new(error.into()))
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub number: u64,
    /// What tells its receiver: never the address, which may have a secret in it.
    pub receiver: String,
    /// When it was put here, in seconds since 1970.
    pub since: i64,
    /// The body.
    pub body: String,
}

/// That something was told, until it means nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What was told.
    pub name: String,
    /// The second since 1970.
    pub until: i64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Outbox {
    database: Database,
}

impl Outbox {
    /// Opens `notices.redb` in the journal's folder, or makes it.
    ///
    /// # Errors
    /// [`OutboxError::Store`] when it cannot be opened.
    pub fn open(journal: &Path) -> Result<Self, OutboxError> {
        std::fs::create_dir_all(journal).map_err(redb::Error::Io).map_err(failed)?;
        let path = journal.join(FILE);
        let database = Database::create(&path).map_err(failed)?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).map_err(redb::Error::Io).map_err(failed)?;
        let write = database.begin_write().map_err(failed)?;
        write.open_table(MESSAGES).map_err(failed)?;
        write.open_table(MARKS).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(Self { database })
    }

    /// Puts a body for each of these receivers, together with the mark that it was told. Marks that mean nothing any
    /// more at `now` (seconds since 1970) are forgotten.
    ///
    /// # Errors
    /// [`OutboxError`]; then nothing is put.
    pub fn put(&self, mark: Option<&Mark>, receivers: &[String], body: &str, now: i64) -> Result<(), OutboxError> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut messages = write.open_table(MESSAGES).map_err(failed)?;
            if messages.len().map_err(failed)? >= MOST {
                return Err(OutboxError::Full);
            }
            let last = messages.last().map_err(failed)?.map(|(number, _)| number.value());
            let first = last.map_or(0, |last| last + 1);
            for (number, receiver) in (first..).zip(receivers) {
                let row = serde_json::json!({"receiver": receiver, "since": now, "body": body}).to_string();
                messages.insert(number, row.as_bytes()).map_err(failed)?;
            }
            let mut marks = write.open_table(MARKS).map_err(failed)?;
            marks.retain(|_, until| until > now).map_err(failed)?;
            if let Some(mark) = mark {
                marks.insert(mark.name.as_str(), mark.until).map_err(failed)?;
            }
        }
        write.commit().map_err(failed)
    }

    /// All messages that wait, the oldest first.
    ///
    /// # Errors
    /// [`OutboxError::Store`].
    pub fn waiting(&self) -> Result<Vec<Message>, OutboxError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(MESSAGES).map_err(failed)?;
        let mut waiting = Vec::new();
        for row in table.iter().map_err(failed)? {
            let (number, bytes) = row.map_err(failed)?;
            let row: serde_json::Value = serde_json::from_slice(bytes.value()).unwrap_or_default();
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let since = row["since"].as_i64().unwrap_or_default();
            waiting.push(Message { number: number.value(), receiver: text("receiver"), since, body: text("body") });
        }
        Ok(waiting)
    }

    /// What has been told and still means something.
    ///
    /// # Errors
    /// [`OutboxError::Store`].
    pub fn marks(&self) -> Result<Vec<Mark>, OutboxError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(MARKS).map_err(failed)?;
        let mut marks = Vec::new();
        for row in table.iter().map_err(failed)? {
            let (name, until) = row.map_err(failed)?;
            marks.push(Mark { name: name.value().to_owned(), until: until.value() });
        }
        Ok(marks)
    }

    /// Takes these messages out: they were delivered, or never will be.
    ///
    /// # Errors
    /// [`OutboxError::Store`].
    pub fn take_out(&self, numbers: &[u64]) -> Result<(), OutboxError> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut messages = write.open_table(MESSAGES).map_err(failed)?;
            for number in numbers {
                messages.remove(number).map_err(failed)?;
            }
        }
        write.commit().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_marks_outlive_the_process_until_they_are_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let mark = |name: &str, until| Mark { name: name.into(), until };
        outbox.put(Some(&mark("a", 200)), &["x".into(), "y".into()], "{}", 100).unwrap();
        drop(outbox);
        let outbox = Outbox::open(folder.path()).unwrap();
        let waiting = outbox.waiting().unwrap();
        assert_eq!(waiting.iter().map(|message| message.receiver.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((waiting[0].since, waiting[0].body.as_str()), (100, "{}"));
        assert_eq!(outbox.marks().unwrap(), [mark("a", 200)]);
        outbox.take_out(&[waiting[0].number]).unwrap();
        assert_eq!(outbox.waiting().unwrap().len(), 1);
        // The next one does not take a number that is in use, and a mark that is over goes.
        outbox.put(Some(&mark("b", 300)), &["z".into()], "{}", 250).unwrap();
        assert_eq!(outbox.waiting().unwrap().len(), 2);
        assert_eq!(outbox.marks().unwrap(), [mark("b", 300)]);
    }
}
