//! The catalog's nouns: models, backends, and the pairs of both that a request may go to.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    facts::Abilities,
    fences::{Fence, Unit},
    names::{AccountName, BackendName, Location, ModelName},
    price::PriceRow,
    rent::Rent,
    tenants::Limits,
    tier::Tier,
};

/// Which vocabulary counts a model's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tokenizer {
    /// OpenAI since GPT-4o.
    O200k,
    /// OpenAI before.
    Cl100k,
    /// Qwen 2 and later.
    Qwen,
    /// DeepSeek V3 and R1.
    Deepseek,
    /// Llama 3.
    Llama3,
    /// Kimi K2 and K3.
    Kimi,
    /// GLM 4 and 5.
    Glm,
    /// One that is not public, or not built in: its tokens are estimated from bytes.
    #[default]
    Other,
}

/// What a vocabulary makes of a text that is a million tokens in o200k, by script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Latin prose, markup and program text.
    pub latin_ppm: u64,
    /// Chinese, and what else is written beyond ASCII.
    pub other_ppm: u64,
}

impl Tokenizer {
    /// All vocabularies, in the order of declaration.
    pub const ALL: [Self; 8] =
        [Self::O200k, Self::Cl100k, Self::Qwen, Self::Deepseek, Self::Llama3, Self::Kimi, Self::Glm, Self::Other];

    /// The name in files and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::O200k => "o200k",
            Self::Cl100k => "cl100k",
            Self::Qwen => "qwen",
            Self::Deepseek => "deepseek",
            Self::Llama3 => "llama3",
            Self::Kimi => "kimi",
            Self::Glm => "glm",
            Self::Other => "other",
        }
    }

    /// The vocabulary of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tokenizer| tokenizer.as_str() == name)
    }

    /// Measured on `tests/fixtures/tokens/*.txt` with the vocabularies of the `tiktoken` crate 4.1; a test of
    /// `wire::tokens` measures again. `None` where there is no vocabulary to measure with.
    pub const fn ratio(self) -> Option<Ratio> {
        let (latin_ppm, other_ppm) = match self {
            Self::O200k => (1_000_000, 1_000_000),
            Self::Cl100k => (1_018_000, 1_422_000),
            Self::Qwen => (1_053_000, 935_000),
            Self::Deepseek => (1_033_000, 869_000),
            Self::Llama3 => (1_016_000, 1_035_000),
            Self::Kimi => (1_033_000, 918_000),
            Self::Glm => (1_012_000, 919_000),
            Self::Other => return None,
        };
        Some(Ratio { latin_ppm, other_ppm })
    }
}

impl Ratio {
    /// The ratio for a text of which so many millionths are written beyond ASCII, in parts per million. Both scripts
    /// have about 4 bytes a token, so a share of bytes is taken for a share of tokens.
    const fn of_mix(self, other_script_ppm: u64) -> u64 {
        let other = if other_script_ppm > 1_000_000 { 1_000_000 } else { other_script_ppm };
        (self.latin_ppm * (1_000_000 - other) + self.other_ppm * other) / 1_000_000
    }

    /// Tokens in this vocabulary of a text that `from` counts as `tokens`, rounded up.
    pub fn convert(self, from: Self, tokens: u64, other_script_ppm: u32) -> u64 {
        let (to, from) = (self.of_mix(other_script_ppm.into()), from.of_mix(other_script_ppm.into()));
        let converted = (u128::from(tokens) * u128::from(to)).div_ceil(u128::from(from.max(1)));
        u64::try_from(converted).unwrap_or(u64::MAX)
    }
}

/// How a model reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// It does not.
    #[default]
    Never,
    /// It does if asked to.
    OnRequest,
    /// It does unless told not to.
    ByDefault,
    /// It always does.
    Always,
}

/// A model that a route may choose.
#[derive(Clone, Debug)]
pub struct Model {
    /// What operators call it.
    pub name: ModelName,
    /// The name of the catalog's entry that it was recognised as; its scores are used.
    pub catalog: Option<ModelName>,
    /// Tokens of prompt and answer together; 0 = unknown, no check.
    pub context: u64,
    /// The longest answer; 0 = unknown.
    pub max_output: u64,
    /// What it can do; `None` = unknown, no check.
    pub abilities: Option<Abilities>,
    /// How it reasons.
    pub thinking: Thinking,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// What is expected of its speed until it has been measured.
    pub prior: SpeedPrior,
    /// Expected tokens of an answer until they have been measured.
    pub expected_output: u64,
    /// What may be spent on it, and how fast.
    pub fences: Arc<[Arc<Fence>]>,
}

/// A prior of a model's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeedPrior {
    /// Time to the first token.
    pub first_token: Duration,
    /// Time for each further token.
    pub per_token: Duration,
}

impl Default for SpeedPrior {
    fn default() -> Self {
        Self { first_token: Duration::from_millis(1000), per_token: Duration::from_millis(20) }
    }
}

/// One of a backend's credentials.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name in headers and books.
    pub name: AccountName,
    /// The key; `None` where the server asks for none.
    pub api_key: Option<secrecy::SecretString>,
    /// What was agreed with its vendor; counted by each gateway for itself.
    pub limits: Limits,
}

/// In which order a backend's accounts are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// The first that is not parked.
    #[default]
    Order,
    /// In turn.
    Spread,
}

/// Four clocks of one attempt, and the fifth that bounds them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// From dispatch to the first meaningful event.
    pub first_token: Duration,
    /// Between two events.
    pub idle: Duration,
    /// The whole attempt.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// A server of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The base URL as an SDK takes it, without a trailing slash.
    pub url: http::Uri,
    /// Its share, in thousandths of a usual one.
    pub weight_milli: u64,
}

/// The weight of a server of which nothing is stated.
pub const USUAL_WEIGHT_MILLI: u64 = 1_000;

impl Endpoint {
    /// One of usual weight.
    pub fn usual(url: http::Uri) -> Self {
        Self { url, weight_milli: USUAL_WEIGHT_MILLI }
    }
}

/// How often a server is asked how it is, unless stated.
pub const USUAL_PROBE: Duration = Duration::from_secs(1);

/// Where the servers of a backend are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// The name: its addresses are the servers, or where it begins with `_` (SRV) its targets.
    pub dns: Arc<str>,
    /// The port of every server; `None` = as the SRV records say.
    pub port: Option<u16>,
    /// How often it is asked.
    pub refresh: Duration,
    /// The name server's address and port; `None` = as the system says.
    pub server: Option<Arc<str>>,
    /// They speak TLS, with a certificate for [`Self::host`].
    pub tls: bool,
}

impl Discover {
    /// The name of the host, without the service and the protocol of SRV records (`_http._tcp.`). Certificates are checked
    /// against this one, which the operator wrote, and not against what an answer of a name server says (RFC 6125 §6.2.1).
    pub fn host(&self) -> &str {
        let mut host = self.dns.strip_suffix('.').unwrap_or(&self.dns);
        while let Some((label, rest)) = host.split_once('.')
            && label.starts_with('_')
        {
            host = rest;
        }
        host
    }
}

/// An upstream: a vendor's site or a pool of own servers.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name in policies and headers.
    pub name: BackendName,
    /// Which dialect it speaks: a name of the table in `provider`.
    pub provider: &'static str,
    /// Its servers; at least one, unless [`Self::discover`] finds them.
    pub endpoints: Vec<Endpoint>,
    /// How its servers are found.
    pub discover: Option<Discover>,
    /// How often each server is asked how it is, if it can be.
    pub probe: Duration,
    /// Credentials in the order of the file; at least one.
    pub accounts: Vec<Account>,
    /// How accounts are picked.
    pub pick: Pick,
    /// How endpoints are picked: a name of the table in `policy::balance`.
    pub balance: &'static str,
    /// Where data goes; `None` = not stated.
    pub location: Option<Location>,
    /// The vendor's site.
    pub region: Option<Arc<str>>,
    /// Clocks.
    pub timeouts: Timeouts,
    /// Requests that may be in flight to it at once; `None` = no limit known.
    pub max_in_flight: Option<u32>,
    /// What its servers cost whatever they do; `None` = what they serve is paid by the token.
    pub rent: Option<Rent>,
    /// A request that would wait longer for its turn goes elsewhere; `None` = however long.
    pub spill: Option<Duration>,
    /// The tier of service that its vendor gives to requests that name none: a setting of the vendor's project.
    pub tier: Tier,
    /// Reasoning is in its streams as it is written, so that its tokens can be told from them.
    pub shows_reasoning: bool,
    /// Why it is switched off, if it is.
    pub off: Option<Arc<str>>,
    /// What may be spent on it, and how fast; its provider's, too.
    pub fences: Arc<[Arc<Fence>]>,
}

/// A dense number of a candidate within one snapshot of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CandidateId(pub u32);

/// A (model, backend) pair: what a decision chooses and what prices, latency and breakers belong to.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its number.
    pub id: CandidateId,
    /// The model.
    pub model: Arc<Model>,
    /// The backend.
    pub backend: Arc<Backend>,
    /// What the backend calls the model.
    pub upstream: Arc<str>,
    /// Its price rows, sorted by `from`; empty = no price known.
    pub prices: Vec<Arc<PriceRow>>,
    /// Between which instants the vendor served it under that name; empty = not known, no check.
    pub served: Vec<Served>,
}

/// A span in which a vendor served a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The first instant.
    pub from: Option<Timestamp>,
    /// The first instant at which it was served no more.
    pub until: Option<Timestamp>,
}

impl Candidate {
    /// `model@backend`, as rules and reasons name it.
    pub fn label(&self) -> String {
        format!("{}@{}", self.model.name, self.backend.name)
    }

    /// The fences around an attempt by it: the model's, the backend's, the provider's.
    pub fn fences(&self) -> impl Iterator<Item = &Arc<Fence>> {
        self.model.fences.iter().chain(self.backend.fences.iter())
    }

    /// Whether a budget of money binds it: then its cost must be known.
    pub fn has_budget(&self) -> bool {
        self.fences().any(|fence| fence.unit == Unit::Money)
    }

    /// The instant from which the vendor no longer served the model, if `at` is past it.
    pub fn retired(&self, at: Timestamp) -> Option<Timestamp> {
        let last = self.served.iter().filter_map(|served| served.until).max()?;
        let still = self.served.iter().any(|served| served.until.is_none_or(|until| at < until));
        (!still).then_some(last)
    }
}
