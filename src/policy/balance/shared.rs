//! Whether other gateways ask the same pool, and what that means for its caches.
//!
//! A gateway's index knows what it has sent itself. Where several gateways share a pool, most turns of a conversation come
//! to one that has not seen the turn before: it knows neither where the prompt is cached nor that it is. That is how it is
//! noticed, too: the share of turns whose beginning nobody here has sent. From a quarter on all gateways begin their
//! conversations preferably at the replica that the opening draws, the home, and expect there what others have begun. What
//! engines tell of the tokens that they had cached says how much of that is true.

/// A pool is shared where so many of a thousand later turns are strange.
const STRANGE: u64 = 250;
/// Means are over about so many turns.
const MEMORY: u64 = 64;

/// What is seen of other gateways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// Of a million later turns, those that were strange.
    strange_ppm: u64,
    /// Of a million tokens that were hoped to be cached at home, those that were.
    found_ppm: u64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { strange_ppm: 0, found_ppm: 1_000_000 }
    }
}

impl Shared {
    /// A later turn came; whether nobody here has sent its beginning.
    pub(super) fn came(&mut self, strange: bool) {
        mean(&mut self.strange_ppm, u64::from(strange) * 1_000_000);
    }

    /// Of so many tokens that were hoped for, an engine had those cached.
    pub(super) fn found(&mut self, cached: u64, hoped: u64) {
        let share = u128::from(cached.min(hoped)) * 1_000_000 / u128::from(hoped.max(1));
        mean(&mut self.found_ppm, u64::try_from(share).unwrap_or(0));
    }

    pub(super) fn is_so(&self) -> bool {
        self.strange_ppm >= STRANGE * 1_000
    }

    pub(super) fn trust_milli(&self) -> u64 {
        self.found_ppm / 1_000
    }
}

fn mean(of: &mut u64, sample: u64) {
    *of = *of - *of / MEMORY + sample / MEMORY;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_shared_while_turns_come_that_nobody_here_began() {
        let mut shared = Shared::default();
        (0..200).for_each(|turn| shared.came(turn % 10 == 0));
        assert!(!shared.is_so(), "a restart or a full cache makes some");
        (0..200).for_each(|turn| shared.came(turn % 4 != 0));
        assert!(shared.is_so());
        (0..200).for_each(|_| shared.came(false));
        assert!(!shared.is_so());
    }

    #[test]
    fn homes_are_trusted_as_far_as_they_had_it_cached() {
        let mut shared = Shared::default();
        assert_eq!(shared.trust_milli(), 1_000);
        (0..500).for_each(|_| shared.found(0, 1_000));
        assert!(shared.trust_milli() < 20);
        (0..500).for_each(|_| shared.found(5_000, 1_000));
        assert!(shared.trust_milli() > 980);
    }
}
