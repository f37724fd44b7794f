//! Quantiles of many times in little memory: buckets of 1.6 % and less.

/// Buckets to an octave.
const PER_OCTAVE: u64 = 64;
/// Octaves above the values that have a bucket of their own.
const OCTAVES: u64 = 40;

/// Counts of times, in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Quantiles {
    counts: Vec<u64>,
    all: u64,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { counts: vec![0; ((OCTAVES + 1) * PER_OCTAVE) as usize], all: 0 }
    }
}

impl Quantiles {
    /// One more.
    pub(super) fn add(&mut self, ms: u64) {
        let place = bucket(ms).min(self.counts.len() - 1);
        self.counts[place] += 1;
        self.all += 1;
    }

    /// The least time that so many of a hundred do not pass, rounded down to its bucket.
    pub(super) fn of(&self, percent: u64) -> u64 {
        let wanted = (self.all * percent).div_ceil(100).max(1);
        let mut reached = 0;
        let place = self.counts.iter().position(|count| {
            reached += count;
            reached >= wanted
        });
        place.map_or(0, begin)
    }

    /// The median, the 95th and the 99th percentile.
    pub(super) fn three(&self) -> [u64; 3] {
        [50, 95, 99].map(|percent| self.of(percent))
    }
}

/// Values below [`PER_OCTAVE`] have a bucket each; above, the octave and its next six bits.
fn bucket(ms: u64) -> usize {
    if ms < PER_OCTAVE {
        return ms as usize;
    }
    let octave = u64::from(ms.ilog2()) - 6;
    let within = (ms >> octave) - PER_OCTAVE;
    ((octave + 1) * PER_OCTAVE + within) as usize
}

fn begin(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_OCTAVE {
        return bucket;
    }
    let (octave, within) = (bucket / PER_OCTAVE - 1, bucket % PER_OCTAVE);
    (PER_OCTAVE + within) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_true_ones() {
        let mut quantiles = Quantiles::default();
        (1..=10_000).for_each(|ms| quantiles.add(ms));
        for (percent, exact) in [(50, 5_000), (95, 9_500), (99, 9_900)] {
            let found = quantiles.of(percent);
            assert!(found <= exact && exact - found <= exact / 64, "{percent}: {found}");
        }
        assert_eq!(Quantiles::default().three(), [0; 3]);
    }

    #[test]
    fn every_value_lies_in_the_bucket_that_begins_below_it() {
        for ms in (0..5_000).chain([1 << 20, (1 << 30) + 12_345]) {
            assert!(begin(bucket(ms)) <= ms && ms < begin(bucket(ms) + 1), "{ms}");
        }
    }
}
