//! What is set aside for one attempt: a bound on the prompt, and on as much of the answer as is paid for before more
//! is set aside while it streams.
//!
//! An answer that is not streamed, or of which tokens are billed that are not shown, is held for up to its cap at once:
//! nothing could be set aside in time.

use super::{PriceInForce, Purse, Seen, observe::margins::share, value::thinks};
use crate::base::{
    catalog::{Candidate, Model},
    facts::Facts,
    money::Money,
    price::Bound,
    tier::{Asked, Tier},
};

/// Tokens that stay set aside beyond what was seen: what may be written, and billed, before a refusal reaches the
/// upstream.
pub const GUARD: u64 = 64;
/// The length of an answer of which nothing is known (accounting.md's simulation; a p90 takes its place after 20).
pub const COLD: u64 = 512;
/// The least that is set aside at a time while an answer streams.
const SLICE: u64 = 256;
/// By how much the tokens of an answer may pass what its events and bytes show, in parts per million, before it has
/// been learned: a token for three bytes instead of five.
pub const UNSEEN_PPM: u32 = 666_667;
/// Beyond this, no text explains the bill: the upstream writes what it does not show.
pub const HIDDEN_PPM: u32 = 3_000_000;

/// The fewest tokens that an answer is cut down to: less is no answer.
const LEAST: u64 = 16;

/// What one attempt is held for. Tokens of an answer are those of all `n` answers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stake {
    /// Prompt tokens at most.
    pub input: u64,
    /// The prompt was counted in the model's own vocabulary; else a token a byte is the bound.
    pub counted: bool,
    /// The learned part of `input`.
    pub margin: u64,
    /// Completion tokens that the first hold covers.
    pub output: u64,
    /// Completion tokens at most.
    pub cap: u64,
    /// How many answers.
    pub answers: u64,
    /// The tokens of the answer can be told from its stream.
    pub tells: bool,
    /// By how much tokens may pass what is seen of the stream, in parts per million.
    pub unseen_ppm: u32,
    /// What the first hold covers in money; zero without a price.
    pub first: Money,
    audio: bool,
    asked: Asked,
    usual: Tier,
}

impl Stake {
    /// The stake of one attempt whose every answer is capped at `cap` tokens.
    pub(super) fn new(
        candidate: &Candidate,
        facts: &Facts,
        seen: &Seen,
        price: Option<&PriceInForce>,
        cap: u64,
    ) -> Self {
        let (counted, bound) = input_bound(&candidate.model, facts);
        let margin = if counted { seen.margins.counted } else { seen.margins.uncounted }.of(bound);
        let answers = facts.answers.max(1);
        let whole = cap.saturating_mul(answers);
        let tells = tells(candidate, facts);
        let hides = seen.margins.output_ppm.is_some_and(|ppm| ppm > HIDDEN_PPM);
        let output = if tells && !hides { opening(seen).min(whole) } else { whole };
        let stake = Self {
            input: bound.saturating_add(margin),
            counted,
            margin,
            output,
            cap: whole,
            answers,
            tells,
            unseen_ppm: seen.margins.output_ppm.unwrap_or(UNSEEN_PPM),
            first: Money::ZERO,
            audio: facts.audio > 0,
            asked: facts.tier,
            usual: candidate.backend.tier,
        };
        let first = price.map_or(Money::ZERO, |price| stake.money(price, output));
        Self { first, ..stake }
    }

    /// An upper bound on what the attempt can cost with so many completion tokens: every prompt token at the dearest
    /// kind, every completion token likewise, at the dearest rate that any usage within these bounds can fall under,
    /// thinking or not, at any tier of service that the request may be served at.
    pub fn money(&self, price: &PriceInForce, output: u64) -> Money {
        let most = Bound { input: self.input, output, audio: self.audio };
        let reaches = |tier| self.asked.reaches(tier, self.usual);
        price.row.upper_bound(most, reaches, price.factor_ppm, price.exchange_nanousd)
    }

    /// The largest cap below `full` on each answer that `purse` can pay, where it may be lowered and has to be. A client
    /// that asked for less than [`LEAST`] tokens gets what it asked for or nothing.
    pub(super) fn payable(&self, price: &PriceInForce, full: u64, purse: Purse) -> Option<u64> {
        let fits = |cap: u64| self.money(price, cap.saturating_mul(self.answers)) <= purse.left;
        let least = LEAST.min(full);
        if !purse.clamp || fits(full) || !fits(least) {
            return None;
        }
        // The bound never falls while the cap grows, so that the largest that fits is found by halving.
        let (mut fit, mut beyond) = (least, full);
        while beyond - fit > 1 {
            let middle = fit + (beyond - fit) / 2;
            if fits(middle) { fit = middle } else { beyond = middle }
        }
        Some(fit)
    }

    /// Completion tokens at most after `seen` were seen in the stream.
    pub fn most(&self, seen: u64) -> u64 {
        seen.saturating_add(share(seen, self.unseen_ppm))
    }

    /// How many completion tokens to set aside next, where `held` are and `needed` may have been written: a quarter
    /// more at least, so that a long answer asks seldom; where that is refused, `little` is all that is asked for.
    /// `None` at the cap.
    pub fn next(&self, held: u64, needed: u64, little: bool) -> Option<u64> {
        let slice = if little { GUARD } else { SLICE.max(held / 4) };
        let next = held.saturating_add(slice).max(needed.saturating_add(GUARD)).min(self.cap);
        (next > held).then_some(next)
    }

    /// A stake for a test of what it is used for.
    #[cfg(test)]
    pub fn sample(output: u64, cap: u64, unseen_ppm: u32) -> Self {
        let (input, counted, margin, answers, tells, first) = (100, true, 0, 1, true, Money::ZERO);
        let (audio, asked, usual) = (false, Asked::default(), Tier::default());
        Self { input, counted, margin, output, cap, answers, tells, unseen_ppm, first, audio, asked, usual }
    }
}

/// Whether the answer's tokens can be told while it streams.
fn tells(candidate: &Candidate, facts: &Facts) -> bool {
    let shown = !thinks(&candidate.model, facts) || candidate.backend.shows_reasoning;
    facts.stream && facts.answers <= 1 && shown
}

/// Tokens that the first hold of a stream covers.
fn opening(seen: &Seen) -> u64 {
    seen.answer_p90.unwrap_or(COLD).saturating_add(GUARD)
}

/// Whether the prompt was counted in the model's own vocabulary, and what its tokens are held to be before anything is
/// learned of its bills: the count with a tenth and 16 tokens, since a vendor's own may differ by its template; for any
/// other model the bound that came with the facts. A ratio between vocabularies holds on average and bounds nothing,
/// and what an image costs is the vendor's to say.
fn input_bound(model: &Model, facts: &Facts) -> (bool, u64) {
    let expected = facts.input_for(model.tokenizer);
    let counted = facts.counted_with == Some(model.tokenizer) && facts.images == 0;
    if facts.input_bound > 0 && !counted {
        return (false, facts.input_bound.max(expected));
    }
    (counted, expected.saturating_add(expected / 10).saturating_add(16))
}
