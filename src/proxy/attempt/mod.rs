//! One attempt on one endpoint: send, read the head, read the answer as far as the winner can be named.
//!
//! Split by phase, not by provider: `send` (connect and head), `plain` (a whole answer), `stream` (up to the first
//! meaningful event). Whatever fails before that ends as a [`Failed`], and the course of the request goes on.

pub mod events;
mod plain;
mod send;
mod stream;
pub mod tap;

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    admit::Ask,
    live::Flight,
    toll::{Bill, Lane, Outcome, Toll, Verdict},
};
use crate::{
    base::failure::{Class, Fault},
    policy::{Ranked, patience::Awaited, retry::AttemptSeen},
    provider::{Failure, Provider},
};

pub use stream::Opening;

/// What an attempt gave.
#[derive(Debug)]
pub enum Given {
    /// A whole answer.
    Plain(Bytes),
    /// A stream that has begun.
    Stream(Box<Opening>),
    /// A stream that has begun, of which the client wants a whole answer: [`whole`] makes one.
    Parts(Box<Opening>, Clocks),
}

/// Why an attempt gave nothing.
#[derive(Debug)]
pub struct Failed {
    /// For the toll.
    pub outcome: Outcome,
    /// Where the request may go next; `None` = its time is up.
    pub class: Option<Class>,
    /// The prompt was too long for the candidate.
    pub context_length: bool,
    /// The upstream's answer as it is, when it is a verdict on the request itself.
    pub verbatim: Option<(StatusCode, Bytes)>,
}

impl Failed {
    /// Whether another attempt may still do: it is not a verdict on the request, and the time is not up.
    pub fn leaves_others(&self) -> bool {
        self.class.is_some_and(|class| class != Class::Never)
    }

    /// The failed attempt as the choice of the next one sees it; `None` where the time is up.
    pub fn seen(&self, ranked: &Ranked, elapsed: Duration) -> Option<AttemptSeen> {
        let class = self.class?;
        let (fault, retry_after) = match self.outcome.verdict {
            Verdict::Failed { fault, retry_after } => (fault, retry_after),
            // It was given up for another, and that says nothing of it.
            Verdict::Unknown => (Fault::Backend, None),
            Verdict::Served => return None,
        };
        Some(AttemptSeen { candidate: ranked.candidate.id, class, fault, retry_after, elapsed })
    }

    /// Of one server of several: what it says of a quota or of the account it says for itself.
    fn of_its_server(mut self) -> Self {
        if let Verdict::Failed { fault: fault @ (Fault::Quota | Fault::Account), .. } = &mut self.outcome.verdict {
            *fault = Fault::Backend;
        }
        self
    }

    /// A failure of the backend that another may not share.
    fn backend(label: &'static str, message: impl Into<String>, bill: Bill) -> Self {
        let verdict = Verdict::Failed { fault: Fault::Backend, retry_after: None };
        Self {
            outcome: Outcome { label, status: 0, message: message.into(), verdict, bill },
            class: Some(Class::Elsewhere),
            context_length: false,
            verbatim: None,
        }
    }

    /// An answer without content. One that says how it finished was a model's choice, which a prompt can bring about:
    /// it goes elsewhere, and counts against nobody.
    fn empty(message: &'static str, finished: bool) -> Self {
        let mut failed = Self::backend("empty", message, Bill::Metered);
        if finished {
            failed.outcome.verdict = Verdict::Failed { fault: Fault::Request, retry_after: None };
        }
        failed
    }

    /// It was given up while there was time for another. `late`: surely longer than is usual.
    fn given_up(late: bool) -> Self {
        let message = "no answer came while there was time for another try";
        let mut failed = Self::backend("first_token_timeout", message, Bill::Metered);
        if !late {
            failed.outcome.verdict = Verdict::Unknown;
        }
        failed
    }

    /// The client's own deadline passed.
    fn deadline() -> Self {
        let message = "the request's deadline passed".to_owned();
        let (verdict, bill) = (Verdict::Unknown, Bill::Metered);
        Self {
            outcome: Outcome { label: "deadline", status: 0, message, verdict, bill },
            class: None,
            context_length: false,
            verbatim: None,
        }
    }

    /// A failure that the provider has read.
    fn classified(failure: Failure, status: StatusCode, body: &Bytes) -> Self {
        // A gateway's own time-out may hide work that was done and will be billed.
        let bill = if matches!(status.as_u16(), 502 | 504) { Bill::Metered } else { Bill::Nothing };
        let label = match failure.fault {
            Fault::Quota => "quota",
            Fault::Account => "account",
            Fault::Backend => "error",
            Fault::Request if failure.context_length => "context_length",
            Fault::Request => "refused",
        };
        let verdict = Verdict::Failed { fault: failure.fault, retry_after: failure.retry_after };
        // Vendors quote parts of the credential that they turn away.
        let message = match failure.fault {
            Fault::Account if is_spent(&failure, status) => {
                "the gateway's own account has nothing left to spend".to_owned()
            }
            Fault::Account => "the gateway's own credential was turned away".to_owned(),
            Fault::Quota | Fault::Backend | Fault::Request => failure.message.clone(),
        };
        let verdict_of_request = failure.class == Class::Never && !status.is_server_error();
        let verbatim = verdict_of_request.then(|| {
            // An error inside a 200 is a refusal all the same.
            let status = if status.is_client_error() { status } else { StatusCode::BAD_REQUEST };
            (status, one_shape(&failure, body))
        });
        Self {
            outcome: Outcome { label, status: status.as_u16(), message, verdict, bill },
            class: Some(failure.class),
            context_length: failure.context_length,
            verbatim,
        }
    }
}

/// Whether an account was turned away for its bill and not for its credential.
fn is_spent(failure: &Failure, status: StatusCode) -> bool {
    status == StatusCode::PAYMENT_REQUIRED || failure.code.as_deref() == Some("insufficient_quota")
}

/// The upstream's own error body if it has the shape that clients understand, else its words in that shape.
fn one_shape(failure: &Failure, body: &Bytes) -> Bytes {
    let known = serde_json::from_slice::<Value>(body).is_ok_and(|body| body["error"]["message"].is_string());
    if known {
        return body.clone();
    }
    let error = json!({
        "message": failure.message,
        "type": "invalid_request_error",
        "param": null,
        "code": failure.code,
    });
    Bytes::from(json!({ "error": error }).to_string())
}

/// The clocks of an attempt as instants.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The first meaningful event of a stream must have come; a whole answer has until `total`.
    first: Instant,
    /// The whole attempt.
    total: Instant,
    /// When it is given up so that another can be tried in time, and whether that is surely late.
    for_another: Option<(Instant, bool)>,
    /// When the client must have heard something.
    deadline: Option<Instant>,
}

impl Clocks {
    fn start(ask: &Ask, ranked: &Ranked, streams: bool, for_another: Option<(Duration, bool)>) -> Self {
        let (now, timeouts) = (Instant::now(), ranked.candidate.backend.timeouts);
        let total = now + timeouts.total;
        let first = if streams { total.min(now + timeouts.first_token) } else { total };
        let for_another = for_another.map(|(patience, late)| (now + patience, late)).filter(|(by, _)| *by < first);
        let first = for_another.map_or(first, |(by, _)| by);
        Self { first, total, for_another, deadline: ask.first_byte_by() }
    }

    /// Runs `work` until `end` or the client's deadline. It comes pinned: a future that is handed over lies twice in the
    /// one that awaits it.
    async fn bound<T>(
        self,
        end: Instant,
        work: Pin<&mut impl Future<Output = Result<T, Failed>>>,
    ) -> Result<T, Failed> {
        let sooner = self.deadline.map_or(end, |deadline| deadline.min(end));
        match tokio::time::timeout_at(sooner, work).await {
            Ok(done) => done,
            Err(_) if self.deadline.is_some_and(|deadline| deadline <= end) => Err(Failed::deadline()),
            Err(_) if self.for_another.is_some_and(|(by, _)| by == end) => {
                Err(Failed::given_up(self.for_another.is_some_and(|(_, late)| late)))
            }
            Err(_) if end < self.total => Err(Failed::backend(
                "first_token_timeout",
                "no token came within the time for the first",
                Bill::Metered,
            )),
            Err(_) => Err(Failed::backend("total_timeout", "no answer came within the attempt's time", Bill::Metered)),
        }
    }
}

/// Makes one attempt, up to the first meaningful event of a stream. The lane's meter is running already; the caller closes
/// it with what comes back. `next`: when the one that could follow is expected to answer, where the request has a deadline.
///
/// # Errors
/// [`Failed`] whenever nothing has come that could be given to the client.
pub async fn attempt(ask: &Ask, ranked: &Ranked, next: Option<Duration>, lane: &mut Lane) -> Result<Given, Failed> {
    let Some(flight) = lane.flight() else {
        return Err(Failed::backend("error", "the attempt was not begun", Bill::Nothing));
    };
    let provider: &'static dyn Provider = flight.provider();
    let streams = streams(ask, ranked, provider);
    if !streams {
        lane.awaits_whole();
    }
    let clocks = Clocks::start(ask, ranked, streams, patience(ask, ranked, next, &flight, streams));
    let request = send::request(ask, ranked, &flight, streams);
    let (origin, connect) = (flight.origin(), ranked.candidate.backend.timeouts.connect);
    let given = {
        let given = pin!(async {
            let response = send::send(&origin, request, connect, provider, || lane.sent()).await?;
            if !streams {
                return plain::read(response, provider, lane).await.map(Given::Plain);
            }
            let opening = Box::new(stream::open(response, ask, ranked, clocks.total, provider, lane).await?);
            Ok(if ask.chat.facts.stream { Given::Stream(opening) } else { Given::Parts(opening, clocks) })
        });
        clocks.bound(clocks.first, given).await
    };
    given.map_err(|mut failed| {
        if failed.class.is_none() {
            failed.outcome.verdict = lane.unheard();
        }
        if flight.is_one_of_several() { failed.of_its_server() } else { failed }
    })
}

/// How long the attempt may take while another could follow, and whether it is surely late then. An answer of which nine
/// of ten are half as long at most is waited for; but only one that could not even have reached its cap is late.
fn patience(
    ask: &Ask,
    ranked: &Ranked,
    next: Option<Duration>,
    flight: &Flight,
    streams: bool,
) -> Option<(Duration, bool)> {
    let (next, left) = (next?, ask.time_left()?);
    let usual = flight.usual(ranked.candidate.model.prior);
    let (input, cap) = (ranked.terms.input_tokens, ranked.max_output);
    let likely = flight.answer_p90().map_or(cap, |p90| cap.min(p90.saturating_mul(2)));
    let patience = usual.patience(Awaited { input, whole: (!streams).then_some(likely) }, next, left)?;
    Some((patience, usual.is_late(Awaited { input, whole: (!streams).then_some(cap) }, patience)))
}

/// Whether the upstream is asked for a stream: the client wants one, or the upstream gives nothing else.
pub fn streams(ask: &Ask, ranked: &Ranked, provider: &'static dyn Provider) -> bool {
    ask.chat.facts.stream || provider.stream_only(&ranked.candidate, &ask.chat.facts)
}

/// Reads the rest of what is given in parts, for a client that wants a whole answer.
///
/// # Errors
/// [`Failed`] when it does not come to its end.
pub async fn whole(given: Given, toll: &mut Toll) -> Result<Given, Failed> {
    match given {
        Given::Parts(opening, clocks) => {
            clocks.bound(clocks.total, pin!(stream::assemble(*opening, toll))).await.map(Given::Plain)
        }
        given => Ok(given),
    }
}
