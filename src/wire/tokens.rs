//! Token counts: vocabularies that load when first needed, and the bound that needs none.

use std::sync::OnceLock;

use tiktoken::CoreBpe;

use crate::base::catalog::Tokenizer;

/// The most bytes of one text that are counted with the vocabulary; a longer text's rest counts at the ratio of what
/// was counted. Counting costs some 10 ms a MB, so this bounds one text to a few milliseconds.
pub const MAX_COUNTED: usize = 256 * 1024;

/// Vocabularies in memory, in the order of [`slot`].
static LOADED: [OnceLock<Option<&'static CoreBpe>>; 7] = [const { OnceLock::new() }; 7];

/// The place of a tokenizer in [`LOADED`] and its name in the `tiktoken` crate (whose `deepseek_v4`, `kimi_k3` and
/// `glm4` count the same).
const fn slot(tokenizer: Tokenizer) -> Option<(usize, &'static str)> {
    Some(match tokenizer {
        Tokenizer::O200k => (0, "o200k_base"),
        Tokenizer::Cl100k => (1, "cl100k_base"),
        Tokenizer::Qwen => (2, "qwen2"),
        Tokenizer::Deepseek => (3, "deepseek_v3"),
        Tokenizer::Llama3 => (4, "llama3"),
        Tokenizer::Kimi => (5, "kimi_k2"),
        Tokenizer::Glm => (6, "glm5"),
        Tokenizer::Other => return None,
    })
}

/// Tokens of `text` in this vocabulary, loading it if need be (0.1 s, 25 MB: not on a reactor thread).
///
/// Special tokens such as `<|endoftext|>` count as the ordinary text that they are in a prompt. Of a text longer than
/// [`MAX_COUNTED`] the first so many bytes are counted and the rest is taken to have the same bytes per token, rounded
/// up. A vocabulary that is not known counts a token a byte.
pub fn count(tokenizer: Tokenizer, text: &str) -> u64 {
    let vocabulary =
        slot(tokenizer).and_then(|(index, name)| LOADED[index].get_or_init(|| tiktoken::get_encoding(name)).as_ref());
    // Every vocabulary named above is compiled in; were one not, a token a byte is the bound that needs none.
    let Some(vocabulary) = vocabulary else { return text.len() as u64 };
    let head = &text[..text.floor_char_boundary(MAX_COUNTED)];
    let counted = vocabulary.count(head) as u64;
    if head.len() == text.len() {
        return counted;
    }
    (u128::from(counted) * text.len() as u128).div_ceil(head.len() as u128) as u64
}

/// Whether the vocabulary is in memory already, so that [`count`] is quick.
pub fn is_loaded(tokenizer: Tokenizer) -> bool {
    slot(tokenizer).is_none_or(|(index, _)| LOADED[index].get().is_some())
}

#[cfg(test)]
mod tests {
    //! Known counts, and texts made to be slow.

    use super::{MAX_COUNTED, Tokenizer, count, is_loaded};

    const LATIN: &str = include_str!("../../tests/fixtures/tokens/latin.txt");
    const OTHER: &str = include_str!("../../tests/fixtures/tokens/other.txt");
    const KNOWN: [Tokenizer; 7] = [
        Tokenizer::O200k,
        Tokenizer::Cl100k,
        Tokenizer::Qwen,
        Tokenizer::Deepseek,
        Tokenizer::Llama3,
        Tokenizer::Kimi,
        Tokenizer::Glm,
    ];

    /// The table of ratios is what the vocabularies make of the two texts, to half a per cent.
    #[test]
    fn the_ratios_between_vocabularies_are_those_that_are_measured() {
        for tokenizer in KNOWN {
            let ratio = tokenizer.ratio().unwrap();
            for (text, said) in [(LATIN, ratio.latin_ppm), (OTHER, ratio.other_ppm)] {
                let measured = count(tokenizer, text) * 1_000_000 / count(Tokenizer::O200k, text);
                assert!(measured.abs_diff(said) < 5_000, "{tokenizer:?}: {measured}, the table says {said}");
            }
        }
        assert_eq!(Tokenizer::Other.ratio(), None);
    }

    /// A count times a ratio meets what the vocabulary itself counts in a mixed text, to four per cent.
    #[test]
    fn a_count_is_converted_by_script() {
        let both = format!("{LATIN}{OTHER}");
        let other_script_ppm = (both.bytes().filter(|byte| !byte.is_ascii()).count() * 1_000_000 / both.len()) as u32;
        for (from, to) in KNOWN.into_iter().flat_map(|from| KNOWN.map(|to| (from, to))) {
            let converted = to.ratio().unwrap().convert(from.ratio().unwrap(), count(from, &both), other_script_ppm);
            let counted = count(to, &both);
            assert!(converted.abs_diff(counted) * 25 < counted, "{from:?} to {to:?}: {converted} for {counted}");
        }
    }

    #[test]
    fn every_vocabulary_counts() {
        for tokenizer in KNOWN {
            assert_eq!(count(tokenizer, "hello world"), 2, "{tokenizer:?}");
            assert_eq!(count(tokenizer, ""), 0);
            assert!(count(tokenizer, "<|endoftext|>") > 1, "a special token is text in a prompt");
            assert!(is_loaded(tokenizer));
        }
    }

    #[test]
    fn a_long_text_counts_at_the_ratio_of_its_beginning() {
        let short = "the keeper trimmed the wick ".repeat(MAX_COUNTED / 28);
        let long = short.repeat(4);
        let (counted, extrapolated) = (count(Tokenizer::Cl100k, &short), count(Tokenizer::Cl100k, &long));
        assert!(extrapolated.abs_diff(4 * counted) <= 8, "{counted} {extrapolated}");
    }

    #[test]
    fn hostile_texts_count_in_one_go() {
        for unit in ["a", " ", "\n", "é", "汉", "😀", "\u{0}", "1", "a\u{301}"] {
            let tokens = count(Tokenizer::O200k, &unit.repeat((1 << 20) / unit.len()));
            assert!((1..=1 << 20).contains(&tokens), "{unit:?}: {tokens}");
        }
    }
}
