//! Bodies of `/api/v1/backends`.

use serde::{Deserialize, Serialize};

/// The answer to `GET /api/v1/backends`.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackendList {
    /// Every backend, by name.
    pub backends: Vec<BackendLine>,
}

/// One backend now.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackendLine {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Where data goes.
    pub location: Option<String>,
    /// Why the policies have it switched off.
    pub off: Option<String>,
    /// How its servers share the requests.
    pub balance: String,
    /// Requests in flight from this gateway.
    pub in_flight: u32,
    /// How many requests it takes at once, where that is limited.
    pub max_in_flight: Option<u32>,
    /// Its servers.
    pub endpoints: Vec<EndpointLine>,
    /// How its servers are found by name.
    pub discover: Option<DiscoverLine>,
    /// Its accounts.
    pub accounts: Vec<AccountLine>,
    /// Its models.
    pub models: Vec<ModelLine>,
}

/// One server.
#[derive(Debug, Serialize, Deserialize)]
pub struct EndpointLine {
    /// Its base URL; of one that left and ends what it has begun, where its requests went.
    pub url: String,
    /// `ready`, `warming`, `shunned`, `ejected`, `not_ready` or `draining`.
    pub state: String,
    /// Its share in thousandths of a usual one.
    pub weight_milli: u64,
    /// Requests in flight from this gateway.
    pub in_flight: u64,
    /// How much slower than the others it is, in thousandths.
    pub slowdown_milli: u64,
    /// What it tells of its own load; absent where it tells nothing or not lately.
    pub load: Option<LoadLine>,
}

/// What a server tells of its own load.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoadLine {
    /// Requests that it works on or that wait.
    pub requests: u64,
    /// Those of them that wait.
    pub waiting: u64,
    /// How full the memory of its prompts is, in parts per million.
    pub cache_used_ppm: Option<u64>,
}

/// How servers are found by name.
#[derive(Debug, Serialize, Deserialize)]
pub struct DiscoverLine {
    /// The name.
    pub dns: String,
    /// How often it is asked for, in milliseconds.
    pub refresh_ms: u64,
    /// How long ago servers were found last, in milliseconds.
    pub answered_ago_ms: Option<u64>,
    /// What is wrong since then.
    pub trouble: Option<String>,
}

/// One credential.
#[derive(Debug, Serialize, Deserialize)]
pub struct AccountLine {
    /// Its name.
    pub name: String,
    /// For how long it is left alone, in milliseconds; 0 = it is not.
    pub parked_ms: u64,
    /// For how long it has sent all that its own `limits` on requests or tokens allow, in milliseconds; 0 = it has not.
    #[serde(default)]
    pub at_limit_ms: u64,
    /// How many requests it takes at once, as learned from its refusals; none = nobody has refused lately.
    pub concurrency_limit: Option<u32>,
    /// Requests in flight.
    pub in_flight: u32,
}

/// One model of a backend.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelLine {
    /// The model.
    pub model: String,
    /// What the backend calls it.
    pub upstream: String,
    /// `closed`, `half_open` or `open`.
    pub breaker: String,
    /// When it is tried again, in milliseconds, while its breaker is not closed.
    pub tried_again_in_ms: Option<u64>,
    /// Requests in flight from this gateway.
    pub in_flight: u32,
}
