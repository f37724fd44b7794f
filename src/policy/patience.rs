//! How long a candidate is waited for by a request with a deadline, and from when on its silence is its own fault.
//!
//! While somebody else could still answer, an attempt is given up early enough that the next one has its time; but never
//! before the candidate has had twice what is usual of it. An attempt that the deadline or the client ends is held against
//! the candidate only after a silence of three times what is usual, and a second at least: a client that is in a hurry
//! says nothing of anybody.

use std::time::Duration;

use super::{
    Decision, Ranked,
    retry::{self, AttemptSeen, Next},
    value,
};
use crate::base::failure::{Class, Fault};

/// What reading a token of the prompt may take beyond what is usual, which is that of usual prompts: 5,000 tokens a second.
const READING: Duration = Duration::from_micros(200);
/// Nobody is given up sooner for another.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);
/// No shorter silence is held against anybody.
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// What is usual of a candidate, as it served: failures are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The 95th percentile of the times to the first token where it is known, else their mean, else the prior.
    pub first_token: Duration,
    /// The percentile is known.
    pub known: bool,
    /// The mean time for each further token, or the prior.
    pub per_token: Duration,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Tokens of the prompt.
    pub input: u64,
    /// Of a whole answer, how many tokens it may have; `None` = the first token of a stream.
    pub whole: Option<u64>,
}

impl Usual {
    /// How long it usually takes at most.
    fn standard(&self, awaited: Awaited) -> Duration {
        let times = |time: Duration, tokens: u64| time.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX));
        let written = times(self.per_token, awaited.whole.unwrap_or(0));
        self.first_token.saturating_add(times(READING, awaited.input)).saturating_add(written)
    }

    /// How long the attempt may take of the time that is `left` while another, which is expected to take `next`, could
    /// follow: that one keeps half as much again, a quarter of the time at least and half of it at most. `None` = all of
    /// it.
    pub fn patience(&self, awaited: Awaited, next: Duration, left: Duration) -> Option<Duration> {
        let kept = next.saturating_mul(3) / 2;
        let kept = kept.clamp(left / 4, left / 2);
        let least = self.standard(awaited).saturating_mul(2).max(LEAST_PATIENCE);
        Some(least.max(left.saturating_sub(kept))).filter(|patience| *patience < left)
    }

    /// Whether an attempt that was given up after so long for another is surely late.
    pub fn is_late(&self, awaited: Awaited, waited: Duration) -> bool {
        waited >= self.standard(awaited).saturating_mul(2)
    }

    /// Whether a silence for so long is held against the candidate though it was the client who would wait no longer.
    pub fn is_overdue(&self, awaited: Awaited, waited: Duration) -> bool {
        self.known && waited >= self.standard(awaited).saturating_mul(3).max(LEAST_SILENCE)
    }
}

/// When the one that would follow `mine`, should it fail after `attempts`, is expected to answer; `None` = nobody who is
/// able would. `stream`: what is waited for is its first token.
pub fn next(attempts: &[AttemptSeen], decision: &Decision, mine: &Ranked, stream: bool) -> Option<Duration> {
    let (candidate, class, fault) = (mine.candidate.id, Class::Elsewhere, Fault::Backend);
    let given_up = AttemptSeen { candidate, class, fault, retry_after: None, elapsed: Duration::ZERO };
    let attempts: Vec<AttemptSeen> = attempts.iter().copied().chain([given_up]).collect();
    let next = match retry::way_on(&attempts, decision, None) {
        Next::Try { delay: Duration::ZERO, .. } => mine,
        Next::Resolve => {
            let failed = retry::failed(&attempts, decision);
            decision.ranked.iter().find(|ranked| !failed.contains(&ranked.candidate.id))?
        }
        Next::Try { .. } | Next::Stop(_) => return None,
    };
    let whole = Duration::from_millis(next.terms.expected_ms);
    Some(if stream { value::first_token(&next.candidate, &next.seen) } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const USUAL: Usual =
        Usual { first_token: Duration::from_millis(400), known: true, per_token: Duration::from_millis(10) };
    const STREAM: Awaited = Awaited { input: 0, whole: None };

    #[test]
    fn the_next_keeps_its_time_and_the_first_has_twice_what_is_usual() {
        assert_eq!(USUAL.patience(STREAM, ms(1_000), ms(4_000)), Some(ms(2_500)));
        assert_eq!(USUAL.patience(STREAM, ms(10), ms(4_000)), Some(ms(3_000)), "a quarter at least");
        assert_eq!(USUAL.patience(STREAM, ms(60_000), ms(4_000)), Some(ms(2_000)), "half at most");
        assert_eq!(USUAL.patience(STREAM, ms(1_000), ms(1_000)), Some(ms(800)));
        assert_eq!(USUAL.patience(STREAM, ms(1_000), ms(800)), None);
        let quick = Usual { first_token: ms(1), ..USUAL };
        assert_eq!(quick.patience(STREAM, ms(1), ms(100)), None, "a quarter of a second at least");
    }

    #[test]
    fn a_long_prompt_and_a_long_answer_have_their_time() {
        let awaited = Awaited { input: 5_000, whole: Some(200) };
        // 0.4 s, 5,000 times 0.2 ms and 200 times 10 ms, twice.
        assert_eq!(USUAL.patience(awaited, ms(1_000), ms(8_000)), Some(ms(6_800)));
        assert!(!USUAL.is_late(awaited, ms(6_799)) && USUAL.is_late(awaited, ms(6_800)));
        assert!(!USUAL.is_overdue(awaited, ms(10_199)) && USUAL.is_overdue(awaited, ms(10_200)));
    }

    #[test]
    fn a_client_in_a_hurry_says_nothing_of_anybody() {
        let quick = Usual { first_token: ms(10), ..USUAL };
        assert!(!quick.is_overdue(STREAM, ms(999)) && quick.is_overdue(STREAM, ms(1_000)));
        assert!(!USUAL.is_overdue(STREAM, ms(1_199)) && USUAL.is_overdue(STREAM, ms(1_200)));
        let unknown = Usual { known: false, ..quick };
        assert!(!unknown.is_overdue(STREAM, ms(3_600_000)), "too few were seen");
    }
}
