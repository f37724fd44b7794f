//! Observations that are written down as a decision asks for them, so that it can be made again from what was noted.
//!
//! Whoever asks twice hears the same: a live meter may have moved on between a rule that asks whether a model is
//! available and the weighing of that model, and a record knows one value only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        names::RouteName,
    },
    policy::{Observations, Seen},
};

/// What one decision was told of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The candidate.
    pub id: CandidateId,
    /// What had been seen of it; [`Seen::answer_p90`] is that of the decision's route, where it was asked for. `None`
    /// = it was switched off, and nobody asked further.
    pub seen: Option<Seen>,
    /// Why an operator had switched it off.
    pub off: Option<Arc<str>>,
}

/// Observations with a memory of what was asked.
pub struct Noting<'a> {
    inner: &'a dyn Observations,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    noted: Vec<Noted>,
    /// Where a candidate stands in `noted`, plus one; grown to the highest number asked for.
    places: Vec<u32>,
}

impl<'a> Noting<'a> {
    /// Notes what `inner` tells.
    pub fn new(inner: &'a dyn Observations) -> Self {
        Self { inner, notes: Mutex::default() }
    }

    /// What was told, in the order in which it was first asked for.
    pub fn noted(self) -> Vec<Noted> {
        self.notes.into_inner().unwrap_or_else(PoisonError::into_inner).noted
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn of(&mut self, id: CandidateId) -> &mut Noted {
        let index = id.0 as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, 0);
        }
        if self.places[index] == 0 {
            self.noted.push(Noted { id, seen: None, off: None });
            self.places[index] = u32::try_from(self.noted.len()).unwrap_or(u32::MAX);
        }
        let place = self.places[index] as usize - 1;
        &mut self.noted[place]
    }
}

impl Observations for Noting<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        let mut notes = self.notes();
        let noted = notes.of(candidate.id);
        let seen = *noted.seen.get_or_insert_with(|| self.inner.seen(candidate));
        Seen { answer_p90: None, ..seen }
    }

    fn answer_p90(&self, candidate: &Candidate, route: &RouteName) -> Option<u64> {
        let p90 = self.inner.answer_p90(candidate, route);
        if let Some(seen) = &mut self.notes().of(candidate.id).seen {
            seen.answer_p90 = p90;
        }
        p90
    }

    fn withdrawn(&self, route: &RouteName, arm: &RouteName) -> Option<Arc<str>> {
        self.inner.withdrawn(route, arm)
    }

    fn off(&self, candidate: &Candidate) -> Option<Arc<str>> {
        let off = self.inner.off(candidate);
        if off.is_some() {
            self.notes().of(candidate.id).off.clone_from(&off);
        }
        off
    }
}
