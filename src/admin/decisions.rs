//! `GET /api/v1/decisions/{id}` and `POST /api/v1/explain`, and the same for commands that read the files themselves.

use std::{path::Path, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path as Named, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Admin,
    api::{DecisionAnswer, ExplainRequest, OutcomeLine},
    body, error,
};
use crate::{
    config::{self, Right},
    policy::Policies,
    proxy::explain::{self, ExplainError, Explained, Wanted, Who},
    telemetry::record::{
        Line,
        evidence::{EvidenceLine, evidence},
        read::{self, FindError, Found, Missed},
    },
};

/// A recorded request, and what could not be read while it was looked for.
#[derive(Debug)]
pub struct Recorded {
    /// The request; `None` when nothing of it is there.
    pub answer: Option<DecisionAnswer>,
    /// What could not be read.
    pub missed: Vec<Missed>,
}

/// What is recorded of a request in `folder`, its texts left out. Score rows and prices are read from the policies of
/// then: those of `in_force` if they are the same, else those that are kept beside the records.
///
/// # Errors
/// [`FindError`].
pub fn recorded(folder: &Path, id: &str, in_force: Option<&Policies>) -> Result<Recorded, FindError> {
    let Found { line, missed } = read::find(folder, id)?;
    let Some(line) = line else { return Ok(Recorded { answer: None, missed }) };
    let evidence = match in_force.filter(|policies| policies.hash == line.policy) {
        Some(policies) => behind(policies, &line),
        None => {
            config::recorded(folder, &line.policy).map(|loaded| behind(&loaded.policies, &line)).unwrap_or_default()
        }
    };
    let shadow = line.shadow.clone().map(|id| read::find(folder, &id)).transpose()?.and_then(|found| found.line);
    let shadow = shadow.map(|line| Box::new(OutcomeLine::from(line)));
    let damaged_bytes = missed.iter().map(Missed::damaged).sum();
    let answer = DecisionAnswer { shadow, damaged_bytes, ..DecisionAnswer::of(line, evidence) };
    Ok(Recorded { answer: Some(answer), missed })
}

fn behind(policies: &Policies, line: &Line) -> Vec<EvidenceLine> {
    line.decisions
        .first()
        .map(|decision| evidence(policies, decision, line.facts.category_confident))
        .unwrap_or_default()
}

/// What `policies` would decide, with nothing measured and nothing spent.
///
/// # Errors
/// [`ExplainError`].
pub fn dry(policies: &Policies, wanted: Wanted, now: Timestamp) -> Result<DecisionAnswer, ExplainError> {
    Ok(answer(policies, explain::dry(policies, wanted, now)?))
}

fn answer(policies: &Policies, explained: Explained) -> DecisionAnswer {
    DecisionAnswer {
        outcome: None,
        shadow_of: None,
        shadow: None,
        texts: None,
        damaged_bytes: 0,
        team: explained.team,
        policy: Arc::clone(&policies.hash),
        evidence: evidence(policies, &explained.decision, explained.facts.category_confident),
        facts: explained.facts,
        reason: explained.reason,
        unknown: explained.unknown,
        decisions: vec![explained.decision],
    }
}

/// What was decided for a request, and why.
pub(super) async fn one(State(admin): State<Arc<Admin>>, headers: HeaderMap, Named(id): Named<String>) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let Some(records) = admin.gateway.records().cloned() else {
        return error(StatusCode::CONFLICT, "no_records", "this gateway keeps no records\nhint: see `records:`");
    };
    // A file is decompressed for each: one at a time is enough for people.
    let Ok(_turn) = admin.searching.acquire().await else { return failed(&"the gateway ends") };
    let policies = admin.gateway.policies();
    let found = tokio::task::spawn_blocking(move || {
        records.flush();
        recorded(records.folder(), &id, Some(&policies))
    });
    match found.await {
        Ok(Ok(Recorded { answer: Some(answer), .. })) => Json(answer).into_response(),
        Ok(Ok(Recorded { answer: None, missed })) => {
            let mut message =
                "no record of that request is kept here: it may be another gateway's, or too long ago".to_owned();
            let damaged: u64 = missed.iter().map(Missed::damaged).sum();
            if damaged > 0 {
                message.push_str(&format!(", or among the {damaged} bytes that are damaged"));
            }
            if missed.iter().any(Missed::is_cut) {
                message.push_str(", or among the last of a gateway that was killed");
            }
            error(StatusCode::NOT_FOUND, "unknown_request", &message)
        }
        Ok(Err(wrong @ FindError::NoId)) => error(StatusCode::BAD_REQUEST, "invalid_request", &wrong.to_string()),
        Ok(Err(wrong @ (FindError::Io(_) | FindError::Malformed(_)))) => failed(&wrong),
        Err(panicked) => failed(&panicked),
    }
}

fn failed(cause: &dyn std::fmt::Display) -> Response {
    tracing::error!(%cause, "the records cannot be read");
    error(StatusCode::INTERNAL_SERVER_ERROR, "records_failed", "the records cannot be read")
}

/// What would be decided now, or at another moment.
pub(super) async fn explain(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        admin.authorise(&headers, Right::Read)?;
        let asked: ExplainRequest = body::json_of(body, LONGEST).await?;
        let at = asked.at.as_deref().map(config::instant).transpose().map_err(|unfit| {
            let message = format!("`at`: {}\nhint: {}", unfit.problem, unfit.hint);
            Box::new(error(StatusCode::BAD_REQUEST, "invalid_request", &message))
        })?;
        let who = Who { team: asked.team, key: asked.key, user: asked.user, session: asked.session };
        let wanted = Wanted { body: Bytes::from(asked.request.get().to_owned()), route: asked.route, who, at };
        let gateway = Arc::clone(&admin.gateway);
        let explained = tokio::task::spawn_blocking(move || (gateway.explain(wanted), gateway.policies())).await;
        match explained {
            Ok((Ok(explained), policies)) => Ok(Json(self::answer(&policies, explained)).into_response()),
            Ok((Err(wrong), _)) => Err(Box::new(error(StatusCode::BAD_REQUEST, "invalid_request", &wrong.to_string()))),
            Err(panicked) => {
                tracing::error!(%panicked, "a decision could not be explained");
                Err(Box::new(error(StatusCode::INTERNAL_SERVER_ERROR, "explain_failed", "it cannot be explained")))
            }
        }
    };
    answer.await.unwrap_or_else(|refused: Box<Response>| *refused)
}

/// The longest question, in bytes: the longest request that a gateway takes unless told otherwise, and what stands around it.
const LONGEST: usize = (32 << 20) + (64 << 10);
