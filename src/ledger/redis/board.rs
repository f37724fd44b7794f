//! The board: rows about what operators did (a key, a raise, a switch), which all gateways know within a second.
//!
//! The store keeps the newest row of each name and a number for every change, so that one small call, four times a
//! second, asks what is new. Every node has all of it on its own disk too, and reads only that: the store carries news.
//! Two rows of one name are merged by whoever meets both, the same way whichever came first, and go up only over what
//! was read; so gateways agree in the end, whatever was lost or came late. A store that came back empty, or with older
//! data, is filled again by everyone who knows more.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::redis::{Cmd, Value};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use uuid::Uuid;

use super::{
    edits::{self, Moves},
    keeper::{Broken, errand},
    link::{Live, Standing},
    outgoing::Outgoing,
    protocol::Unknown,
    scripts::{Script, Wire},
    store::{Inner, Store},
    words::Words,
};
use crate::ledger::row::edits::{EditRow, WindowRow};

/// How often it is asked what is new.
const EVERY: Duration = Duration::from_millis(250);
/// Acts in one call.
const PAGE: usize = 200;
/// One item that two gateways change all the time is given up so soon; the next look finds it.
const TRIES: usize = 8;

/// One row under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The name, which begins with the kind (`key/k7Qm2x`).
    pub name: String,
    /// The row.
    pub row: Vec<u8>,
}

/// Why this node's own items cannot be read or written, in words for operators.
#[derive(Debug, thiserror::Error)]
#[error("what operators did cannot be kept: {0}")]
pub struct Unkept(pub String);

/// The items as this node keeps them. It may wait for a disk.
pub trait Keeping: Send + Sync + 'static {
    /// All that others are to know.
    ///
    /// # Errors
    /// [`Unkept`].
    fn all(&self) -> Result<Vec<Item>, Unkept>;

    /// Those of these names that there are.
    ///
    /// # Errors
    /// [`Unkept`].
    fn find(&self, names: &BTreeSet<String>) -> Result<Vec<Item>, Unkept>;

    /// Edits that moved fences into windows that are open now.
    fn edits(&self) -> Vec<EditRow>;

    /// Takes an edit over, or counts again what it moves; gives the name of its item.
    ///
    /// # Errors
    /// [`Unkept`].
    fn edit(&self, window: WindowRow) -> Result<String, Unkept>;

    /// Takes in what others say and puts it in force. For each row of which this node knows more: its place in
    /// `theirs`, and what both amount to (nothing when it is over and done with).
    ///
    /// # Errors
    /// [`Unkept`].
    fn merge(&self, theirs: &[Item]) -> Result<Vec<(usize, Vec<u8>)>, Unkept>;
}

/// A node's side of the board.
#[derive(Default)]
pub(super) struct Board {
    keeping: OnceLock<Arc<dyn Keeping>>,
    outgoing: Outgoing,
    wake: Notify,
    /// What is here is all that there is.
    whole: watch::Sender<bool>,
    task: OnceLock<AbortHandle>,
}

impl Board {
    /// The edits that this node knows of.
    pub(super) fn edits(&self) -> Vec<EditRow> {
        self.keeping.get().map(|keeping| keeping.edits()).unwrap_or_default()
    }

    pub(super) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Store {
    /// Shares the items of `keeping` with the other gateways from now on. Only the first call counts; to be made
    /// within a runtime.
    pub fn share(&self, keeping: Arc<dyn Keeping>) {
        let inner = self.inner();
        if inner.board.keeping.set(Arc::clone(&keeping)).is_ok() {
            let task = tokio::spawn(keep(Arc::clone(inner), keeping));
            let _ = inner.board.task.set(task.abort_handle());
        }
    }

    /// Says that the items of these names have changed here.
    pub fn post(&self, names: impl IntoIterator<Item = String>) {
        let board = &self.inner().board;
        board.outgoing.add(names);
        board.wake.notify_one();
    }

    /// Whether all that was posted so far is in the store; waits for it while that answers, at most for `most`.
    pub async fn is_posted(&self, most: Duration) -> bool {
        let most = if self.is_up() { most } else { Duration::ZERO };
        timeout(most, self.inner().board.outgoing.is_there()).await.is_ok()
    }

    /// Whether this node knows all that the store does: what it does not know is nowhere.
    pub fn knows_all(&self) -> bool {
        *self.inner().board.whole.borrow() && self.is_up()
    }

    /// Waits until it does, at most for `most`; whether it does.
    pub async fn wait_whole(&self, most: Duration) -> bool {
        let mut whole = self.inner().board.whole.subscribe();
        matches!(timeout(most, whole.wait_for(|whole| *whole)).await, Ok(Ok(_)))
    }
}

/// Keeps the board as long as the task lives.
async fn keep(inner: Arc<Inner>, keeping: Arc<dyn Keeping>) {
    let mut standing = inner.link.watch();
    loop {
        let live = match standing.wait_for(|standing| matches!(standing, Standing::Up(_))).await.as_deref() {
            Ok(Standing::Up(live)) => Arc::clone(live),
            Ok(_) => continue,
            Err(_) => return,
        };
        let desk = Desk { inner: &inner, keeping: &keeping, live: &live };
        let error = desk.follow(&mut Moves::default()).await;
        inner.board.whole.send_replace(false);
        tracing::debug!(cause = error.0, "what operators do at other gateways is not heard");
        sleep(EVERY).await;
    }
}

/// How far this node has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    board: String,
    number: u64,
}

/// A look at the board.
struct Page {
    /// Everything was asked for, or must be.
    from_the_beginning: bool,
    at: Place,
    items: Vec<Item>,
}

/// The work over one connection.
struct Desk<'a> {
    inner: &'a Arc<Inner>,
    keeping: &'a Arc<dyn Keeping>,
    live: &'a Arc<Live>,
}

impl Desk<'_> {
    /// Reads and writes until the connection fails.
    async fn follow(&self, moves: &mut Moves) -> Broken {
        let mut at = match self.everything().await {
            Ok(at) => at,
            Err(error) => return error,
        };
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.inner.board.wake.notified() => {}
                _ = tick.tick() => {}
            }
            match self.look(at).await {
                Ok(now) => at = now,
                Err(error) => return error,
            }
            if let Err(error) = self.edit(moves).await {
                return error;
            }
        }
    }

    /// Finds edits of budgets, and moves what is due.
    async fn edit(&self, moves: &mut Moves) -> Result<(), Broken> {
        let mut windows = edits::search(self.inner, self.live, moves).await?;
        windows.extend(edits::send(self.inner, self.live, moves, self.keeping.edits()).await?);
        for window in windows {
            let keeping = Arc::clone(self.keeping);
            let name = self.here(move || keeping.edit(window)).await?;
            self.put_up(BTreeSet::from([name])).await?;
        }
        Ok(())
    }

    /// Sends what has changed here and takes in what has changed elsewhere.
    async fn look(&self, at: Place) -> Result<Place, Broken> {
        let outgoing = &self.inner.board.outgoing;
        let (changed, changes) = outgoing.take();
        if !changed.is_empty()
            && let Err(error) = self.put_up(changed.clone()).await
        {
            outgoing.put_back(changed);
            return Err(error);
        }
        outgoing.done(changes);
        let mut at = at;
        loop {
            let page = self.pull(&at).await?;
            if page.from_the_beginning && at != Place::default() {
                return self.everything().await;
            }
            let is_last = page.items.len() < PAGE;
            self.take_in(&page.items).await?;
            at = page.at;
            if is_last {
                return Ok(at);
            }
        }
    }

    /// Compares all that is here with all that is there, both ways.
    async fn everything(&self) -> Result<Place, Broken> {
        self.put(&[]).await?;
        let (mut at, mut names) = (Place::default(), BTreeSet::new());
        loop {
            let page = self.pull(&at).await?;
            if page.from_the_beginning && at.number > 0 {
                return Err(Broken("its items have changed altogether".to_owned()));
            }
            let is_last = page.items.len() < PAGE;
            self.take_in(&page.items).await?;
            names.extend(page.items.into_iter().map(|item| item.name));
            at = page.at;
            if is_last {
                break;
            }
        }
        let keeping = Arc::clone(self.keeping);
        let mut missing = self.here(move || keeping.all()).await?;
        missing.retain(|item| !names.contains(&item.name));
        for page in missing.chunks(PAGE) {
            let new: Vec<_> = page.iter().map(|item| (item.name.as_str(), &[][..], item.row.as_slice())).collect();
            let others = self.put(&new).await?;
            self.put_up(others).await?;
        }
        self.inner.board.whole.send_replace(true);
        Ok(at)
    }

    /// Takes in what others say, and answers where this node knows more.
    async fn take_in(&self, theirs: &[Item]) -> Result<(), Broken> {
        if theirs.is_empty() {
            return Ok(());
        }
        let (keeping, rows) = (Arc::clone(self.keeping), theirs.to_vec());
        let more = self.here(move || keeping.merge(&rows)).await?;
        let corrected = more.iter().filter_map(|(index, row)| {
            let theirs = theirs.get(*index)?;
            Some((theirs.name.as_str(), theirs.row.as_slice(), row.as_slice()))
        });
        let others = self.put(&corrected.collect::<Vec<_>>()).await?;
        Box::pin(self.put_up(others)).await
    }

    /// Puts up what is here under these names, merged with what is there.
    async fn put_up(&self, mut names: BTreeSet<String>) -> Result<(), Broken> {
        for _ in 0..TRIES {
            if names.is_empty() {
                return Ok(());
            }
            let theirs = self.read(&names).await?;
            let (keeping, wanted) = (Arc::clone(self.keeping), std::mem::take(&mut names));
            let (merging, known) = (theirs.clone(), wanted);
            let (more, mine) = self
                .here(move || {
                    let more = keeping.merge(&merging)?;
                    Ok((more, keeping.find(&known)?))
                })
                .await?;
            let mut rows: Vec<(&str, &[u8], &[u8])> = Vec::with_capacity(mine.len());
            for (index, row) in &more {
                if let Some(theirs) = theirs.get(*index) {
                    rows.push((&theirs.name, &theirs.row, row));
                }
            }
            let is_new = |item: &&Item| theirs.iter().all(|theirs| theirs.name != item.name);
            rows.extend(mine.iter().filter(is_new).map(|item| (item.name.as_str(), &[][..], item.row.as_slice())));
            for page in rows.chunks(PAGE) {
                names.extend(self.put(page).await?);
            }
        }
        Ok(())
    }

    /// Runs what may wait for the disk.
    async fn here<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Unkept> + Send + 'static,
    ) -> Result<T, Broken> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|unkept| {
                tracing::error!(%unkept, "what operators do cannot be shared");
                Broken(unkept.to_string())
            }),
            // It panicked, or the runtime ends.
            Err(error) => Err(Broken(error.to_string())),
        }
    }

    async fn call(&self, cmd: &Cmd) -> Result<Value, Broken> {
        errand(&self.live.wire, cmd).await
    }

    async fn put(&self, rows: &[(&str, &[u8], &[u8])]) -> Result<BTreeSet<String>, Broken> {
        let board = Uuid::from_u128(rand::random()).simple().to_string();
        let mut words = Words::of(self.call(&put(&self.live.wire, &board, rows)).await?)?;
        words.text()?;
        let mut others = BTreeSet::new();
        while words.left() > 0 {
            others.insert(words.text()?);
        }
        Ok(others)
    }

    async fn pull(&self, at: &Place) -> Result<Page, Broken> {
        let mut words = Words::of(self.call(&pull(&self.live.wire, at)).await?)?;
        words.text()?;
        let (board, since, number) = (words.text()?, words.number()?, words.number()?);
        let mut items = Vec::with_capacity(words.left() / 2);
        while words.left() > 0 {
            items.push(Item { name: words.text()?, row: words.text()?.into_bytes() });
        }
        let number = u64::try_from(number).map_err(|_| Unknown)?;
        let from_the_beginning = board != at.board || u64::try_from(since).map_err(|_| Unknown)? != at.number;
        Ok(Page { from_the_beginning, at: Place { board, number }, items })
    }

    async fn read(&self, names: &BTreeSet<String>) -> Result<Vec<Item>, Broken> {
        let mut cmd = ::redis::cmd("HMGET");
        cmd.arg(self.live.wire.board_key());
        for name in names {
            cmd.arg(name);
        }
        let rows: Vec<Option<Vec<u8>>> = ::redis::from_redis_value(self.call(&cmd).await?).map_err(|_| Unknown)?;
        let found = names.iter().zip(rows);
        Ok(found.filter_map(|(name, row)| Some(Item { name: name.clone(), row: row? })).collect())
    }
}

fn put(wire: &Wire, board: &str, rows: &[(&str, &[u8], &[u8])]) -> Cmd {
    let mut cmd = wire.call(Script::Post);
    cmd.arg(board);
    for (name, before, row) in rows {
        cmd.arg(*name).arg(*before).arg(*row);
    }
    cmd
}

fn pull(wire: &Wire, at: &Place) -> Cmd {
    let mut cmd = wire.call(Script::Pull);
    cmd.arg(&at.board).arg(at.number).arg(PAGE);
    cmd
}
