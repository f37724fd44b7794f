//! The accounts of a backend: which of them serves next, and what becomes of each.
//!
//! What is known of one is `policy::account`'s; here each has a lock and outlives a reload, by its name.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{lock, seen::AccountSeen};
use crate::{
    base::{
        catalog::{Account, Backend, Pick},
        names::AccountName,
        tenants::Limits,
    },
    policy::{
        Unavailable,
        account::{self, Boarded, Busy, End, Passage},
    },
};

/// One account.
#[derive(Debug)]
pub struct Seat {
    /// Its name.
    pub name: AccountName,
    key: Option<SecretString>,
    known: Mutex<account::Account>,
}

/// The accounts of one backend.
#[derive(Debug)]
pub(super) struct Accounts {
    seats: Vec<(Arc<Seat>, Limits)>,
    pick: Pick,
    turn: AtomicUsize,
}

/// An account's place for one request, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Berth {
    /// Which of the backend's accounts.
    pub(super) number: usize,
    pub(super) seat: Arc<Seat>,
    limits: Limits,
    boarded: Boarded,
}

/// How an account is left alone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    /// Nobody is sent for so long: its vendor said so, or turned the credential away.
    Parked(Duration),
    /// Others are sent first for so long.
    Eased(Duration),
}

impl Accounts {
    /// Those of `backend`; what `before` knew of one of the same name stays, unless it has another credential now: that one
    /// was neither turned away nor asked to wait.
    pub(super) fn new(backend: &Backend, before: Option<&Self>) -> Self {
        let seat = |account: &Account| {
            let same = |seat: &Seat| seat.name == account.name && seat.has(account.api_key.as_ref());
            let known = before.and_then(|before| before.seats.iter().find(|(seat, _)| same(seat)));
            let (name, key) = (account.name.clone(), account.api_key.clone());
            let new = || Arc::new(Seat { name, key, known: Mutex::default() });
            (known.map_or_else(new, |(seat, _)| Arc::clone(seat)), account.limits)
        };
        let seats = backend.accounts.iter().map(seat).collect();
        Self { seats, pick: backend.pick, turn: AtomicUsize::new(0) }
    }

    /// Why none of them takes such a request, if none does.
    pub(super) fn closed(&self, passage: &Passage<'_>, now: Duration) -> Option<Unavailable> {
        let mut soonest = None;
        for (seat, limits) in &self.seats {
            let busy = lock(&seat.known).busy(limits, passage, now)?;
            soonest = Some(soonest.map_or(busy, |other| sooner(other, busy)));
        }
        soonest.map(|busy| match busy {
            Busy::For(wait) => Unavailable::Parked(wait),
            Busy::Full => Unavailable::Full,
            Busy::Crowded => Unavailable::Crowded,
        })
    }

    /// Whether the next such request would go to `last`, who served the one before.
    pub(super) fn keeps(&self, last: &Arc<Seat>, passage: &Passage<'_>, now: Duration) -> bool {
        let free = |(seat, limits): &&(Arc<Seat>, Limits)| lock(&seat.known).busy(limits, passage, now).is_none();
        match self.pick {
            Pick::Order => self.seats.iter().find(free).is_some_and(|(first, _)| Arc::ptr_eq(first, last)),
            Pick::Spread => self.seats.iter().filter(|(seat, _)| Arc::ptr_eq(seat, last)).any(|known| free(&known)),
        }
    }

    /// Lets a request through at the account that is next: `last` if it takes it and they take turns, since that one has the
    /// conversation's prompt cached.
    ///
    /// # Errors
    /// What would be free first, where none takes it.
    pub(super) fn board(&self, last: Option<&Arc<Seat>>, passage: &Passage<'_>, now: Duration) -> Result<Berth, Busy> {
        let (count, spread) = (self.seats.len(), self.pick == Pick::Spread);
        let warm =
            last.filter(|_| spread).and_then(|last| self.seats.iter().position(|(seat, _)| Arc::ptr_eq(seat, last)));
        if let Some(place) = warm.and_then(|number| self.place(number, passage, false, now).ok()) {
            return Ok(place);
        }
        let first = if spread { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let turns = || (0..count).map(|step| first.wrapping_add(step) % count);
        let free = turns().find_map(|number| self.place(number, passage, false, now).ok());
        // That somebody may be asked was decided; what was learned of all meanwhile does not turn a request away.
        if let Some(free) = free {
            return Ok(free);
        }
        let mut soonest = None;
        for number in turns() {
            match self.place(number, passage, true, now) {
                Ok(place) => return Ok(place),
                Err(busy) => soonest = Some(soonest.map_or(busy, |other| sooner(other, busy))),
            }
        }
        Err(soonest.unwrap_or(Busy::Full))
    }

    fn place(&self, number: usize, passage: &Passage<'_>, anyway: bool, now: Duration) -> Result<Berth, Busy> {
        let (seat, limits) = self.seats.get(number).ok_or(Busy::Full)?;
        let boarded = lock(&seat.known).board(limits, passage, anyway, now)?;
        Ok(Berth { number, seat: Arc::clone(seat), limits: *limits, boarded })
    }

    /// Whether that account is left alone now.
    pub(super) fn is_parked(&self, account: &str, now: Duration) -> bool {
        let known = self.seats.iter().find(|(seat, _)| seat.name.as_str() == account);
        known.is_some_and(|(seat, _)| seat.parked(now).is_some())
    }

    /// What is seen of each, for operators.
    pub(super) fn seen(&self, now: Duration) -> Vec<AccountSeen> {
        self.seats.iter().map(|(seat, limits)| seat.seen(limits, now)).collect()
    }

    /// Each of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().map(|(seat, _)| seat)
    }
}

/// Who is crowded may be tried all the same, who is full may be free at any moment; of waits the shorter counts.
fn sooner(one: Busy, other: Busy) -> Busy {
    match (one, other) {
        (Busy::Crowded, _) | (_, Busy::Crowded) => Busy::Crowded,
        (Busy::For(one), Busy::For(other)) => Busy::For(one.min(other)),
        _ => Busy::Full,
    }
}

impl Berth {
    /// Its request is over: how, and how its account is to be left alone. Returns for how long that parked an account that
    /// was not.
    pub(super) fn ended(&self, end: End, rest: Option<Rest>, now: Duration) -> Option<Duration> {
        let mut known = lock(&self.seat.known);
        known.ended(&self.limits, &self.boarded, end, now);
        match rest? {
            Rest::Parked(wait) => {
                let was_free = known.parked(now).is_none();
                known.park(wait, now);
                was_free.then_some(wait)
            }
            Rest::Eased(wait) => {
                known.ease(wait, now);
                None
            }
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        lock(&self.seat.known).left(&self.boarded);
    }
}

impl Seat {
    /// Whether this is its credential. Both are of the operator's own files.
    fn has(&self, key: Option<&SecretString>) -> bool {
        self.key.as_ref().map(SecretString::expose_secret) == key.map(SecretString::expose_secret)
    }

    /// For how long it is parked, if it is.
    pub fn parked(&self, now: Duration) -> Option<Duration> {
        lock(&self.known).parked(now)
    }

    /// How many requests it takes at once, as learned from refusals; `None` = nobody has refused lately.
    pub fn learned(&self, now: Duration) -> Option<u32> {
        lock(&self.known).learned(now)
    }

    /// What is seen of it, for operators.
    fn seen(&self, limits: &Limits, now: Duration) -> AccountSeen {
        let known = lock(&self.known);
        let (parked, learned) = (known.parked(now).unwrap_or_default(), known.learned(now));
        let small = Passage { model: &Arc::default(), cap: None, tokens: 1 };
        let at_limit = match known.busy(limits, &small, now) {
            Some(Busy::For(wait)) if wait > parked => wait,
            _ => Duration::ZERO,
        };
        AccountSeen { name: self.name.to_string(), parked, at_limit, learned, in_flight: known.under_way() }
    }

    /// For how long its vendor parked it here, and how often it was refused here for its load.
    pub(super) fn told_here(&self, now: Duration) -> (Duration, u64) {
        lock(&self.known).told_here(now)
    }

    /// Changes what is known of it.
    pub(super) fn change(&self, act: impl FnOnce(&mut account::Account)) {
        act(&mut lock(&self.known));
    }
}
