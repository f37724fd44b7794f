//! What had been seen of a candidate when a decision was made, as it is written and read.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    decided::nanos,
    line::{Label, is_default},
};
use crate::policy::{
    Seen, Unavailable,
    observe::{
        margins::{Margin, Margins},
        noting::Noted,
    },
    queue::Line as Queued,
};

/// What had been seen of one candidate. What is absent had never been measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenLine {
    /// Whom.
    pub candidate: Label,
    /// Why an operator had switched it off; then nothing else was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<Arc<str>>,
    /// It was asked for nothing but whether it is off.
    #[serde(skip_serializing_if = "is_default")]
    pub unasked: bool,
    /// Mean time to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ns: Option<u64>,
    /// 95th percentile of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p95_ns: Option<u64>,
    /// Mean time for each further token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_token_ns: Option<u64>,
    /// Mean tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Share of a new conversation's prompt that the vendor reads from its cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_ppm: u32,
    /// Tokens of this conversation in the vendor's cache.
    #[serde(skip_serializing_if = "is_default")]
    pub warm_tokens: u64,
    /// How much of what should be warm is read from the cache.
    #[serde(skip_serializing_if = "is_default")]
    pub warm_ppm: u32,
    /// Tokens that nine of ten answers do not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_p90: Option<u64>,
    /// By how much bills pass what was counted.
    #[serde(skip_serializing_if = "is_default")]
    pub margins: MarginsLine,
    /// What a request would have found at its queue, where one is looked at.
    #[serde(skip_serializing_if = "is_default")]
    pub queue: QueueLine,
    /// How many servers it had, where that is not what its file lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<u32>,
    /// None of its servers was ready.
    #[serde(skip_serializing_if = "is_default")]
    pub not_ready: bool,
    /// Its breaker was open for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_ns: Option<u64>,
    /// Its accounts were parked for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_ns: Option<u64>,
    /// It had as many requests in flight as it takes.
    #[serde(skip_serializing_if = "is_default")]
    pub full: bool,
    /// It had as many in flight as it took before it last refused.
    #[serde(skip_serializing_if = "is_default")]
    pub crowded: bool,
}

/// A queue at own servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLine {
    /// How long a request would have waited.
    pub wait_ns: u64,
    /// By how much it would have lengthened the next one's wait.
    pub each_ns: u64,
    /// The load.
    pub load_ppm: u64,
    /// The servers that share it.
    pub servers: u32,
}

/// Margins between counts and bills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MarginsLine {
    /// On a counted prompt, as a share.
    #[serde(skip_serializing_if = "is_default")]
    pub counted_ppm: u32,
    /// On a counted prompt, in tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub counted_tokens: u64,
    /// On any other, as a share.
    #[serde(skip_serializing_if = "is_default")]
    pub uncounted_ppm: u32,
    /// On any other, in tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub uncounted_tokens: u64,
    /// On an answer, as a share of what was seen of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_ppm: Option<u32>,
}

impl SeenLine {
    /// What is written of a note on `candidate`.
    pub(super) fn of(noted: &Noted, candidate: Label) -> Self {
        let Some(seen) = noted.seen else {
            return Self { candidate, unasked: noted.off.is_none(), off: noted.off.clone(), ..Self::default() };
        };
        let Seen {
            first_token,
            first_token_p95,
            per_token,
            output_tokens,
            cached_ppm,
            warm_tokens,
            warm_ppm,
            answer_p90,
            margins,
            line: Queued { wait, each, load_ppm, servers: sharing },
            servers,
            unavailable,
        } = seen;
        let Margins { counted, uncounted, output_ppm } = margins;
        let away = Self::away(unavailable);
        Self {
            candidate,
            off: noted.off.clone(),
            unasked: false,
            first_token_ns: first_token.map(nanos),
            first_token_p95_ns: first_token_p95.map(nanos),
            per_token_ns: per_token.map(nanos),
            output: output_tokens,
            cached_ppm,
            warm_tokens,
            warm_ppm,
            answer_p90,
            margins: MarginsLine {
                counted_ppm: counted.ppm,
                counted_tokens: counted.tokens,
                uncounted_ppm: uncounted.ppm,
                uncounted_tokens: uncounted.tokens,
                output_ppm,
            },
            queue: QueueLine { wait_ns: nanos(wait), each_ns: nanos(each), load_ppm, servers: sharing },
            servers,
            ..away
        }
    }

    /// The fields that say why it could not be tried. A reason that is added must be written down too, or a decision made
    /// again would be another.
    fn away(unavailable: Option<Unavailable>) -> Self {
        let none = Self::default();
        match unavailable {
            None => none,
            Some(Unavailable::Broken(left)) => Self { broken_ns: Some(nanos(left)), ..none },
            Some(Unavailable::NotReady) => Self { not_ready: true, ..none },
            Some(Unavailable::Parked(left)) => Self { parked_ns: Some(nanos(left)), ..none },
            Some(Unavailable::Full) => Self { full: true, ..none },
            Some(Unavailable::Crowded) => Self { crowded: true, ..none },
        }
    }

    /// The observation itself.
    pub fn seen(&self) -> Seen {
        let margins = &self.margins;
        let broken = self.broken_ns.map(|left| Unavailable::Broken(Duration::from_nanos(left)));
        let busy = || self.full.then_some(Unavailable::Full).or(self.crowded.then_some(Unavailable::Crowded));
        let not_ready = self.not_ready.then_some(Unavailable::NotReady);
        let parked = || self.parked_ns.map(|left| Unavailable::Parked(Duration::from_nanos(left)));
        Seen {
            first_token: self.first_token_ns.map(Duration::from_nanos),
            first_token_p95: self.first_token_p95_ns.map(Duration::from_nanos),
            per_token: self.per_token_ns.map(Duration::from_nanos),
            output_tokens: self.output,
            cached_ppm: self.cached_ppm,
            warm_tokens: self.warm_tokens,
            warm_ppm: self.warm_ppm,
            answer_p90: None,
            margins: Margins {
                counted: Margin { ppm: margins.counted_ppm, tokens: margins.counted_tokens },
                uncounted: Margin { ppm: margins.uncounted_ppm, tokens: margins.uncounted_tokens },
                output_ppm: margins.output_ppm,
            },
            line: Queued {
                wait: Duration::from_nanos(self.queue.wait_ns),
                each: Duration::from_nanos(self.queue.each_ns),
                load_ppm: self.queue.load_ppm,
                servers: self.queue.servers,
            },
            servers: self.servers,
            unavailable: broken.or_else(parked).or_else(busy).or(not_ready),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_not_to_try_a_candidate_comes_back_as_it_was() {
        let left = Duration::from_millis(1500);
        let reasons = [
            Unavailable::Broken(left),
            Unavailable::NotReady,
            Unavailable::Parked(left),
            Unavailable::Full,
            Unavailable::Crowded,
        ];
        for reason in reasons.into_iter().map(Some).chain([None]) {
            let line = SeenLine::away(reason);
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<SeenLine>(&text).unwrap().seen().unavailable, reason, "{text}");
        }
    }
}
