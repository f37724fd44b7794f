//! Rows as they are stored: versioned, readable by later releases. A field that is added has a default; a field that
//! loses its meaning keeps its name.

mod attempt;
pub mod edits;
pub mod keys;
mod mirror;
mod rent;
pub mod switches;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::switches::SwitchRow;
pub use attempt::{About, PriceUsed, Row, Served, Tokens};
pub use mirror::{LastRow, MirrorRow, PeerRow, SweepRow, ToldRow};
pub use rent::{RENT, RENT_GRACE, RENT_PATIENCE, RentElsewhereRow, RentHour, RentRow};

use super::window::Window;
use crate::base::fences::Unit;

/// The outcome of an attempt of which nothing more was heard.
pub const SWEPT: &str = "swept";

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A request is about to be dispatched.
    Hold(HoldRow),
    /// It holds more now.
    TopUp(TopUpRow),
    /// It has ended; its attempts are booked.
    Settle(SettleRow),
    /// A budget is raised for a while.
    Raise(RaiseRow),
    /// Something is switched off, or on again.
    Switch(SwitchRow),
    /// What a dead node leases is given back.
    Release(ReleaseRow),
    /// Another node has settled something: in segments of their own.
    Told(ToldRow),
    /// Servers are rented.
    Rent(RentRow),
    /// Their rent is booked by another node.
    RentElsewhere(RentElsewhereRow),
}

/// What a dead node leases is given back, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// The node.
    pub node: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// For how long nothing had been heard of it, in milliseconds.
    pub silent_ms: i64,
    /// What it was last heard to lease.
    pub slices: String,
    /// Who said so.
    pub who: String,
    /// Why.
    pub why: String,
}

/// A budget that is raised for a while, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseRow {
    /// Its own id.
    pub id: Uuid,
    /// The fence's id.
    pub fence: Arc<str>,
    /// What the fence counts.
    pub unit: UnitRow,
    /// What is added to its cap.
    pub amount: i64,
    /// From when, in milliseconds since 1970.
    pub from_ms: i64,
    /// The first instant at which it holds no more, in milliseconds since 1970.
    pub until_ms: i64,
    /// Who raised it.
    pub who: String,
    /// Why.
    pub why: String,
}

/// A request that is about to be dispatched: what it may cost, and who would pay if nothing more were heard of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldRow {
    /// The request.
    pub id: Uuid,
    /// When it was admitted, in milliseconds since 1970.
    pub at_ms: i64,
    /// When it is taken for dead, in milliseconds since 1970.
    pub until_ms: i64,
    /// Who asks for what.
    pub about: Arc<About>,
    /// The candidate that is tried first.
    pub first: Served,
    /// An upper bound on its cost.
    pub held_nanousd: i64,
    /// What is held where.
    pub places: Vec<PlaceRow>,
}

/// What a request holds from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopUpRow {
    /// The request.
    pub id: Uuid,
    /// An upper bound on its cost.
    pub held_nanousd: i64,
    /// All its places, with the whole amounts.
    pub places: Vec<PlaceRow>,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettleRow {
    /// The request.
    pub id: Uuid,
    /// When it was admitted, in milliseconds since 1970.
    pub held_at_ms: i64,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// What is charged where; what was held there is free again.
    pub places: Vec<PlaceRow>,
    /// Its attempts.
    pub rows: Vec<Row>,
    /// Nothing was heard of it any more: what was held is charged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swept: bool,
}

/// What the books amount to at a position of the journal, so that a start need not read all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The segment of the position.
    pub segment: u64,
    /// Its byte.
    pub offset: u64,
    /// What is settled in the current window of every fence.
    pub settled: Vec<PlaceRow>,
    /// Requests under way.
    pub open: Vec<HoldRow>,
    /// Raises that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raises: Vec<RaiseRow>,
    /// The newest word on everything that was ever switched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<SwitchRow>,
    /// What is rented in hours whose rent is not booked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rents: Vec<RentRow>,
    /// What was booked lately of rents that no request paid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rested: Vec<Row>,
    /// What was settled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRow>,
}

/// An amount in one window of one fence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceRow {
    /// The fence's id.
    pub fence: Arc<str>,
    /// What it counts.
    pub unit: UnitRow,
    /// The window's first second since 1970.
    pub from: i64,
    /// The first second after it.
    pub to: i64,
    /// The amount in the unit.
    pub amount: i64,
}

/// [`Unit`] at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitRow {
    /// Nano-USD.
    Usd,
    /// Tokens.
    Tokens,
    /// Requests.
    Requests,
    /// Requests under way.
    Concurrent,
}

impl From<Unit> for UnitRow {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Money => Self::Usd,
            Unit::Tokens => Self::Tokens,
            Unit::Requests => Self::Requests,
            Unit::Concurrent => Self::Concurrent,
        }
    }
}

impl From<UnitRow> for Unit {
    fn from(unit: UnitRow) -> Self {
        match unit {
            UnitRow::Usd => Self::Money,
            UnitRow::Tokens => Self::Tokens,
            UnitRow::Requests => Self::Requests,
            UnitRow::Concurrent => Self::Concurrent,
        }
    }
}

impl HoldRow {
    /// How a request ends of which nothing more will be heard: everything that it held is charged.
    pub fn swept(self, at: Timestamp) -> SettleRow {
        let charged = |place: PlaceRow| PlaceRow {
            // A place among the requests under way is free again, whatever became of the request.
            amount: if place.unit == UnitRow::Concurrent { 0 } else { place.amount },
            ..place
        };
        let row = Row {
            request: self.id,
            attempt: 1,
            revision: 0,
            hedge: false,
            at_ms: self.at_ms,
            about: self.about,
            served: self.first,
            outcome: SWEPT.into(),
            tokens: Tokens::default(),
            price: None,
            native_nano: 0,
            charge_nanousd: self.held_nanousd,
            held_nanousd: self.held_nanousd,
            estimated: true,
            swept: true,
        };
        SettleRow {
            id: self.id,
            held_at_ms: self.at_ms,
            at_ms: at.as_millisecond(),
            places: self.places.into_iter().map(charged).collect(),
            rows: vec![row],
            swept: true,
        }
    }
}

impl Entry {
    /// When it was written, in milliseconds since 1970; `None` for a top-up, which stands behind its hold, and for what
    /// operators do, which may have been done at another gateway and long before.
    pub fn at_ms(&self) -> Option<i64> {
        match self {
            Self::Hold(row) => Some(row.at_ms),
            Self::TopUp(_) | Self::Raise(_) | Self::Switch(_) | Self::RentElsewhere(_) => None,
            Self::Rent(row) => Some(row.at_ms),
            Self::Settle(row) => Some(row.at_ms),
            Self::Release(row) => Some(row.at_ms),
            Self::Told(row) => row.id.split('-').next().and_then(|ms| ms.parse().ok()),
        }
    }
}

impl PlaceRow {
    /// The window; damaged seconds are all of time.
    pub fn window(&self) -> Window {
        let instant = Timestamp::from_second;
        match (instant(self.from), instant(self.to)) {
            (Ok(start), Ok(end)) => Window { start, end },
            _ => Window::ALWAYS,
        }
    }
}
