//! Gauges of the upstreams, read when the metrics page is asked for.

use std::sync::Arc;

use jiff::Timestamp;

use super::live::Live;
use crate::base::catalog::Backend;
use crate::telemetry::metrics::{
    AccountLabels, BackendLabels, CandidateLabels, EndpointLabels, Label, Metrics, RouteLabels, dollars, thousandths,
};

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
    for route in live.policies.routes.values() {
        if let Some(milli) = live.retries_left_milli(&route.name) {
            let labels = RouteLabels { route: Label(route.name.shared()) };
            metrics.retries_left.get_or_create(&labels).set(thousandths(milli));
        }
    }
    metrics.concurrency_limit.clear();
    for backend in live.policies.backends.values() {
        accounts(metrics, live, backend);
        let labels = BackendLabels { backend: Label(backend.name.shared()) };
        if let Some(line) = live.line(backend) {
            metrics.queue_wait.get_or_create(&labels).set(line.wait.as_secs_f64());
            if let Some(rent) = live.policies.rent_per_hour(backend, line.servers, now) {
                metrics.rent.get_or_create(&labels).set(dollars(rent));
            }
        }
    }
}

fn accounts(metrics: &Metrics, live: &Live, backend: &Backend) {
    let now = live.elapsed();
    for seat in live.seats(backend) {
        let labels = AccountLabels { backend: Label(backend.name.shared()), account: Label(seat.name.shared()) };
        let parked = seat.parked(now).unwrap_or_default();
        metrics.account_parked.get_or_create(&labels).set(parked.as_secs_f64());
        if let Some(limit) = seat.learned(now) {
            metrics.concurrency_limit.get_or_create(&labels).set(limit.into());
        }
    }
}
