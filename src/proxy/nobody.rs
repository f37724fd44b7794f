//! Why nobody answers: who could not be asked, and who was asked in vain.

use std::time::Duration;

use serde_json::{Value, json};

use super::{code::Code, refusal::Refusal};
use crate::{
    base::{catalog::Candidate, failure::Fault},
    policy::{Decision, Rejection, Unavailable, retry::AttemptSeen},
    telemetry::record::AttemptRecord,
};

/// When to come again where servers that may be ready soon are all that is missing.
const SOON: Duration = Duration::from_secs(1);
/// When to come again where only an operator can help: the longest wait that SDKs keep. They are not asked to wait it out.
const LATER: Duration = Duration::from_secs(60);

/// Every attempt failed: each is listed with its reason. `context_length`: somebody found the prompt too long.
pub fn exhausted(tried: &[AttemptRecord], seen: &[AttemptSeen], context_length: bool) -> Refusal {
    let attempts = details(tried);
    if context_length {
        let message = "the prompt is too long for every candidate that could be asked";
        return Refusal::new(Code::ContextLengthExceeded, message).param("messages").detail("attempts", attempts);
    }
    if seen.iter().all(|attempt| attempt.fault == Fault::Quota) {
        let wait = seen.iter().filter_map(|attempt| attempt.retry_after).min();
        let message = "every upstream that could be asked is at its limit";
        return Refusal::new(Code::NoCandidate, message).retry_after(wait).detail("attempts", attempts);
    }
    let message = format!("every attempt failed: {}", listed(tried));
    Refusal::new(Code::UpstreamError, message).detail("attempts", attempts)
}

/// The request's deadline passed; who was asked until then is listed.
pub fn too_late(tried: &[AttemptRecord]) -> Refusal {
    let message = format!("the request's deadline passed: {}", listed(tried));
    Refusal::new(Code::DeadlineExceeded, message).detail("attempts", details(tried))
}

fn listed(tried: &[AttemptRecord]) -> String {
    let listed = tried.iter().map(|row| format!("{}@{}: {} ({})", row.model, row.backend, row.outcome, row.message));
    listed.collect::<Vec<_>>().join("; ")
}

fn details(tried: &[AttemptRecord]) -> Vec<Value> {
    let details = tried.iter().map(|row| {
        json!({
            "model": row.model.as_ref(),
            "backend": row.backend.as_ref(),
            "outcome": row.outcome,
            "status": row.upstream_status,
            "message": row.message,
        })
    });
    details.collect()
}

/// Nobody may be tried: the refusal that fits what stands in the way of all. `back` says when a candidate that is
/// switched off is on again by itself.
pub fn nobody(decision: &Decision, back: &dyn Fn(&Candidate) -> Option<Duration>) -> Refusal {
    let all = |test: fn(&Rejection) -> bool| decision.rejected.iter().all(|rejected| test(&rejected.why));
    let any = |test: fn(&Rejection) -> bool| decision.rejected.iter().any(|rejected| test(&rejected.why));
    let listed: Vec<String> =
        decision.rejected.iter().map(|rejected| format!("{}: {}", rejected.candidate.label(), rejected.why)).collect();
    let of_request = |why: &Rejection| {
        matches!(
            why,
            Rejection::Location { .. } | Rejection::Lacks(_) | Rejection::Context { .. } | Rejection::NoPrice { .. }
        )
    };
    let late = |why: &Rejection| matches!(why, Rejection::Deadline { .. });
    let code = if any(late) && !any(|why| matches!(why, Rejection::Unavailable(_) | Rejection::Spilled { .. })) {
        Code::DeadlineExceeded
    } else if decision.rejected.is_empty() || !all(of_request) {
        Code::NoCandidate
    } else if any(|why| matches!(why, Rejection::Context { .. })) {
        Code::ContextLengthExceeded
    } else if any(|why| matches!(why, Rejection::Lacks(_))) {
        Code::UnsupportedParameter
    } else if any(|why| matches!(why, Rejection::NoPrice { .. })) {
        Code::ModelHasNoPrice
    } else {
        Code::LocationNotAllowed
    };
    let withdrawn = decision.withdrawn.iter().map(|(arm, why)| format!("arm {arm}: {why}"));
    let listed: Vec<String> = if decision.rejected.is_empty() { withdrawn.collect() } else { listed };
    let message = format!("no candidate of route `{}` may serve this request: {}", decision.route, listed.join("; "));
    let rejected: Vec<Value> = decision
        .rejected
        .iter()
        .map(|rejected| json!({"candidate": rejected.candidate.label(), "reason": rejected.why.to_string()}))
        .collect();
    let refusal = Refusal::new(code, message).detail("rejected", rejected);
    let soonest = decision.rejected.iter().filter_map(|rejected| match rejected.why {
        Rejection::Off { .. } => Some(back(&rejected.candidate).unwrap_or(LATER)),
        Rejection::Unavailable(Unavailable::Broken(wait) | Unavailable::Parked(wait)) => Some(wait),
        Rejection::Spilled { wait, max } => Some(wait.saturating_sub(max)),
        Rejection::Unavailable(Unavailable::NotReady | Unavailable::Crowded) => Some(SOON),
        _ => None,
    });
    if code != Code::NoCandidate {
        return refusal;
    }
    let all_withdrawn = decision.rejected.is_empty() && !decision.withdrawn.is_empty();
    let soonest = soonest.min().or(all_withdrawn.then_some(LATER));
    let refusal = refusal.retry_after(soonest);
    Refusal { should_retry: soonest.is_none_or(|wait| wait < LATER), ..refusal }
}
