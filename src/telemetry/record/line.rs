//! One line of a file of records: the schema that outside tools read, too.
//!
//! Amounts are integers of nano-USD, lengths of time say their unit, shares are parts per million. What is absent is
//! nothing, `false`, or not known; a reader passes over members that it does not know.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{AttemptRecord, Record, decided::DecisionLine, facts::FactsLine, instant, texts::Texts};
use crate::{
    base::{catalog::Candidate, tier::Tier, usage::Usage},
    policy::Policies,
};

/// The version of the schema that is written. A change that a reader of the one before would misread raises it. Since 2
/// there are shadows among the lines, which no client asked for (`shadow_of`).
pub const SCHEMA: u32 = 2;

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The version of the schema.
    pub v: u32,
    /// The `x-request-id`.
    pub id: Arc<str>,
    /// When it was admitted, on the clock that prices are read at.
    #[serde(serialize_with = "instant::serialize")]
    pub at: Timestamp,
    /// Who paid.
    pub team: Arc<str>,
    /// The key's public id.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub key: Arc<str>,
    /// The end user, as the request named it.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub user: Arc<str>,
    /// The session, as the request named it.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub session: Arc<str>,
    /// What was asked for, in the words of the books; absent = `chat`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub operation: Arc<str>,
    /// What it is booked with.
    #[serde(default, skip_serializing_if = "is_bare")]
    pub labels: Arc<BTreeMap<String, String>>,
    /// Of an operator's shadow: the request that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<Arc<str>>,
    /// The id of the shadow that repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Arc<str>>,
    /// The route that was named, as the books have it: an alias is resolved, a split is not.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub route: Arc<str>,
    /// The request's randomness, in hexadecimal digits.
    pub seed: Hex,
    /// The hash of the policies.
    pub policy: Arc<str>,
    /// What was known of it.
    pub facts: FactsLine,
    /// Every decision in order.
    pub decisions: Vec<DecisionLine>,
    /// Every attempt in order.
    #[serde(default)]
    pub attempts: Vec<AttemptLine>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Label>,
    /// With which of its credentials.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub account: Arc<str>,
    /// Why that one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The HTTP status that the client saw.
    pub status: u16,
    /// The error code that the client saw.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub code: Arc<str>,
    /// How it ended: `whole`, `refused`, `failed`, `cut`, `abandoned`.
    pub end: Arc<str>,
    /// Charged for all attempts.
    pub cost_nanousd: i64,
    /// From arrival to the first byte of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// From arrival to the end.
    pub total_ms: u64,
    /// The part of the time to the first byte that was spent inside Turnpike.
    #[serde(default)]
    pub overhead_us: u64,
    /// Its texts, where the operator keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Box<Texts>>,
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptLine {
    /// Who was asked.
    pub candidate: Label,
    /// What the backend calls the model.
    #[serde(skip_serializing_if = "is_empty")]
    pub upstream: Arc<str>,
    /// The backend's provider.
    #[serde(skip_serializing_if = "is_empty")]
    pub provider: Arc<str>,
    /// With which credential.
    pub account: Arc<str>,
    /// Which decision it followed, from 0.
    #[serde(skip_serializing_if = "is_default")]
    pub decision: u32,
    /// When it was dispatched.
    #[serde(serialize_with = "instant::serialize")]
    pub at: Timestamp,
    /// It was begun beside another attempt, which was overdue.
    #[serde(skip_serializing_if = "is_default")]
    pub hedge: bool,
    /// `ok`, or why it failed.
    pub outcome: Arc<str>,
    /// The upstream's status; absent = none came.
    #[serde(skip_serializing_if = "is_default")]
    pub upstream_status: u16,
    /// From dispatch to the first meaningful event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// From dispatch to the end.
    pub total_ms: u64,
    /// Prompt tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub input: u64,
    /// Of these, read from the vendor's cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_input: u64,
    /// Of these, written into the vendor's cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cache_write: u64,
    /// Of these, audio.
    #[serde(skip_serializing_if = "is_default")]
    pub audio_input: u64,
    /// Completion tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub output: u64,
    /// Of these, reasoning.
    #[serde(skip_serializing_if = "is_default")]
    pub reasoning: u64,
    /// Of these, audio.
    #[serde(skip_serializing_if = "is_default")]
    pub audio_output: u64,
    /// The tier of service; absent = the usual one.
    #[serde(skip_serializing_if = "is_empty")]
    pub tier: Arc<str>,
    /// The model reasons on this request.
    #[serde(skip_serializing_if = "is_default")]
    pub thinking: bool,
    /// The numbers are Turnpike's own.
    #[serde(skip_serializing_if = "is_default")]
    pub estimated: bool,
    /// As the vendor bills it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub native: String,
    /// Charged.
    #[serde(skip_serializing_if = "is_default")]
    pub cost_nanousd: i64,
}

/// The operation that goes without saying.
pub const CHAT: &str = "chat";

impl AttemptLine {
    /// Whether it answered.
    pub fn is_ok(&self) -> bool {
        self.outcome.as_ref() == "ok"
    }

    /// What it used.
    pub fn usage(&self) -> Usage {
        Usage {
            input: self.input,
            cached_input: self.cached_input,
            cache_write: self.cache_write,
            audio_input: self.audio_input,
            output: self.output,
            reasoning: self.reasoning,
            audio_output: self.audio_output,
            tier: if self.tier.is_empty() { Tier::default() } else { Tier::parse(&self.tier) },
            estimated: self.estimated,
        }
    }

    fn of(attempt: &AttemptRecord, policies: &Policies) -> Self {
        let candidate = Label { model: Arc::clone(&attempt.model), backend: Arc::clone(&attempt.backend) };
        let known = policies.candidates.iter().find(|known| candidate.is(known));
        Self {
            upstream: known.map(|known| Arc::clone(&known.upstream)).unwrap_or_default(),
            provider: known.map(|known| known.backend.provider.into()).unwrap_or_default(),
            candidate,
            account: Arc::clone(&attempt.account),
            decision: attempt.decision,
            at: attempt.at,
            hedge: attempt.hedge,
            outcome: attempt.outcome.into(),
            upstream_status: attempt.upstream_status,
            first_token_ms: attempt.first_token_ms,
            total_ms: attempt.total_ms,
            input: attempt.input_tokens,
            cached_input: attempt.cached_input_tokens,
            cache_write: attempt.cache_write_tokens,
            audio_input: attempt.audio_input_tokens,
            output: attempt.output_tokens,
            reasoning: attempt.reasoning_tokens,
            audio_output: attempt.audio_output_tokens,
            tier: if attempt.tier == Tier::Standard.as_str() { Arc::default() } else { attempt.tier.into() },
            thinking: attempt.thinking,
            estimated: attempt.estimated,
            native: attempt.native.clone(),
            cost_nanousd: attempt.cost_nanousd,
        }
    }
}

impl Record {
    /// What is written of it, with its `texts` where they are kept; `None` when nothing was decided for it.
    pub fn line(&self, texts: Option<Box<Texts>>) -> Option<Line> {
        let trail = self.trail.as_ref()?;
        let served = (!self.model.is_empty())
            .then(|| Label { model: Arc::clone(&self.model), backend: Arc::clone(&self.backend) });
        Some(Line {
            v: SCHEMA,
            id: self.id.as_str().into(),
            at: trail.at,
            team: Arc::clone(&self.team),
            key: Arc::clone(&self.key),
            user: shared(&trail.user),
            session: shared(&trail.session),
            operation: if *trail.operation == *CHAT { Arc::default() } else { Arc::clone(&trail.operation) },
            labels: Arc::clone(&trail.labels),
            shadow_of: trail.shadow_of.clone(),
            shadow: trail.shadow().cloned(),
            route: trail.policies.route(&trail.facts.model).map(|route| route.name.shared()).unwrap_or_default(),
            seed: Hex(trail.seed),
            policy: Arc::clone(&trail.policies.hash),
            facts: FactsLine::from(&trail.facts),
            decisions: trail.each(|made| DecisionLine::of(made, &trail.policies)),
            attempts: self.attempts.iter().map(|attempt| AttemptLine::of(attempt, &trail.policies)).collect(),
            served,
            account: Arc::clone(&self.account),
            reason: self.reason.clone(),
            status: self.status,
            code: shared(self.code),
            end: self.end.into(),
            cost_nanousd: self.cost_nanousd,
            first_byte_ms: self.first_byte_ms,
            total_ms: self.total_ms,
            overhead_us: self.overhead_us,
            texts,
        })
    }
}

/// A text of which there is none more often than not: then nothing is allocated.
fn shared(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}

/// `model@backend`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The model.
    pub model: Arc<str>,
    /// The backend.
    pub backend: Arc<str>,
}

impl Label {
    /// That of a candidate.
    pub fn of(candidate: &Candidate) -> Self {
        Self { model: candidate.model.name.shared(), backend: candidate.backend.name.shared() }
    }

    /// Whether it is that candidate's.
    pub fn is(&self, candidate: &Candidate) -> bool {
        *self.model == *candidate.model.name && *self.backend == *candidate.backend.name
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [&self.model, "@", &self.backend].iter().try_for_each(|part| f.write_str(part))
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        // Neither name may hold an `@`.
        let (model, backend) = text.split_once('@').ok_or_else(|| de::Error::custom("a candidate without its `@`"))?;
        Ok(Self { model: model.into(), backend: backend.into() })
    }
}

/// A number of 64 bits as hexadecimal digits: as a number, readers that know doubles only would round it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(de::Error::custom)
    }
}

/// Whether a member may be left out.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

fn is_bare(labels: &Arc<BTreeMap<String, String>>) -> bool {
    labels.is_empty()
}

pub(super) const fn one() -> u64 {
    1
}

pub(super) const fn is_one(number: &u64) -> bool {
    *number == 1
}
