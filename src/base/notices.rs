//! What operators are told of without asking, and where.

use secrecy::SecretString;

/// Something that operators may want to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A budget has passed a share that it warns of.
    BudgetWarn,
    /// A budget has refused its first request of a window.
    BudgetEmpty,
    /// A backend was switched off.
    BackendOff,
    /// The store of budgets cannot be reached.
    StoreLost,
    /// A rollout was withdrawn.
    RolloutWithdrawn,
}

impl EventKind {
    /// The words in files and messages.
    pub const WORDS: [&str; 5] = ["budget_warn", "budget_empty", "backend_off", "store_lost", "rollout_withdrawn"];

    /// The kind of that word, `None` for anything else.
    pub fn parse(word: &str) -> Option<Self> {
        let kinds = [Self::BudgetWarn, Self::BudgetEmpty, Self::BackendOff, Self::StoreLost, Self::RolloutWithdrawn];
        kinds.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// Where operators are told of what.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The address; many have a secret in it.
    pub url: SecretString,
    /// Of what.
    pub on: Vec<EventKind>,
}
