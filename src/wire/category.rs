//! What kind of work a prompt asks for: a heuristic over plain features of the last user message.

use crate::base::facts::Category;

/// How a category was found, for records.
pub const METHOD: &str = "heuristic";

/// What [`classify`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guess {
    /// The likeliest category.
    pub category: Category,
    /// It is likely enough to be used.
    pub confident: bool,
}

/// Placeholder.
pub fn classify<'a>(texts: impl Iterator<Item = &'a str>, tools: bool) -> Guess {
    let _ = texts.count();
    Guess { category: if tools { Category::Tools } else { Category::Chat }, confident: tools }
}
