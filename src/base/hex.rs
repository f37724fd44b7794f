//! SHA-256 digests as text: 64 hexadecimal digits, in files, in the key store and on the command line.

use std::fmt::Write;

/// Lower-case digits of a digest.
pub fn digits(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The digest that 64 digits of either case spell; `None` for anything else.
pub fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(digest)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_back_as_the_digest() {
        let sha = std::array::from_fn(|at| (at * 37 % 256) as u8);
        assert_eq!(digest(&digits(&sha)), Some(sha));
        assert_eq!(digest(&digits(&sha).to_uppercase()), Some(sha));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "0f", &"0".repeat(63), &"0".repeat(65), &"+1".repeat(32), &"g0".repeat(32), &"é".repeat(32)] {
            assert_eq!(digest(text), None, "{text}");
        }
    }
}
