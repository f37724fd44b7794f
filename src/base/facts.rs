//! Facts: all that a decision may know of a request. No message text is among them.

use std::fmt;

use super::{catalog::Tokenizer, tier::Asked};

/// The kind of work that a prompt asks for; benchmark scores are kept for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Open conversation: the overall ability.
    #[default]
    Chat,
    /// Writing and mending programs.
    Code,
    /// Mathematics.
    Math,
    /// Logic and puzzles.
    Reasoning,
    /// Facts and exam questions.
    Knowledge,
    /// Language, style and translation.
    Language,
    /// Following instructions to the letter.
    Instructions,
    /// Tables and data analysis.
    Data,
    /// Calling tools.
    Tools,
}

impl Category {
    /// All categories, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Chat,
        Self::Code,
        Self::Math,
        Self::Reasoning,
        Self::Knowledge,
        Self::Language,
        Self::Instructions,
        Self::Data,
        Self::Tools,
    ];

    /// The name in files, rules and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Code => "code",
            Self::Math => "math",
            Self::Reasoning => "reasoning",
            Self::Knowledge => "knowledge",
            Self::Language => "language",
            Self::Instructions => "instructions",
            Self::Data => "data",
            Self::Tools => "tools",
        }
    }

    /// The category of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == name)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a model can be asked to do beyond text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ability {
    /// Tool calls.
    Tools,
    /// JSON mode and JSON schemas (`response_format`).
    Json,
    /// Images in the prompt.
    Images,
    /// Audio in the prompt.
    Audio,
    /// Reasoning before the answer.
    Reasoning,
}

impl Ability {
    /// All abilities, in the order of declaration.
    pub const ALL: [Self; 5] = [Self::Tools, Self::Json, Self::Images, Self::Audio, Self::Reasoning];

    /// The name in files and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Json => "json",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Reasoning => "reasoning",
        }
    }

    /// The ability of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ability| ability.as_str() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of abilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities(u8);

impl Abilities {
    /// The set with `ability` added.
    #[must_use]
    pub const fn with(self, ability: Ability) -> Self {
        Self(self.0 | ability.bit())
    }

    /// Whether `ability` is in the set.
    pub const fn has(self, ability: Ability) -> bool {
        self.0 & ability.bit() != 0
    }

    /// The first ability of `wanted` that is not in this set.
    pub fn lacking(self, wanted: Self) -> Option<Ability> {
        Ability::ALL.into_iter().find(|&ability| wanted.has(ability) && !self.has(ability))
    }
}

impl FromIterator<Ability> for Abilities {
    fn from_iter<I: IntoIterator<Item = Ability>>(abilities: I) -> Self {
        abilities.into_iter().fold(Self::default(), Self::with)
    }
}

/// What a decision knows of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The `model` of the body: a route, a model or an alias.
    pub model: String,
    /// The client asked for a stream.
    pub stream: bool,
    /// Prompt tokens, counted with `counted_with`, else estimated from bytes.
    pub input_tokens: u64,
    /// The vocabulary of `input_tokens`; `None` = none was at hand.
    pub counted_with: Option<Tokenizer>,
    /// Prompt tokens estimated from bytes, for models whose vocabulary is not known.
    pub estimated_tokens: u64,
    /// How much of the prompt's text is written beyond ASCII, in millionths of its bytes.
    pub other_script_ppm: u32,
    /// An upper bound on what any upstream will count as prompt tokens, for the hold; 0 = none is known, and the
    /// decision adds a margin to the count.
    pub input_bound: u64,
    /// Bytes of the body: one token a byte is the bound that needs no vocabulary.
    pub body_bytes: u64,
    /// The client's own cap on the answer, if it gave one.
    pub max_output: Option<u64>,
    /// How many answers (`n`).
    pub answers: u64,
    /// Messages in the conversation.
    pub messages: u64,
    /// Image parts.
    pub images: u64,
    /// Audio parts.
    pub audio: u64,
    /// Tools offered to the model.
    pub tools: u64,
    /// A JSON answer is demanded.
    pub json: bool,
    /// The client asked for reasoning: on, off, or did not say.
    pub reasoning: Option<bool>,
    /// The tier of service that the client asked for.
    pub tier: Asked,
    /// What kind of work it is.
    pub category: Category,
    /// The category is good enough to be used; otherwise the overall ability is.
    pub category_confident: bool,
}

impl Facts {
    /// Prompt tokens as a model with this vocabulary is expected to count them: the count itself where it was made
    /// with that vocabulary, else the count times the ratio of both ([`Tokenizer::ratio`]), else the estimate.
    pub fn input_for(&self, tokenizer: Tokenizer) -> u64 {
        match self.counted_with {
            None => self.input_tokens,
            Some(counted_with) if counted_with == tokenizer => self.input_tokens,
            Some(counted_with) => match (tokenizer.ratio(), counted_with.ratio()) {
                (Some(to), Some(from)) => to.convert(from, self.input_tokens, self.other_script_ppm),
                _ => self.estimated_tokens,
            },
        }
    }

    /// The abilities that a candidate must have to serve this request.
    pub fn wanted(&self) -> Abilities {
        let pairs = [
            (Ability::Tools, self.tools > 0),
            (Ability::Json, self.json),
            (Ability::Images, self.images > 0),
            (Ability::Audio, self.audio > 0),
        ];
        pairs.into_iter().filter(|(_, wanted)| *wanted).map(|(ability, _)| ability).collect()
    }
}
