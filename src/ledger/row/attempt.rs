//! One attempt in the books: who asked for what, who served it, what was used, by which price.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::{money::Money, usage::Usage};

/// Who asks, and for what: the same for all attempts of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Who pays.
    pub team: Arc<str>,
    /// The end user, if named.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub user: Arc<str>,
    /// The key's public id; empty when the gateway is open.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub key: Arc<str>,
    /// The route that decided.
    pub route: Arc<str>,
    /// The arm of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arc<str>>,
    /// What was asked for (`chat`).
    pub operation: Arc<str>,
    /// The protocol that the client speaks (`openai`).
    pub dialect: Arc<str>,
    /// The team's labels and the request's own.
    #[serde(default, skip_serializing_if = "is_bare")]
    pub labels: Arc<BTreeMap<String, String>>,
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

fn is_bare(labels: &Arc<BTreeMap<String, String>>) -> bool {
    labels.is_empty()
}

/// Who serves an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The model.
    pub model: Arc<str>,
    /// What the backend calls it.
    pub upstream: Arc<str>,
    /// The backend.
    pub backend: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// With which of its credentials; empty before one is chosen.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub account: Arc<str>,
}

/// One attempt in the books.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The request.
    pub request: Uuid,
    /// Its number among the request's attempts, from 1.
    pub attempt: u32,
    /// 0 for the first word on an attempt; a correction has the next number and holds the difference.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// It was begun beside another attempt, which was overdue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hedge: bool,
    /// When it was dispatched, in milliseconds since 1970: prices and calendars are read at this instant.
    pub at_ms: i64,
    /// Who asks for what.
    pub about: Arc<About>,
    /// Who served it.
    pub served: Served,
    /// How it ended (`ok`, or the word for its failure).
    pub outcome: Arc<str>,
    /// What was used.
    pub tokens: Tokens,
    /// The price that was charged by; `None` when none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceUsed>,
    /// What the vendor bills, in billionths of its currency's unit.
    #[serde(default)]
    pub native_nano: i64,
    /// What is charged, in nano-USD.
    pub charge_nanousd: i64,
    /// What the request held when the attempt ended, in nano-USD.
    pub held_nanousd: i64,
    /// The numbers of tokens are Turnpike's own: the upstream gave none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Nothing was heard of the attempt any more: what was held is charged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swept: bool,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Row {
    /// What is charged.
    pub fn charge(&self) -> Money {
        Money::from_nanousd(self.charge_nanousd)
    }
}

/// Tokens of one attempt by kind, as [`Usage`] has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// All prompt tokens.
    #[serde(rename = "in")]
    pub input: u64,
    /// Of these, read from the vendor's cache.
    #[serde(rename = "cached", skip_serializing_if = "nothing")]
    pub cached_input: u64,
    /// Of these, written into it.
    #[serde(rename = "write", skip_serializing_if = "nothing")]
    pub cache_write: u64,
    /// Of these, audio.
    #[serde(rename = "audio_in", skip_serializing_if = "nothing")]
    pub audio_input: u64,
    /// All completion tokens.
    #[serde(rename = "out")]
    pub output: u64,
    /// Of these, reasoning.
    #[serde(skip_serializing_if = "nothing")]
    pub reasoning: u64,
    /// Of these, audio.
    #[serde(rename = "audio_out", skip_serializing_if = "nothing")]
    pub audio_output: u64,
}

fn nothing(number: &u64) -> bool {
    *number == 0
}

impl From<&Usage> for Tokens {
    fn from(usage: &Usage) -> Self {
        Self {
            input: usage.input,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            audio_input: usage.audio_input,
            output: usage.output,
            reasoning: usage.reasoning,
            audio_output: usage.audio_output,
        }
    }
}

/// The price that an attempt was charged by: enough to compute the charge again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceUsed {
    /// The vendor's currency.
    pub currency: Arc<str>,
    /// The first second since 1970 at which the row held.
    pub from: i64,
    /// Price per million tokens in billionths of the currency's unit: input, cached input, cache write, output,
    /// reasoning, audio input, audio output.
    pub rates: [i64; 7],
    /// What the calendar multiplied it by, in parts per million.
    pub factor_ppm: i64,
    /// What one unit of the currency was worth, in nano-USD.
    pub exchange_nanousd: i64,
}
