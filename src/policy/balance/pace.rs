//! How long first tokens take in a pool, and how much longer at one of its replicas.
//!
//! The pool's pace is time per token of work (what is to be read before the answer begins), a mean over the last
//! minute. A replica's slowdown is the mean of measured ÷ expected at that pace; it jumps to a higher sample at once and
//! comes down within 10 s, so that a replica that falls ill is left at once and tried again soon (peak EWMA, as in
//! Finagle). Only differences between replicas count, so the pool needs no prior.

#![allow(clippy::float_arithmetic, reason = "a mean of ratios; nothing of it is an amount")]

use std::time::Duration;

/// Of a first token's time, so many tokens' worth pass though there is nothing to read: the step under way, the network.
const STEP_TOKENS: f64 = 1_024.0;
/// The pool's pace follows within this time.
const MEMORY: f64 = 60.0;
/// A slowdown fades within this time.
const FADE: f64 = 10.0;
/// So many samples in a row make a peak.
const PEAK: usize = 3;
/// No replica counts as more than so many times slower or faster than the pool.
const MOST: f64 = 64.0;

/// The pace of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    seconds: f64,
    tokens: f64,
    at: Duration,
}

impl Pace {
    /// The first token of `work` tokens came after `took`. Returns measured ÷ expected.
    pub(super) fn add(&mut self, work: u64, took: Duration, now: Duration) -> f64 {
        let kept = libm::exp(-now.saturating_sub(self.at).as_secs_f64() / MEMORY);
        self.at = self.at.max(now);
        self.seconds = self.seconds * kept + took.as_secs_f64();
        self.tokens = self.tokens * kept + tokens(work);
        self.ratio(work, took)
    }

    /// How long the first token of `work` tokens should take; `None` while nothing is known.
    pub(super) fn expected(&self, work: u64) -> Option<Duration> {
        let seconds = self.seconds / self.tokens.max(1.0) * tokens(work);
        Duration::try_from_secs_f64(seconds).ok().filter(|expected| !expected.is_zero())
    }

    fn ratio(&self, work: u64, took: Duration) -> f64 {
        let expected = self.expected(work).map_or(took.as_secs_f64(), |expected| expected.as_secs_f64());
        if expected > 0.0 { (took.as_secs_f64() / expected).clamp(1.0 / MOST, MOST) } else { 1.0 }
    }
}

#[allow(clippy::cast_precision_loss, reason = "tokens of a prompt are far below 2^52")]
fn tokens(work: u64) -> f64 {
    work as f64 + STEP_TOKENS
}

/// How much slower than its pool a replica is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowdown {
    mean: f64,
    /// The samples before: one alone is chance, so the mean jumps no higher than the lowest of [`PEAK`].
    last: [f64; PEAK - 1],
    at: Duration,
}

impl Default for Slowdown {
    fn default() -> Self {
        Self { mean: 1.0, last: [1.0; PEAK - 1], at: Duration::ZERO }
    }
}

impl Slowdown {
    /// A sample: measured ÷ expected.
    pub(super) fn add(&mut self, ratio: f64, now: Duration) {
        let kept = libm::exp(-now.saturating_sub(self.at).as_secs_f64() / FADE);
        let peak = self.last.iter().fold(ratio, |least, last| least.min(*last));
        self.last.rotate_left(1);
        self.last[PEAK - 2] = ratio;
        self.mean = (ratio + (self.mean - ratio) * kept).max(peak);
        self.at = self.at.max(now);
    }

    /// The slowdown now: what was not measured for a while fades towards 1.
    pub(super) fn at(&self, now: Duration) -> f64 {
        let kept = libm::exp(-now.saturating_sub(self.at).as_secs_f64() / FADE);
        1.0 + (self.mean - 1.0) * kept
    }
}
