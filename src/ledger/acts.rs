//! What operators do, as items that all gateways of one deployment share: keys and acts on them, raises, switches.
//!
//! Each is kept here first (`keys.redb`, the journal) and read from here only.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::{
    Books, Ledger,
    keys::{KeyAct, KeyStore, KeyStoreError, StoredKey},
    redis::{Item, Keeping, Store, Unkept},
    row::{
        RaiseRow,
        edits::{EditRow, WindowRow},
        switches::{SwitchKind, SwitchRow},
    },
};

/// How long an operator waits to hear that an act is in the store.
const REACH: Duration = Duration::from_secs(2);

/// What has come from other gateways and is in force.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Keys have changed.
    pub keys: bool,
    /// What was switched.
    pub switched: Vec<SwitchRow>,
}

/// See the module's text.
pub struct Acts {
    keys: Arc<KeyStore>,
    books: Arc<Books>,
    told: Box<dyn Fn(&News) + Send + Sync>,
}

/// The names of items: what one item is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject<'a> {
    Key(&'a str),
    /// The id of the key, then the act's own.
    KeyAct(&'a str, &'a str),
    Raise(&'a str),
    Switch(SwitchKind, &'a str),
    /// The fence's id.
    Window(&'a str),
}

impl<'a> Subject<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (kind, rest) = name.split_once('/')?;
        match kind {
            "key" => Some(Self::Key(rest)),
            // The act's own id has no slash; the key's comes from a file and may.
            "act" => rest.rsplit_once('/').map(|(key, act)| Self::KeyAct(key, act)),
            "raise" => Some(Self::Raise(rest)),
            "window" => Some(Self::Window(rest)),
            "switch" => {
                let (kind, name) = rest.split_once('/')?;
                let kind = SwitchKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
                Some(Self::Switch(kind, name))
            }
            // A later release's.
            _ => None,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Key(id) => format!("key/{id}"),
            Self::KeyAct(key, act) => format!("act/{key}/{act}"),
            Self::Raise(id) => format!("raise/{id}"),
            Self::Window(fence) => format!("window/{fence}"),
            Self::Switch(kind, name) => format!("switch/{}/{name}", kind.as_str()),
        }
    }
}

/// The name of a key's item; its acts go with it.
fn of_key(id: &str) -> String {
    Subject::Key(id).name()
}

/// The name of a raise's.
fn of_raise(row: &RaiseRow) -> String {
    Subject::Raise(&row.id.to_string()).name()
}

/// The name of a switch's.
fn of_switch(row: &SwitchRow) -> String {
    Subject::Switch(row.kind, &row.name).name()
}

fn key(stored: &StoredKey) -> Item {
    Item { name: of_key(&stored.key.id), row: stored.to_bytes() }
}

fn key_act(act: &KeyAct) -> Item {
    Item { name: Subject::KeyAct(&act.key, &act.id).name(), row: act.to_bytes() }
}

fn raise(row: &RaiseRow) -> Item {
    Item { name: of_raise(row), row: serde_json::to_vec(row).unwrap_or_default() }
}

fn switch(row: &SwitchRow) -> Item {
    Item { name: of_switch(row), row: serde_json::to_vec(row).unwrap_or_default() }
}

fn window(row: &WindowRow) -> Item {
    Item { name: Subject::Window(&row.fence).name(), row: serde_json::to_vec(row).unwrap_or_default() }
}

fn read<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    serde_json::from_slice(row).ok()
}

fn unkept(error: &KeyStoreError) -> Unkept {
    Unkept(error.to_string())
}

impl Acts {
    /// The items of a node; `told` puts in force what comes from others.
    pub fn new(keys: Arc<KeyStore>, books: Arc<Books>, told: impl Fn(&News) + Send + Sync + 'static) -> Self {
        Self { keys, books, told: Box::new(told) }
    }

    /// Takes in keys and acts on them; gives what both stores amount to where theirs says less.
    fn merge_keys(&self, theirs: &[Item], news: &mut News) -> Result<Vec<(usize, Vec<u8>)>, Unkept> {
        let mut keys: HashMap<usize, StoredKey> = HashMap::new();
        let mut acts = Vec::new();
        for (index, item) in theirs.iter().enumerate() {
            match Subject::of(&item.name) {
                Some(Subject::Key(id)) => {
                    // A row that says of itself that it is another key's would put that one's place in disorder.
                    let row = StoredKey::from_bytes(&item.row).filter(|row| row.key.id.as_str() == id);
                    keys.extend(row.map(|row| (index, row)));
                }
                Some(Subject::KeyAct(..)) => acts.extend(KeyAct::from_bytes(&item.row)),
                _ => {}
            }
        }
        if keys.is_empty() && acts.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<StoredKey> = keys.values().cloned().collect();
        let changed = self.keys.import(&rows, &acts).map_err(|error| unkept(&error))?;
        news.keys |= !changed.is_empty();
        let ids = keys.values().map(|row| row.key.id.as_str());
        let ours = self.keys.find(ids).map_err(|error| unkept(&error))?;
        let ours: HashMap<&str, &StoredKey> = ours.iter().map(|row| (row.key.id.as_str(), row)).collect();
        // Rows are compared as this release writes them: what a later one adds would go back and forth for ever.
        let more = keys.iter().filter_map(|(index, row)| {
            let ours = ours.get(row.key.id.as_str())?.to_bytes();
            (ours != row.to_bytes()).then_some((*index, ours))
        });
        Ok(more.collect())
    }

    /// Takes in a raise; whether it is long over and can be taken down.
    fn merge_raise(&self, row: RaiseRow, now: Timestamp) -> Result<bool, Unkept> {
        if is_over(Some(row.until_ms), now) {
            return Ok(is_long_over(Some(row.until_ms), now));
        }
        if self.books.raises().find(row.id).is_none() {
            tracing::info!(budget = %row.fence, by = %row.who, "a budget was raised at another gateway");
            self.books.raise(row).map_err(|error| Unkept(error.to_string()))?;
        }
        Ok(false)
    }

    /// Takes in the window that a fence was moved into; gives ours where it is the newer, nothing where theirs is long
    /// over.
    fn merge_window(&self, row: WindowRow, now: Timestamp) -> Result<Option<Vec<u8>>, Unkept> {
        if row.to <= now.as_second() {
            return Ok(is_long_over(Some(row.to.saturating_mul(1000)), now).then(Vec::new));
        }
        match self.books.edit_of(&row.fence) {
            Some(ours) if ours.window == row => Ok(None),
            Some(ours) if ours.window.stands_above(&row) => Ok(Some(window(&ours.window).row)),
            _ => {
                self.books.edit(row).map_err(|error| Unkept(error.to_string()))?;
                Ok(None)
            }
        }
    }

    /// Takes in a switch; gives ours where it is the newer.
    fn merge_switch(&self, row: SwitchRow, news: &mut News) -> Result<Option<Vec<u8>>, Unkept> {
        let ours = self.books.switches().load().newest(row.kind, &row.name).cloned();
        match ours {
            Some(ours) if *ours == row => Ok(None),
            Some(ours) if ours.stands_above(&row) => Ok(Some(switch(&ours).row)),
            _ => {
                self.books.switch(row.clone()).map_err(|error| Unkept(error.to_string()))?;
                news.switched.push(row);
                Ok(None)
            }
        }
    }
}

fn is_over(until_ms: Option<i64>, now: Timestamp) -> bool {
    until_ms.is_some_and(|until| until <= now.as_millisecond())
}

/// A day later everybody's clock says that it is over.
fn is_long_over(until_ms: Option<i64>, now: Timestamp) -> bool {
    until_ms.is_some_and(|until| until.saturating_add(24 * 3600 * 1000) <= now.as_millisecond())
}

impl Keeping for Acts {
    fn all(&self) -> Result<Vec<Item>, Unkept> {
        let mut all: Vec<Item> = self.keys.export().map_err(|error| unkept(&error))?.keys.iter().map(key).collect();
        all.extend(self.keys.acts(None).map_err(|error| unkept(&error))?.iter().map(key_act));
        all.extend(self.books.raises().rows(Timestamp::now()).iter().map(raise));
        all.extend(self.books.switches().load().rows().map(|row| switch(row)));
        all.extend(self.edits().iter().map(|edit| window(&edit.window)));
        Ok(all)
    }

    fn find(&self, names: &BTreeSet<String>) -> Result<Vec<Item>, Unkept> {
        let mut found = Vec::new();
        for name in names {
            match Subject::of(name) {
                Some(Subject::Key(id)) => {
                    found.extend(self.keys.find([id]).map_err(|error| unkept(&error))?.iter().map(key));
                    found.extend(self.keys.acts(Some(id)).map_err(|error| unkept(&error))?.iter().map(key_act));
                }
                Some(Subject::KeyAct(id, act)) => {
                    let acts = self.keys.acts(Some(id)).map_err(|error| unkept(&error))?;
                    found.extend(acts.iter().filter(|known| &*known.id == act).map(key_act));
                }
                Some(Subject::Raise(id)) => {
                    let row = id.parse().ok().and_then(|id| self.books.raises().find(id));
                    found.extend(row.iter().map(raise));
                }
                Some(Subject::Switch(kind, thing)) => {
                    found.extend(self.books.switches().load().newest(kind, thing).map(|row| switch(row)));
                }
                Some(Subject::Window(fence)) => {
                    found.extend(self.books.edit_of(fence).map(|edit| window(&edit.window)));
                }
                None => {}
            }
        }
        Ok(found)
    }

    fn edits(&self) -> Vec<EditRow> {
        self.books.edits(Timestamp::now())
    }

    fn edit(&self, row: WindowRow) -> Result<String, Unkept> {
        let name = Subject::Window(&row.fence).name();
        self.books.edit(row).map_err(|error| Unkept(error.to_string()))?;
        Ok(name)
    }

    fn merge(&self, theirs: &[Item]) -> Result<Vec<(usize, Vec<u8>)>, Unkept> {
        let (mut news, now) = (News::default(), Timestamp::now());
        let mut more = self.merge_keys(theirs, &mut news)?;
        for (index, item) in theirs.iter().enumerate() {
            match Subject::of(&item.name) {
                Some(Subject::Raise(_)) => {
                    let Some(row) = read::<RaiseRow>(&item.row) else { continue };
                    if self.merge_raise(row, now)? {
                        more.push((index, Vec::new()));
                    }
                }
                Some(Subject::Switch(kind, name)) => {
                    let row = read::<SwitchRow>(&item.row).filter(|row| row.kind == kind && *row.name == *name);
                    let Some(row) = row else { continue };
                    more.extend(self.merge_switch(row, &mut news)?.map(|row| (index, row)));
                }
                Some(Subject::Window(fence)) => {
                    let row = read::<WindowRow>(&item.row).filter(|row| *row.fence == *fence);
                    let Some(row) = row else { continue };
                    more.extend(self.merge_window(row, now)?.map(|row| (index, row)));
                }
                _ => {}
            }
        }
        if news.keys || !news.switched.is_empty() {
            (self.told)(&news);
        }
        Ok(more)
    }
}

impl Ledger {
    /// Shares what operators do with the other gateways from now on, if there is a store for it; `told` puts in force
    /// what comes from them. To be called within a runtime.
    pub fn share(&self, keys: Arc<KeyStore>, told: impl Fn(&News) + Send + Sync + 'static) {
        if let Some(store) = self.store() {
            store.share(Arc::new(Acts::new(keys, Arc::clone(self.books()), told)));
        }
    }

    /// Books a raise; it is in force here when this returns, and elsewhere soon after.
    ///
    /// # Errors
    /// The system's error when it cannot be written; then nothing is raised.
    pub fn raise(&self, row: RaiseRow) -> io::Result<()> {
        let name = of_raise(&row);
        self.books().raise(row)?;
        self.post(name);
        Ok(())
    }

    /// Books that something is switched off or on; it is in force here when this returns, and elsewhere soon after.
    ///
    /// # Errors
    /// The system's error when it cannot be written; then nothing is switched.
    pub fn switch(&self, row: SwitchRow) -> io::Result<()> {
        let name = of_switch(&row);
        self.books().switch(row)?;
        self.post(name);
        Ok(())
    }

    /// Says that the key `id` has changed in this node's store.
    pub fn key_changed(&self, id: &str) {
        self.post(of_key(id));
    }

    /// Whether all that was done here so far is in the store that the other gateways read; waits for it a moment. `None`
    /// = there is no such store.
    pub async fn reached(&self) -> Option<bool> {
        match self.store() {
            Some(store) => Some(store.is_posted(REACH).await),
            None => None,
        }
    }

    /// Whether a key that this node does not know is surely none: no other gateway can have made it.
    pub fn knows_all_keys(&self) -> bool {
        self.store().is_none_or(Store::knows_all)
    }

    fn post(&self, name: String) {
        if let Some(store) = self.store() {
            store.post([name]);
        }
    }
}
