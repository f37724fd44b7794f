//! `GET /v1/models`: what the caller may name.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{admit::unknown_model, auth::Caller, live::Live, refusal::Refusal};

/// All routes, models and aliases that the caller may name, in OpenAI's shape.
pub fn list(live: &Live, caller: &Caller) -> Bytes {
    let mut names: Vec<&str> = live.names().filter(|name| caller.team.may_name(name)).collect();
    names.sort_unstable();
    names.dedup();
    let data: Vec<Value> = names.into_iter().map(|name| entry(live, name)).collect();
    Bytes::from(json!({"object": "list", "data": data}).to_string())
}

/// One of them.
///
/// # Errors
/// `model_not_found` with close names.
pub fn one(live: &Live, caller: &Caller, name: &str) -> Result<Bytes, Refusal> {
    let known = caller.team.may_name(name) && live.names().any(|known| known == name);
    if known { Ok(Bytes::from(entry(live, name).to_string())) } else { Err(unknown_model(live, caller, name)) }
}

/// `owned_by` tells routes from models; `created` is demanded by clients and means nothing here.
fn entry(live: &Live, name: &str) -> Value {
    let owner = match live.policies.route(name) {
        Some(route) if !route.implicit => "turnpike-route",
        Some(_) | None => "turnpike-model",
    };
    json!({"id": name, "object": "model", "created": 0, "owned_by": owner})
}
