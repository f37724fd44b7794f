//! The ledger in memory: budgets by team and window, holds and settlements under one short lock.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::Timestamp;

use super::window::Window;
use crate::base::{
    money::Money,
    names::TeamName,
    tenants::{Budget, Team},
};

/// Which account of the books a budget is: an edit of its limit or period does not reset it.
type Scope = (TeamName, Arc<str>);

/// What stands against one budget in its current window.
#[derive(Clone, Copy, Debug)]
struct Balance {
    window: Window,
    settled: Money,
    held: Money,
}

/// Budgets and holds of this process.
#[derive(Debug, Default)]
pub struct Ledger {
    balances: Mutex<HashMap<Scope, Balance>>,
    open: AtomicI64,
}

/// A budget that has too little left for a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose budget.
    pub team: TeamName,
    /// Which.
    pub budget: Arc<str>,
    /// Its amount for the window.
    pub limit: Money,
    /// Settled and held by others.
    pub used: Money,
    /// When the next window begins.
    pub renews_at: Timestamp,
}

impl Refused {
    /// What is left of the budget.
    pub fn left(&self) -> Money {
        (self.limit - self.used).max(Money::ZERO)
    }
}

/// The state of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// Whose.
    pub team: TeamName,
    /// Which.
    pub budget: Arc<str>,
    /// Its amount for the window.
    pub limit: Money,
    /// What is left, holds taken off; never below zero.
    pub left: Money,
    /// Share that is settled or held, in parts per million.
    pub used_ppm: u64,
    /// That share ÷ the share of the window gone by, in parts per million.
    pub pace_ppm: u64,
}

/// The end of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What was charged.
    pub charged: Money,
    /// Of this, beyond the hold: booked in full all the same.
    pub beyond: Money,
    /// What the tightest budget has left; `None` without budgets.
    pub left: Option<Money>,
}

/// What a hold has taken from one budget.
#[derive(Debug)]
struct Place {
    scope: Scope,
    window: Window,
    limit: Money,
    held: Money,
}

/// An amount set aside in every budget of a team's lineage. It ends in one settlement: by [`Hold::settle`], or by
/// being dropped, which settles what had been charged.
#[derive(Debug)]
#[must_use = "a hold that is dropped is settled at once"]
pub struct Hold {
    ledger: Arc<Ledger>,
    team: Arc<Team>,
    // Where the amount was taken: the hold settles there and nowhere else, whatever the clock says by then.
    places: Vec<Place>,
    held: Money,
    charged: Money,
    open: bool,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Balance>> {
        // The map is changed by plain assignments, so a panic elsewhere cannot leave it half written.
        self.balances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets `amount` aside in every budget of the team and the teams above it: all or none.
    ///
    /// # Errors
    /// [`Refused`] names the first budget, from the team upwards, that has less left.
    pub fn hold(self: &Arc<Self>, team: &Arc<Team>, amount: Money, now: Timestamp) -> Result<Hold, Refused> {
        let mut places = Vec::new();
        if team.has_budget() {
            self.take(team, &mut places, amount, now)?;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let (ledger, team) = (Arc::clone(self), Arc::clone(team));
        Ok(Hold { ledger, team, places, held: amount, charged: Money::ZERO, open: true })
    }

    /// Raises what `places` hold to `whole` in every budget of the team's lineage: all or none. A window that has
    /// passed since counts no more, so the whole is taken from the one that is current.
    fn take(&self, team: &Team, places: &mut Vec<Place>, whole: Money, now: Timestamp) -> Result<(), Refused> {
        let mut balances = self.lock();
        let mut taken = Vec::with_capacity(places.len());
        for (scope, budget) in scopes(team) {
            let balance = current(&mut balances, scope.clone(), budget, now);
            let mine = places.iter().find(|place| place.scope == scope && place.window == balance.window);
            let mine = mine.map_or(Money::ZERO, |place| place.held);
            let used = balance.settled + balance.held - mine;
            if used + whole > budget.limit {
                let (team, budget, limit, renews_at) =
                    (scope.0, Arc::clone(&budget.name), budget.limit, balance.window.end);
                return Err(Refused { team, budget, limit, used, renews_at });
            }
            taken.push((Place { scope, window: balance.window, limit: budget.limit, held: whole }, mine));
        }
        for (place, mine) in &taken {
            if let Some(balance) = balances.get_mut(&place.scope) {
                balance.held += place.held - *mine;
            }
        }
        *places = taken.into_iter().map(|(place, _)| place).collect();
        Ok(())
    }

    /// The state of every budget that binds the team, the team's own first.
    pub fn budgets(&self, team: &Team, now: Timestamp) -> Vec<BudgetState> {
        if !team.has_budget() {
            return Vec::new();
        }
        let mut balances = self.lock();
        let states = scopes(team).map(|(scope, budget)| {
            let team = scope.0.clone();
            let balance = *current(&mut balances, scope, budget, now);
            state(team, budget, &balance, now)
        });
        states.collect()
    }

    /// How many holds are open.
    pub fn holds_open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }
}

impl Hold {
    /// What has been charged so far.
    pub fn charged(&self) -> Money {
        self.charged
    }

    /// Charges one attempt.
    pub fn charge(&mut self, amount: Money) {
        self.charged += amount;
    }

    /// Makes sure that `amount` beyond what is charged already is set aside.
    ///
    /// # Errors
    /// [`Refused`] when a budget has too little left for the difference; the hold stays as it was.
    pub fn cover(&mut self, amount: Money, now: Timestamp) -> Result<(), Refused> {
        let whole = self.charged + amount;
        if whole > self.held {
            if self.team.has_budget() {
                self.ledger.take(&self.team, &mut self.places, whole, now)?;
            }
            self.held = whole;
        }
        Ok(())
    }

    /// Ends the hold: what was charged is booked, the rest is free again.
    pub fn settle(mut self) -> Settled {
        self.close()
    }

    fn close(&mut self) -> Settled {
        self.open = false;
        self.ledger.open.fetch_sub(1, Ordering::Relaxed);
        if self.places.is_empty() {
            return Settled { charged: self.charged, beyond: Money::ZERO, left: None };
        }
        let beyond = (self.charged - self.held).max(Money::ZERO);
        let mut balances = self.ledger.lock();
        let mut left: Option<Money> = None;
        for place in &self.places {
            let Some(balance) = balances.get_mut(&place.scope) else { continue };
            // A window that has passed has taken its holds with it; its books are closed in this store.
            if balance.window == place.window {
                balance.held -= place.held;
                balance.settled += self.charged;
            }
            let rest = (place.limit - balance.settled - balance.held).max(Money::ZERO);
            left = Some(left.map_or(rest, |least| least.min(rest)));
        }
        Settled { charged: self.charged, beyond, left }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.open {
            self.close();
        }
    }
}

fn scopes(team: &Team) -> impl Iterator<Item = (Scope, &Budget)> {
    team.lineage()
        .flat_map(|team| team.budgets.iter().map(|budget| ((team.name.clone(), Arc::clone(&budget.name)), budget)))
}

/// The balance of a scope in the window that contains `now`. A clock that steps back does not reopen a window.
fn current<'a>(
    balances: &'a mut HashMap<Scope, Balance>,
    scope: Scope,
    budget: &Budget,
    now: Timestamp,
) -> &'a mut Balance {
    let balance = balances.entry(scope).or_insert_with(|| Balance {
        window: Window::containing(now, budget.per, &budget.zone),
        settled: Money::ZERO,
        held: Money::ZERO,
    });
    if now >= balance.window.end {
        let window = Window::containing(now, budget.per, &budget.zone);
        *balance = Balance { window, settled: Money::ZERO, held: Money::ZERO };
    }
    balance
}

fn state(team: TeamName, budget: &Budget, balance: &Balance, now: Timestamp) -> BudgetState {
    let used = balance.settled + balance.held;
    let limit = i128::from(budget.limit.nanousd()).max(1);
    let used_ppm = u64::try_from(i128::from(used.nanousd()).max(0) * 1_000_000 / limit).unwrap_or(u64::MAX);
    let pace_ppm = used_ppm.saturating_mul(1_000_000) / balance.window.elapsed_ppm(now);
    let left = (budget.limit - used).max(Money::ZERO);
    BudgetState { team, budget: Arc::clone(&budget.name), limit: budget.limit, left, used_ppm, pace_ppm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tenants::Period;
    use jiff::tz::TimeZone;

    fn usd(dollars: i64) -> Money {
        Money::from_nanousd(dollars * 1_000_000_000)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn team(name: &str, limit: i64, parent: Option<Arc<Team>>) -> Arc<Team> {
        let budget = Budget { name: "day".into(), limit: usd(limit), per: Period::Day, zone: TimeZone::UTC };
        Arc::new(Team {
            name: name.into(),
            parent,
            may_use: None,
            locations: None,
            budgets: vec![budget],
            labels: Arc::default(),
        })
    }

    const NOON: &str = "2026-11-23T12:00:00Z";

    #[test]
    fn holds_never_pass_the_limit_and_return_what_was_not_charged() {
        let (ledger, team) = (Arc::new(Ledger::default()), team("search", 10, None));
        let mut first = ledger.hold(&team, usd(6), at(NOON)).unwrap();
        let refused = ledger.hold(&team, usd(5), at(NOON)).unwrap_err();
        assert_eq!((refused.used, refused.left()), (usd(6), usd(4)));
        assert_eq!(refused.renews_at, at("2026-11-24T00:00:00Z"));
        first.charge(usd(2));
        assert_eq!(first.settle(), Settled { charged: usd(2), beyond: Money::ZERO, left: Some(usd(8)) });
        let second = ledger.hold(&team, usd(8), at(NOON)).unwrap();
        assert_eq!(ledger.holds_open(), 1);
        drop(second);
        assert_eq!(ledger.holds_open(), 0);
        assert_eq!(ledger.budgets(&team, at(NOON))[0].left, usd(8));
    }

    #[test]
    fn a_parents_budget_binds_and_a_refusal_takes_nothing() {
        let parent = team("product", 3, None);
        let (ledger, child) = (Arc::new(Ledger::default()), team("search", 10, Some(parent)));
        assert_eq!(ledger.hold(&child, usd(4), at(NOON)).unwrap_err().team.as_str(), "product");
        assert!(ledger.budgets(&child, at(NOON)).iter().all(|state| state.used_ppm == 0));
    }

    #[test]
    fn a_dropped_hold_settles_what_was_charged() {
        let (ledger, team) = (Arc::new(Ledger::default()), team("search", 10, None));
        let mut hold = ledger.hold(&team, usd(5), at(NOON)).unwrap();
        hold.charge(usd(1));
        drop(hold);
        assert_eq!(ledger.budgets(&team, at(NOON))[0].left, usd(9));
    }

    #[test]
    fn a_new_window_begins_empty_and_a_late_settlement_stays_in_the_old_one() {
        let (ledger, team) = (Arc::new(Ledger::default()), team("search", 10, None));
        let mut late = ledger.hold(&team, usd(7), at("2026-11-23T23:59:59Z")).unwrap();
        let next_day = at("2026-11-24T00:00:00Z");
        let fresh = ledger.hold(&team, usd(10), next_day).unwrap();
        late.charge(usd(7));
        drop(late);
        assert_eq!(ledger.budgets(&team, next_day)[0].left, Money::ZERO);
        drop(fresh);
        assert_eq!(ledger.budgets(&team, next_day)[0].left, usd(10));
    }

    #[test]
    fn a_hold_from_before_a_step_of_the_clock_is_booked_where_it_was_taken() {
        let (ledger, team) = (Arc::new(Ledger::default()), team("search", 10, None));
        let next_day = at("2026-11-24T00:00:01Z");
        drop(ledger.hold(&team, usd(1), next_day).unwrap());
        // The clock stepped back behind the edge: the hold is taken from the window that is open.
        let mut stepped = ledger.hold(&team, usd(4), at("2026-11-23T23:59:59Z")).unwrap();
        stepped.charge(usd(3));
        drop(stepped);
        assert_eq!(ledger.budgets(&team, next_day)[0].left, usd(7));
    }

    #[test]
    fn covering_more_after_the_edge_of_a_window_takes_the_whole_from_the_new_one() {
        let (ledger, team) = (Arc::new(Ledger::default()), team("search", 10, None));
        let mut hold = ledger.hold(&team, usd(2), at("2026-11-23T23:59:59Z")).unwrap();
        hold.charge(usd(1));
        let next_day = at("2026-11-24T00:00:00Z");
        hold.cover(usd(3), next_day).unwrap();
        assert_eq!(ledger.budgets(&team, next_day)[0].left, usd(6));
        drop(hold);
        assert_eq!(ledger.budgets(&team, next_day)[0].left, usd(9));
    }

    #[test]
    fn a_charge_beyond_the_hold_is_booked_in_full_and_counted() {
        let (ledger, team) = (Arc::new(Ledger::default()), team("search", 10, None));
        let mut hold = ledger.hold(&team, usd(1), at(NOON)).unwrap();
        hold.cover(usd(3), at(NOON)).unwrap();
        hold.charge(usd(4));
        assert_eq!(hold.settle().beyond, usd(1));
        assert_eq!(ledger.budgets(&team, at(NOON))[0].left, usd(6));
    }
}
