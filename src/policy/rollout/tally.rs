//! What was seen of an arm, as sums that may be added: of several stretches of time, and of several gateways.

use super::Ended;
use std::time::Duration;

/// Slots of a window: eight that are full hold `min_requests`, and one is being filled.
pub(super) const SLOTS: usize = 9;
/// What another gateway has seen counts for so long, in milliseconds: a day.
pub(super) const FRESH_MS: i64 = 24 * 3_600 * 1_000;

/// One tally as it is written: requests, failed ones, streams with a first token, late ones of them; the sum of the
/// costs in nano-USD, and of their squares.
pub type KeptTally = ([u32; 4], [f64; 2]);
/// One slot as it is written: when the arm's last request in it ended, in milliseconds since 1970, the arm's tally and the
/// control's.
pub type KeptSlot = (i64, KeptTally, KeptTally);

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) requests: u32,
    pub(super) failed: u32,
    cost: f64,
    cost_squared: f64,
    /// Streams whose first token came, and those of them that came too late.
    pub(super) timed: u32,
    pub(super) late: u32,
}

/// Some requests of an arm in a row, and those of the control meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Slot {
    at_ms: i64,
    pub(super) arm: Tally,
    pub(super) control: Tally,
}

/// What one gateway has seen of an arm lately. The last slot is being filled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// When the arm was last switched off or on, in milliseconds since 1970; 0 = never. What was seen before does not count,
    /// and what gateways have seen is added only where it began with the same switch.
    pub since_ms: i64,
    /// How many requests of the arm have ended since.
    pub total: u64,
    slots: [Slot; SLOTS],
}

/// What a judgement rests on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Basis {
    pub(super) arm: Tally,
    pub(super) control: Tally,
    /// How many gateways have seen it.
    pub(super) gateways: usize,
}

impl Tally {
    pub(super) fn of(ended: &Ended, bound: Option<Duration>) -> Self {
        let cost = ended.cost.nanousd() as f64;
        let late = ended.first_token.zip(bound).is_some_and(|(first, bound)| first > bound);
        Self {
            requests: 1,
            failed: ended.failed.into(),
            cost,
            cost_squared: cost * cost,
            timed: ended.first_token.is_some().into(),
            late: late.into(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        self.cost += other.cost;
        self.cost_squared += other.cost_squared;
        self.timed = self.timed.saturating_add(other.timed);
        self.late = self.late.saturating_add(other.late);
    }

    /// The mean cost, and the variance of that mean.
    pub(super) fn mean_cost(&self) -> (f64, f64) {
        let n = f64::from(self.requests.max(2));
        let mean = self.cost / n;
        let variance = (self.cost_squared - n * mean * mean).max(0.0) / (n - 1.0);
        (mean, variance / n)
    }

    fn kept(&self) -> KeptTally {
        ([self.requests, self.failed, self.timed, self.late], [self.cost, self.cost_squared])
    }

    /// `None` where the numbers contradict each other.
    fn of_kept(&([requests, failed, timed, late], [cost, cost_squared]): &KeptTally) -> Option<Self> {
        let sound =
            failed <= requests && timed <= requests && late <= timed && cost.is_finite() && cost_squared.is_finite();
        sound.then_some(Self { requests, failed, cost, cost_squared, timed, late })
    }
}

impl Seen {
    /// Nothing yet of what began with that switch.
    pub(super) fn since(since_ms: i64) -> Self {
        Self { since_ms, ..Self::default() }
    }

    pub(super) fn add(&mut self, one: &Tally, now_ms: i64) {
        self.total += 1;
        let slot = &mut self.slots[SLOTS - 1];
        slot.at_ms = now_ms;
        slot.arm.add(one);
    }

    pub(super) fn add_control(&mut self, one: &Tally) {
        self.slots[SLOTS - 1].control.add(one);
    }

    /// Begins the next slot once the last has so many requests of the arm.
    pub(super) fn advance(&mut self, full: u32) {
        if self.slots[SLOTS - 1].arm.requests >= full {
            self.slots.rotate_left(1);
            self.slots[SLOTS - 1] = Slot::default();
        }
    }

    /// Its slots to be written, the oldest first; those that were never begun are left out.
    pub fn kept(&self) -> Vec<KeptSlot> {
        let begun = self.slots.iter().skip_while(|slot| **slot == Slot::default());
        begun.map(|slot| (slot.at_ms, slot.arm.kept(), slot.control.kept())).collect()
    }

    /// What was written; `None` where it is more than there can be, or where no requests give these numbers.
    pub fn of_kept(since_ms: i64, total: u64, kept: &[KeptSlot]) -> Option<Self> {
        let mut seen = Self { since_ms, total, slots: [Slot::default(); SLOTS] };
        let first = SLOTS.checked_sub(kept.len())?;
        for (slot, (at_ms, arm, control)) in seen.slots[first..].iter_mut().zip(kept) {
            *slot = Slot { at_ms: *at_ms, arm: Tally::of_kept(arm)?, control: Tally::of_kept(control)? };
        }
        let counted = seen.slots.iter().map(|slot| u64::from(slot.arm.requests)).fold(0, u64::saturating_add);
        (counted <= total).then_some(seen)
    }
}

impl Basis {
    /// The newest slots of all, up to `enough` requests of the arm: those of this gateway, and those of the others of the
    /// last day.
    pub(super) fn of(own: &Seen, others: &[Seen], enough: u32, now_ms: i64) -> Self {
        let fresh = |slot: &&Slot| now_ms.saturating_sub(slot.at_ms) < FRESH_MS;
        let others = others
            .iter()
            .enumerate()
            .flat_map(|(number, seen)| seen.slots.iter().rev().filter(fresh).map(move |slot| (number + 1, slot)));
        let own_slots = own.slots.iter().rev().map(|slot| (0, slot));
        let mut slots: Vec<(usize, &Slot)> =
            own_slots.chain(others).filter(|(_, slot)| slot.arm.requests > 0).collect();
        // Stable: of one gateway's that ended together the newer comes first.
        slots.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.at_ms));
        let (mut basis, mut gateways) = (Self::default(), Vec::new());
        for (gateway, slot) in slots {
            if basis.arm.requests >= enough {
                break;
            }
            basis.arm.add(&slot.arm);
            basis.control.add(&slot.control);
            if !gateways.contains(&gateway) {
                gateways.push(gateway);
            }
        }
        basis.gateways = gateways.len();
        basis
    }
}
