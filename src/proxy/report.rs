//! What is counted of attempts and requests, in one place.

use std::{sync::Arc, time::Duration};

use super::{Gateway, admit::Ask, refusal::Refusal, texts::Heard, toll::Timing};
use crate::{
    base::{
        money::Money,
        names::{RouteName, TeamName},
    },
    telemetry::{
        metrics::{
            AttemptLabels, CandidateLabels, HedgeLabels, Label, Metrics, RefusalLabels, RequestLabels, SpendLabels,
            TokenLabels, dollars,
        },
        record::{AttemptRecord, Record},
    },
};

/// Counts one attempt.
pub fn attempt(metrics: &Metrics, team: &TeamName, row: &AttemptRecord, timing: &Timing) {
    let label = |text: &Arc<str>| Label(Arc::clone(text));
    let outcome = Label(row.outcome.into());
    metrics.attempts.get_or_create(&AttemptLabels { backend: label(&row.backend), outcome }).inc();
    if let Some(first) = timing.first_token {
        let labels = CandidateLabels { model: label(&row.model), backend: label(&row.backend) };
        metrics.time_to_first_token.get_or_create(&labels).observe(first.as_secs_f64());
    }
    let kinds = [
        ("input", row.input_tokens.saturating_sub(row.cached_input_tokens)),
        ("cached_input", row.cached_input_tokens),
        ("output", row.output_tokens.saturating_sub(row.reasoning_tokens)),
        ("reasoning", row.reasoning_tokens),
    ];
    for (kind, tokens) in kinds.into_iter().filter(|(_, tokens)| *tokens > 0) {
        let labels = TokenLabels {
            team: Label(team.shared()),
            model: label(&row.model),
            backend: label(&row.backend),
            kind: Label(kind.into()),
        };
        metrics.tokens.get_or_create(&labels).inc_by(tokens);
    }
    if row.cost_nanousd > 0 {
        let labels = SpendLabels { team: Label(team.shared()), model: label(&row.model), backend: label(&row.backend) };
        metrics.cost.get_or_create(&labels).inc_by(dollars(Money::from_nanousd(row.cost_nanousd)));
    }
}

/// Counts what became of one attempt that was overdue.
pub fn hedge(metrics: &Metrics, route: &RouteName, outcome: &'static str) {
    let labels = HedgeLabels { route: Label(route.shared()), outcome: Label(outcome.into()) };
    metrics.hedges.get_or_create(&labels).inc();
}

/// Counts one settled request.
pub fn request(metrics: &Metrics, record: &Record, took: Duration, overdraft: Money, beyond: Money) {
    let label = |text: &Arc<str>| Label(Arc::clone(text));
    let labels = RequestLabels {
        route: label(&record.route),
        team: label(&record.team),
        model: label(&record.model),
        backend: label(&record.backend),
        code: Label(record.status.to_string().into()),
    };
    metrics.requests.get_or_create(&labels).inc();
    let labels = CandidateLabels { model: label(&record.model), backend: label(&record.backend) };
    metrics.request_duration.get_or_create(&labels).observe(took.as_secs_f64());
    if overdraft > Money::ZERO {
        metrics.budget_overdraft.inc_by(dollars(overdraft));
    }
    if beyond > Money::ZERO {
        metrics.budget_overspend.inc_by(dollars(beyond));
    }
}

/// Counts one refusal of Turnpike's own; `team` is empty before the caller is known.
pub fn refusal(metrics: &Metrics, team: &str, reason: &'static str) {
    metrics.refusals.get_or_create(&RefusalLabels { team: Label(team.into()), reason: Label(reason.into()) }).inc();
}

/// Counts, logs and records one request that was refused before any attempt; `ask`, where it had been admitted.
pub fn refused(gateway: &Gateway, id: &str, team: &str, route: &str, refused: &Refusal, ask: Option<&Ask>) {
    let metrics = &gateway.metrics;
    let team = refused.team.as_deref().unwrap_or(team);
    refusal(metrics, team, refused.code.as_str());
    let none = || Label("".into());
    let labels = RequestLabels {
        route: Label(route.into()),
        team: Label(team.into()),
        model: none(),
        backend: none(),
        code: Label(refused.status().as_str().into()),
    };
    metrics.requests.get_or_create(&labels).inc();
    let texts = ask.and_then(|ask| Heard::listen(gateway, ask)).map(|heard| heard.texts());
    let record = Record {
        id: id.to_owned(),
        team: team.into(),
        key: ask.map(|ask| ask.caller.key.shared()).unwrap_or_default(),
        route: route.into(),
        arm: ask.and_then(|ask| ask.arm.as_ref()).map(|arm| arm.shared()),
        policy: ask.map(|ask| Arc::clone(&ask.live.policies.hash)).unwrap_or_default(),
        status: refused.status().as_u16(),
        code: refused.code.as_str(),
        end: "refused",
        total_ms: ask.map_or(0, |ask| u64::try_from(ask.arrival.elapsed().as_millis()).unwrap_or(u64::MAX)),
        trail: ask.and_then(|ask| ask.trail.clone()),
        ..Record::default()
    };
    gateway.keep(record, texts);
}
