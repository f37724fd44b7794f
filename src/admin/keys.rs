//! `/api/v1/keys`: how operators, and `turnpike key`, see and change the keys of a running gateway.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{
    Admin,
    api::{CreateKey, KeyDetail, KeyLine, KeyList, KeyRevoked, NewSecret, RevokeKey, RotateKey},
    body, error,
    unknown::UnknownName,
};
use crate::{
    base::names::KeyId,
    config::{self, Right},
    ledger::keys::{Actor, Deed, KeyError, KeyOrder, KeyStore, KeyStoreError, KeyView, Via, listing},
    policy::Policies,
};

type Refused = Box<Response>;

fn refused(status: StatusCode, code: &str, message: &str) -> Refused {
    Box::new(error(status, code, message))
}

/// All keys, or those of `?team=`.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Query(wanted): Query<HashMap<String, String>>,
) -> Response {
    let answer = async {
        admin.authorise(&headers, Right::Read)?;
        let team = match wanted.into_iter().next() {
            None => None,
            Some((name, team)) if name == "team" => Some(team),
            Some((name, _)) => {
                let message = format!("there is no parameter `{name}`\nhint: there is `team`");
                return Err(refused(StatusCode::BAD_REQUEST, "invalid_request", &message));
            }
        };
        let policies = admin.gateway.policies();
        let views = off_the_path(&admin, |admin| Ok(views(admin, &admin.gateway.policies())?)).await?;
        let teams = views.iter().map(|view| view.key.team.as_str());
        UnknownName::check_team(&policies, teams, team.as_deref())
            .map_err(|unknown| refused(StatusCode::BAD_REQUEST, "unknown_team", &unknown.to_string()))?;
        let wanted = |view: &&KeyView| team.as_ref().is_none_or(|team| view.key.team.as_str() == team);
        Ok(Json(KeyList { keys: views.iter().filter(wanted).map(KeyLine::from).collect() }).into_response())
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// One key, with what was done to it.
pub(super) async fn one(State(admin): State<Arc<Admin>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let answer = async {
        admin.authorise(&headers, Right::Read)?;
        let detail = off_the_path(&admin, move |admin| {
            let view = views(admin, &admin.gateway.policies())?.into_iter().find(|view| view.key.id.as_str() == id);
            let view = view.ok_or(KeyError::Unknown(id))?;
            let acts = match &admin.keys {
                Some(store) => store.acts(Some(&view.key.id))?,
                None => Vec::new(),
            };
            Ok(KeyDetail { key: KeyLine::from(&view), acts: acts.iter().map(Into::into).collect() })
        });
        Ok(Json(detail.await?).into_response())
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// Makes a key; its secret is in this one answer and nowhere else.
pub(super) async fn create(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        let who = admin.authorise(&headers, Right::Keys)?.to_owned();
        let wanted: CreateKey = body::json(body).await?;
        if wanted.expires.is_some_and(|end| end <= Timestamp::now()) {
            return Err(refused(StatusCode::BAD_REQUEST, "invalid_request", "`expires` lies in the past"));
        }
        let policies = admin.gateway.policies();
        if !policies.teams.contains_key(wanted.team.as_str()) {
            let names = policies.teams.keys().map(|name| name.as_str());
            let hint = config::close_names(&wanted.team, names, "add it to `teams:` in a policy file");
            let message = format!("there is no team `{}`\nhint: {hint}", wanted.team);
            return Err(refused(StatusCode::BAD_REQUEST, "unknown_team", &message));
        }
        let CreateKey { team, name, expires, explain, why } = wanted;
        let order = KeyOrder { team: team.into(), name, expires, explain };
        let made = act(&admin, who, why, "created", move |store, _, deed| {
            let made = store.create(&order, deed)?;
            Ok((made.key.id.clone(), made))
        });
        let made = made.await?;
        let (id, secret) = (made.key.id.to_string(), made.secret.expose_secret().to_owned());
        let reached = admin.gateway.ledger().reached().await;
        Ok((StatusCode::CREATED, Json(NewSecret { id, secret, former_until: None, reached })).into_response())
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// Gives a key another secret.
pub(super) async fn rotate(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Response {
    let answer = async {
        let who = admin.authorise(&headers, Right::Keys)?.to_owned();
        let RotateKey { overlap, why } = body::json(body).await?;
        let overlap = overlap.as_deref().map_or(Ok(Duration::ZERO), config::duration).map_err(|unfit| {
            let message = format!("`overlap`: {}\nhint: {}", unfit.problem, unfit.hint);
            refused(StatusCode::BAD_REQUEST, "invalid_request", &message)
        })?;
        let rotated = act(&admin, who, why, "rotated", move |store, policies, deed| {
            let rotated = store.rotate(&id, policies.keys.get(id.as_str()).map(AsRef::as_ref), overlap, deed)?;
            Ok((rotated.0.key.id.clone(), rotated))
        });
        let (made, until) = rotated.await?;
        let (id, secret) = (made.key.id.to_string(), made.secret.expose_secret().to_owned());
        let reached = admin.gateway.ledger().reached().await;
        Ok(Json(NewSecret { id, secret, former_until: Some(until), reached }).into_response())
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// Revokes a key: its next request is refused.
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Response {
    let answer = async {
        let who = admin.authorise(&headers, Right::Keys)?.to_owned();
        let RevokeKey { why } = body::json(body).await?;
        let revoked = act(&admin, who, Some(why), "revoked", move |store, policies, deed| {
            store.revoke(&id, policies.keys.get(id.as_str()).map(AsRef::as_ref), deed)?;
            Ok((id.as_str().into(), id))
        });
        let id = revoked.await?;
        let views = off_the_path(&admin, |admin| Ok(views(admin, &admin.gateway.policies())?)).await?;
        let key = views.iter().find(|view| view.key.id.as_str() == id).map(KeyLine::from);
        Ok(Json(KeyRevoked { key, reached: admin.gateway.ledger().reached().await }).into_response())
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// Does something to a key, and puts what came of it in force before it is told. What the store says is put in force
/// even if nothing was done: an act before may have reached the disk and no further.
async fn act<T: Send + 'static>(
    admin: &Arc<Admin>,
    who: String,
    why: Option<String>,
    what: &'static str,
    work: impl FnOnce(&KeyStore, &Policies, &Deed) -> Result<(KeyId, T), KeyError> + Send + 'static,
) -> Result<T, Refused> {
    if admin.keys.is_none() {
        let message = "this gateway runs without a journal, so it keeps no keys";
        return Err(refused(StatusCode::CONFLICT, "no_key_store", message));
    }
    off_the_path(admin, move |admin| {
        let Some(store) = &admin.keys else { return Err(KeyError::Unknown(String::new())) };
        let deed = Deed::new(Timestamp::now(), Actor { name: who, via: Via::Api }, why);
        let done = work(store, &admin.gateway.policies(), &deed);
        admin.gateway.replace_keys(store.export()?);
        let (key, done) = done?;
        admin.gateway.ledger().key_changed(&key);
        tracing::info!(by = %deed.by.name, %key, "a key was {what}");
        Ok(done)
    })
    .await
}

/// Runs `work` where it may wait for the disk.
async fn off_the_path<T: Send + 'static>(
    admin: &Arc<Admin>,
    work: impl FnOnce(&Admin) -> Result<T, KeyError> + Send + 'static,
) -> Result<T, Refused> {
    let on = Arc::clone(admin);
    match tokio::task::spawn_blocking(move || work(&on).map_err(|failed| answer(&on, &failed))).await {
        Ok(done) => done,
        Err(panicked) => {
            tracing::error!(%panicked, "an act on a key failed");
            Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "key_store_failed", "the key store failed"))
        }
    }
}

fn views(admin: &Admin, policies: &Policies) -> Result<Vec<KeyView>, KeyStoreError> {
    let (stored, mut uses) = match &admin.keys {
        Some(store) => (store.export()?, store.uses()?),
        None => Default::default(),
    };
    // What is in memory is newer than what was written.
    uses.extend(admin.gateway.keys().uses(Timestamp::MIN));
    Ok(listing(&stored.keys, policies.keys.values().map(AsRef::as_ref), &uses, Timestamp::now()))
}

/// The answer to what was not done.
fn answer(admin: &Admin, failed: &KeyError) -> Refused {
    let (status, code) = match failed {
        KeyError::Unknown(id) => {
            let policies = admin.gateway.policies();
            let known = views(admin, &policies).unwrap_or_default();
            let names = known.iter().map(|view| view.key.id.as_str());
            let hint = config::close_names(id, names, "there are no keys; `turnpike key create` makes one");
            return refused(StatusCode::NOT_FOUND, "key_not_found", &format!("{failed}\nhint: {hint}"));
        }
        KeyError::Revoked { .. } => (StatusCode::CONFLICT, "key_revoked"),
        KeyError::Expired { .. } => (StatusCode::CONFLICT, "key_expired"),
        KeyError::OfFile(_) => (StatusCode::CONFLICT, "key_of_policy_file"),
        KeyError::TooManySecrets(_) => (StatusCode::CONFLICT, "too_many_secrets"),
        KeyError::Unfit { .. } => (StatusCode::BAD_REQUEST, "invalid_request"),
        KeyError::Store(failed) => {
            tracing::error!(%failed, "the key store failed");
            return refused(StatusCode::INTERNAL_SERVER_ERROR, "key_store_failed", "the key store failed");
        }
    };
    refused(status, code, &failed.to_string())
}
