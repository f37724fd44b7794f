//! Waiting for a place at a backend that takes no more at once: the more important first, and not for long.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Gateway, admit::Ask, gate::Scarce, lineup::Waiter, refusal::Refusal};
use crate::base::{catalog::Candidate, names::BackendName};

/// After so long somebody who waits looks around again: a place may be free that nobody has given back, or be found
/// elsewhere.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where a request stands in line.
#[derive(Debug, Default)]
pub struct Stand {
    waiter: Option<(BackendName, Waiter)>,
    until: Option<Instant>,
}

impl Stand {
    /// Waits at the first of those that are `full`, until it is worth deciding again. `false` where nobody is.
    ///
    /// # Errors
    /// `overloaded` for a class that does not wait, in front of a long line, and after the longest wait; `switched_off` for
    /// a caller that an operator has switched off meanwhile.
    pub async fn wait(&mut self, gateway: &Gateway, ask: &Ask, full: &[Arc<Candidate>]) -> Result<bool, Refusal> {
        let Some((candidate, line)) = full.first().and_then(|full| Some((full, ask.live.lineup(full)?))) else {
            return Ok(false);
        };
        let refused = || gateway.overloaded(ask.priority, Scarce::Backend);
        let now = Instant::now();
        let longest = now + gateway.gate.patience();
        let until = *self.until.get_or_insert_with(|| ask.first_byte_by().map_or(longest, |by| by.min(longest)));
        if now >= until {
            return Err(refused());
        }
        let here = self.waiter.take().filter(|(backend, _)| *backend == candidate.backend.name);
        let mut waiter = match here {
            Some((_, mut waiter)) => {
                waiter.wait_on();
                waiter
            }
            None => {
                let waiter = line.join(ask.priority).ok_or_else(refused)?;
                // A place that was given back just before would be nobody's.
                if !ask.live.is_full(candidate) {
                    line.call();
                }
                waiter
            }
        };
        // Called or not: who waits looks around.
        let _ = timeout_at(until.min(now + LOOK_AGAIN), waiter.called()).await;
        self.waiter = Some((candidate.backend.name.clone(), waiter));
        gateway.let_in(&ask.caller).map(|()| true)
    }

    /// Where it stands.
    pub fn at(&self) -> Option<&BackendName> {
        self.waiter.as_ref().map(|(backend, _)| backend)
    }

    /// It has a place at `backend`, and leaves the line.
    pub fn seated(&mut self, backend: &BackendName) {
        if let Some((at, waiter)) = self.waiter.take()
            && at == *backend
        {
            waiter.seated();
        }
    }
}
