//! Layer 3: holds, settlement, books, and the store of client keys.
//!
//! A request takes one [`Hold`] before it is dispatched and ends it in exactly one settlement, whatever happens: a
//! hold that is dropped settles what had been charged to it. [`fences`](crate::base::fences) say what is counted and
//! against which cap; [`Balances`](balances::Balances) are what stands against them.

pub mod balances;
mod hold;
pub mod keys;
pub mod report;
pub mod row;
pub mod window;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::base::{
    fences::{Fence, Unit},
    money::Money,
};
use balances::{Balances, Level, Place, Short};
pub use hold::{Demand, Hold, HoldError, Order, Refused, Settled};
use row::Row;

/// Budgets, limits and holds, and the books of what became of them.
#[derive(Debug, Default)]
pub struct Ledger {
    balances: Mutex<Balances>,
    open: AtomicI64,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Balances> {
        // The balances are changed by plain assignments, so a panic elsewhere cannot leave them half written.
        self.balances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what `order` asks for aside in all its fences: all or none.
    ///
    /// # Errors
    /// [`HoldError::Refused`] names the first fence that has less left.
    pub async fn hold(self: &Arc<Self>, order: Order, now: Timestamp) -> Result<Hold, HoldError> {
        let fences = order.fences.iter().cloned();
        let places = self.take(&[], fences, order.demand, now, |_| true)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Hold::new(Arc::clone(self), &order, places, now))
    }

    async fn top_up(
        &self,
        _request: Uuid,
        mine: &[Place],
        fences: Vec<Arc<Fence>>,
        whole: Demand,
        now: Timestamp,
    ) -> Result<Vec<Place>, HoldError> {
        self.take(mine, fences, whole, now, hold::binds_midway)
    }

    fn take(
        &self,
        mine: &[Place],
        fences: impl IntoIterator<Item = Arc<Fence>>,
        demand: Demand,
        now: Timestamp,
        binds: impl Fn(&Fence) -> bool,
    ) -> Result<Vec<Place>, HoldError> {
        let mut balances = self.lock();
        let wanted = hold::places(fences, demand, |fence| balances.window(fence, now));
        match balances.take(mine, &wanted, binds) {
            Ok(()) => Ok(wanted),
            Err(short) => Err(refused(&wanted, short)),
        }
    }

    /// Books the end of a hold; gives what the tightest budget of money has left.
    fn settle(&self, _request: Uuid, _at: Timestamp, places: &[Place], rows: Vec<Row>) -> Option<Money> {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if places.is_empty() {
            return None;
        }
        let mut balances = self.lock();
        balances.settle(places, |place| hold::charged_at(&place.fence, &rows));
        let money = places.iter().filter(|place| place.fence.unit == Unit::Money);
        let left = money.map(|place| {
            let used = balances.level(&place.fence, place.window.start).used();
            Money::from_nanousd(place.fence.cap.saturating_sub(used).max(0))
        });
        left.min()
    }

    /// What stands against `fence` now.
    pub fn level(&self, fence: &Fence, now: Timestamp) -> Level {
        self.lock().level(fence, now)
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
