//! Slices: what this node has set aside in the store in advance, so that the next request need not ask.
//!
//! A slice belongs to one window of one fence. What a request takes from it stays used until its settlement is in the
//! store, where the same script moves it from `leased` to `settled`; so what the store has as leased is never less
//! than what this node may still spend. A state machine without a clock or a socket.

use std::{collections::HashMap, sync::Arc};

use crate::{
    base::{fences::Fence, store::LeaseConfig},
    ledger::{balances::Place, row::PlaceRow, window::Window},
};

/// A slice lasts for about so many seconds of this node's spend.
pub const SECONDS: i64 = 10;
/// A slice of fewer typical holds than this is not worth a request of its own.
pub const HOLDS: i64 = 20;

/// Whether a fence with this cap is ever leased: no hold is of less than 1, and a slice takes a share of what is left.
pub fn may_be_leased(config: &LeaseConfig, cap: i64) -> bool {
    i128::from(cap) * i128::from(config.share_ppm) >= i128::from(HOLDS) * 1_000_000
}

/// What one request holds from slices in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The fence's id.
    pub fence: Arc<str>,
    /// The window's first second.
    pub from: i64,
    /// How much.
    pub amount: i64,
}

/// A change of a slice that the store is to be asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which; the amount is what is wanted, or returned when below zero.
    pub place: Place,
    /// Less than this is not worth it.
    pub least: i64,
    /// The revision of the policies that the fence comes from.
    pub revision: u64,
}

/// One slice and the demand for it.
#[derive(Debug)]
struct Slice {
    fence: Arc<Fence>,
    revision: u64,
    window: Window,
    /// What the store has as leased to us.
    granted: i64,
    /// Of this: held by requests, or settled on the way to the store.
    used: i64,
    /// Taken since the last second, and by how many holds.
    taken: i64,
    holds: i64,
    /// Per second, smoothed.
    rate: i64,
    /// The size of a hold, smoothed.
    typical: i64,
    /// Seconds since anything was taken.
    idle: u64,
}

/// All slices of this node.
#[derive(Debug, Default)]
pub struct Slices {
    by_place: HashMap<(Arc<str>, i64), Slice>,
}

fn key(place: &Place) -> (Arc<str>, i64) {
    (Arc::clone(&place.fence.id), place.window.start.as_second())
}

impl Slices {
    /// Notes that `places`, of fences of `revision`, are wanted, from wherever they come: what is wanted often is leased.
    pub fn note(&mut self, places: &[Place], revision: u64) {
        for place in places.iter().filter(|place| place.amount > 0) {
            let slice = self.by_place.entry(key(place)).or_insert_with(|| Slice {
                fence: Arc::clone(&place.fence),
                revision,
                window: place.window,
                granted: 0,
                used: 0,
                taken: 0,
                holds: 0,
                rate: 0,
                typical: place.amount,
                idle: 0,
            });
            // The cap and what it is raised by may have changed since; a request of before a reload knows less.
            if revision >= slice.revision {
                (slice.fence, slice.revision) = (Arc::clone(&place.fence), revision);
            }
            slice.taken = slice.taken.saturating_add(place.amount);
            slice.holds += 1;
            slice.idle = 0;
        }
    }

    /// Takes all of `places` from slices, or nothing. Places of nothing need no slice.
    pub fn take(&mut self, places: &[Place]) -> Option<Vec<Part>> {
        let covers = |place: &Place| self.free(place) >= place.amount;
        if !places.iter().all(covers) {
            return None;
        }
        Some(self.take_what_is_free(places))
    }

    /// Takes of each of `places` what its slice has.
    pub fn take_what_is_free(&mut self, places: &[Place]) -> Vec<Part> {
        let mut parts = Vec::new();
        for place in places {
            let amount = self.free(place).min(place.amount);
            if amount > 0
                && let Some(slice) = self.by_place.get_mut(&key(place))
            {
                slice.used += amount;
                let (fence, from) = key(place);
                parts.push(Part { fence, from, amount });
            }
        }
        parts
    }

    fn free(&self, place: &Place) -> i64 {
        self.by_place.get(&key(place)).map_or(0, |slice| (slice.granted - slice.used).max(0))
    }

    /// Gives back what was taken and not spent.
    pub fn give_back(&mut self, parts: &[Part]) {
        for part in parts {
            self.used(&part.fence, part.from, -part.amount);
        }
    }

    fn used(&mut self, fence: &Arc<str>, from: i64, change: i64) {
        if let Some(slice) = self.by_place.get_mut(&(Arc::clone(fence), from)) {
            slice.used = (slice.used + change).max(0);
        }
    }

    /// Ends a request that held `parts` and is charged `rows`, of which `held` was held in all: gives, for each row,
    /// what moves out of a slice. It stays used until [`Slices::shipped`].
    pub fn settle(&mut self, parts: &[Part], held: &[Place], rows: &[PlaceRow]) -> Vec<i64> {
        let mut moved = vec![0; rows.len()];
        for part in parts {
            let at = |place: &&Place| place.fence.id == part.fence && place.window.start.as_second() == part.from;
            let elsewhere = held.iter().find(at).map_or(0, |place| place.amount - part.amount);
            let row = rows.iter().position(|row| row.fence == part.fence && row.from == part.from);
            let spent = row.map_or(0, |row| (rows[row].amount - elsewhere).clamp(0, part.amount));
            if let Some(row) = row {
                moved[row] = spent;
            }
            self.used(&part.fence, part.from, spent - part.amount);
        }
        moved
    }

    /// Notes that the settlement of `rows` is in the store, with what it moved.
    pub fn shipped(&mut self, rows: &[PlaceRow], moved: &[i64]) {
        for (row, moved) in rows.iter().zip(moved).filter(|(_, moved)| **moved != 0) {
            if let Some(slice) = self.by_place.get_mut(&(Arc::clone(&row.fence), row.from)) {
                slice.used = (slice.used - moved).max(0);
                slice.granted = (slice.granted - moved).max(0);
            }
        }
    }

    /// Notes what the store granted, or took back when below zero.
    pub fn granted(&mut self, place: &Place, amount: i64) {
        if let Some(slice) = self.by_place.get_mut(&key(place)) {
            slice.granted = (slice.granted + amount).max(0);
        }
    }

    /// A second has passed, and the calendar is at `now` (seconds since 1970): what should be asked for and returned.
    pub fn tick(&mut self, config: &LeaseConfig, now: i64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for slice in self.by_place.values_mut() {
            slice.rate = (3 * slice.rate + slice.taken) / 4;
            if slice.holds > 0 {
                slice.typical = ((3 * slice.typical + slice.taken / slice.holds) / 4).max(1);
            }
            (slice.taken, slice.holds) = (0, 0);
            slice.idle += 1;
            wishes.extend(slice.wish(config, now));
        }
        self.by_place.retain(|_, slice| slice.granted != 0 || slice.used != 0 || slice.rate != 0);
        wishes
    }

    /// What the store should have as leased to us.
    pub fn all(&self) -> Vec<Place> {
        let place =
            |slice: &Slice| Place { fence: Arc::clone(&slice.fence), window: slice.window, amount: slice.granted };
        self.by_place.values().filter(|slice| slice.granted != 0).map(place).collect()
    }
}

impl Slice {
    fn wish(&self, config: &LeaseConfig, now: i64) -> Option<Wish> {
        let wish = |amount: i64, least: i64| {
            let place = Place { fence: Arc::clone(&self.fence), window: self.window, amount };
            Some(Wish { place, least, revision: self.revision })
        };
        let free = self.granted - self.used;
        let over = self.window.end.as_second() <= now;
        if over || self.idle >= config.ttl.as_secs() {
            return if free > 0 { wish(-free, 0) } else { None };
        }
        let target = self.rate.saturating_mul(SECONDS);
        let least = self.typical.saturating_mul(HOLDS);
        if config.share_ppm == 0 || target < least || free > target / 2 {
            return None;
        }
        wish(target - free, least.min(target - free))
    }
}
