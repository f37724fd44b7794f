//! `/api/v1/backends`: every backend as this gateway sees it now, with its servers, accounts and breakers.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};

use super::{
    Admin,
    api::{AccountLine, BackendLine, BackendList, DiscoverLine, EndpointLine, LoadLine, ModelLine},
};
use crate::{
    config::Right,
    policy::breaker::BreakerState,
    proxy::{BackendSeen, CandidateSeen, ServerSeen},
};

/// All of them. Addresses of servers stand here and in no metric: whoever reads them has a token.
pub(super) async fn list(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let backends = admin.gateway.backends().into_iter().map(line).collect();
    Json(BackendList { backends }).into_response()
}

fn line(seen: BackendSeen) -> BackendLine {
    let backend = seen.backend;
    let discover = backend.discover.as_ref().zip(seen.look_up).map(|(discover, (last, ago))| DiscoverLine {
        dns: discover.dns.to_string(),
        refresh_ms: millis(discover.refresh),
        answered_ago_ms: ago.map(millis),
        trouble: last.trouble,
    });
    BackendLine {
        name: backend.name.to_string(),
        provider: backend.provider.to_owned(),
        location: backend.location.as_ref().map(ToString::to_string),
        off: backend.off.as_deref().map(str::to_owned),
        balance: backend.balance.to_owned(),
        in_flight: seen.in_flight,
        max_in_flight: backend.max_in_flight,
        endpoints: seen.servers.into_iter().map(endpoint).collect(),
        discover,
        accounts: seen
            .accounts
            .into_iter()
            .map(|account| AccountLine {
                name: account.name,
                parked_ms: millis(account.parked),
                at_limit_ms: millis(account.at_limit),
                concurrency_limit: account.learned,
                in_flight: account.in_flight,
            })
            .collect(),
        models: seen.candidates.into_iter().map(model).collect(),
    }
}

fn endpoint(seen: ServerSeen) -> EndpointLine {
    EndpointLine {
        url: seen.url,
        state: seen.state.as_str().to_owned(),
        weight_milli: seen.weight_milli,
        in_flight: seen.in_flight,
        slowdown_milli: seen.slowdown_milli,
        load: seen.load.map(|load| LoadLine {
            requests: load.requests,
            waiting: load.waiting,
            cache_used_ppm: load.cache_used_ppm,
        }),
    }
}

fn model(seen: CandidateSeen) -> ModelLine {
    let breaker = match seen.breaker {
        BreakerState::Closed => "closed",
        BreakerState::HalfOpen => "half_open",
        BreakerState::Open => "open",
    };
    ModelLine {
        model: seen.model,
        upstream: seen.upstream,
        breaker: breaker.to_owned(),
        tried_again_in_ms: seen.tried_again_in.map(millis),
        in_flight: seen.in_flight,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
