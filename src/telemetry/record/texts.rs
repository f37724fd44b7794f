//! The texts of a request, which are kept where the operator says so (`records: {content: 16KiB}`) and nowhere else.
//!
//! They are no part of a [`Record`](super::Record), which the log sees too: they go beside it to the files alone, and
//! `{:?}` shows their sizes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::line::is_default;

/// The prompt and the answer of a request, each up to a bound.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Texts {
    /// The body of the request, as the client sent it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// There was more of it.
    #[serde(skip_serializing_if = "is_default")]
    pub prompt_cut: bool,
    /// The body of the answer; of a stream, the answer that its events make. Empty when nobody answered.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// There was more of it.
    #[serde(skip_serializing_if = "is_default")]
    pub answer_cut: bool,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts")
            .field("prompt_bytes", &self.prompt.len())
            .field("prompt_cut", &self.prompt_cut)
            .field("answer_bytes", &self.answer.len())
            .field("answer_cut", &self.answer_cut)
            .finish()
    }
}

impl Texts {
    fn bytes(&self) -> usize {
        self.prompt.len().saturating_add(self.answer.len())
    }

    /// At most `most` bytes of `bytes`, up to the end of a letter, and whether there was more.
    pub fn begin(bytes: &[u8], most: usize) -> (String, bool) {
        let cut = bytes.len() > most;
        let mut end = bytes.len().min(most);
        // A byte that continues a letter begins with the bits 10.
        while cut && end > 0 && bytes[end] & 0b1100_0000 == 0b1000_0000 {
            end -= 1;
        }
        (String::from_utf8_lossy(&bytes[..end]).into_owned(), cut)
    }
}

/// Texts on their way to the writer take at most so many bytes.
const WAITING: usize = 64 << 20;

/// How many bytes of texts are on their way to the writer.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Lets texts through; what there is no room for goes on without a word, marked as cut.
    pub(super) fn enter(&self, texts: Box<Texts>) -> Box<Texts> {
        let bytes = texts.bytes();
        if self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= WAITING {
            return texts;
        }
        self.0.fetch_sub(bytes, Ordering::Relaxed);
        Box::new(Texts { prompt_cut: true, answer_cut: true, ..Texts::default() })
    }

    /// They are written, or were dropped.
    pub(super) fn left(&self, texts: &Texts) {
        self.0.fetch_sub(texts.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_the_end_of_a_letter() {
        for (text, most, begin, cut) in [
            ("brücke", 6, "brück", true),
            ("brücke", 3, "br", true),
            ("brücke", 4, "brü", true),
            ("brücke", 7, "brücke", false),
            ("", 0, "", false),
            ("ü", 1, "", true),
        ] {
            assert_eq!(Texts::begin(text.as_bytes(), most), (begin.to_owned(), cut), "{text} {most}");
        }
        let (lossy, _) = Texts::begin(&[0xff, b'a', 0x80, 0x80, 0x80], 3);
        assert!(lossy.starts_with('\u{fffd}'), "{lossy}");
    }

    #[test]
    fn what_waits_is_bounded_and_nothing_is_shown_of_it() {
        let waiting = Waiting::default();
        let texts = || Box::new(Texts { prompt: "x".repeat(WAITING / 2), ..Texts::default() });
        let (first, second) = (waiting.enter(texts()), waiting.enter(texts()));
        let third = waiting.enter(texts());
        assert!(third.prompt.is_empty() && third.prompt_cut && third.answer_cut);
        waiting.left(&third);
        waiting.left(&first);
        assert_eq!(waiting.enter(texts()).prompt, second.prompt);
        assert!(!format!("{second:?}").contains("xx"));
    }
}
