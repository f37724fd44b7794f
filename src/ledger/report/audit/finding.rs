//! What an audit finds, in words.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{base::money::write_nano, ledger::window::Window};

/// Something that does not balance. A row is (request, attempt, revision).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Bytes of the journal that are no entry.
    Damage {
        /// The segment.
        segment: u64,
        /// The byte at which they begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
    },
    /// A hold that was neither settled nor swept in its time.
    NoEnd {
        /// The request.
        request: Uuid,
        /// What it holds, in nano-USD.
        held: i64,
        /// When its time ran out, in milliseconds since 1970.
        until_ms: i64,
    },
    /// A row that is booked twice.
    Twice((Uuid, u32, u32)),
    /// A charge that does not follow from its own row, in billionths.
    WrongCharge {
        /// The row.
        row: (Uuid, u32, u32),
        /// What is booked.
        booked: i64,
        /// What tokens × price × factor × exchange make; of a swept row, what was held.
        computed: i64,
    },
    /// A price that is damaged.
    BadPrice((Uuid, u32, u32)),
    /// A fence that was charged something else than the request's rows come to, in its unit.
    WrongPlace {
        /// The request.
        request: Uuid,
        /// The fence's id.
        fence: Arc<str>,
        /// What was charged there.
        booked: i128,
        /// What the rows come to.
        computed: i128,
    },
    /// An hour in which something else than its rent is booked at a backend, in nano-USD.
    RentDiffers {
        /// The backend.
        backend: Arc<str>,
        /// The first second of the hour.
        hour: i64,
        /// The rent.
        rent: i128,
        /// What requests and the unpaid rest come to.
        books: i128,
    },
    /// An hour in which servers were rented, and whose rent nobody has booked by the time that somebody should have.
    RentOpen {
        /// The backend.
        backend: Arc<str>,
        /// The first second of the hour.
        hour: i64,
    },
    /// A window in which the store counts something else than is booked, in the fence's unit.
    StoreDiffers {
        /// The fence's id.
        fence: Arc<str>,
        /// The window.
        window: Window,
        /// What the store counts.
        store: i64,
        /// What is booked.
        books: i128,
    },
}

impl Finding {
    /// The word for its kind in answers.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Damage { .. } => "damage",
            Self::NoEnd { .. } => "hold_without_end",
            Self::Twice(_) => "booked_twice",
            Self::WrongCharge { .. } => "wrong_charge",
            Self::BadPrice(_) => "damaged_price",
            Self::WrongPlace { .. } => "wrong_place",
            Self::RentDiffers { .. } => "rent_differs",
            Self::RentOpen { .. } => "rent_not_booked",
            Self::StoreDiffers { .. } => "store_differs",
        }
    }
}

/// Billionths as a decimal.
struct Nano(i128);

impl fmt::Display for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_nano(f, self.0)
    }
}

struct RowId<'a>(&'a (Uuid, u32, u32));

impl fmt::Display for RowId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (request, attempt, revision) = self.0;
        write!(f, "request {request}, attempt {attempt}")?;
        if *revision > 0 {
            write!(f, ", revision {revision}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage { segment, offset, bytes } => {
                write!(f, "{bytes} bytes at byte {offset} of segment {segment} are no entry")
            }
            Self::NoEnd { request, held, until_ms } => {
                let until = Timestamp::from_millisecond(*until_ms).unwrap_or_default();
                write!(f, "request {request} holds {} USD without an end since {until}", Nano((*held).into()))
            }
            Self::Twice(row) => write!(f, "{} is booked twice", RowId(row)),
            Self::WrongCharge { row, booked, computed } => {
                let (booked, computed) = (Nano((*booked).into()), Nano((*computed).into()));
                write!(f, "{} is booked as {booked}, its own row makes {computed}", RowId(row))
            }
            Self::BadPrice(row) => write!(f, "{} has a price that cannot be read", RowId(row)),
            Self::WrongPlace { request, fence, booked, computed } => {
                write!(f, "request {request} charged {booked} to `{fence}`, its rows come to {computed}")
            }
            Self::RentDiffers { backend, hour, rent, books } => {
                let hour = Timestamp::from_second(*hour).unwrap_or_default();
                let (rent, books) = (Nano(*rent), Nano(*books));
                write!(f, "the hour of {hour} of `{backend}` is rented for {rent} USD, {books} USD are booked")
            }
            Self::RentOpen { backend, hour } => {
                let hour = Timestamp::from_second(*hour).unwrap_or_default();
                write!(f, "the rent of the hour of {hour} of `{backend}` is not booked")
            }
            Self::StoreDiffers { fence, window, store, books } => {
                let Window { start, end } = window;
                write!(f, "`{fence}` from {start} to {end}: the store counts {store}, the books {books}")
            }
        }
    }
}
