//! Raises: what is added to budgets for a while. They end by themselves.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use uuid::Uuid;

use super::row::RaiseRow;
use crate::base::fences::Fence;

/// The raises of all fences; reading them takes no lock.
#[derive(Debug, Default)]
pub struct Raises {
    by_fence: ArcSwap<HashMap<Arc<str>, Vec<RaiseRow>>>,
}

impl Raises {
    /// Those of a journal.
    pub fn of(rows: impl IntoIterator<Item = RaiseRow>) -> Self {
        let raises = Self::default();
        rows.into_iter().for_each(|row| raises.add(&row));
        raises
    }

    /// Adds one, once; those that have ended before it begins are forgotten.
    pub fn add(&self, row: &RaiseRow) {
        self.by_fence.rcu(|known| {
            let mut raises = HashMap::clone(known);
            for rows in raises.values_mut() {
                rows.retain(|other| other.until_ms > row.from_ms && other.id != row.id);
            }
            raises.retain(|_, rows| !rows.is_empty());
            raises.entry(Arc::clone(&row.fence)).or_default().push(row.clone());
            raises
        });
    }

    /// What is added to the cap of the fence `id` at `now`.
    pub fn extra(&self, id: &str, now: Timestamp) -> i64 {
        let raises = self.by_fence.load();
        let rows = raises.get(id).map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter(|row| holds(row, now)).fold(0, |sum: i64, row| sum.saturating_add(row.amount))
    }

    /// The fence with the cap that it has at `now`.
    pub fn apply(&self, fence: &Arc<Fence>, now: Timestamp) -> Arc<Fence> {
        if fence.raised == 0 && self.by_fence.load().is_empty() {
            return Arc::clone(fence);
        }
        fence.raised_by(self.extra(&fence.id, now))
    }

    /// The one of that id, unless it is over and forgotten.
    pub fn find(&self, id: Uuid) -> Option<RaiseRow> {
        self.by_fence.load().values().flatten().find(|row| row.id == id).cloned()
    }

    /// All that hold at `now`.
    pub fn rows(&self, now: Timestamp) -> Vec<RaiseRow> {
        self.by_fence.load().values().flatten().filter(|row| holds(row, now)).cloned().collect()
    }
}

fn holds(row: &RaiseRow, now: Timestamp) -> bool {
    (row.from_ms..row.until_ms).contains(&now.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::fences::{Owner, Unit},
        ledger::row::UnitRow,
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn raise(id: u128, amount: i64, from_ms: i64, until_ms: i64) -> RaiseRow {
        let (who, why) = ("ops".to_owned(), "a launch".to_owned());
        let id = Uuid::from_u128(id);
        RaiseRow { id, fence: "team/search/day".into(), unit: UnitRow::Usd, amount, from_ms, until_ms, who, why }
    }

    #[test]
    fn raises_add_up_and_end_by_themselves() {
        let fence = Arc::new(Fence::sample(Owner::Team("search".into()), Unit::Money, 100));
        let raises = Raises::of([raise(1, 10, 0, 1_000), raise(2, 5, 500, 2_000)]);
        raises.add(&raise(2, 5, 500, 2_000));
        let cap = |ms| raises.apply(&fence, at(ms)).cap;
        assert_eq!([0, 500, 999, 1_000, 1_999, 2_000].map(cap), [110, 115, 115, 105, 105, 100]);
        let raised = raises.apply(&fence, at(500));
        assert_eq!((raised.cap, raised.raised), (115, 15));
        assert_eq!(raises.apply(&raised, at(500)).cap, 115);
        assert_eq!(raises.apply(&raised, at(5_000)).cap, 100);
        raises.add(&raise(3, 1, 3_000, 4_000));
        assert_eq!(raises.rows(at(3_000)).len(), 1);
        assert_eq!(raises.by_fence.load()["team/search/day"].len(), 1);
    }
}
