//! Layer 4: the second listener: health, metrics, and the API for operators.

pub mod api;
mod backends;
mod body;
pub mod books;
pub mod budgets;
pub mod decisions;
mod keys;
pub mod switches;
pub mod unknown;
mod uses;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use secrecy::ExposeSecret;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::{
    config::{AdminToken, Right},
    ledger::keys::KeyStore,
    proxy::Gateway,
    telemetry::metrics::MEDIA_TYPE,
};

pub use uses::{flush_uses, keep_uses};

/// What the admin listener serves.
pub struct Admin {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Accepting requests: false while draining.
    pub ready: AtomicBool,
    /// The store of client keys; `None` without a journal.
    pub keys: Option<Arc<KeyStore>>,
    /// Who may act.
    pub tokens: Vec<AdminToken>,
    /// Metrics need no token.
    pub open_metrics: bool,
    /// Who may look through the records now.
    pub searching: Semaphore,
}

/// The routes of the admin listener.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/keys", get(keys::list).post(keys::create))
        .route("/api/v1/keys/{id}", get(keys::one))
        .route("/api/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/api/v1/keys/{id}/revoke", post(keys::revoke))
        .route("/api/v1/budgets", get(budgets::list))
        .route("/api/v1/budgets/raise", post(budgets::raise_one))
        .route("/api/v1/backends", get(backends::list))
        .route("/api/v1/switches", get(switches::list).post(switches::switch))
        .route("/api/v1/decisions/{id}", get(decisions::one))
        .route("/api/v1/explain", post(decisions::explain))
        .route("/api/v1/usage", get(books::usage))
        .route("/api/v1/audit", get(books::audit))
        .route("/api/v1/audit/release", post(books::release))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(admin)
}

async fn alive() -> &'static str {
    "ok\n"
}

/// Ready = policies are loaded and requests are taken; neither a store nor an upstream is asked.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    }
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if !admin.open_metrics
        && let Err(refused) = admin.authorise(&headers, Right::Read)
    {
        return *refused;
    }
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], admin.gateway.render_metrics()).into_response()
}

async fn nothing_here() -> Response {
    error(
        StatusCode::NOT_FOUND,
        "endpoint_not_supported",
        "the admin listener serves no such path, or not with this method",
    )
}

/// An error in the shape that the clients' side uses too.
fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

impl Admin {
    /// The name of the token in `headers`, if it has the right.
    fn authorise(&self, headers: &HeaderMap, right: Right) -> Result<&str, Box<Response>> {
        let refused = |status, message: &str| Box::new(error(status, "not_authorised", message));
        let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let presented = presented.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let holder = self
            .tokens
            .iter()
            .find(|token| bool::from(token.token.expose_secret().as_bytes().ct_eq(presented.as_bytes())))
            .ok_or_else(|| {
                refused(
                    StatusCode::UNAUTHORIZED,
                    "a token of `admin.tokens` is needed\nhint: `authorization: Bearer …`",
                )
            })?;
        if holder.may.contains(&right) {
            return Ok(&holder.name);
        }
        let message = format!("token `{}` may not do that\nhint: see its `may`", holder.name);
        Err(refused(StatusCode::FORBIDDEN, &message))
    }
}
