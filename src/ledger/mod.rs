//! Layer 3: holds, settlement, books, and the store of client keys.
//!
//! A request takes one [`Hold`] before it is dispatched and ends it in exactly one settlement, whatever happens: a
//! hold that is dropped settles what had been charged to it. [`fences`](crate::base::fences) say what is counted and
//! against which cap; [`Balances`](balances::Balances) are what stands against them; [`Books`](books::Books) write
//! everything down first.

pub mod acts;
pub mod balances;
pub mod books;
mod hold;
mod index;
pub mod journal;
pub mod keys;
pub mod outbox;
pub mod raises;
pub mod redis;
mod rents;
pub mod report;
pub mod row;
pub mod switches;
pub mod window;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::base::{
    fences::{Fence, Unit},
    money::Money,
    store::RedisConfig,
};
use balances::{Level, Place, Short};
use books::Shared;
pub use books::{Books, BooksError, Recovery, Rented, mirror_folder};
pub use hold::{Demand, Hold, HoldError, Order, Raised, Refused, Settled, TopUp};
use redis::{Release, SILENT, Store, Terms};
use row::{ReleaseRow, Row};

/// When a hold of which nothing more is heard is taken for dead: longer than any attempt may last.
const HOLD_TTL: Duration = Duration::from_secs(15 * 60);

/// Budgets, limits and holds, and the books of what became of them.
#[derive(Debug, Default)]
pub struct Ledger {
    books: Arc<Books>,
    /// Where holds are counted, unless it is in the books.
    store: Option<Store>,
    open: AtomicI64,
}

impl Ledger {
    /// The ledger of one machine, with its books in `folder`.
    ///
    /// # Errors
    /// [`BooksError`] when the books cannot be opened.
    pub fn embedded(folder: &Path, now: Timestamp) -> Result<(Self, Recovery), BooksError> {
        Self::at_rest(folder, false, now)
    }

    /// The books in `folder` while no gateway runs over them. `shared`: it counts in a store with others, of which
    /// nothing is known here; what is booked here goes there when it runs.
    ///
    /// # Errors
    /// [`BooksError`] when the books cannot be opened.
    pub fn at_rest(folder: &Path, shared: bool, now: Timestamp) -> Result<(Self, Recovery), BooksError> {
        let (books, recovery) = if shared { Books::open_shared(folder, now)? } else { Books::open(folder, now)? };
        Ok((Self { books, store: None, open: AtomicI64::new(0) }, recovery))
    }

    /// The ledger of one gateway of several that count in one Redis, with its own books in `folder`. To be called
    /// within a runtime; the store is away until it is connected.
    ///
    /// # Errors
    /// [`BooksError`] when the books cannot be opened.
    pub fn redis(folder: &Path, config: RedisConfig, now: Timestamp) -> Result<(Self, Recovery), BooksError> {
        let (books, recovery) = Books::open_shared(folder, now)?;
        let shared = Shared::new(Arc::clone(&books), folder)?;
        let store = Some(Store::start(config, Arc::new(shared)));
        Ok((Self { books, store, open: AtomicI64::new(0) }, recovery))
    }

    /// The store that is shared with other gateways; `None` when the books are all there is.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// The books of this node.
    pub fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// Sets what `order` asks for aside in all its fences: all or none.
    ///
    /// # Errors
    /// [`HoldError::Refused`] names the first fence that has less left, [`HoldError::Journal`] says that nothing can
    /// be booked.
    pub async fn hold(self: &Arc<Self>, order: Order, now: Timestamp) -> Result<Hold, HoldError> {
        let fences = self.in_force(&order.fences, now);
        let until = now.checked_add(HOLD_TTL).unwrap_or(Timestamp::MAX);
        let places = match &self.store {
            None => self.take(&[], fences, order.demand, now, |_| true)?,
            Some(store) => {
                let about = serde_json::to_string(&hold::hold_row(&order, &[], now, until)).unwrap_or_default();
                let terms = Terms {
                    team: Arc::clone(&order.about.team),
                    about: about.into(),
                    on_store_loss: order.on_store_loss,
                    revision: order.revision,
                };
                // Boxed: without a shared store no request's future should have room for it.
                Box::pin(store.hold(order.request, terms, order.demand, &fences, now)).await?
            }
        };
        if let Err(error) = self.books.begin(hold::hold_row(&order, &places, now, until)) {
            match &self.store {
                None => self.books.give_back(&places),
                Some(store) => store.abandon(order.request),
            }
            return Err(HoldError::Journal(Arc::new(error)));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Hold::new(Arc::clone(self), &order, places, now))
    }

    async fn top_up(
        &self,
        request: Uuid,
        mine: &[Place],
        fences: Vec<Arc<Fence>>,
        whole: Demand,
        now: Timestamp,
    ) -> Result<Vec<Place>, HoldError> {
        let fences = self.in_force(&fences, now);
        if let Some(store) = &self.store {
            let places = Box::pin(store.top_up(request, whole, mine, &fences, now)).await?;
            // What could not be written is held all the same, and ends with the settlement.
            let written = self.books.top_up(hold::top_up_row(request, whole, &places));
            return written.map(|()| places).map_err(|error| HoldError::Journal(Arc::new(error)));
        }
        let places = self.take(mine, fences, whole, now, |fence| hold::binds_midway(fence, mine))?;
        if let Err(error) = self.books.top_up(hold::top_up_row(request, whole, &places)) {
            self.books.give_back(&places);
            // What was held before is held again: it was there a moment ago, and nothing binds it now.
            let _ = self.books.take(&[], mine, |_| false);
            return Err(HoldError::Journal(Arc::new(error)));
        }
        Ok(places)
    }

    fn take(
        &self,
        mine: &[Place],
        fences: Vec<Arc<Fence>>,
        demand: Demand,
        now: Timestamp,
        binds: impl Fn(&Fence) -> bool,
    ) -> Result<Vec<Place>, HoldError> {
        if fences.is_empty() {
            return Ok(Vec::new());
        }
        let windows = self.books.windows(&fences, now);
        let places = hold::places(fences, demand, windows);
        match self.books.take(mine, &places, binds) {
            Ok(()) => Ok(places),
            Err(short) => Err(refused(&places, short)),
        }
    }

    /// Books the end of a hold; gives what the tightest budget of money has left.
    fn settle(&self, request: Uuid, held_at: Timestamp, places: &[Place], rows: Vec<Row>) -> Option<Money> {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let now = Timestamp::now();
        let row = hold::settle_row(request, held_at, now, places, rows);
        if let Some(store) = &self.store {
            store.settling(places, &row);
            self.books.settle(&[], row);
            store.journaled();
        } else {
            self.books.settle(places, row);
        }
        let money = places.iter().filter(|place| place.fence.unit == Unit::Money);
        let left = money.map(|place| {
            let used = match &self.store {
                Some(store) => store.level(&place.fence, now).used(),
                None => self.books.level(&place.fence, place.window.start).used(),
            };
            Money::from_nanousd(place.fence.cap.saturating_sub(used).max(0))
        });
        left.min()
    }

    /// The fences with the caps that they have now, raises included.
    pub fn in_force(&self, fences: &[Arc<Fence>], now: Timestamp) -> Vec<Arc<Fence>> {
        fences.iter().map(|fence| self.books.raises().apply(fence, now)).collect()
    }

    /// What stands against `fence` now; of a shared store, as far as this node has heard.
    pub fn level(&self, fence: &Fence, now: Timestamp) -> Level {
        match &self.store {
            Some(store) => store.level(fence, now),
            None => self.books.level(fence, now),
        }
    }

    /// The refusal of a fence of which nothing at all is left now, as far as this node knows.
    pub fn full(&self, fence: &Arc<Fence>, now: Timestamp) -> Option<Refused> {
        if self.store.is_some() {
            // What this node heard last may be over: others give back too. Only the store can refuse.
            return None;
        }
        let level = self.level(fence, now);
        let fence = self.books.raises().apply(fence, now);
        if level.used() < fence.cap {
            return None;
        }
        let renews_at = fence.per.is_some().then_some(level.window.end);
        Some(Refused { fence, used: level.used(), wanted: 1, renews_at })
    }

    /// Gives back what the silent `node` leases, which counts as spent until then; gives fence and amount of each slice.
    /// It is booked first.
    ///
    /// # Errors
    /// [`Release`]; also without a shared store, where no node is known.
    pub async fn release(
        &self,
        node: &str,
        who: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<Vec<(String, i64)>, Release> {
        let unknown = || Release::Unknown(node.to_owned());
        let store = self.store.as_ref().ok_or_else(unknown)?;
        let peer = store.peers().into_iter().find(|peer| peer.node == node).ok_or_else(unknown)?;
        if peer.silent_ms < i64::try_from(SILENT.as_millis()).unwrap_or(i64::MAX) {
            return Err(Release::Heard(node.to_owned(), peer.silent_ms / 1000));
        }
        self.books.release(ReleaseRow {
            node: peer.node,
            at_ms: now.as_millisecond(),
            silent_ms: peer.silent_ms,
            slices: peer.slices,
            who: who.to_owned(),
            why: why.to_owned(),
        })?;
        store.release(node).await
    }

    /// How many holds are open.
    pub fn holds_open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }
}

fn refused(wanted: &[Place], short: Short) -> HoldError {
    let place = &wanted[short.index];
    let renews_at = place.fence.per.is_some().then_some(place.window.end);
    let fence = Arc::clone(&place.fence);
    HoldError::Refused(Box::new(Refused { fence, used: short.used, wanted: place.amount, renews_at }))
}

#[cfg(test)]
mod tests;
