//! What a node keeps of its own requests while they are under way: what is held where, which windows run, what the
//! last answers said. A state machine without a clock or a socket.

use std::{collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    lease::{Part, Slices},
    protocol::Stand,
};
use crate::{
    base::{
        fences::{Fence, Unit},
        tenants::OnStoreLoss,
    },
    ledger::{
        balances::{Level, Place},
        row::{PlaceRow, UnitRow},
        window::Window,
    },
};

/// Who holds, on which terms: the same from the first hold to the last top-up.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who pays.
    pub team: Arc<str>,
    /// The row that a sweep would book.
    pub about: Arc<str>,
    /// What happens while the store is away.
    pub on_store_loss: OnStoreLoss,
    /// The revision of the policies that its fences come from.
    pub revision: u64,
}

/// On what a request stands.
#[derive(Debug)]
struct Footing {
    terms: Terms,
    /// The store has a hold of this id.
    remote: bool,
    /// What is held from slices.
    parts: Vec<Part>,
    /// What it has taken of what its team may spend without the store.
    open: i64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Desk {
    /// This node's slices.
    pub slices: Slices,
    footings: HashMap<Uuid, Footing>,
    /// What settlements that are not in the store yet move out of slices.
    moving: HashMap<Uuid, Vec<i64>>,
    /// Running windows that are not the calendar's: of fences whose period was edited.
    windows: HashMap<Arc<str>, Window>,
    levels: HashMap<Arc<str>, Level>,
    /// What each team has spent since the store went away.
    open: HashMap<Arc<str>, i64>,
    /// Holds that may be in the store though their request was refused.
    strays: Vec<Uuid>,
    /// The store's clock less ours, in milliseconds.
    ahead_ms: i64,
}

/// What all gateways have used of a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Settled.
    pub settled: i64,
    /// Held by requests.
    pub held: i64,
    /// Leased to nodes.
    pub leased: i64,
}

/// Levels of more fences than this are forgotten: they come again with the next answer.
const LEVELS: usize = 100_000;

impl Desk {
    /// The places that `amount` takes in `fences` now.
    pub fn places(&self, fences: &[Arc<Fence>], amount: impl Fn(Unit) -> i64, now: Timestamp) -> Vec<Place> {
        let place = |fence: &Arc<Fence>| Place {
            fence: Arc::clone(fence),
            window: self.window(fence, now),
            amount: amount(fence.unit),
        };
        fences.iter().map(place).collect()
    }

    /// The window that `fence` counts in now, by the store's clock.
    pub fn window(&self, fence: &Fence, now: Timestamp) -> Window {
        let now = now.checked_add(SignedDuration::from_millis(self.ahead_ms)).unwrap_or(now);
        let edited = self.windows.get(&fence.id).filter(|window| (window.start..window.end).contains(&now));
        edited.copied().unwrap_or_else(|| Window::of(fence, now))
    }

    /// Takes what the store says of the window of `fence`, and of the time.
    pub fn learn(&mut self, fence: &Fence, running: Option<Window>, store_ms: i64, now: Timestamp) {
        self.ahead_ms = store_ms - now.as_millisecond();
        self.windows.retain(|_, window| window.end.as_millisecond() > store_ms);
        if let Some(window) = running {
            self.windows.insert(Arc::clone(&fence.id), window);
        }
    }

    /// A fence counts in `window` from now on: its period or zone was edited.
    pub fn moved(&mut self, fence: &Arc<str>, window: Window) {
        self.windows.insert(Arc::clone(fence), window);
    }

    /// Notes the demand for `places` of a request under policies of `revision`, beyond what it holds in `mine`.
    pub fn note(&mut self, mine: &[Place], places: &[Place], revision: u64) {
        self.slices.note(&beyond(mine, places), revision);
    }

    /// A request begins.
    pub fn begin(&mut self, id: Uuid, terms: Terms) {
        let footing = Footing { terms, remote: false, parts: Vec::new(), open: 0 };
        self.footings.entry(id).or_insert(footing);
    }

    /// The terms of a request; `None` when it has ended.
    pub fn terms(&self, id: &Uuid) -> Option<Terms> {
        self.footings.get(id).map(|footing| footing.terms.clone())
    }

    /// Whether a request has begun and not ended: one that raises its hold may end meanwhile.
    pub fn knows(&self, id: &Uuid) -> bool {
        self.footings.contains_key(id)
    }

    /// Takes `places` from slices, where the request holds `mine` already: all or nothing.
    pub fn take_slices(&mut self, id: Uuid, mine: &[Place], places: &[Place]) -> bool {
        if !self.knows(&id) {
            return false;
        }
        let Some(parts) = self.slices.take(&beyond(mine, places)) else { return false };
        self.footing(id, parts);
        true
    }

    /// Takes from slices what they have of `places`; whether that is anything.
    pub fn take_of_slices(&mut self, id: Uuid, mine: &[Place], places: &[Place]) -> bool {
        if !self.knows(&id) {
            return false;
        }
        let parts = self.slices.take_what_is_free(&beyond(mine, places));
        let any = !parts.is_empty();
        self.footing(id, parts);
        any
    }

    fn footing(&mut self, id: Uuid, parts: Vec<Part>) {
        let Some(footing) = self.footings.get_mut(&id) else { return };
        for part in parts {
            match footing.parts.iter_mut().find(|old| old.fence == part.fence && old.from == part.from) {
                Some(old) => old.amount += part.amount,
                None => footing.parts.push(part),
            }
        }
    }

    /// What of `places` is to be held in the store: all but what comes from slices.
    pub fn remainder(&self, id: Uuid, places: &[Place]) -> Vec<Place> {
        let parts = self.footings.get(&id).map(|footing| &*footing.parts).unwrap_or_default();
        let rest = |place: &Place| {
            let part =
                parts.iter().find(|part| part.fence == place.fence.id && part.from == place.window.start.as_second());
            Place { amount: place.amount - part.map_or(0, |part| part.amount.min(place.amount)), ..place.clone() }
        };
        places.iter().map(rest).collect()
    }

    /// Notes that the store holds `places`, which now stand as it says.
    pub fn held(&mut self, id: Uuid, places: &[Place], stands: &[Stand]) {
        if let Some(footing) = self.footings.get_mut(&id) {
            footing.remote = true;
        }
        for (place, stand) in places.iter().zip(stands) {
            let used = Used { settled: stand.settled, held: stand.held, leased: stand.leased };
            self.used(&place.fence, place.window, used);
        }
    }

    /// Takes what the store says of a fence.
    pub fn used(&mut self, fence: &Fence, window: Window, used: Used) {
        if self.levels.len() > LEVELS {
            self.levels.clear();
        }
        let level = Level { window, settled: used.settled, held: used.held + used.leased };
        self.levels.insert(Arc::clone(&fence.id), level);
    }

    /// Lets a request without the store spend `amount` of what its team may: at most `limit` altogether.
    pub fn spend_open(&mut self, id: Uuid, amount: i64, limit: i64) -> bool {
        let Some(footing) = self.footings.get_mut(&id) else { return false };
        let spent = self.open.entry(Arc::clone(&footing.terms.team)).or_default();
        if spent.saturating_add(amount - footing.open) > limit {
            return false;
        }
        *spent += amount - footing.open;
        footing.open = amount;
        true
    }

    /// The request is refused: nothing of it is held any more. `sent`: the store may hold it all the same.
    pub fn refuse(&mut self, id: Uuid, sent: bool) {
        if let Some(footing) = self.footings.remove(&id) {
            self.slices.give_back(&footing.parts);
        }
        if sent {
            self.strays.push(id);
        }
    }

    /// A request has ended: it held `places` and is charged `rows`, `money` in all.
    pub fn settle(&mut self, id: Uuid, places: &[Place], rows: &[PlaceRow], money: i64) {
        if let Some(footing) = self.footings.remove(&id) {
            let moved = self.slices.settle(&footing.parts, places, rows);
            if moved.iter().any(|moved| *moved != 0) {
                self.moving.insert(id, moved);
            }
            if footing.open > 0
                && let Some(spent) = self.open.get_mut(&footing.terms.team)
            {
                *spent += money - footing.open;
            }
        }
        for (place, row) in places.iter().zip(rows) {
            if let Some(level) = self.levels.get_mut(&place.fence.id)
                && level.window == place.window
            {
                level.held = (level.held - place.amount).max(0);
                level.settled += if row.unit == UnitRow::Concurrent { 0 } else { row.amount };
            }
        }
    }

    /// Whether a settlement that is not in the store yet moves anything out of slices.
    pub fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    /// What the settlement of `id` moves out of slices, by row.
    pub fn moving(&self, id: &Uuid) -> Vec<i64> {
        self.moving.get(id).cloned().unwrap_or_default()
    }

    /// The settlement of `id` is in the store.
    pub fn shipped(&mut self, id: &Uuid, rows: &[PlaceRow]) {
        if let Some(moved) = self.moving.remove(id) {
            self.slices.shipped(rows, &moved);
        }
    }

    /// The store is back: what teams spent without it is on its way there.
    pub fn back(&mut self) {
        self.open.clear();
        // Else their settlement would make room for others when the store is away the next time.
        for footing in self.footings.values_mut() {
            footing.open = 0;
        }
    }

    /// Requests that the store holds.
    pub fn remote(&self) -> Vec<Uuid> {
        self.footings.iter().filter(|(_, footing)| footing.remote).map(|(id, _)| *id).collect()
    }

    /// Whether the store is to hold `id`.
    pub fn is_remote(&self, id: &Uuid) -> bool {
        self.footings.get(id).is_some_and(|footing| footing.remote)
    }

    /// What `id` holds from slices.
    pub fn parts(&self, id: &Uuid) -> &[Part] {
        self.footings.get(id).map(|footing| &*footing.parts).unwrap_or_default()
    }

    /// Takes the ids of refused holds that the store may have.
    pub fn take_strays(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.strays)
    }

    /// Puts back those that could not be told of.
    pub fn put_strays(&mut self, strays: Vec<Uuid>) {
        self.strays.extend(strays);
    }

    /// What stood against `fence` at the last answer, with what this node has done since.
    pub fn level(&self, fence: &Fence, now: Timestamp) -> Level {
        let window = self.window(fence, now);
        let known = self.levels.get(&fence.id).filter(|level| level.window == window);
        known.copied().unwrap_or(Level { window, settled: 0, held: 0 })
    }

    /// What is leased, in nano-USD.
    pub fn leased_nanousd(&self) -> i64 {
        let money = |place: &Place| place.fence.unit == Unit::Money;
        self.slices.all().iter().filter(|place| money(place)).map(|place| place.amount).sum()
    }
}

/// What `places` take beyond `mine` in the same windows.
fn beyond(mine: &[Place], places: &[Place]) -> Vec<Place> {
    let more = |place: &Place| {
        let had = mine.iter().find(|mine| mine.fence.id == place.fence.id && mine.window == place.window);
        let amount = (place.amount - had.map_or(0, |had| had.amount)).max(0);
        Place { amount, ..place.clone() }
    };
    places.iter().map(more).collect()
}
