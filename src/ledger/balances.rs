//! What stands against each fence in its window: settled and held. A state machine without a clock or a lock.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{
    row::{PlaceRow, UnitRow},
    window::Window,
};
use crate::base::fences::Fence;

/// An amount taken in one window of one fence.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where.
    pub fence: Arc<Fence>,
    /// In which of its windows: it is settled there and nowhere else, whatever the clock says by then.
    pub window: Window,
    /// How much, in the fence's unit.
    pub amount: i64,
}

impl Place {
    /// The place at rest, with another amount.
    pub fn row(&self, amount: i64) -> PlaceRow {
        PlaceRow {
            fence: Arc::clone(&self.fence.id),
            unit: self.fence.unit.into(),
            from: self.window.start.as_second(),
            to: self.window.end.as_second(),
            amount,
        }
    }
}

/// What stands against a fence in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The window.
    pub window: Window,
    /// Booked for good.
    pub settled: i64,
    /// Set aside by requests under way.
    pub held: i64,
}

impl Level {
    /// Both together.
    pub fn used(&self) -> i64 {
        self.settled.saturating_add(self.held)
    }
}

/// A place that has too little left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Its index among the places that were asked for.
    pub index: usize,
    /// What others have used of it.
    pub used: i64,
}

/// The levels of all fences.
#[derive(Debug, Default)]
pub struct Balances {
    accounts: HashMap<Arc<str>, Account>,
    /// The last instant that was heard of.
    now: Timestamp,
    /// With so many accounts, those that nothing stands in any more are forgotten: users name themselves.
    crowded: usize,
}

/// Fewer accounts than this are not worth a search.
const FEW: usize = 1024;

/// One fence's windows: the current one, and earlier ones that still hold something.
#[derive(Debug)]
struct Account {
    current: Level,
    past: Vec<Level>,
}

impl Account {
    fn new(window: Window) -> Self {
        Self { current: Level { window, settled: 0, held: 0 }, past: Vec::new() }
    }

    fn level(&mut self, window: &Window) -> Option<&mut Level> {
        if self.current.window.start == window.start {
            return Some(&mut self.current);
        }
        self.past.iter_mut().find(|level| level.window.start == window.start)
    }

    /// Nothing is held, and what is settled belongs to a window that has ended.
    fn is_over(&self, now: Timestamp) -> bool {
        let counts = self.current.held != 0 || (self.current.settled != 0 && now < self.current.window.end);
        !counts && self.past.is_empty()
    }

    fn roll(&mut self, window: Window) {
        let before = std::mem::replace(&mut self.current, Level { window, settled: 0, held: 0 });
        if before.held != 0 {
            self.past.push(before);
        }
    }
}

impl Balances {
    /// The window that `fence` counts in now. A clock that steps back does not reopen a window, and an edited period
    /// or zone takes effect when the running window ends or [`Balances::adopt`] is called.
    pub fn window(&mut self, fence: &Fence, now: Timestamp) -> Window {
        self.account(fence, now).current.window
    }

    /// What stands against `fence` now.
    pub fn level(&mut self, fence: &Fence, now: Timestamp) -> Level {
        self.account(fence, now).current
    }

    fn account(&mut self, fence: &Fence, now: Timestamp) -> &mut Account {
        self.now = now;
        let account = self.opened(&fence.id, || Window::of(fence, now));
        if now >= account.current.window.end {
            account.roll(Window::of(fence, now));
        }
        account
    }

    /// The account of `id`; a new one begins in `window`. Before there are too many, those that are over go.
    fn opened(&mut self, id: &Arc<str>, window: impl FnOnce() -> Window) -> &mut Account {
        let now = self.now;
        if self.accounts.len() >= self.crowded.max(FEW) && !self.accounts.contains_key(id) {
            self.accounts.retain(|_, account| !account.is_over(now));
            self.crowded = 2 * self.accounts.len();
        }
        self.accounts.entry(Arc::clone(id)).or_insert_with(|| Account::new(window()))
    }

    /// Puts a fence whose period or zone was edited into the window that it now means, which begins with what the
    /// books say was settled in it. What is held stays where it was taken.
    pub fn adopt(&mut self, fence: &Fence, window: Window, settled: i64, now: Timestamp) {
        let account = self.account(fence, now);
        if account.current.window != window {
            account.roll(window);
        }
        // A request may have come between the sum and now: what it settled is in one of the two.
        account.current.settled = account.current.settled.max(settled);
    }

    /// The window in which anything was last counted under `id`, also when it is over by now.
    pub fn last_window(&self, id: &str) -> Option<Window> {
        Some(self.accounts.get(id)?.current.window)
    }

    /// What is settled in the window that `id` leaves when it is moved to `window`.
    pub fn left(&self, id: &Arc<str>, window: &Window) -> Option<PlaceRow> {
        let level = self.accounts.get(id).map(|account| &account.current);
        let level = level.filter(|level| level.window != *window && level.settled != 0)?;
        Some(PlaceRow {
            fence: Arc::clone(id),
            // The unit is the fence's; a sum needs none.
            unit: UnitRow::Usd,
            from: level.window.start.as_second(),
            to: level.window.end.as_second(),
            amount: level.settled,
        })
    }

    /// The same by id, for a fence that several gateways count.
    pub fn move_to(&mut self, id: &Arc<str>, window: Window, settled: i64) {
        let account = self.opened(id, || window);
        if account.current.window != window {
            account.roll(window);
            account.current.settled = settled;
        }
    }

    /// Raises what `mine` holds to `wanted`: all or nothing. Places of `mine` in the same window count as taken
    /// already; those in another window are given back.
    ///
    /// # Errors
    /// [`Short`] for the first of the places for which `binds` holds that would pass its cap.
    pub fn take(&mut self, mine: &[Place], wanted: &[Place], binds: impl Fn(&Fence) -> bool) -> Result<(), Short> {
        for (index, place) in wanted.iter().enumerate() {
            if !binds(&place.fence) {
                continue;
            }
            let level = self.accounts.get_mut(&place.fence.id).and_then(|account| account.level(&place.window));
            let used = level.map_or(0, |level| level.used()) - held_at(mine, place);
            if used.saturating_add(place.amount) > place.fence.cap {
                return Err(Short { index, used });
            }
        }
        for place in mine {
            self.change(&place.fence.id, &place.window, -place.amount, 0);
        }
        for place in wanted {
            self.change(&place.fence.id, &place.window, place.amount, 0);
        }
        Ok(())
    }

    /// Changes what is held and settled in one window. A window that has passed and holds nothing any more takes no
    /// further part; its books are in the journal.
    pub fn change(&mut self, id: &Arc<str>, window: &Window, held: i64, settled: i64) {
        let account = self.opened(id, || *window);
        if let Some(level) = account.level(window) {
            level.held += held;
            level.settled += settled;
        } else if account.current.window.start < window.start && window.end <= account.current.window.end {
            // A shorter window of before an edit, within the one that counts now: what it settled belongs there.
            account.current.settled += settled;
            if held > 0 {
                account.past.push(Level { window: *window, settled: 0, held });
            }
        } else if window.start > account.current.window.start {
            account.roll(*window);
            account.current.held += held;
            account.current.settled += settled;
        } else if held > 0 {
            account.past.push(Level { window: *window, settled, held });
        }
        account.past.retain(|level| level.held != 0);
    }

    /// Gives back what is held in `places`.
    pub fn give_back(&mut self, places: &[Place]) {
        for place in places {
            self.change(&place.fence.id, &place.window, -place.amount, 0);
        }
    }

    /// Settles the amounts of `places`, at `now`.
    pub fn book(&mut self, places: &[PlaceRow], now: Timestamp) {
        self.now = now;
        for place in places.iter().filter(|place| place.amount != 0) {
            self.change(&place.fence, &place.window(), 0, place.amount);
        }
    }

    /// Every fence against which something is settled in its current window.
    pub fn settled(&self) -> impl Iterator<Item = (&Arc<str>, &Level)> {
        let current = self.accounts.iter().map(|(id, account)| (id, &account.current));
        current.filter(|(_, level)| level.settled != 0)
    }
}

fn held_at(mine: &[Place], place: &Place) -> i64 {
    let same = |other: &&Place| other.fence.id == place.fence.id && other.window.start == place.window.start;
    mine.iter().find(same).map_or(0, |mine| mine.amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fences::{Owner, Unit};

    #[test]
    fn users_of_days_gone_by_do_not_pile_up() {
        let fence = |name: &str| Arc::new(Fence::sample(Owner::User("search".into(), name.into()), Unit::Money, 100));
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let mut balances = Balances::default();
        let stays = fence("stays");
        let held = Place { window: balances.window(&stays, day(0)), fence: Arc::clone(&stays), amount: 7 };
        balances.take(&[], &[held], |_| true).unwrap();
        for number in 0..20_000 {
            let (fence, now) = (fence(&format!("user {number}")), day(number / 1_000));
            let window = balances.window(&fence, now);
            balances.change(&fence.id, &window, 0, 5);
            assert_eq!(balances.level(&fence, now).settled, 5);
        }
        assert!(balances.accounts.len() <= 4 * FEW, "{}", balances.accounts.len());
        assert_eq!(balances.accounts[&stays.id].current.held, 7);
    }

    #[test]
    fn users_of_days_gone_by_are_forgotten_too_where_only_settlements_come() {
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let row = |number: i64| PlaceRow {
            fence: format!("user/search/{number}/day").into(),
            unit: UnitRow::Usd,
            from: number / 1_000 * 86_400,
            to: (number / 1_000 + 1) * 86_400,
            amount: 5,
        };
        let mut balances = Balances::default();
        for number in 0..20_000 {
            balances.book(&[row(number)], day(number / 1_000));
        }
        assert!(balances.accounts.len() <= 4 * FEW, "{}", balances.accounts.len());
        let running = balances.settled().filter(|(_, level)| level.window.end > day(19)).count();
        assert_eq!(running, 1_000, "and none whose window runs");
    }
}
