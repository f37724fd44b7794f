//! Runs of letters and of digits, found eight bytes at a time: a prompt is looked at on the path of its request.

use std::ops::Range;

/// How many bytes make a block: a bit each of a number.
const BLOCK: usize = 64;
/// A number with this byte in all eight places.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The highest bit of every byte that lies between `least` and `most`, both ASCII.
const fn between(bytes: u64, least: u8, most: u8) -> u64 {
    // Of the low seven bits no sum leaves its byte; what has the eighth bit is no ASCII.
    let low = bytes & each(0x7f);
    (low + each(0x80 - least)) & !(low + each(0x7f - most)) & !bytes & each(0x80)
}

/// The highest bits of the eight bytes as eight bits, that of the first byte lowest.
const fn gather(bits: u64) -> u64 {
    ((bits >> 7).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

/// Which bytes of a block are ASCII letters and which digits.
fn classes(block: &[u8; BLOCK]) -> (u64, u64) {
    let (mut letters, mut digits) = (0, 0);
    for (at, eight) in block.as_chunks::<8>().0.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        letters |= gather(between(eight | each(0x20), b'a', b'z')) << (8 * at);
        digits |= gather(between(eight, b'0', b'9')) << (8 * at);
    }
    (letters, digits)
}

/// Tells `word` where every run of ASCII letters stands, and returns how many runs of digits begin neither in a word
/// nor in another number.
pub(super) fn scan(bytes: &[u8], mut word: impl FnMut(Range<usize>)) -> u32 {
    let (mut numbers, mut begun) = (0, None);
    // The last byte of the block before was a letter or a digit.
    let mut in_either = 0;
    let (whole, rest) = bytes.as_chunks::<BLOCK>();
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    for (at, block) in whole.iter().chain([&last]).enumerate() {
        let (mut letters, digits) = classes(block);
        let either = letters | digits;
        numbers += (digits & !(either << 1 | in_either)).count_ones();
        in_either = either >> (BLOCK - 1);
        if let Some(begin) = begun {
            let end = letters.trailing_ones() as usize;
            if end == BLOCK {
                continue;
            }
            word(begin..at * BLOCK + end);
            begun = None;
            letters = letters >> end << end;
        }
        while letters != 0 {
            let begin = letters.trailing_zeros() as usize;
            let end = begin + (letters >> begin).trailing_ones() as usize;
            if end == BLOCK {
                begun = Some(at * BLOCK + begin);
                break;
            }
            word(at * BLOCK + begin..at * BLOCK + end);
            letters = letters >> end << end;
        }
    }
    // The last block has a byte behind the text's end, which is no letter, so no word is left open.
    numbers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte at a time.
    fn slowly(bytes: &[u8]) -> (Vec<Range<usize>>, u32) {
        let (mut words, mut numbers, mut begin) = (Vec::new(), 0, None);
        for at in 0..=bytes.len() {
            let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
            let here = bytes.get(at).copied().unwrap_or(b' ');
            numbers += u32::from(here.is_ascii_digit() && !before.is_ascii_alphanumeric());
            match (before.is_ascii_alphabetic(), here.is_ascii_alphabetic()) {
                (false, true) => begin = Some(at),
                (true, false) => words.extend(begin.take().map(|begin| begin..at)),
                _ => {}
            }
        }
        (words, numbers)
    }

    fn quickly(bytes: &[u8]) -> (Vec<Range<usize>>, u32) {
        let mut words = Vec::new();
        let numbers = scan(bytes, |word| words.push(word));
        (words, numbers)
    }

    #[test]
    fn every_byte_is_of_its_class() {
        for byte in 0..=u8::MAX {
            assert_eq!(quickly(&[byte]), slowly(&[byte]), "{byte:#x}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn eight_bytes_at_a_time_find_what_one_finds(text in "[a-zA-Z0-9 @`{\\[/:é漢]{0,300}", junk in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(quickly(text.as_bytes()), slowly(text.as_bytes()));
            prop_assert_eq!(quickly(&junk), slowly(&junk));
        }
    }
}
