//! Frames: how entries lie in a segment, and how what is damaged is told from what is whole.
//!
//! ```text
//! segment = magic (8) · number (8, LE) · frame*
//! frame   = length (4, LE) · CRC32C of length and payload (4, LE) · payload
//! ```
//! A power cut leaves a torn tail: bytes after which no whole frame comes. It is cut off. Damage with whole frames
//! behind it is something else: it is stepped over and told, and what is behind it stays.

/// The first bytes of every segment; the last of them is the version.
pub(super) const MAGIC: &[u8; 8] = b"TPKBOOK1";
/// How many bytes stand before the first frame.
pub(super) const HEADER: usize = 16;
/// How many bytes stand before a payload.
const PREFIX: usize = 8;
/// The longest payload. A row with the most labels that are taken is far below it.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;

/// The header of segment `number`.
pub(super) fn header(number: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Opens a frame in `out`: the payload is to be written behind it, then [`close`] is to be called.
pub(super) fn open(out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; PREFIX]);
}

/// Closes the frame whose payload has been written; `false` when it is empty or too long.
pub(super) fn close(out: &mut [u8]) -> bool {
    let Some(length) = out.len().checked_sub(PREFIX).filter(|length| (1..=MAX_PAYLOAD).contains(length)) else {
        return false;
    };
    let Ok(length) = u32::try_from(length) else { return false };
    out[..4].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&out[..4], &out[PREFIX..]);
    out[4..PREFIX].copy_from_slice(&sum.to_le_bytes());
    true
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), payload)
}

/// The payload of the frame that begins at the first byte of `bytes`, `None` when there is no whole one.
pub(super) fn first(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.get(..4)?;
    let sum = u32::from_le_bytes(bytes.get(4..PREFIX)?.try_into().ok()?);
    let size = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    if size == 0 || size > MAX_PAYLOAD {
        return None;
    }
    let payload = bytes.get(PREFIX..PREFIX + size)?;
    (checksum(length, payload) == sum).then_some(payload)
}

/// How many bytes the frame of `payload` takes.
pub(super) fn size(payload: &[u8]) -> usize {
    PREFIX + payload.len()
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A whole frame's payload.
    Frame(&'a [u8]),
    /// So many damaged bytes; a whole frame stands behind them.
    Damage(usize),
    /// So many bytes and no whole frame any more: the torn tail.
    Torn(usize),
    /// Nothing.
    End,
}

/// What comes first in `bytes`.
pub(super) fn next(bytes: &[u8]) -> Next<'_> {
    if bytes.is_empty() {
        return Next::End;
    }
    if let Some(payload) = first(bytes) {
        return Next::Frame(payload);
    }
    // A length is plausible at one offset in 4096, so looking for the next frame costs little more than reading on.
    match (1..bytes.len()).find(|&skip| first(&bytes[skip..]).is_some()) {
        Some(skip) => Next::Damage(skip),
        None => Next::Torn(bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        for payload in payloads {
            open(&mut frame);
            frame.extend_from_slice(payload);
            assert!(close(&mut frame));
            bytes.extend_from_slice(&frame);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, usize, usize) {
        let (mut at, mut whole, mut damaged) = (0, Vec::new(), 0);
        loop {
            match next(&bytes[at..]) {
                Next::Frame(payload) => {
                    whole.push(payload.to_vec());
                    at += size(payload);
                }
                Next::Damage(skip) => {
                    damaged += skip;
                    at += skip;
                }
                Next::Torn(torn) => return (whole, damaged, torn),
                Next::End => return (whole, damaged, 0),
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn of_a_torn_tail_every_earlier_record_stays(payloads in payloads(), cut in any::<prop::sample::Index>(), junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let (bytes, ends) = frames(&payloads);
            let cut = cut.index(bytes.len() + 1);
            let mut torn = bytes[..cut].to_vec();
            torn.extend_from_slice(&junk);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (read, _, _) = read(&torn);
            prop_assert!(read.len() >= whole);
            prop_assert_eq!(&read[..whole], &payloads[..whole]);
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_flipped_bit_costs_the_record_it_is_in_and_no_other(payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (mut bytes, ends) = frames(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let mut left = payloads.clone();
            left.remove(hit);
            let (read, damaged, torn) = read(&bytes);
            prop_assert_eq!(read, left);
            prop_assert!(damaged + torn > 0);
        }
    }

    #[test]
    fn an_empty_and_an_endless_payload_make_no_frame() {
        let mut out = Vec::new();
        open(&mut out);
        assert!(!close(&mut out));
        out.resize(PREFIX + MAX_PAYLOAD + 1, b'x');
        assert!(!close(&mut out));
    }
}
