//! `POST /api/v1/keys`: how `turnpike key create` reaches a running gateway.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{
    Admin,
    api::{CreateKey, CreatedKey},
    error,
};
use crate::{
    config::Right,
    ledger::keys::{KeyOrder, make},
};

/// Makes a client key; its secret is in this one answer and nowhere else.
pub(super) async fn create(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Bytes) -> Response {
    let who = match admin.authorise(&headers, Right::Keys) {
        Ok(who) => who.to_owned(),
        Err(refused) => return *refused,
    };
    let wanted: CreateKey = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(fault) => return error(StatusCode::BAD_REQUEST, "invalid_request", &fault.to_string()),
    };
    if wanted.expires.is_some_and(|end| end <= Timestamp::now()) {
        return error(StatusCode::BAD_REQUEST, "invalid_request", "`expires` lies in the past");
    }
    let Some(store) = &admin.keys else {
        return error(StatusCode::CONFLICT, "no_key_store", "this gateway runs without a journal, so it keeps no keys");
    };
    if !admin.gateway.policies().teams.contains_key(wanted.team.as_str()) {
        let message = format!("there is no team `{}`", wanted.team);
        return error(StatusCode::BAD_REQUEST, "unknown_team", &message);
    }
    let order = KeyOrder {
        team: wanted.team.as_str().into(),
        name: wanted.name,
        expires: wanted.expires,
        explain: wanted.explain,
    };
    let made = match make(&order).and_then(|made| store.insert(&made.key).map(|()| made)) {
        Ok(made) => made,
        Err(failed) => {
            tracing::error!(%failed, "a key could not be stored");
            return error(StatusCode::INTERNAL_SERVER_ERROR, "key_store_failed", "the key could not be stored");
        }
    };
    tracing::info!(by = %who, key = %made.key.id, team = %made.key.team, "key created");
    let created = CreatedKey { id: made.key.id.to_string(), secret: made.secret.expose_secret().to_owned() };
    admin.gateway.add_key(made.key);
    (StatusCode::CREATED, Json(created)).into_response()
}
