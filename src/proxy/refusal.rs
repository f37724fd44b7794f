//! Refusals: every error that Turnpike itself answers with, in the shape that OpenAI's clients understand.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{answer::Answer, code::Code, standing::Standing};
use crate::{
    base::{
        fences::{Fence, Owner, Purpose, Unit},
        money::Money,
        names::TeamName,
    },
    ledger::{HoldError, Refused},
};

/// An answer that Turnpike gives instead of a model's.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code, which gives the status and the type.
    pub code: Code,
    /// What is wrong and how to mend it.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// When to come again; always present on 429 and 503.
    pub retry_after: Option<Duration>,
    /// What the SDK's own retry should do: `false` once Turnpike has failed over itself.
    pub should_retry: bool,
    /// Members beside the message (`budget`, `attempts`, …).
    pub details: Vec<(&'static str, Value)>,
    /// How many attempts were made before it.
    pub attempts: usize,
    /// An upstream's own verdict, passed on with its status and body.
    pub verbatim: Option<Box<(StatusCode, Bytes)>>,
    /// The team, once it is known.
    pub team: Option<TeamName>,
    /// What the request's fences have left, once they are known.
    pub standing: Option<Box<Standing>>,
    /// The budget that has too little left.
    pub empty: Option<Box<Refused>>,
    /// What had been decided, once something had.
    pub decided: Option<Box<Decided>>,
}

/// What an error says of the decision before it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The arm of a split that failed.
    pub arm: Option<Arc<str>>,
    /// The decision, for who asked to see it.
    pub decision: Option<HeaderValue>,
}

/// The wait that a 503 names when nothing better is known.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);
/// Above a minute the Node SDK ignores `retry-after` and the Python SDK waits it out.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// The wait for a place among the requests under way: nobody knows when one ends.
const FREE_PLACE: Duration = Duration::from_secs(1);

impl Refusal {
    /// A refusal without a field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let overloaded = matches!(
            code,
            Code::NoCandidate
                | Code::Overloaded
                | Code::BudgetStoreUnavailable
                | Code::KeyStoreUnavailable
                | Code::RateLimitExceeded
        );
        Self {
            code,
            message: message.into(),
            param: None,
            retry_after: overloaded.then_some(DEFAULT_RETRY),
            should_retry: overloaded,
            details: Vec::new(),
            attempts: 0,
            verbatim: None,
            team: None,
            standing: None,
            empty: None,
            decided: None,
        }
    }

    /// The same with the field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same with a member beside the message.
    #[must_use]
    pub fn detail(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// The same with a wait that is better known.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait.or(self.retry_after);
        self
    }

    /// The same, said to a team.
    #[must_use]
    pub fn to_team(mut self, team: &TeamName) -> Self {
        self.team = Some(team.clone());
        self
    }

    /// The same with what the request's fences have left.
    #[must_use]
    pub fn standing(mut self, standing: Standing) -> Self {
        self.standing = Some(Box::new(standing));
        self
    }

    /// The same with what had been decided.
    #[must_use]
    pub fn decided(mut self, arm: Option<Arc<str>>, decision: Option<HeaderValue>) -> Self {
        self.decided = Some(Box::new(Decided { arm, decision }));
        self
    }

    /// There is no hold.
    pub fn hold(error: &HoldError) -> Self {
        match error {
            HoldError::Refused(refused) => match refused.fence.purpose {
                Purpose::Budget => Self::budget(refused),
                Purpose::Limit => Self::limit(refused),
            },
            HoldError::Away => Self::new(Code::BudgetStoreUnavailable, "the budget store is away"),
            HoldError::Journal(_) => Self::new(Code::BudgetStoreUnavailable, "the books cannot be written"),
        }
    }

    /// A stream under way cannot go on, since no more could be set aside for it.
    pub fn cut(error: &HoldError) -> Self {
        let refusal = Self::hold(error);
        Self { message: format!("the answer ends here: {}", refusal.message), ..refusal }
    }

    /// A budget that has too little left.
    fn budget(refused: &Refused) -> Self {
        let (fence, unit) = (&refused.fence, refused.fence.unit);
        let renews = refused.renews_at.map(|at| format!("; it renews at {}", seconds(at))).unwrap_or_default();
        let message = format!(
            "{} has {} left of {} and this request may need {}{renews}",
            fence.label(),
            unit.write(refused.left()),
            unit.write(fence.cap),
            unit.write(refused.wanted),
        );
        let refusal = Self::new(Code::BudgetExceeded, message)
            .detail("budget", fence.name.as_ref())
            .detail("owner", owner(fence))
            .detail("unit", unit.as_str())
            .detail("limit", plain(unit, fence.cap))
            .detail("used", plain(unit, refused.used));
        let refusal = Self { empty: Some(Box::new(refused.clone())), ..refusal };
        match refused.renews_at {
            Some(at) => refusal.detail("renews_at", seconds(at).to_string()),
            None => refusal,
        }
    }

    /// A limit that is reached for now. A client comes again when the window ends, if that is within a minute; for a
    /// request that is larger than the limit itself there is no use in it.
    fn limit(refused: &Refused) -> Self {
        let (fence, unit) = (&refused.fence, refused.fence.unit);
        let wait = match refused.renews_at {
            Some(at) => Duration::try_from(Timestamp::now().duration_until(at)).unwrap_or_default(),
            None => FREE_PLACE,
        };
        let in_time = fence.per.map(|per| format!(" a {}", per.as_str())).unwrap_or_default();
        let allows = format!("{} allows {}{in_time}", fence.label(), unit.write(fence.cap));
        let too_large = refused.wanted > fence.cap;
        let message = if too_large {
            format!("{allows}, and this request alone may need {}", unit.write(refused.wanted))
        } else {
            format!("{allows}, of which {} are taken", plain(unit, refused.used))
        };
        let refusal = Self::new(Code::RateLimitExceeded, message)
            .retry_after(Some(wait))
            .detail("limit", fence.name.as_ref())
            .detail("owner", owner(fence))
            .detail("unit", unit.as_str());
        Self { should_retry: !too_large && wait <= MAX_RETRY, ..refusal }
    }

    /// The status that the client sees.
    pub fn status(&self) -> StatusCode {
        self.verbatim.as_ref().map_or(self.code.status(), |verbatim| verbatim.0)
    }

    /// The `error` object.
    pub fn body(&self) -> Bytes {
        match &self.verbatim {
            Some(verbatim) => verbatim.1.clone(),
            None => Bytes::from(self.error().to_string()),
        }
    }

    fn error(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.code.kind(),
            "param": self.param,
            "code": self.code.as_str(),
        });
        for (name, value) in &self.details {
            error[*name] = value.clone();
        }
        json!({ "error": error })
    }

    /// The event that ends a stream whose head has been sent already.
    pub fn event(&self) -> Bytes {
        crate::wire::answer::error_event(&self.error())
    }

    /// The answer with its headers, save those that every answer has.
    pub fn response(&self) -> Response<Answer> {
        let mut response = Response::new(Answer::full(self.body()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let should_retry = if self.should_retry { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(should_retry));
        if self.attempts > 0 {
            headers.insert("x-turnpike-attempts", HeaderValue::from(self.attempts));
        }
        if let Some(decided) = &self.decided {
            // Names come from the operator's files and may hold letters that a header cannot.
            let arm = decided.arm.as_deref().and_then(|arm| HeaderValue::from_str(arm).ok());
            headers.extend(arm.map(|arm| (HeaderName::from_static("x-turnpike-arm"), arm)));
            let decision = decided.decision.clone();
            headers.extend(decision.map(|it| (HeaderName::from_static("x-turnpike-decision"), it)));
        }
        if let Some(standing) = &self.standing {
            standing.write(headers);
        }
        if let Some(wait) = self.retry_after.map(|wait| wait.min(MAX_RETRY)) {
            // Whole seconds, rounded up: a client that comes a moment too early is refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            headers.insert("retry-after-ms", HeaderValue::from(u64::try_from(wait.as_millis()).unwrap_or(60_000)));
        }
        response
    }
}

/// Whose fence it is: `team search`; a user's own name is the client's and stays out.
fn owner(fence: &Fence) -> String {
    match &fence.owner {
        Owner::User(team, _) => format!("user of team {team}"),
        owner => format!("{} {}", owner.kind(), owner.name()),
    }
}

fn plain(unit: Unit, amount: i64) -> String {
    match unit {
        Unit::Money => Money::from_nanousd(amount).to_string(),
        Unit::Tokens | Unit::Requests | Unit::Concurrent => amount.to_string(),
    }
}

/// An instant without its fraction.
fn seconds(at: Timestamp) -> Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}
