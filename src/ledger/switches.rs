//! What operators have switched off. A switch with an end ends by itself.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;

use super::row::switches::{SwitchKind, SwitchRow};

/// The switches of all things; reading them takes no lock.
#[derive(Debug, Default)]
pub struct Switches {
    known: ArcSwap<Known>,
}

/// The newest row of everything that was ever switched. One that was switched on again is kept too: it stands above an
/// older word that another gateway may bring.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By kind, in the order of the enum.
    by_name: [HashMap<Arc<str>, Arc<SwitchRow>>; SwitchKind::ALL.len()],
    any_off: bool,
}

impl Switches {
    /// Those of a journal.
    pub fn of(rows: impl IntoIterator<Item = SwitchRow>) -> Self {
        let switches = Self::default();
        rows.into_iter().for_each(|row| switches.add(&row));
        switches
    }

    /// Takes a row over, unless a newer one of the same thing is known.
    pub fn add(&self, row: &SwitchRow) {
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            let rows = &mut known.by_name[row.kind as usize];
            if rows.get(&row.name).is_none_or(|other| row.stands_above(other)) {
                rows.insert(Arc::clone(&row.name), Arc::new(row.clone()));
            }
            known.any_off = known.by_name.iter().flat_map(HashMap::values).any(|row| row.off);
            known
        });
    }

    /// All switches as they stand.
    pub fn load(&self) -> Guard<Arc<Known>> {
        self.known.load()
    }
}

impl Known {
    /// The switch by which something of that name is off at `now`.
    pub fn off(&self, kind: SwitchKind, name: &str, now: Timestamp) -> Option<&Arc<SwitchRow>> {
        if !self.any_off {
            return None;
        }
        self.newest(kind, name).filter(|row| row.is_off(now))
    }

    /// The switch by which nobody is dealt to an arm of a split of that revision.
    pub fn withdrawn(&self, route: &str, arm: &str, revision: &str, now: Timestamp) -> Option<&Arc<SwitchRow>> {
        if !self.any_off {
            return None;
        }
        self.off(SwitchKind::Arm, &arm_name(route, arm), now).filter(|row| row.holds_for(revision))
    }

    /// Whether nothing at all is off.
    pub const fn is_empty(&self) -> bool {
        !self.any_off
    }

    /// The newest row of something, whatever it says.
    pub fn newest(&self, kind: SwitchKind, name: &str) -> Option<&Arc<SwitchRow>> {
        self.by_name[kind as usize].get(name)
    }

    /// The newest rows of everything, by kind.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<SwitchRow>> {
        self.by_name.iter().flat_map(HashMap::values)
    }
}

/// What an arm is called as something that is switched. No name of a route has an `@`.
pub fn arm_name(route: &str, arm: &str) -> String {
    format!("{arm}@{route}")
}

impl SwitchRow {
    /// Whether it is about a split of that revision.
    pub fn holds_for(&self, revision: &str) -> bool {
        self.revision.as_deref().is_none_or(|own| own == revision)
    }

    /// Whether it says that the thing is off at `now`.
    pub fn is_off(&self, now: Timestamp) -> bool {
        self.off && self.until_ms.is_none_or(|until| now.as_millisecond() < until)
    }

    /// Of two rows of one thing, whether this one counts.
    pub fn stands_above(&self, other: &Self) -> bool {
        (self.from_ms, self.id) > (other.from_ms, other.id)
    }

    /// Why, by whom and until when, for whoever meets it.
    pub fn reason(&self) -> String {
        let until = self.until_ms.and_then(|until| Timestamp::from_millisecond(until).ok());
        let until = until.map(|until| format!(", until {until:.0}")).unwrap_or_default();
        format!("{} (by {}{until})", self.why, self.who)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn row(id: u128, off: bool, from_ms: i64, until_ms: Option<i64>) -> SwitchRow {
        let (id, kind, name) = (Uuid::from_u128(id), SwitchKind::Backend, "qwen".into());
        let (who, why) = ("ops".to_owned(), "an incident".to_owned());
        SwitchRow { id, kind, name, off, cut: false, from_ms, until_ms, revision: None, who, why }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn the_newest_word_counts_in_whichever_order_they_come() {
        let rows = [row(1, true, 10, None), row(2, false, 20, None), row(3, true, 30, Some(50))];
        let mut orders = vec![[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        orders.push([2, 2, 1]);
        for order in orders {
            let switches = Switches::of(order.map(|index| rows[index].clone()));
            let known = switches.load();
            let off = |kind, ms| known.off(kind, "qwen", at(ms)).is_some();
            assert!(off(SwitchKind::Backend, 49) && !off(SwitchKind::Backend, 50), "{order:?}");
            assert!(!off(SwitchKind::Model, 49) && known.off(SwitchKind::Backend, "other", at(49)).is_none());
            assert_eq!(known.rows().count(), 1);
        }
        let switches = Switches::of([rows[0].clone(), rows[1].clone()]);
        assert!(switches.load().is_empty());
    }

    #[test]
    fn who_meets_a_switch_reads_why_by_whom_and_until_when() {
        assert_eq!(row(1, true, 0, None).reason(), "an incident (by ops)");
        assert_eq!(row(1, true, 0, Some(3_600_000)).reason(), "an incident (by ops, until 1970-01-01T01:00:00Z)");
    }
}
