//! By how much an upstream bills more tokens than were counted: what a hold adds to its count.
//!
//! A margin goes up at once, with an eighth on top, when a bill passes the bound, and comes down slowly: holds that are
//! a little too large for a while cost nothing, one that is too small costs an overspend.

use super::super::stake::{self, GUARD};

/// Prompts below this many tokens are off by their framing, longer ones by their vocabulary.
const FEW: u64 = 1_000;
/// Answers below this many tokens tell nothing of the rate between what is seen and what is billed.
const TELLING: u64 = 32;
/// By what share of the way margins come down with each bill. Prompts that are billed beyond their count are rare ones;
/// how a server cuts its answers into events is the same for all of them.
const INPUT_SLOWLY: u64 = 64;
const OUTPUT_SLOWLY: u64 = 16;
/// No margin passes these, whatever an upstream says.
const MOST_TOKENS: u64 = 1 << 20;
const MOST_PPM: u32 = 10_000_000;

/// What is added to a bound on prompt tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// A share of the bound, in parts per million.
    pub ppm: u32,
    /// Tokens.
    pub tokens: u64,
}

impl Margin {
    /// The margin of a bound.
    pub fn of(self, bound: u64) -> u64 {
        share(bound, self.ppm).saturating_add(self.tokens)
    }

    fn learn(&mut self, bound: u64, billed: u64) {
        if bound < FEW {
            let beyond = billed.saturating_sub(bound.saturating_add(share(bound, self.ppm)));
            self.tokens = follow(self.tokens, beyond.min(MOST_TOKENS), INPUT_SLOWLY);
        } else {
            let beyond = billed.saturating_sub(bound.saturating_add(self.tokens));
            self.ppm = follow_ppm(self.ppm, ppm(beyond, bound), INPUT_SLOWLY);
        }
    }
}

/// What has been learned of one candidate's bills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// On top of what is held for a prompt that was counted in the model's own vocabulary.
    pub counted: Margin,
    /// On top of what is held for any other: a token a byte.
    pub uncounted: Margin,
    /// On top of what was seen of an answer by its events and bytes, in parts per million; `None` =
    /// nothing learned yet. Far above what text explains, the upstream writes what it does not show.
    pub output_ppm: Option<u32>,
}

impl Margins {
    /// An upstream billed `billed` prompt tokens, `bound` of which were taken for the most before any margin.
    pub fn input(&mut self, counted: bool, bound: u64, billed: u64) {
        let margin = if counted { &mut self.counted } else { &mut self.uncounted };
        margin.learn(bound, billed);
    }

    /// An upstream billed `billed` completion tokens for a stream in which `seen` were seen.
    pub fn output(&mut self, seen: u64, billed: u64) {
        let told = billed.saturating_sub(GUARD / 2);
        if seen < TELLING && told <= seen {
            return;
        }
        let sample = ppm(told.saturating_sub(seen), seen.max(TELLING));
        self.output_ppm = Some(follow_ppm(self.output_ppm.unwrap_or(stake::UNSEEN_PPM), sample, OUTPUT_SLOWLY));
    }
}

/// Up at once, an eighth beyond the sample; down by a share of the way.
fn follow(now: u64, sample: u64, slowly: u64) -> u64 {
    if sample > now { sample.saturating_add(sample / 8) } else { now - (now - sample).div_ceil(slowly) }
}

fn follow_ppm(now: u32, sample: u32, slowly: u64) -> u32 {
    let next = follow(now.into(), sample.into(), slowly).min(MOST_PPM.into());
    u32::try_from(next).unwrap_or(MOST_PPM)
}

/// `part ÷ whole` in parts per million, at most [`MOST_PPM`].
fn ppm(part: u64, whole: u64) -> u32 {
    let share = (u128::from(part) * 1_000_000).div_ceil(u128::from(whole.max(1)));
    u32::try_from(share).unwrap_or(MOST_PPM).min(MOST_PPM)
}

/// So many millionths of `tokens`, rounded up.
pub(in crate::policy) fn share(tokens: u64, ppm: u32) -> u64 {
    let share = (u128::from(tokens) * u128::from(ppm)).div_ceil(1_000_000);
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bill_beyond_the_bound_raises_it_at_once_and_it_comes_down_slowly() {
        let mut margins = Margins::default();
        margins.input(true, 2_000, 2_400);
        assert_eq!(margins.counted, Margin { ppm: 225_000, tokens: 0 });
        (0..100).for_each(|_| margins.input(true, 2_000, 1_000));
        assert!((20_000..100_000).contains(&margins.counted.ppm), "{margins:?}");
        (0..2_000).for_each(|_| margins.input(true, 2_000, 1_000));
        assert_eq!(margins.counted, Margin::default());
    }

    #[test]
    fn the_framing_of_a_short_prompt_is_no_share_of_a_long_one() {
        let mut margins = Margins::default();
        margins.input(true, 30, 430);
        assert_eq!(margins.counted, Margin { ppm: 0, tokens: 450 });
        assert_eq!(margins.counted.of(100_000), 450);
        margins.input(false, 100, 100);
        assert_eq!(margins.uncounted, Margin::default());
    }

    #[test]
    fn an_upstream_that_bills_what_it_does_not_show_is_known_by_its_first_bill() {
        let mut margins = Margins::default();
        margins.output(40, 4_000);
        assert!(margins.output_ppm.unwrap() > stake::HIDDEN_PPM);
        let mut margins = Margins::default();
        (0..1_000).for_each(|_| margins.output(400, 400));
        assert_eq!(margins.output_ppm, Some(0), "one event, one token");
        margins.output(3, 20);
        assert_eq!(margins.output_ppm, Some(0), "too short to tell, and within the guard");
    }

    proptest! {
        #[test]
        fn what_was_billed_is_within_the_bound_of_the_same_prompt_after_it(
            bills in prop::collection::vec((1_u64..50_000, 0_u64..60_000), 1..50),
        ) {
            let mut margin = Margin::default();
            for (bound, billed) in bills {
                margin.learn(bound, billed);
                prop_assert!(bound + margin.of(bound) + bound / 1_000 >= billed.min(bound * 10), "{margin:?}");
            }
        }
    }
}
