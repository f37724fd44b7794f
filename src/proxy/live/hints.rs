//! Hints to and from other gateways, applied to what has been seen here.

use super::{Live, lock};
use crate::policy::hints::Hint;

impl Live {
    /// What was learned here, and until when it holds: the second part changes only with the first.
    pub fn hints(&self) -> Vec<(Hint<'_>, u128)> {
        let now = self.elapsed();
        let mut hints = Vec::new();
        for (candidate, state) in self.policies.candidates.iter().zip(&self.candidates) {
            if let Some((left, age)) = lock(&state.seen).breaker.opened_here(now) {
                let (model, backend) = (candidate.model.name.as_str(), candidate.backend.name.as_str());
                hints.push((Hint::Broken { model, backend, left, age }, (now + left).as_millis()));
            }
        }
        for backend in self.policies.backends.values() {
            for (account, seat) in backend.accounts.iter().zip(self.seats(backend)) {
                let (backend, account) = (backend.name.as_str(), account.name.as_str());
                let (left, times) = seat.told_here(now);
                if !left.is_zero() {
                    hints.push((Hint::Parked { backend, account, left }, (now + left).as_millis()));
                }
                if times > 0 {
                    hints.push((Hint::Refused { backend, account, times }, times.into()));
                }
            }
        }
        hints
    }

    /// Heeds what another gateway has learned. Whoever is not known here is passed over.
    pub fn heed(&self, hint: Hint<'_>) {
        let now = self.elapsed();
        match hint {
            Hint::Broken { model, backend, left, age } => {
                let all = self.policies.candidates.iter().zip(&self.candidates);
                let named = all.filter(|(candidate, _)| {
                    candidate.model.name.as_str() == model && candidate.backend.name.as_str() == backend
                });
                named.for_each(|(_, state)| lock(&state.seen).breaker.hint(left, age, now));
            }
            Hint::Parked { backend, account, left } => {
                self.at_seat(backend, account, |known| known.hint_parked(left, now))
            }
            Hint::Refused { backend, account, .. } => self.at_seat(backend, account, |known| known.hint_refused(now)),
        }
    }

    fn at_seat(&self, backend: &str, account: &str, act: impl FnOnce(&mut crate::policy::account::Account)) {
        let state = self.backends.iter().find(|(name, _)| name.as_str() == backend).map(|(_, state)| state);
        let seat = state.and_then(|state| state.accounts.all().find(|seat| seat.name.as_str() == account));
        if let Some(seat) = seat {
            seat.change(act);
        }
    }
}

/// What a gateway said last, so that each thing is heeded once.
#[derive(Debug, Default)]
pub struct Heard {
    text: String,
    /// (backend, account) and how often it had been refused.
    refused: Vec<(String, String, u64)>,
}

impl Heard {
    /// Takes in what a gateway says now; gives what is new. Of what was said before this gateway listened, nothing is.
    pub fn take<'t>(&mut self, text: &'t str, first: bool) -> Vec<Hint<'t>> {
        if self.text == text {
            return Vec::new();
        }
        text.clone_into(&mut self.text);
        crate::policy::hints::read(text).filter(|hint| self.is_new(hint) && !first).collect()
    }

    fn is_new(&mut self, hint: &Hint<'_>) -> bool {
        let Hint::Refused { backend, account, times } = *hint else { return true };
        let known = self.refused.iter_mut().find(|(of, at, _)| of == backend && at == account);
        let before = match known {
            Some((.., known)) => std::mem::replace(known, times),
            None => {
                self.refused.push((backend.to_owned(), account.to_owned(), times));
                0
            }
        };
        // A gateway that was started anew counts from the beginning.
        times > before || (times < before && times > 0)
    }
}
