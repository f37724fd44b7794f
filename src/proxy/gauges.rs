//! Gauges of the upstreams, read when the metrics page is asked for.

use std::sync::Arc;

use jiff::Timestamp;

use super::live::Live;
use crate::telemetry::metrics::{BackendLabels, CandidateLabels, EndpointLabels, Label, Metrics, dollars};

/// Sets them as they stand now.
pub fn show(metrics: &Metrics, live: &Live, now: Timestamp) {
    for candidate in &live.policies.candidates {
        let (model, backend) = (candidate.model.name.shared(), candidate.backend.name.shared());
        let labels = CandidateLabels { model: Label(model), backend: Label(backend) };
        metrics.breaker_state.get_or_create(&labels).set(live.breaker(candidate));
        if let Some(tokens) = live.break_even(candidate) {
            metrics.break_even.get_or_create(&labels).set(i64::try_from(tokens).unwrap_or(i64::MAX));
        }
    }
    metrics.endpoints.clear();
    for (backend, states) in live.server_states() {
        for (state, servers) in states {
            let labels = EndpointLabels { backend: Label(Arc::clone(&backend)), state: Label(state.as_str().into()) };
            metrics.endpoints.get_or_create(&labels).set(i64::try_from(servers).unwrap_or(i64::MAX));
        }
    }
    for backend in live.policies.backends.values() {
        let labels = BackendLabels { backend: Label(backend.name.shared()) };
        if let Some(line) = live.line(backend) {
            metrics.queue_wait.get_or_create(&labels).set(line.wait.as_secs_f64());
            if let Some(rent) = live.policies.rent_per_hour(backend, line.servers, now) {
                metrics.rent.get_or_create(&labels).set(dollars(rent));
            }
        }
    }
}
