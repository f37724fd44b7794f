//! The headers of an answer: who gave it, why, and what it cost.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{admit::Ask, explain, standing::Standing};
use crate::{
    base::money::Money,
    policy::{Decision, Ranked},
};

/// What is said of an answer beside the answer.
#[derive(Clone, Debug)]
pub struct Head {
    route: Arc<str>,
    arm: Option<Arc<str>>,
    model: Arc<str>,
    backend: Arc<str>,
    account: Arc<str>,
    policy: Arc<str>,
    reason: String,
    attempts: usize,
    /// What it cost, once that is known.
    pub cost: Option<Money>,
    decision: Option<Box<HeaderValue>>,
    /// What its fences have left.
    pub standing: Standing,
}

impl Head {
    /// The head of an answer by `ranked`.
    pub fn new(
        ask: &Ask,
        decision: &Decision,
        ranked: &Ranked,
        account: &str,
        reason: String,
        attempts: usize,
    ) -> Self {
        Self {
            route: decision.route.shared(),
            arm: decision.arm.as_ref().map(|arm| arm.shared()),
            model: ranked.candidate.model.name.shared(),
            backend: ranked.candidate.backend.name.shared(),
            account: account.into(),
            policy: Arc::clone(&ask.live.policies.hash),
            reason,
            attempts,
            cost: None,
            decision: explain::header(ask, Some(decision)).map(Box::new),
            standing: Standing::default(),
        }
    }

    /// Writes the headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.reserve(24);
        let mut put = |name: HeaderName, text: &str| {
            // Names come from the operator's files and may hold letters that a header cannot.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        put(const { HeaderName::from_static("x-turnpike-route") }, &self.route);
        put(const { HeaderName::from_static("x-turnpike-model") }, &self.model);
        put(const { HeaderName::from_static("x-turnpike-backend") }, &self.backend);
        put(const { HeaderName::from_static("x-turnpike-account") }, &self.account);
        put(const { HeaderName::from_static("x-turnpike-policy") }, &self.policy);
        put(const { HeaderName::from_static("x-turnpike-reason") }, &self.reason);
        put(const { HeaderName::from_static("x-turnpike-attempts") }, itoa::Buffer::new().format(self.attempts));
        if let Some(arm) = &self.arm {
            put(const { HeaderName::from_static("x-turnpike-arm") }, arm);
        }
        if let Some(cost) = self.cost {
            put(const { HeaderName::from_static("x-turnpike-cost-usd") }, &cost.to_string());
        }
        if let Some(decision) = &self.decision {
            headers.insert("x-turnpike-decision", decision.as_ref().clone());
        }
        self.standing.write(headers);
    }

    /// The same as an event-stream comment, for a stream whose headers were sent before the winner was known.
    pub fn comment(&self) -> Bytes {
        let line = format!(": turnpike model={} backend={} attempts={}\n\n", self.model, self.backend, self.attempts);
        Bytes::from(line)
    }
}
