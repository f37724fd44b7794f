//! The rent of own servers in the books: what an hour of a backend costs, as it is found, and what no request paid of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Row;

/// The operation of rows for what no request paid of a rent. Such a row is of no team; what it holds is the rent, what it
/// charges is the rest.
pub const RENT: &str = "rent";

/// Seconds after the end of an hour by which what was dispatched in it has ended: more than `HOLD_TTL` of the ledger.
pub const RENT_GRACE: i64 = 20 * 60;

/// Seconds after which a node may relieve another that was to book an hour, and whose row has not come.
pub const RENT_PATIENCE: i64 = 3_600;

/// So many servers of a backend are rented from now on, until another row of the hour says otherwise or it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RentRow {
    /// The backend.
    pub backend: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// The first second of the hour since 1970.
    pub hour: i64,
    /// When, in milliseconds since 1970. The first row of an hour counts from its beginning.
    pub at_ms: i64,
    /// How many.
    pub servers: u32,
    /// What an hour of one costs, in billionths of its currency's unit.
    pub rent_nano: i64,
    /// What one unit of the currency was worth, in nano-USD.
    pub exchange_nanousd: i64,
}

/// The rent of an hour is booked by another node, whose row is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RentElsewhereRow {
    /// The backend.
    pub backend: Arc<str>,
    /// The first second of the hour since 1970.
    pub hour: i64,
    /// Which.
    pub node: String,
}

/// One hour of one backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RentHour {
    /// Its first second since 1970.
    pub hour: i64,
    /// The backend.
    pub backend: Arc<str>,
}

impl RentHour {
    /// The hour in which `row` was dispatched, at its backend.
    pub fn of(row: &Row) -> Self {
        let hour = row.at_ms.div_euclid(3_600_000).saturating_mul(3_600);
        Self { hour, backend: Arc::clone(&row.served.backend) }
    }

    /// The second since 1970 by which its rent is booked by somebody, unless nobody can.
    pub const fn due(&self) -> i64 {
        self.hour.saturating_add(3_600 + 2 * RENT_GRACE + RENT_PATIENCE)
    }
}

impl Row {
    /// Whether it books what no request paid of a rent, and is no attempt.
    pub fn is_rent(&self) -> bool {
        &*self.about.operation == RENT
    }
}
