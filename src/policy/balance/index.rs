//! What of a prompt a replica should have in its cache: an index of hashes of blocks, no text.
//!
//! A prompt is cut into blocks of 64 bytes, and each is known by the hash of everything up to its end, so that a block
//! stands for a whole prefix. A replica's engine forgets what was not used for longest; the index does the same, within
//! a bound of its own, and learns from `cached_tokens` how much the engine really keeps.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hasher},
};

/// Bytes of one block: about 16 tokens, the unit in which vLLM keeps a prompt.
pub const BLOCK: usize = 64;
/// The most blocks of one prompt that are looked at: a megabyte.
pub const MAX_BLOCKS: usize = 16 * 1024;
/// Blocks of one generation: two generations are 131,072 blocks, about 2 million tokens, in at most 5 MB a replica.
const GENERATION: usize = 64 * 1024;
/// An engine keeps at least so many blocks: a learned bound below it would be noise.
const LEAST: u64 = 256;
/// So many blocks fewer than foreseen are no miss: engines keep whole blocks of their own, and templates add text.
const SLACK: usize = 4;

/// The hashes of a prompt's blocks, in order; the last part-filled block counts for nothing. `key` keeps others from
/// finding prompts that collide. `parts` are joined.
pub fn blocks<'a>(key: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u64> {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(key);
    let (mut hashes, mut filled) = (Vec::new(), 0);
    for mut part in parts {
        while !part.is_empty() && hashes.len() < MAX_BLOCKS {
            let (now, rest) = part.split_at(part.len().min(BLOCK - filled));
            hasher.write(now);
            filled = (filled + now.len()) % BLOCK;
            if filled == 0 {
                hashes.push(hasher.finish());
            }
            part = rest;
        }
    }
    hashes
}

/// Passes a block's hash on: it is one already, and keyed.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Blocks = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

/// What one replica should have. Every set in it is closed under prefixes, since a prompt is noted from its beginning:
/// so the longest known prefix is found by bisection.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    young: Blocks,
    old: Blocks,
    /// Blocks that were new when they came; an entry's value is what stood here when it was last used.
    clock: u64,
    /// How many newer blocks the engine keeps, as far as was learned.
    keeps: Option<u64>,
    /// How many newer blocks had come when something was still there.
    proven: u64,
    /// The engine tells what it read from its cache.
    tells: bool,
}

/// How much of a prompt was known when it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) blocks: usize,
    /// How many new blocks had come since the last of them was used.
    age: u64,
    /// What brought them has been read by the engine since, so that they must be in its cache if they are not lost.
    pub(super) read: bool,
}

impl Index {
    /// How much of the prompt should be in the cache.
    pub(super) fn known(&self, blocks: &[u64]) -> Known {
        let keeps = self.keeps.unwrap_or(u64::MAX);
        let age = |hash: &u64| {
            let used = self.young.get(hash).or_else(|| self.old.get(hash))?;
            Some(self.clock - used).filter(|age| *age <= keeps)
        };
        let known = blocks.partition_point(|hash| age(hash).is_some());
        let age = known.checked_sub(1).and_then(|last| age(&blocks[last])).unwrap_or(0);
        Known { blocks: known, age, read: true }
    }

    /// Whether it was sent here once, kept by the engine or not.
    pub(super) fn noted(&self, block: u64) -> bool {
        self.young.contains_key(&block) || self.old.contains_key(&block)
    }

    /// What stands for this moment in the order of uses.
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// [`Index::known`], where what came since `unread` has not been read by the engine yet.
    pub(super) fn known_since(&self, blocks: &[u64], unread: Option<u64>) -> Known {
        let known = self.known(blocks);
        Known { read: unread.is_none_or(|unread| self.clock - known.age <= unread), ..known }
    }

    /// The prompt is sent: from now on it is in the cache.
    pub(super) fn note(&mut self, blocks: &[u64]) {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        if self.young.len() + blocks.len() > GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        let fresh = blocks.iter().filter(|hash| !self.young.contains_key(*hash) && !self.old.contains_key(*hash));
        self.clock += fresh.count() as u64;
        let clock = self.clock;
        self.young.extend(blocks.iter().map(|hash| (*hash, clock)));
    }

    /// The engine read so many blocks from its cache where `known` was foreseen.
    pub(super) fn learn(&mut self, known: Known, read: usize) {
        self.tells |= read > 0;
        if !self.tells {
            return;
        }
        if read > known.blocks + SLACK {
            // More than was foreseen: it keeps what was believed forgotten.
            self.keeps = self.keeps.map(|keeps| keeps.saturating_mul(2)).filter(|keeps| *keeps < 2 * GENERATION as u64);
        } else if read + SLACK >= known.blocks {
            self.proven = self.proven.max(known.age);
        } else if known.read && known.age < self.proven / 2 && read < known.blocks / 2 {
            // It keeps more than that: it was started anew.
            self.forget();
        } else if known.read {
            let keeps = known.age.clamp(LEAST, self.keeps.unwrap_or(u64::MAX).max(LEAST));
            self.keeps = Some(keeps);
            self.proven = self.proven.min(keeps);
        }
    }

    /// Whether the engine tells what it read from its cache.
    pub(super) fn tells(&self) -> bool {
        self.tells
    }

    /// The cache is empty.
    pub(super) fn forget(&mut self) {
        (self.young, self.old) = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(seed: u64, length: u64) -> Vec<u64> {
        (0..length).map(|block| super::super::mix(seed << 20 | block)).collect()
    }

    #[test]
    fn prompts_share_the_blocks_of_their_common_beginning_however_they_are_parted() {
        let text = "a conversation that goes on and on, turn after turn ".repeat(10);
        let (whole, parted) = (text.as_bytes(), [&text.as_bytes()[..100], &text.as_bytes()[100..]]);
        assert_eq!(blocks(1, [whole]), blocks(1, parted));
        assert_eq!(blocks(1, [whole]).len(), whole.len() / BLOCK);
        let other = text.replacen("turn after", "word after", 3);
        let (mine, other) = (blocks(1, [whole]), blocks(1, [other.as_bytes()]));
        assert_eq!(mine.iter().zip(&other).take_while(|(a, b)| a == b).count(), 0, "it differs in the first block");
        let longer = text.clone() + &text;
        assert_eq!(blocks(1, [longer.as_bytes()])[..mine.len()], mine);
        assert_ne!(blocks(2, [whole]), mine, "the key counts");
        assert_eq!(blocks(1, [vec![b'a'; 3 << 20].as_slice()]).len(), MAX_BLOCKS);
    }

    #[test]
    fn the_longest_known_prefix_is_found() {
        let mut index = Index::default();
        let long = prompt(1, 100);
        index.note(&long[..40]);
        assert_eq!(index.known(&long).blocks, 40);
        assert_eq!(index.known(&long[..10]).blocks, 10);
        assert_eq!(index.known(&prompt(2, 100)).blocks, 0);
        index.note(&long);
        assert_eq!(index.known(&long).blocks, 100);
        index.forget();
        assert_eq!(index.known(&long).blocks, 0);
    }

    #[test]
    fn what_is_used_stays_and_no_more_is_kept_than_there_is_room_for() {
        let mut index = Index::default();
        let used = prompt(0, 50);
        for number in 1..2_000 {
            index.note(&prompt(number, 100));
            index.note(&used);
        }
        assert_eq!(index.known(&used).blocks, 50);
        assert_eq!(index.known(&prompt(1, 100)).blocks, 0);
        assert!(index.young.len() + index.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn it_learns_how_much_the_engine_keeps() {
        let mut index = Index::default();
        // An engine that keeps 1,000 blocks: what is older than that is missed.
        for number in 0..2_000_u64 {
            let again = prompt(10_000 + number.saturating_sub(super::super::mix(number) % 60), 50);
            let known = index.known(&again);
            let read = if known.age <= 1_000 { known.blocks } else { 0 };
            index.note(&again);
            index.learn(known, read);
            index.note(&prompt(number + 10_000, 50));
        }
        let keeps = index.keeps.expect("learned");
        assert!((700..3_000).contains(&keeps), "{keeps}");
    }

    #[test]
    fn an_engine_that_tells_nothing_is_taken_at_its_word() {
        let mut index = Index::default();
        let same = prompt(1, 100);
        for _ in 0..10 {
            let known = index.known(&same);
            index.note(&same);
            index.learn(known, 0);
        }
        assert_eq!(index.known(&same).blocks, 100);
    }

    #[test]
    fn an_engine_started_anew_has_forgotten_everything() {
        let mut index = Index::default();
        let (same, other) = (prompt(1, 100), prompt(2, 100));
        index.note(&same);
        (3..9).for_each(|number| index.note(&prompt(number, 100)));
        index.learn(index.known(&same), 100);
        index.note(&other);
        index.note(&same);
        index.learn(index.known(&same), 0);
        assert_eq!(index.known(&other).blocks, 0);
    }
}
