//! The rent of own servers: whatever no request paid of it is booked, so that the books come to the rent.
//!
//! An hour counts whole as soon as a gateway has found servers of a backend rented in it: rents are paid by the hour, and
//! how long a gateway was away within one nobody knows. How many servers there were, and at what price, is written down when
//! it changes ([`RentRow`]); the first that is known of an hour counts from its beginning. An hour is booked when all that
//! was dispatched in it has surely ended, as a row of its own: `rent - what requests were charged there`. That is below
//! nothing where they were charged more than the rent. What is charged later all the same, since a gateway that was killed
//! came back with it, is taken off again by a further row (its next revision), for some hours.
//!
//! The row's id is made of hour, backend and node, and the hour is no longer open once it is booked, in the journal: so
//! whatever ended the process, it is booked once. Of several nodes on one store the one books it that the store says; to
//! all others the hour stays open until they have read its row, since it may never come. Where a node was relieved that had
//! booked the hour and could not tell, two rows come: both nodes read both, and the one with the greater id takes its own
//! off again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Books, mirror_folder};
use crate::{
    base::rent::{Stretch, due},
    ledger::{
        journal::{Reader, Reading, encode},
        row::{About, Entry, RENT, RENT_GRACE, RentElsewhereRow, RentHour, RentRow, Row, Served, SettleRow, Tokens},
    },
};

const HOUR: i64 = 3_600;
/// Seconds after the end of an hour until which what was charged late is taken off.
const LATE: i64 = 3 * HOUR;
/// Seconds between two looks for it, each of which reads the journal of those hours; the last one comes when they are over.
const LOOK: i64 = 20 * 60;
/// Seconds by which the store's clock, which dates other nodes' rows, may be off.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// The servers of a backend that are rented now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rented {
    /// The backend.
    pub backend: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// How many; `None` = none is known yet, as when the name server was away since the start: what is paid all the same
    /// nobody knows.
    pub servers: Option<u32>,
    /// What an hour of one costs, in billionths of its currency's unit.
    pub rent_nano: i64,
    /// What one unit of the currency is worth, in nano-USD.
    pub exchange_nanousd: i64,
}

/// What the journal says of rents.
#[derive(Debug, Default)]
pub(super) struct Rents {
    open: BTreeMap<RentHour, Vec<RentRow>>,
    /// Rows that book the rest of late hours.
    rested: Vec<Row>,
    /// When it was last looked what was charged late, in seconds since 1970.
    looked: BTreeMap<RentHour, i64>,
}

/// What is booked of one hour.
#[derive(Clone, Copy, Debug, Default)]
struct Booked {
    /// The request that its rows are of.
    request: Uuid,
    due: i128,
    rest: i128,
    revision: u32,
    /// It is booked for the first time.
    first: bool,
}

impl Rents {
    pub(super) fn of(open: Vec<RentRow>, rested: Vec<Row>) -> Self {
        let mut rents = Self { rested, ..Self::default() };
        open.into_iter().for_each(|row| rents.note(row));
        rents
    }

    pub(super) fn note(&mut self, row: RentRow) {
        let hour = RentHour { hour: row.hour, backend: Arc::clone(&row.backend) };
        self.open.entry(hour).or_default().push(row);
    }

    pub(super) fn booked(&mut self, settled: &SettleRow) {
        for row in settled.rows.iter().filter(|row| row.is_rent()) {
            self.open.remove(&RentHour::of(row));
            self.rested.retain(|other| other.at_ms + 1_000 * (LATE + 2 * HOUR) > row.at_ms);
            self.rested.push(row.clone());
        }
        let Self { rested, looked, .. } = self;
        looked.retain(|hour, _| rested.iter().any(|row| RentHour::of(row) == *hour));
    }

    /// Another node books it, and this one does not any more.
    pub(super) fn elsewhere(&mut self, hour: &RentHour) {
        self.open.remove(hour);
        self.rested.retain(|row| RentHour::of(row) != *hour);
    }

    pub(super) fn rows(&self) -> Vec<RentRow> {
        self.open.values().flatten().cloned().collect()
    }

    pub(super) fn rested(&self) -> &[Row] {
        &self.rested
    }

    /// What this node has booked of an hour.
    fn booked_of(&self, hour: &RentHour) -> Option<Booked> {
        let rows: Vec<&Row> = self.rested.iter().filter(|row| RentHour::of(row) == *hour).collect();
        Some(Booked {
            request: rows.first()?.request,
            due: rows.iter().map(|row| i128::from(row.held_nanousd)).sum(),
            rest: rows.iter().map(|row| i128::from(row.charge_nanousd)).sum(),
            revision: rows.iter().map(|row| row.revision + 1).max().unwrap_or(0),
            first: false,
        })
    }

    /// The hours that this node has booked and of which it is to be looked at `now` what was charged late.
    fn late(&self, now: i64) -> Vec<RentHour> {
        let hours: BTreeSet<RentHour> = self.rested.iter().map(RentHour::of).collect();
        let is_due = |hour: &RentHour| {
            let ends = hour.hour + HOUR + LATE;
            // What a gateway finds that was away for long is not looked for any more: it would read all of that time.
            now < ends + HOUR && self.looked.get(hour).is_none_or(|at| *at < ends && (now >= ends || now - at >= LOOK))
        };
        hours.into_iter().filter(is_due).collect()
    }
}

impl Books {
    /// Notes what is rented now.
    ///
    /// # Errors
    /// As [`Books::begin`].
    pub fn note_rent(&self, rented: &Rented, now: Timestamp) -> io::Result<()> {
        let Some(servers) = rented.servers.filter(|_| self.folder.is_some()) else { return Ok(()) };
        let hour = RentHour { hour: now.as_second().div_euclid(HOUR) * HOUR, backend: Arc::clone(&rented.backend) };
        let mut state = self.lock();
        let last = state.rents.open.get(&hour).and_then(|rows| rows.last());
        let same = last.is_some_and(|last| {
            let seen = (last.servers, last.rent_nano, last.exchange_nanousd);
            seen == (servers, rented.rent_nano, rented.exchange_nanousd)
        });
        // A clock that was put back brings no hour back.
        if same || (last.is_none() && servers == 0) || state.rents.booked_of(&hour).is_some() {
            return Ok(());
        }
        let entry = Entry::Rent(RentRow {
            backend: hour.backend,
            provider: Arc::clone(&rented.provider),
            hour: hour.hour,
            at_ms: now.as_millisecond(),
            servers,
            rent_nano: rented.rent_nano,
            exchange_nanousd: rented.exchange_nanousd,
        });
        state.write(&encode(&entry)?)?;
        state.fold(entry);
        drop(state);
        self.wrote();
        Ok(())
    }

    /// The hours that are to be booked.
    pub fn rents_over(&self, now: Timestamp) -> Vec<RentHour> {
        let over = now.as_second() - HOUR - RENT_GRACE;
        self.lock().rents.open.keys().filter(|hour| hour.hour <= over).cloned().collect()
    }

    /// The hours that this node has booked and that are to be corrected, if anything was charged late.
    pub fn rents_late(&self, now: Timestamp) -> Vec<RentHour> {
        self.lock().rents.late(now.as_second())
    }

    /// Takes note of the row `told` by which `node` books the rent of an hour. If this node has booked it too, the row with
    /// the smaller id stays.
    ///
    /// # Errors
    /// As [`Books::begin`].
    pub fn rent_elsewhere(&self, told: &Row, node: &str, now: Timestamp) -> io::Result<()> {
        let hour = RentHour::of(told);
        let (is_open, booked) = {
            let rents = &self.lock().rents;
            (rents.open.contains_key(&hour), rents.booked_of(&hour))
        };
        let mine = booked.filter(|booked| booked.request > told.request);
        if !is_open && mine.is_none() {
            return Ok(());
        }
        if let Some(booked) = mine.filter(|booked| booked.due != 0 || booked.rest != 0) {
            let provider = Arc::clone(&told.served.provider);
            self.settle(&[], settlement(&hour, provider, booked, (-booked.due, -booked.rest), now));
        }
        let (backend, node) = (Arc::clone(&hour.backend), node.to_owned());
        let entry = Entry::RentElsewhere(RentElsewhereRow { backend, hour: hour.hour, node });
        let mut state = self.lock();
        state.write(&encode(&entry)?)?;
        state.fold(entry);
        drop(state);
        self.wrote();
        Ok(())
    }

    /// Books what no request paid of those of `hours` that are open, and takes off what was charged late in those that this
    /// node, `node`, has booked. Reads the journal: not for the path of a request.
    ///
    /// # Errors
    /// The system's error when the journal cannot be read.
    pub fn settle_rents(&self, hours: &[RentHour], node: &str, now: Timestamp) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut rents = BTreeMap::new();
        let mut providers: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        {
            let state = self.lock();
            providers.extend(state.rents.rested.iter().map(provider));
            for hour in hours {
                if let Some(rows) = state.rents.open.get(hour) {
                    let due = due(stretches(hour, rows)).nanousd().into();
                    let request = id(hour, node.as_bytes(), 0);
                    rents.insert(hour.clone(), Booked { request, due, first: true, ..Booked::default() });
                    providers.extend(rows.iter().map(|row| (Arc::clone(&row.backend), Arc::clone(&row.provider))));
                } else if let Some(booked) = state.rents.booked_of(hour) {
                    rents.insert(hour.clone(), booked);
                }
            }
        }
        let paid = paid(folder, &rents.keys().cloned().collect())?;
        for (hour, booked) in rents {
            let rest = booked.due - booked.rest - paid.get(&hour).copied().unwrap_or(0);
            if booked.first || rest != 0 {
                let provider = providers.get(&hour.backend).cloned().unwrap_or_default();
                let due = if booked.first { booked.due } else { 0 };
                self.settle(&[], settlement(&hour, provider, booked, (due, rest), now));
            }
            self.lock().rents.looked.insert(hour, now.as_second());
        }
        Ok(())
    }
}

fn provider(row: &Row) -> (Arc<str>, Arc<str>) {
    (Arc::clone(&row.served.backend), Arc::clone(&row.served.provider))
}

/// What was rented when. A clock that was put back makes a stretch of nothing.
fn stretches(hour: &RentHour, rows: &[RentRow]) -> Vec<Stretch> {
    let (start, end) = (hour.hour * 1_000, (hour.hour + HOUR) * 1_000);
    let begins = |place: usize| if place == 0 { start } else { rows[place].at_ms.clamp(start, end) };
    let stretch = |(place, row): (usize, &RentRow)| {
        let until = if place + 1 < rows.len() { begins(place + 1) } else { end };
        let millis = u64::try_from(until.saturating_sub(begins(place))).unwrap_or(0);
        let RentRow { servers, rent_nano: hour, exchange_nanousd, .. } = *row;
        Stretch { millis, servers, hour, exchange_nanousd }
    };
    rows.iter().enumerate().map(stretch).collect()
}

/// What requests were charged in each of `hours`, by all nodes as far as this one knows.
fn paid(folder: &Path, hours: &BTreeSet<RentHour>) -> io::Result<BTreeMap<RentHour, i128>> {
    let mut paid: BTreeMap<RentHour, i128> = BTreeMap::new();
    let Some(since) = hours.first().and_then(|first| Timestamp::from_second(first.hour).ok()) else { return Ok(paid) };
    let mut add = |settled: &SettleRow| {
        for row in settled.rows.iter().filter(|row| !row.is_rent()) {
            let hour = RentHour::of(row);
            if hours.contains(&hour) {
                *paid.entry(hour).or_default() += i128::from(row.charge_nanousd);
            }
        }
    };
    let others = Reader::since(&mirror_folder(folder), since.checked_sub(SKEW).unwrap_or(Timestamp::MIN))?;
    for reading in others.chain(Reader::since(folder, since)?) {
        let Reading::Entry(entry, _) = reading? else { continue };
        match *entry {
            Entry::Settle(row) => add(&row),
            Entry::Told(told) => told.settled.iter().for_each(&mut add),
            _ => {}
        }
    }
    Ok(paid)
}

/// The row of an hour, as a settled request of nobody: by so much its rent and the rest of it rise.
fn settlement(
    hour: &RentHour,
    provider: Arc<str>,
    booked: Booked,
    (due, rest): (i128, i128),
    now: Timestamp,
) -> SettleRow {
    let amount = |sum: i128| i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX });
    let row = Row {
        request: booked.request,
        attempt: 1,
        revision: booked.revision,
        hedge: false,
        at_ms: hour.hour * 1_000,
        about: Arc::new(About { operation: RENT.into(), ..About::default() }),
        served: Served { backend: Arc::clone(&hour.backend), provider, ..Served::default() },
        outcome: "unallocated".into(),
        tokens: Tokens::default(),
        price: None,
        native_nano: 0,
        charge_nanousd: amount(rest),
        held_nanousd: amount(due),
        estimated: false,
        swept: false,
    };
    SettleRow {
        // A store remembers for a while what it has settled by this.
        id: id(hour, booked.request.as_bytes(), booked.revision),
        held_at_ms: row.at_ms,
        at_ms: now.as_millisecond(),
        places: Vec::new(),
        rows: vec![row],
        swept: false,
    }
}

/// The same whenever it is made (RFC 9562 §5.8): when, in its first 48 bits as in those of requests, and a hash.
fn id(hour: &RentHour, of: &[u8], revision: u32) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(hour.hour.to_be_bytes());
    hash.update(revision.to_be_bytes());
    hash.update((hour.backend.len() as u64).to_be_bytes());
    hash.update(hour.backend.as_bytes());
    hash.update(of);
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    let millis = u64::try_from(hour.hour).unwrap_or(0).saturating_mul(1_000).to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests;
