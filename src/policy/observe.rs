//! What is observed of one candidate: means that follow the last minutes, and a 95th percentile.
//!
//! A pure struct in integers, for the caller to put behind its lock. Every `now` is a time since one fixed origin.
//! Failures enter the time to the first token as a penalty, because a backend that fails fast would look fast.

pub mod answers;
pub mod margins;
pub mod noting;

use std::time::Duration;

use super::{Seen, Unavailable, patience::Usual, queue::Line};
use crate::base::catalog::SpeedPrior;

/// What a failure that named no time of its own counts as.
const PENALTY: Duration = Duration::from_secs(5);
/// After so long without a sample, times are forgotten and the prior counts again, so that a backend that was slow
/// once is tried again some day.
const STALE: Duration = Duration::from_secs(900);
/// The counts behind the percentile lose half every minute.
const HALVING: Duration = Duration::from_secs(60);
/// Samples below which the percentile is not told.
const ENOUGH: u32 = 20;
/// Four buckets to an octave from 1 ms on: 19 % wide, the last begins at 55 s.
const BUCKETS: usize = 64;

/// A mean that follows its samples, in whole units of its own choice.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    /// The mean × 256, so that small steps are not lost.
    scaled: u64,
    samples: u64,
}

impl Mean {
    /// Moves towards a sample by `1 ÷ 2^shift`; the first samples count equally.
    fn add(&mut self, sample: u64, shift: u32) {
        let sample = sample.min(u64::MAX >> 9) << 8;
        self.samples = self.samples.saturating_add(1);
        let divisor = self.samples.min(1 << shift).max(1);
        self.scaled = if sample >= self.scaled {
            self.scaled + (sample - self.scaled) / divisor
        } else {
            self.scaled - (self.scaled - sample) / divisor
        };
    }

    fn get(self) -> Option<u64> {
        (self.samples > 0).then_some((self.scaled + 128) >> 8)
    }
}

/// The meter of one candidate.
#[derive(Clone, Debug)]
pub struct Meter {
    first_token_us: Mean,
    /// The same without the penalties of failures: what the time of a whole answer is divided by.
    served_us: Mean,
    per_token_us: Mean,
    output_tokens: Mean,
    cached_ppm: Mean,
    margins: margins::Margins,
    warm_ppm: Mean,
    /// Tokens an hour from which on its rent is worth paying.
    break_even: Mean,
    /// Times to the first token, by bucket.
    counts: [u32; BUCKETS],
    /// The same without the penalties of failures.
    served: [u32; BUCKETS],
    halved: Duration,
    last: Duration,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            first_token_us: Mean::default(),
            served_us: Mean::default(),
            per_token_us: Mean::default(),
            output_tokens: Mean::default(),
            cached_ppm: Mean::default(),
            margins: margins::Margins::default(),
            // A vendor is taken at its word until a few turns have told: as if four had been read whole.
            warm_ppm: Mean { scaled: 1_000_000 << 8, samples: 4 },
            break_even: Mean::default(),
            counts: [0; BUCKETS],
            served: [0; BUCKETS],
            halved: Duration::ZERO,
            last: Duration::ZERO,
        }
    }
}

impl Meter {
    /// The first token came after so long.
    pub fn first_token(&mut self, after: Duration, now: Duration) {
        let shift = self.begin(now);
        self.served(after, shift);
    }

    /// No token had come after so long, and nobody waited on.
    pub fn outrun(&mut self, after: Duration, now: Duration) {
        let shift = self.begin(now);
        self.waited(after, shift);
    }

    /// A stream ended well: `output` tokens of it in `writing` after the first, and the prompt's tokens with those
    /// that the vendor read from its cache.
    pub fn answer(&mut self, output: u64, writing: Duration, input: u64, cached: u64, now: Duration) {
        let shift = self.begin(now);
        self.wrote(output, writing, shift);
        self.read(input, cached);
    }

    /// An answer came whole after `total`, which alone tells nothing of its first token. The time is divided between
    /// the wait and the writing as the means of what was served would divide it, without them as `prior` would.
    pub fn whole_answer(
        &mut self,
        total: Duration,
        output: u64,
        input: u64,
        cached: u64,
        prior: SpeedPrior,
        now: Duration,
    ) {
        let shift = self.begin(now);
        let wait = u128::from(self.served_us.get().unwrap_or_else(|| micros(prior.first_token)));
        let per_token = u128::from(self.per_token_us.get().unwrap_or_else(|| micros(prior.per_token)));
        let expected = wait + per_token * u128::from(output.saturating_sub(1));
        let first = (u128::from(micros(total)) * wait).checked_div(expected);
        let first = first.and_then(|us| u64::try_from(us).ok()).map_or(total, Duration::from_micros);
        self.served(first, shift);
        self.wrote(output, total.saturating_sub(first), shift);
        self.read(input, cached);
    }

    /// A turn of a conversation was served, of which the vendor should have had `warm` tokens in its cache and read
    /// `cached` from there.
    pub fn warm_turn(&mut self, warm: u64, cached: u64) {
        let share = u128::from(cached.min(warm)) * 1_000_000;
        if let Some(ppm) = share.checked_div(u128::from(warm)) {
            self.warm_ppm.add(u64::try_from(ppm).unwrap_or(1_000_000), 5);
        }
    }

    /// An attempt failed; `retry_after` is how long the backend asked to be left alone. It enters as a slow first
    /// token, never as a fast one.
    pub fn failure(&mut self, retry_after: Option<Duration>, now: Duration) {
        let shift = self.begin(now);
        self.waited(retry_after.unwrap_or(PENALTY).clamp(PENALTY, Duration::from_secs(60)), shift);
    }

    /// What the decision may read. `unavailable` comes from the breaker, the accounts and the count in flight.
    pub fn seen(&self, now: Duration, unavailable: Option<Unavailable>) -> Seen {
        let fresh = now.saturating_sub(self.last) < STALE;
        let time = |mean: Mean| mean.get().filter(|_| fresh).map(Duration::from_micros);
        Seen {
            first_token: time(self.first_token_us),
            first_token_p95: p95(&self.counts).filter(|_| fresh),
            per_token: time(self.per_token_us),
            output_tokens: self.output_tokens.get(),
            cached_ppm: self.cached_ppm.get().and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(0),
            answer_p90: None,
            margins: self.margins,
            warm_tokens: 0,
            line: Line::default(),
            servers: None,
            warm_ppm: self.warm_ppm.get().and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(0),
            unavailable,
        }
    }

    /// What is usual of it as it served; what is not known is `prior`'s.
    pub fn usual(&self, prior: SpeedPrior, now: Duration) -> Usual {
        let fresh = now.saturating_sub(self.last) < STALE;
        let time = |mean: Mean, prior| mean.get().filter(|_| fresh).map_or(prior, Duration::from_micros);
        let p95 = p95(&self.served).filter(|_| fresh);
        Usual {
            first_token: p95.unwrap_or_else(|| time(self.served_us, prior.first_token)),
            known: p95.is_some(),
            per_token: time(self.per_token_us, prior.per_token),
        }
    }

    /// A decision found that its rent pays from so many tokens an hour on.
    pub fn pays_from(&mut self, tokens_per_hour: u64) {
        self.break_even.add(tokens_per_hour, 5);
    }

    /// The mean of that over the last decisions; `None` = none told.
    pub fn break_even(&self) -> Option<u64> {
        self.break_even.get()
    }

    /// What its bills tell of the margins.
    pub fn margins(&mut self) -> &mut margins::Margins {
        &mut self.margins
    }

    /// Begins to take a sample of times, and tells how much it weighs.
    fn begin(&mut self, now: Duration) -> u32 {
        self.freshen(now);
        let shift = self.shift(now);
        self.last = now;
        shift
    }

    /// Takes a time to the first token of what was served.
    fn served(&mut self, time: Duration, shift: u32) {
        self.served_us.add(micros(time), shift);
        let count = &mut self.served[bucket(time)];
        *count = count.saturating_add(1);
        self.waited(time, shift);
    }

    /// Takes a time to the first token, or what stands for it.
    fn waited(&mut self, time: Duration, shift: u32) {
        self.first_token_us.add(micros(time), shift);
        let count = &mut self.counts[bucket(time)];
        *count = count.saturating_add(1);
    }

    fn wrote(&mut self, output: u64, writing: Duration, shift: u32) {
        if output > 0 {
            self.output_tokens.add(output, 5);
        }
        if let Some(per_token) = micros(writing).checked_div(output.saturating_sub(1)) {
            self.per_token_us.add(per_token, shift);
        }
    }

    fn read(&mut self, input: u64, cached: u64) {
        let share = u128::from(cached.min(input)) * 1_000_000;
        if let Some(ppm) = share.checked_div(u128::from(input)) {
            self.cached_ppm.add(u64::try_from(ppm).unwrap_or(1_000_000), 5);
        }
    }

    /// The longer nothing was heard, the more a new sample counts.
    fn shift(&self, now: Duration) -> u32 {
        match now.saturating_sub(self.last).as_secs() {
            0 => 4,
            1..10 => 3,
            10..60 => 2,
            _ => 1,
        }
    }

    fn freshen(&mut self, now: Duration) {
        if now.saturating_sub(self.last) >= STALE {
            (self.first_token_us, self.served_us, self.per_token_us) = Default::default();
        }
        let halvings = now.saturating_sub(self.halved).as_secs() / HALVING.as_secs();
        if halvings > 0 {
            let shift = u32::try_from(halvings).unwrap_or(32);
            self.counts
                .iter_mut()
                .chain(&mut self.served)
                .for_each(|count| *count = count.checked_shr(shift).unwrap_or(0));
            self.halved = now;
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The bucket of a time: its octave of milliseconds and the next two bits.
fn bucket(time: Duration) -> usize {
    let quarter_ms = (micros(time) / 250).max(4);
    let octave = quarter_ms.ilog2();
    let quarter = (quarter_ms >> (octave - 2)) & 3;
    let place = u64::from(octave - 2) * 4 + quarter;
    usize::try_from(place).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The upper end of the bucket in which the 95th of a hundred falls.
fn p95(counts: &[u32; BUCKETS]) -> Option<Duration> {
    let total = counts.iter().fold(0_u32, |sum, count| sum.saturating_add(*count));
    if total < ENOUGH {
        return None;
    }
    let target = u64::from(total) * 95;
    let mut reached = 0;
    let found = counts.iter().position(|count| {
        reached += u64::from(*count) * 100;
        reached >= target
    });
    found.map(upper_end)
}

/// Where the bucket ends.
fn upper_end(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket / 4, bucket % 4);
    let quarter_ms = (5 + quarter as u64) << octave;
    Duration::from_micros(quarter_ms * 250)
}

#[cfg(test)]
mod tests;
