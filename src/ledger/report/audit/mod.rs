//! Whether the books balance: every charge follows from its own row, every hold has an end, nothing is booked twice,
//! and what the store counts is what the books say.

mod finding;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

pub use finding::Finding;

use crate::ledger::{
    row::{Entry, HoldRow, PlaceRow, PriceUsed, RentHour, Row, SettleRow, Tokens, UnitRow},
    window::Window,
};

/// How many findings are kept in words; all are counted.
pub const MOST_TOLD: usize = 1000;

/// What a store says stands settled in the window of a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The fence's id.
    pub fence: Arc<str>,
    /// The window.
    pub window: Window,
    /// The amount in the fence's unit, without what an edit of the fence moved there from other windows.
    pub settled: i64,
    /// Of this, by the books of other nodes.
    pub elsewhere: i64,
    /// Not all of the other nodes' books is known: the store may count more.
    pub at_least: bool,
}

/// The books as they are read.
#[derive(Debug, Default)]
pub struct Audit {
    standing: HashMap<Arc<str>, Vec<Account>>,
    /// The attempts 1 to this number of each request are booked at revision 0.
    booked: HashMap<Uuid, u32>,
    /// Whatever else is booked.
    booked_beside: HashSet<(Uuid, u32, u32)>,
    open: HashMap<Uuid, Open>,
    /// What follows was written after the store was asked.
    frozen: bool,
    /// All is known that was charged elsewhere after this instant, in milliseconds since 1970; `None` = all.
    rows_since_ms: Option<i64>,
    corrected: HashMap<(Uuid, u32), Corrected>,
    /// The rent of every hour that is booked, by who books it: one, unless an hour is booked twice.
    rents: BTreeMap<RentHour, BTreeMap<Uuid, i128>>,
    /// The hours in which servers were rented and whose rent is not known to be booked.
    rented: BTreeSet<RentHour>,
    /// What is booked at every backend in every hour.
    charged: HashMap<RentHour, i128>,
    outcome: Outcome,
}

/// What an audit came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Settled requests.
    pub requests: u64,
    /// Rows.
    pub rows: u64,
    /// Holds whose time has not run out.
    pub under_way: u64,
    /// What all rows charge, in nano-USD.
    pub charge: i128,
    /// Of this, by rows of requests of which nothing more was heard: at least what the vendors billed.
    pub swept: i128,
    /// What later rows changed of it.
    pub corrected: i128,
    /// The rent of the hours that are booked here.
    pub rent: i128,
    /// Of this, what no request paid for.
    pub unallocated: i128,
    /// Hours of rent that were compared with what is booked.
    pub rents: u64,
    /// Hours of rent that were not compared, since not all is known of the other nodes' rows.
    pub rents_in_part: u64,
    /// Windows of fences that were compared with the store.
    pub compared: u64,
    /// What does not balance, the first [`MOST_TOLD`].
    pub findings: Vec<Finding>,
    /// How much does not balance in all.
    pub found: u64,
}

#[derive(Debug)]
struct Account {
    window: Window,
    store: i64,
    at_least: bool,
    /// Booked in this very window, by whichever node.
    books: i128,
    /// Booked in this window, or admitted in it while the fence had other windows.
    adopted: i128,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    held: i64,
    until_ms: i64,
}

/// An attempt that was swept or corrected: its rows together must follow from its price.
#[derive(Debug, Default)]
struct Corrected {
    base_is_swept: bool,
    revisions: u32,
    charge: i128,
    tokens: Tokens,
    price: Option<PriceUsed>,
}

impl Audit {
    /// An audit against what a store says; without anything, of the books alone.
    pub fn against(standing: impl IntoIterator<Item = Standing>) -> Self {
        let mut audit = Self::default();
        for Standing { fence, window, settled, elsewhere, at_least } in standing {
            let elsewhere = elsewhere.into();
            let account = Account { window, store: settled, at_least, books: elsewhere, adopted: elsewhere };
            audit.standing.entry(fence).or_default().push(account);
        }
        audit
    }

    /// Takes one entry of the journal into account.
    pub fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Hold(HoldRow { id, held_nanousd, until_ms, .. }) => {
                self.open.insert(*id, Open { held: *held_nanousd, until_ms: *until_ms });
            }
            Entry::TopUp(row) => {
                if let Some(open) = self.open.get_mut(&row.id) {
                    open.held = row.held_nanousd;
                }
            }
            Entry::Settle(row) => self.settle(row),
            Entry::Rent(row) => {
                self.rented.insert(RentHour { hour: row.hour, backend: Arc::clone(&row.backend) });
            }
            Entry::RentElsewhere(row) => {
                self.rented.remove(&RentHour { hour: row.hour, backend: Arc::clone(&row.backend) });
            }
            #[allow(unreachable_patterns, reason = "entries that charge nothing are none of an audit's business")]
            _ => {}
        }
    }

    /// Takes what another node has settled into account: it has paid rents, too.
    pub fn elsewhere(&mut self, settled: &SettleRow) {
        settled.rows.iter().for_each(|row| self.rent(row));
    }

    /// Says that all rows of the other nodes are known that were settled after this instant, in milliseconds since 1970, and
    /// not all others, so that nothing can be said of the rents of earlier hours.
    pub fn knows_rows_since(&mut self, ms: i64) {
        self.rows_since_ms = Some(ms);
    }

    /// Says that what follows was written after the store was asked.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Notes bytes of the journal that cannot be read.
    pub fn damage(&mut self, segment: u64, offset: u64, bytes: u64) {
        self.outcome.tell(Finding::Damage { segment, offset, bytes });
    }

    fn settle(&mut self, settled: &SettleRow) {
        self.open.remove(&settled.id);
        self.outcome.requests += u64::from(settled.rows.iter().any(|row| row.revision == 0 && !row.is_rent()));
        let known = self.booked.get(&settled.id).copied().unwrap_or(0);
        let mut last = known;
        for row in &settled.rows {
            if row.revision == 0 && row.attempt == last + 1 {
                last = row.attempt;
            } else if (row.revision == 0 && row.attempt <= last)
                || !self.booked_beside.insert((row.request, row.attempt, row.revision))
            {
                self.outcome.tell(Finding::Twice(id_of(row)));
            }
            self.rent(row);
            self.charge(row);
        }
        if last > known {
            self.booked.insert(settled.id, last);
        }
        for place in &settled.places {
            self.place(place, settled);
        }
    }

    fn charge(&mut self, row: &Row) {
        let charge = i128::from(row.charge_nanousd);
        self.outcome.charge += charge;
        if row.is_rent() {
            self.outcome.rent += i128::from(row.held_nanousd);
            self.outcome.unallocated += charge;
            return;
        }
        self.outcome.rows += 1;
        let wrong = |booked: i64, computed: i64| Finding::WrongCharge { row: id_of(row), booked, computed };
        if row.swept || row.revision > 0 {
            let attempt = self.corrected.entry((row.request, row.attempt)).or_default();
            attempt.add(row);
            if row.swept {
                self.outcome.swept += charge;
                if row.charge_nanousd != row.held_nanousd {
                    self.outcome.tell(wrong(row.charge_nanousd, row.held_nanousd));
                }
            } else {
                self.outcome.corrected += charge;
            }
            return;
        }
        let (native, money) = match &row.price {
            None => (0, 0),
            Some(_) => match row.recomputed() {
                Some((native, money)) => (native, money.nanousd()),
                None => return self.outcome.tell(Finding::BadPrice(id_of(row))),
            },
        };
        if money != row.charge_nanousd {
            self.outcome.tell(wrong(row.charge_nanousd, money));
        } else if native != row.native_nano {
            self.outcome.tell(wrong(row.native_nano, native));
        }
    }

    fn rent(&mut self, row: &Row) {
        let hour = RentHour::of(row);
        if row.is_rent() {
            *self.rents.entry(hour.clone()).or_default().entry(row.request).or_default() +=
                i128::from(row.held_nanousd);
        }
        *self.charged.entry(hour).or_default() += i128::from(row.charge_nanousd);
    }

    /// What is booked at a backend in an hour, the unpaid rest included, is the rent of the hour; and each hour is booked.
    fn compare_rents(&mut self, now_ms: i64) {
        let rows_since_ms = self.rows_since_ms;
        let in_part = |hour: &RentHour| rows_since_ms.is_some_and(|since| hour.hour.saturating_mul(1_000) <= since);
        for (hour, due) in &self.rents {
            self.rented.remove(hour);
            if in_part(hour) {
                self.outcome.rents_in_part += 1;
                continue;
            }
            // Who took its own rows off again holds nothing.
            let due = due.values().copied().max_by_key(|due| due.abs()).unwrap_or(0);
            let booked = self.charged.get(hour).copied().unwrap_or(0);
            self.outcome.rents += 1;
            if booked != due {
                let backend = Arc::clone(&hour.backend);
                self.outcome.tell(Finding::RentDiffers { backend, hour: hour.hour, rent: due, books: booked });
            }
        }
        for hour in self.rented.iter().filter(|hour| hour.due().saturating_mul(1_000) < now_ms) {
            if in_part(hour) {
                self.outcome.rents_in_part += 1;
            } else {
                let backend = Arc::clone(&hour.backend);
                self.outcome.tell(Finding::RentOpen { backend, hour: hour.hour });
            }
        }
    }

    /// Fences around whole requests must be charged what the request's rows come to, all others no more than that.
    fn place(&mut self, place: &PlaceRow, settled: &SettleRow) {
        if let Some(accounts) = self.standing.get_mut(&place.fence).filter(|_| !self.frozen) {
            let window = place.window();
            let admitted = settled.held_at_ms.div_euclid(1000);
            for account in accounts {
                let same = account.window.start == window.start;
                let within = (account.window.start.as_second()..account.window.end.as_second()).contains(&admitted);
                account.books += if same { i128::from(place.amount) } else { 0 };
                account.adopted += if same || within { i128::from(place.amount) } else { 0 };
            }
        }
        let sum = |of: fn(&Row) -> i128| settled.rows.iter().map(of).sum::<i128>();
        let whole = match place.unit {
            UnitRow::Usd => sum(|row| row.charge_nanousd.into()),
            UnitRow::Tokens if !settled.swept => sum(|row| row.tokens.input as i128 + row.tokens.output as i128),
            UnitRow::Concurrent => 0,
            UnitRow::Tokens | UnitRow::Requests => return,
        };
        let of_attempts = ["model/", "backend/", "provider/"].iter().any(|kind| place.fence.starts_with(kind));
        let amount = i128::from(place.amount);
        // A sweep charges a fence what was held in it, which an attempt's fence need not share.
        if if of_attempts { !settled.swept && amount > whole } else { amount != whole } {
            let fence = Arc::clone(&place.fence);
            self.outcome.tell(Finding::WrongPlace { request: settled.id, fence, booked: amount, computed: whole });
        }
    }

    /// What it came to. Holds whose time ran out before `now_ms` should have been swept by then.
    pub fn finish(mut self, now_ms: i64) -> Outcome {
        let mut overdue: Vec<_> = self.open.iter().filter(|(_, open)| open.until_ms < now_ms).collect();
        overdue.sort_by_key(|(request, _)| **request);
        for (request, open) in &overdue {
            self.outcome.tell(Finding::NoEnd { request: **request, held: open.held, until_ms: open.until_ms });
        }
        self.outcome.under_way = u64::try_from(self.open.len() - overdue.len()).unwrap_or(u64::MAX);
        let mut corrected: Vec<_> = self.corrected.iter().collect();
        corrected.sort_by_key(|(key, _)| **key);
        for ((request, attempt), rows) in corrected {
            if let Some(computed) = rows.disagrees() {
                let row = (*request, *attempt, rows.revisions);
                let booked = i64::try_from(rows.charge).unwrap_or(i64::MAX);
                self.outcome.tell(Finding::WrongCharge { row, booked, computed });
            }
        }
        self.compare_rents(now_ms);
        let mut standing: Vec<_> = self.standing.iter().collect();
        standing.sort_by_key(|(fence, _)| Arc::clone(fence));
        for (fence, accounts) in standing {
            for account in accounts {
                let Account { window, store, books, .. } = account;
                self.outcome.compared += 1;
                if account.differs() {
                    let fence = Arc::clone(fence);
                    self.outcome.tell(Finding::StoreDiffers { fence, window: *window, store: *store, books: *books });
                }
            }
        }
        self.outcome
    }
}

impl Account {
    fn differs(&self) -> bool {
        let store = i128::from(self.store);
        if self.at_least { store < self.books.min(self.adopted) } else { store != self.books && store != self.adopted }
    }
}

impl Outcome {
    fn tell(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < MOST_TOLD {
            self.findings.push(finding);
        }
    }
}

impl Corrected {
    fn add(&mut self, row: &Row) {
        self.base_is_swept |= row.swept && row.revision == 0;
        self.revisions = self.revisions.max(row.revision);
        self.charge += i128::from(row.charge_nanousd);
        for (sum, more) in [
            (&mut self.tokens.input, row.tokens.input),
            (&mut self.tokens.cached_input, row.tokens.cached_input),
            (&mut self.tokens.cache_write, row.tokens.cache_write),
            (&mut self.tokens.audio_input, row.tokens.audio_input),
            (&mut self.tokens.output, row.tokens.output),
            (&mut self.tokens.reasoning, row.tokens.reasoning),
            (&mut self.tokens.audio_output, row.tokens.audio_output),
        ] {
            *sum = sum.saturating_add(more);
        }
        if row.price.is_some() {
            self.price.clone_from(&row.price);
        }
    }

    /// What a swept attempt should have come to, once it was corrected, if it did not. What a correction by hand
    /// corrects is not all here.
    fn disagrees(&self) -> Option<i64> {
        let corrected = self.base_is_swept && self.revisions > 0;
        let (_, money) = self.price.as_ref().filter(|_| corrected)?.charge(&self.tokens)?;
        (i128::from(money.nanousd()) != self.charge).then_some(money.nanousd())
    }
}

fn id_of(row: &Row) -> (Uuid, u32, u32) {
    (row.request, row.attempt, row.revision)
}

#[cfg(test)]
mod tests;
