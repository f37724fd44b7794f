//! Classes of requests: which go first, and which are turned away first, when there is too little for all.

/// A class, the least important first. The words are those of the Kubernetes inference gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Turned away before anybody else has to wait: batches, prefetches, evaluations.
    Sheddable,
    /// What says nothing.
    #[default]
    Standard,
    /// Goes first and is turned away last.
    Critical,
}

impl Priority {
    /// All of them, the least important first.
    pub const ALL: [Self; 3] = [Self::Sheddable, Self::Standard, Self::Critical];
    /// Their words.
    pub const WORDS: [&str; 3] = ["sheddable", "standard", "critical"];

    /// The class of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// Its place among [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_as_it_is_written() {
        for class in Priority::ALL {
            assert_eq!(Priority::parse(class.as_str()), Some(class));
        }
        assert_eq!((Priority::parse("high"), Priority::parse("")), (None, None));
        assert!(Priority::Critical > Priority::default() && Priority::default() > Priority::Sheddable);
    }
}
