//! Every metric of the gateway, by name. Labels come from the policies only: no key id, user, address or name sent
//! by a client is ever one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use super::record::keep::Counts;
use crate::base::money::Money;

/// A label's value, shared with the policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub Arc<str>);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.as_ref(), encoder)
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($field:ident),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[allow(missing_docs, reason = "a label is documented by its name")]
        pub struct $name { $(pub $field: Label),* }
    )*};
}

labels! {
    /// Labels of finished requests.
    RequestLabels { route, team, model, backend, code }
    /// Labels of one pair.
    CandidateLabels { model, backend }
    /// A backend.
    BackendLabels { backend }
    /// One account of a backend.
    AccountLabels { backend, account }
    /// A route.
    RouteLabels { route }
    /// Labels of spend.
    SpendLabels { team, model, backend }
    /// Labels of tokens.
    TokenLabels { team, model, backend, kind }
    /// Labels of attempts.
    AttemptLabels { backend, outcome }
    /// Labels of hedges.
    HedgeLabels { route, outcome }
    /// Servers of a backend.
    EndpointLabels { backend, state }
    /// Questions to name servers.
    DiscoveryLabels { backend, outcome }
    /// Labels of what is turned away.
    ShedLabels { priority, by }
    /// Labels of refusals.
    RefusalLabels { team, reason }
    /// Labels of budgets.
    BudgetLabels { team, budget }
    /// A team.
    TeamLabels { team }
    /// What an operator has switched off.
    SwitchLabels { kind, name }
    /// An arm of a split.
    RolloutLabels { route, arm }
    /// Labels of shadows.
    ShadowLabels { route, outcome }
    /// The policies' hash.
    PolicyLabels { hash }
}

/// Seconds: from 5 ms to 10 minutes.
const SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Seconds spent inside Turnpike: from 20 µs to 1 s.
const OVERHEAD_SECONDS: [f64; 12] =
    [0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0];

/// Makes the histograms of a family.
#[derive(Clone, Debug)]
pub struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// A counter of dollars.
pub type Dollars = Counter<f64, AtomicU64>;
/// A gauge of dollars or seconds.
pub type Amount = Gauge<f64, AtomicU64>;
type Number = Gauge<i64, AtomicI64>;

macro_rules! metrics {
    ($($field:ident: $type:ty = $make:expr, $name:literal, $help:literal;)*) => {
        /// All metrics; cheap to share, each update is an atomic add.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("turnpike");
                $(
                    let $field: $type = $make;
                    registry.register($name, $help, $field.clone());
                )*
                Self { registry, $($field,)* }
            }
        }
    };
}

// Counters get their `_total` from the encoder.
metrics! {
    requests: Family<RequestLabels, Counter> = Family::default(),
        "requests", "Finished requests";
    request_duration: Family<CandidateLabels, Histogram, Seconds> = Family::new_with_constructor(Seconds),
        "request_duration_seconds", "Time from a request's arrival to the end of its answer";
    time_to_first_token: Family<CandidateLabels, Histogram, Seconds> = Family::new_with_constructor(Seconds),
        "time_to_first_token_seconds", "Time from an attempt's dispatch to its first meaningful event";
    overhead: Histogram = Histogram::new(OVERHEAD_SECONDS),
        "overhead_seconds", "Time to the first byte that was spent inside Turnpike";
    tokens: Family<TokenLabels, Counter> = Family::default(),
        "tokens", "Tokens by kind";
    cost: Family<SpendLabels, Dollars> = Family::default(),
        "cost_usd", "Charged cost in US dollars";
    attempts: Family<AttemptLabels, Counter> = Family::default(),
        "attempts", "Attempts by outcome";
    hedges: Family<HedgeLabels, Counter> = Family::default(),
        "hedges", "Overdue attempts of routes that hedge, by what became of that";
    shed: Family<ShedLabels, Counter> = Family::default(),
        "shed", "Requests that were turned away because there was too little of something";
    in_flight: Number = Number::default(),
        "in_flight", "Chat requests under way";
    queued: Number = Number::default(),
        "queued", "Requests that wait in line to be let in";
    lag: Amount = Amount::default(),
        "lag_seconds", "By how much timers of the gateway fire late";
    refusals: Family<RefusalLabels, Counter> = Family::default(),
        "refusals", "Requests refused by Turnpike itself";
    budget_limit: Family<BudgetLabels, Amount> = Family::default(),
        "budget_limit_usd", "The amount of a budget for one window";
    budget_left: Family<BudgetLabels, Amount> = Family::default(),
        "budget_left_usd", "What a budget has left in its window, holds taken off";
    budget_overspend: Dollars = Dollars::default(),
        "budget_overspend_usd", "Charged beyond holds since the start";
    budget_overdraft: Dollars = Dollars::default(),
        "budget_overdraft_usd", "Charged beyond holds by streams that their team lets finish";
    holds_open: Number = Number::default(),
        "holds_open", "Holds that are not settled yet";
    store_up: Number = Number::default(),
        "store_up", "1 while the budget store answers; always 1 for the embedded one";
    store_loss_bound: Family<TeamLabels, Amount> = Family::default(),
        "store_loss_bound_usd", "By how much this gateway may pass a team's budgets while the shared store is away";
    lease: Amount = Amount::default(),
        "lease_usd", "Set aside in the shared store in advance, by this gateway";
    settle_lag: Amount = Amount::default(),
        "settle_lag_seconds", "How long the oldest settlement has waited to get into the shared store";
    breaker_state: Family<CandidateLabels, Number> = Family::default(),
        "breaker_state", "0 closed, 1 half open, 2 open";
    account_parked: Family<AccountLabels, Amount> = Family::default(),
        "account_parked_seconds", "For how long an account is left alone that was turned away or at its quota";
    concurrency_limit: Family<AccountLabels, Number> = Family::default(),
        "concurrency_limit", "Requests that an account takes at once, as learned from its refusals; absent without one";
    retries_left: Family<RouteLabels, Amount> = Family::default(),
        "retries_left", "Retries that the budget of a route has saved up";
    queue_wait: Family<BackendLabels, Amount> = Family::default(),
        "queue_wait_seconds", "How long a request would wait for its turn at own servers";
    rent: Family<BackendLabels, Amount> = Family::default(),
        "rent_usd_per_hour", "What the rented servers of a backend cost, used or not";
    break_even: Family<CandidateLabels, Number> = Family::default(),
        "break_even_tokens_per_hour", "Load at which rented servers cost as much as the cheapest able API";
    endpoints: Family<EndpointLabels, Number> = Family::default(),
        "endpoints", "Servers of a backend by state: ready, warming, shunned, ejected, not_ready, draining";
    discoveries: Family<DiscoveryLabels, Counter> = Family::default(),
        "discoveries", "Questions to name servers by outcome: found, empty, failed";
    switched_off: Family<SwitchLabels, Number> = Family::default(),
        "switched_off", "1 for what is switched off; 0 for a backend that is not; keys are counted, not named";
    shadows: Family<ShadowLabels, Counter> = Family::default(),
        "shadows", "Requests that another model answered unseen, by outcome";
    rollout_withdrawn: Family<RolloutLabels, Number> = Family::default(),
        "rollout_withdrawn", "1 for an arm of a split that its guard or an operator has withdrawn";
    rollout_requests: Family<RolloutLabels, Number> = Family::default(),
        "rollout_requests", "Requests of a guarded arm that its guard judges it by, of all gateways of one store";
    rollout_gateways: Family<RolloutLabels, Number> = Family::default(),
        "rollout_gateways", "Gateways that have served the requests that a guarded arm is judged by";
    rule_errors: Counter = Counter::default(),
        "rule_errors", "Rules that failed while running and so did not match";
    log_dropped: Number = Number::default(),
        "request_log_dropped", "Lines of the request log that were dropped because its writer was too slow";
    records_written: Counter = Counter::default(),
        "records", "Records of requests that were written to a file";
    records_dropped: Counter = Counter::default(),
        "records_dropped", "Records of requests that were dropped, since the queue was full or the file could not be written";
    policy_info: Family<PolicyLabels, Number> = Family::default(),
        "policy_info", "The policies in force, by hash";
    reload_successful: Number = Number::default(),
        "config_last_reload_successful", "1 when the last reload of the policies was taken over";
    reload_timestamp: Number = Number::default(),
        "config_last_reload_success_timestamp_seconds", "When policies were last taken over";
}

impl Metrics {
    /// What counts the records.
    pub fn records(&self) -> Counts {
        Counts { written: self.records_written.clone(), dropped: self.records_dropped.clone() }
    }

    /// All metrics in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// The media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An amount as a number of dollars, for display in a metric only.
#[allow(clippy::float_arithmetic, reason = "metrics are floats by their format; nothing is computed from them")]
pub fn dollars(money: Money) -> f64 {
    money.nanousd() as f64 / 1e9
}

/// Thousandths as a number, for display in a metric only.
#[allow(clippy::float_arithmetic, reason = "metrics are floats by their format; nothing is computed from them")]
pub fn thousandths(milli: u64) -> f64 {
    milli as f64 / 1e3
}
