//! What the upstream saw, and what it would have billed.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::{HeaderMap, Method, http::request::Parts};
use tokio::sync::watch;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The path with its query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub body: Bytes,
}

impl Received {
    pub(super) fn new(head: Parts, body: Bytes) -> Self {
        Self { method: head.method, path: head.uri.to_string(), headers: head.headers, body }
    }

    /// The body as JSON, `null` where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body's `model`.
    pub fn model(&self) -> String {
        self.json()["model"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether a stream is asked for.
    pub fn wants_stream(&self) -> bool {
        self.json()["stream"] == true
    }

    /// Whether usage in the stream is asked for.
    pub fn wants_usage(&self) -> bool {
        self.json()["stream_options"]["include_usage"] == true
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What has happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests whose body has arrived.
    pub requests: u64,
    /// Requests that are being answered.
    pub open: u64,
    /// Answers whose client went away before their end.
    pub hung_up: u64,
    /// Tokens billed, by model.
    pub billed: BTreeMap<String, Billed>,
}

/// Tokens billed for one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// Answers begun.
    pub answers: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
}

/// The running account of one answer; dropped before it is closed, the client has gone away.
pub(super) struct Bill {
    tally: watch::Sender<Tally>,
    model: String,
    counted: bool,
    closed: bool,
}

impl Bill {
    pub(super) fn open(tally: watch::Sender<Tally>) -> Self {
        Self { tally, model: String::new(), counted: false, closed: false }
    }

    pub(super) fn name(&mut self, model: String) {
        self.model = model;
    }

    pub(super) fn arrived(&mut self) {
        self.counted = true;
        self.tally.send_modify(|tally| {
            tally.requests += 1;
            tally.open += 1;
        });
    }

    /// The prompt has been read, so it is billed; `None` for answers that cost nothing.
    pub(super) fn prompt(&mut self, tokens: Option<u64>) {
        let Some(tokens) = tokens else { return };
        self.tally.send_modify(|tally| {
            let billed = tally.billed.entry(self.model.clone()).or_default();
            billed.answers += 1;
            billed.input += tokens;
        });
    }

    pub(super) fn produced(&mut self, tokens: u64) {
        self.tally.send_modify(|tally| tally.billed.entry(self.model.clone()).or_default().output += tokens);
    }

    /// The answer ended as its script says.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        self.tally.send_modify(|tally| {
            tally.open -= 1;
            tally.hung_up += u64::from(!self.closed);
        });
    }
}
