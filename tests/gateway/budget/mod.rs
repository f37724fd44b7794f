//! Budgets under load, before a scripted upstream that keeps its own tally: `exact` admits as many as are paid for and
//! not one more, `midstream` cuts what outgrows its budget, `tail` spends a budget to its end, `weather` and
//! `outage` let gateways and their store fail.
//!
//! Each is written against a [`Site`]: how many gateways there are, and where their ledger is.

mod exact;
mod midstream;
mod outage;
mod tail;
mod weather;

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, Setup, until},
    redis_server::Server,
    upstream::Upstream,
};

pub const PATH: &str = "/v1/chat/completions";
/// Nano-dollars of a prompt token and of a completion token of `one-model`.
pub const IN: u64 = 2_000;
pub const OUT: u64 = 8_000;

/// The token of whoever reads the books.
pub const READER: &str = "token-of-a-dashboard";

/// Where the ledger of a [`Site`] is.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    /// In each gateway: there can be only one.
    Embedded,
    /// In a Redis of the site's own.
    Redis,
}

/// Gateways with one ledger, before one upstream.
pub struct Site {
    pub gateways: Vec<Gateway>,
    pub upstream: Upstream,
    /// Dropped behind the gateways, which would tell of its end otherwise.
    pub redis: Option<Server>,
}

impl Site {
    /// Starts as many gateways with these teams: name, budget for the month in nano-dollars, further keys.
    pub async fn start(store: Store, gateways: usize, teams: &[(&str, u64, &str)]) -> Self {
        Self::start_with(store, &[], gateways, teams).await
    }

    /// The same with options of the Redis server.
    pub async fn start_with(store: Store, options: &[&str], gateways: usize, teams: &[(&str, u64, &str)]) -> Self {
        let upstream = Upstream::start().await;
        let redis = match store {
            Store::Embedded => None,
            Store::Redis => Some(Server::start(options).await),
        };
        let shared = redis.as_ref().map(|redis| format!("store: {{redis: \"{}\"}}", redis.url()));
        let mut setup = Setup::new().backend("one", &upstream.base_url()).server(&shared.unwrap_or_default());
        setup = setup.token("reader", READER, "read");
        for (name, budget, keys) in teams {
            let team = format!("{{budgets: [{{name: month, limit: {} USD, per: month}}]{keys}}}", dollars(*budget));
            setup = setup.team(name, &key(name), &team);
        }
        let mut started = Vec::new();
        for _ in 0..gateways {
            started.push(setup.start().await);
        }
        let site = Self { gateways: started, upstream, redis };
        if site.redis.is_some() {
            let up = async || site.metric("turnpike_store_up", &[]).await == gateways as f64;
            until("every gateway has its store", up).await;
        }
        site
    }

    /// What the upstream would bill, in nano-dollars.
    pub fn billed(&self) -> u64 {
        self.upstream.tally().billed.values().map(|billed| billed.input * IN + billed.output * OUT).sum()
    }

    /// The sum of a metric over all gateways.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            sum += gateway.metric(name, labels).await;
        }
        sum
    }

    /// A metric of dollars in nano-dollars.
    pub async fn nanousd(&self, name: &str, labels: &[&str]) -> u64 {
        (self.metric(name, labels).await * 1e9).round() as u64
    }

    /// Waits until no hold is open; what is booked then, in nano-dollars.
    pub async fn settled(&self) -> u64 {
        until("all holds are settled", async || self.metric("turnpike_holds_open", &[]).await == 0.0).await;
        self.nanousd("turnpike_cost_usd_total", &[]).await
    }
}

/// The key of a team of that name.
pub fn key(team: &str) -> String {
    format!("sk-{team}")
}

/// Nano-dollars as dollars.
pub fn dollars(nanousd: u64) -> String {
    format!("{}.{:09}", nanousd / 1_000_000_000, nanousd % 1_000_000_000)
}

/// A request whose answer is capped at so many tokens, streamed or not.
pub fn request(cap: u64, stream: bool) -> Value {
    let mut body = json!({"model": "one-model", "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": cap});
    if stream {
        body["stream"] = json!(true);
    }
    body
}

/// What the prompt of such a request is held for: `one-model` has no public vocabulary, so a token a byte.
pub fn prompt_bound(body: &Value) -> u64 {
    body.to_string().len() as u64
}
