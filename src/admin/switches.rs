//! `/api/v1/switches`: what is switched off, and the switch itself; the same for commands that open the books
//! themselves.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;

use super::{
    Admin,
    api::{Switch, SwitchLine, SwitchList},
    body, error,
};
use crate::{
    config::{self, Right},
    ledger::{
        Books,
        row::switches::{SwitchKind, SwitchRow},
        switches::arm_name,
    },
    policy::{Choice, Policies, Route},
};

/// The longest reason, in bytes.
const MAX_WHY: usize = 500;

/// Why nothing is switched.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// There is no such thing.
    #[error("there is no {kind} `{name}`\nhint: {hint}")]
    Unknown {
        /// What kind of thing.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What is close.
        hint: String,
    },
    /// It is on already.
    #[error("{target} is not switched off\nhint: {hint}")]
    On {
        /// What.
        target: String,
        /// What to do.
        hint: &'static str,
    },
    /// The target, the end or the reason is not one.
    #[error("{0}")]
    Unfit(String),
    /// It cannot be booked.
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] std::io::Error),
}

/// What is off, by an operator or by the policies.
pub fn lines(policies: &Policies, books: &Books, now: Timestamp) -> Vec<SwitchLine> {
    let known = books.switches().load();
    let off = known.rows().filter(|row| row.is_off(now) && holds(policies, row));
    let mut lines: Vec<SwitchLine> = off.map(|row| line(row)).collect();
    let of_policies = |(name, why): (&str, &Arc<str>)| SwitchLine {
        target: format!("backend:{name}"),
        off: true,
        since: None,
        until: None,
        cut: false,
        who: None,
        why: why.to_string(),
        reached: None,
    };
    let off = policies.backends.values().filter_map(|backend| Some((backend.name.as_str(), backend.off.as_ref()?)));
    lines.extend(off.map(of_policies));
    lines.sort_by(|a, b| (&a.target, a.since).cmp(&(&b.target, b.since)));
    lines
}

/// Whether a switch is about something as it is now: a guard's word on an arm ends with an edit of its split.
fn holds(policies: &Policies, row: &SwitchRow) -> bool {
    let Some((_, route)) = row.name.split_once('@').filter(|_| row.kind == SwitchKind::Arm) else { return true };
    let choice = policies.routes.get(route).map(|route| &route.choice);
    matches!(choice, Some(Choice::Split { revision, .. }) if row.holds_for(revision))
}

fn arms_of(route: &Route) -> impl Iterator<Item = String> {
    let arms = match &route.choice {
        Choice::Split { arms, .. } => arms.as_slice(),
        Choice::Value { .. } | Choice::Order(_) => &[],
    };
    arms.iter().map(|arm| arm_name(&route.name, &arm.route))
}

/// One row as operators see it.
pub fn line(row: &SwitchRow) -> SwitchLine {
    let instant = |millis: i64| Timestamp::from_millisecond(millis).ok();
    SwitchLine {
        target: target(row.kind, &row.name),
        off: row.off,
        since: instant(row.from_ms),
        until: row.until_ms.and_then(instant),
        cut: row.cut,
        who: Some(row.who.clone()),
        why: row.why.clone(),
        reached: None,
    }
}

fn target(kind: SwitchKind, name: &str) -> String {
    format!("{}:{name}", kind.as_str())
}

/// The row that does what `wanted` says; nothing is booked yet. `has_key`: whether there is a key of that id.
///
/// # Errors
/// [`SwitchError`] for what is no switch, or is of nothing that there is.
pub fn order(
    policies: &Policies,
    books: &Books,
    has_key: impl Fn(&str) -> bool,
    wanted: &Switch,
    who: &str,
    now: Timestamp,
) -> Result<SwitchRow, SwitchError> {
    let (kind, name) = read_target(&wanted.target)?;
    let unfit = |text: &str| Err(SwitchError::Unfit(text.to_owned()));
    let why = wanted.why.trim();
    if why.is_empty() || why.len() > MAX_WHY || why.chars().any(char::is_control) {
        return unfit("a switch needs a reason of at most 500 bytes on one line");
    }
    let until = end(wanted, now)?;
    if until.is_some_and(|until| until <= now) {
        return unfit("the end lies in the past");
    }
    if wanted.cut && kind == SwitchKind::Arm {
        return unfit("who was dealt to an arm stays there\nhint: switch an arm off without `--cut`");
    }
    let known = books.switches().load().newest(kind, name).cloned();
    if wanted.off {
        exists(policies, has_key, kind, name)?;
    } else if until.is_some() || wanted.cut {
        return unfit("what is switched on stays on and cuts nothing\nhint: `turnpike off` takes an end and `--cut`");
    } else if !known.as_ref().is_some_and(|row| row.is_off(now) && holds(policies, row)) {
        let of_policies = kind == SwitchKind::Backend && policies.backends.get(name).is_some_and(|it| it.off.is_some());
        let hint = if of_policies {
            "the policies say `off:` of it; edit them"
        } else {
            "`turnpike off --list` names what is"
        };
        return Err(SwitchError::On { target: target(kind, name), hint });
    }
    let millis = now.as_millisecond();
    Ok(SwitchRow {
        id: uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &rand::random()).into_uuid(),
        kind,
        name: name.into(),
        off: wanted.off,
        cut: wanted.cut,
        // Newer than what it builds on, whatever the clock says.
        from_ms: known.map_or(millis, |row| millis.max(row.from_ms + 1)),
        until_ms: until.map(Timestamp::as_millisecond),
        revision: None,
        who: who.to_owned(),
        why: why.to_owned(),
    })
}

/// When it ends by itself: a length counts from `now`, on the clock by which its end will be looked at.
fn end(wanted: &Switch, now: Timestamp) -> Result<Option<Timestamp>, SwitchError> {
    let Some(length) = &wanted.length else { return Ok(wanted.until) };
    if wanted.until.is_some() {
        return Err(SwitchError::Unfit("`for` and `until` both say when it ends\nhint: write one of them".to_owned()));
    }
    let length = config::duration(length)
        .map_err(|it| SwitchError::Unfit(format!("`for`: {}\nhint: {}", it.problem, it.hint)))?;
    let until = jiff::SignedDuration::try_from(length).ok().and_then(|length| now.checked_add(length).ok());
    until.map(Some).ok_or_else(|| SwitchError::Unfit("`for` is longer than any calendar".to_owned()))
}

/// The kind and the name that a text such as `backend:qwen` is made of.
///
/// # Errors
/// [`SwitchError::Unfit`].
pub fn read_target(text: &str) -> Result<(SwitchKind, &str), SwitchError> {
    let known = text.split_once(':').filter(|(_, name)| !name.is_empty());
    let known =
        known.and_then(|(kind, name)| Some((SwitchKind::ALL.into_iter().find(|known| known.as_str() == kind)?, name)));
    known.ok_or_else(|| {
        let hint = "write `backend:X`, `provider:X`, `model:X`, `team:X`, `key:X` or `arm:X@ROUTE`";
        SwitchError::Unfit(format!("`{}` is nothing that can be switched\nhint: {hint}", text.escape_debug()))
    })
}

fn exists(
    policies: &Policies,
    has_key: impl Fn(&str) -> bool,
    kind: SwitchKind,
    name: &str,
) -> Result<(), SwitchError> {
    let arms;
    let names: Vec<&str> = match kind {
        SwitchKind::Backend => policies.backends.keys().map(|name| name.as_str()).collect(),
        SwitchKind::Provider => policies.backends.values().map(|backend| backend.provider).collect(),
        SwitchKind::Model => policies.models.keys().map(|name| name.as_str()).collect(),
        SwitchKind::Team => policies.teams.keys().map(|name| name.as_str()).collect(),
        SwitchKind::Key if has_key(name) => return Ok(()),
        SwitchKind::Key => Vec::new(),
        SwitchKind::Arm => {
            arms = policies.routes.values().flat_map(|route| arms_of(route)).collect::<Vec<_>>();
            arms.iter().map(String::as_str).collect()
        }
    };
    if names.contains(&name) {
        return Ok(());
    }
    let otherwise = if kind == SwitchKind::Key { "`turnpike key list` names them" } else { "the policies name none" };
    let hint = config::close_names(name, names, otherwise);
    Err(SwitchError::Unknown { kind: kind.as_str(), name: name.to_owned(), hint })
}

/// What is off.
pub(super) async fn list(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let gateway = &admin.gateway;
    let switches = lines(&gateway.policies(), gateway.ledger().books(), Timestamp::now());
    Json(SwitchList { switches }).into_response()
}

/// Switches something off or on.
pub(super) async fn switch(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        let who = admin.authorise(&headers, Right::Switch)?.to_owned();
        let wanted: Switch = body::json(body).await?;
        let gateway = &admin.gateway;
        let (policies, books) = (gateway.policies(), gateway.ledger().books());
        let has_key = |id: &str| gateway.keys().has(id);
        let row =
            order(&policies, books, has_key, &wanted, &who, Timestamp::now()).map_err(|failed| refused(&failed))?;
        gateway.switch(row.clone()).map_err(|failed| refused(&failed.into()))?;
        let reached = gateway.ledger().reached().await;
        Ok((StatusCode::CREATED, Json(SwitchLine { reached, ..line(&row) })).into_response())
    };
    answer.await.unwrap_or_else(|refused: Box<Response>| *refused)
}

fn refused(failed: &SwitchError) -> Box<Response> {
    let (status, code) = match failed {
        SwitchError::Unknown { .. } => (StatusCode::NOT_FOUND, "unknown_target"),
        SwitchError::On { .. } => (StatusCode::CONFLICT, "not_switched_off"),
        SwitchError::Unfit(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        SwitchError::Journal(_) => (StatusCode::SERVICE_UNAVAILABLE, "budget_store_unavailable"),
    };
    Box::new(error(status, code, &failed.to_string()))
}
