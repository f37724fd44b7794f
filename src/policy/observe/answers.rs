//! How long answers are: a bounded sketch of the last few hundred lengths, and the percentile that a hold begins with.

/// Answers below which nothing is told.
const ENOUGH: u32 = 20;
/// Counts lose half when so many are in, so that the last few hundred answers decide.
const MOST: u32 = 512;
/// Four buckets to an octave: each ends at most a quarter above its beginning. The last begins at 7 × 2^17 tokens.
const BUCKETS: usize = 76;

/// Lengths of the last answers of one model on one route, in tokens. A pure struct: the same lengths in the same order
/// give the same percentile.
#[derive(Clone, Debug)]
pub struct Answers {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Default for Answers {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Answers {
    /// One answer had so many tokens.
    pub fn add(&mut self, tokens: u64) {
        if self.total >= MOST {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().copied().map(u32::from).sum();
        }
        self.counts[bucket(tokens)] += 1;
        self.total += 1;
    }

    /// A length that nine of ten answers do not pass: the upper end of its bucket. `None` after too few.
    pub fn p90(&self) -> Option<u64> {
        if self.total < ENOUGH {
            return None;
        }
        let mut reached = 0;
        let found = self.counts.iter().position(|count| {
            reached += u32::from(*count) * 10;
            reached >= self.total * 9
        });
        found.map(upper_end)
    }
}

/// The bucket of a length: its octave and the next two bits; all below four have one.
fn bucket(tokens: u64) -> usize {
    let tokens = tokens.max(4);
    let octave = tokens.ilog2();
    let quarter = (tokens >> (octave - 2)) & 3;
    usize::try_from(u64::from(octave - 2) * 4 + quarter).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest length in a bucket.
fn upper_end(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket / 4, bucket as u64 % 4);
    ((5 + quarter) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_told_of_too_few() {
        let mut answers = Answers::default();
        (0..ENOUGH - 1).for_each(|_| answers.add(100));
        assert_eq!(answers.p90(), None);
        answers.add(100);
        assert_eq!(answers.p90(), Some(111), "100 is in the bucket from 96 to 111");
    }

    #[test]
    fn a_new_habit_is_followed() {
        let mut answers = Answers::default();
        (0..2_000).for_each(|_| answers.add(4_000));
        (0..1_000).for_each(|_| answers.add(50));
        assert_eq!(answers.p90(), Some(55));
    }

    proptest! {
        #[test]
        fn every_length_is_in_a_bucket_that_ends_a_quarter_above_it_at_most(tokens in 4_u64..917_504) {
            let end = upper_end(bucket(tokens));
            prop_assert!(end >= tokens && end <= tokens + tokens / 4, "{tokens}: {end}");
        }

        #[test]
        fn nine_of_ten_do_not_pass_it(mut lengths in prop::collection::vec(1_u64..9_000, 20..500)) {
            let mut answers = Answers::default();
            lengths.iter().for_each(|tokens| answers.add(*tokens));
            lengths.sort_unstable();
            let exact = lengths[(lengths.len() * 9).div_ceil(10) - 1];
            let told = answers.p90().unwrap();
            prop_assert!(told >= exact && told <= exact + exact / 4 + 4, "{told} for {exact}");
        }
    }
}
