//! Tiers of service: the same model sooner or later, at another price.

/// A tier at which a vendor serves a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The usual one.
    #[default]
    Standard,
    /// When there is room.
    Flex,
    /// Before others.
    Priority,
    /// On capacity that was bought.
    Scale,
    /// On faster machines.
    Fast,
    /// Within a day.
    Batch,
    /// One that this version does not know: no rate is for it.
    Unknown,
}

impl Tier {
    /// The tier of that name in a request, an answer or a price (`service_tier` of OpenAI's API; `standard` and
    /// `on_demand` are other vendors' words for the usual one).
    pub fn parse(word: &str) -> Self {
        match word {
            "default" | "standard" | "standard_only" | "on_demand" => Self::Standard,
            "flex" => Self::Flex,
            "priority" => Self::Priority,
            "scale" => Self::Scale,
            "fast" => Self::Fast,
            "batch" => Self::Batch,
            _ => Self::Unknown,
        }
    }

    /// Its name in prices, reasons and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "default",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Scale => "scale",
            Self::Fast => "fast",
            Self::Batch => "batch",
            Self::Unknown => "unknown",
        }
    }
}

/// The tier that a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// It does not say: the one that the vendor's project gives.
    #[default]
    Unsaid,
    /// `auto`: the vendor may pick any.
    Auto,
    /// This one. The vendor may still serve it at the usual one (OpenAI, "Priority processing": beyond the ramp rate).
    Named(Tier),
}

impl Asked {
    /// The tier of that name in a request.
    pub fn parse(word: &str) -> Self {
        if word == "auto" { Self::Auto } else { Self::Named(Tier::parse(word)) }
    }

    /// The tier to expect where requests that name none get `usual`.
    pub fn expected(self, usual: Tier) -> Tier {
        match self {
            Self::Unsaid | Self::Auto => usual,
            Self::Named(tier) => tier,
        }
    }

    /// Whether the request may be served at `tier`: what a hold must cover.
    pub fn reaches(self, tier: Tier, usual: Tier) -> bool {
        self == Self::Auto || tier == Tier::Standard || tier == self.expected(usual)
    }
}
