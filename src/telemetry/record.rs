//! The record of a request: what was asked, seen, decided, tried, used and charged. No prompt, no answer, no secret;
//! texts go beside it where an operator has opted in ([`texts`]).
//!
//! On the request's path a [`Record`] is handles and numbers; [`line`](Record::line) makes of it, on a thread of its
//! own, what is written ([`Line`], one line of JSON). Whoever reads it back can make every decision again ([`recall`]).

pub mod decided;
pub mod evidence;
pub mod facts;
mod frames;
mod instant;
pub mod keep;
pub mod line;
pub mod read;
pub mod recall;
pub mod seen;
pub mod texts;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    base::{catalog::CandidateId, facts::Facts, money::Money},
    policy::{BudgetSeen, Decision, Policies, observe::noting::Noted},
};

pub use line::{Line, SCHEMA};

/// One finished request.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The `x-request-id`.
    pub id: String,
    /// Who paid.
    pub team: Arc<str>,
    /// The key's public id; empty when the gateway is open.
    pub key: Arc<str>,
    /// The route that decided.
    pub route: Arc<str>,
    /// The arm of a split.
    pub arm: Option<Arc<str>>,
    /// The hash of the policies in force.
    pub policy: Arc<str>,
    /// The category that scores were read for.
    pub category: &'static str,
    /// Who answered; empty when nobody did.
    pub model: Arc<str>,
    /// Through which backend.
    pub backend: Arc<str>,
    /// With which of its credentials.
    pub account: Arc<str>,
    /// Why that one.
    pub reason: String,
    /// The HTTP status that the client saw.
    pub status: u16,
    /// The error code that the client saw; empty for none.
    pub code: &'static str,
    /// How the answer ended: `whole`, `refused`, `failed`, `cut`, `abandoned`.
    pub end: &'static str,
    /// A stream was asked for.
    pub stream: bool,
    /// Every attempt in order.
    pub attempts: Vec<AttemptRecord>,
    /// Charged for all attempts, in nano-USD.
    pub cost_nanousd: i64,
    /// From the request's arrival to the first byte of the answer.
    pub first_byte_ms: Option<u64>,
    /// From the request's arrival to its end.
    pub total_ms: u64,
    /// The part of the time to the first byte that was spent inside Turnpike.
    pub overhead_us: u64,
    /// What was asked and decided; `None` = it was refused before that, or nobody keeps it.
    pub trail: Option<Arc<Trail>>,
}

/// One attempt: the row that its cost is booked as.
#[derive(Clone, Debug, Default)]
pub struct AttemptRecord {
    /// The model.
    pub model: Arc<str>,
    /// The backend.
    pub backend: Arc<str>,
    /// The credential.
    pub account: Arc<str>,
    /// Which decision it followed, from 0.
    pub decision: u32,
    /// When it was dispatched: the instant that its price is read at.
    pub at: Timestamp,
    /// It was begun beside another attempt, which was overdue.
    pub hedge: bool,
    /// `ok`, `lost` to the other of two that ran at once, or why it failed.
    pub outcome: &'static str,
    /// The upstream's status; 0 = none came.
    pub upstream_status: u16,
    /// The upstream's own words, shortened. They may quote the prompt: no log and no record has them.
    pub message: String,
    /// From dispatch to the first meaningful event.
    pub first_token_ms: Option<u64>,
    /// From dispatch to the attempt's end.
    pub total_ms: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Of these, from the vendor's cache.
    pub cached_input_tokens: u64,
    /// Of these, written into the vendor's cache.
    pub cache_write_tokens: u64,
    /// Of these, audio.
    pub audio_input_tokens: u64,
    /// Completion tokens.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// Of these, audio.
    pub audio_output_tokens: u64,
    /// The tier of service that is charged; empty when nothing is.
    pub tier: &'static str,
    /// The model reasons on this request: what selects a rate with such a condition.
    pub thinking: bool,
    /// The numbers are Turnpike's own, the upstream gave none.
    pub estimated: bool,
    /// As the vendor bills it (`0.00123 CNY`); empty when nothing was charged or no price is known.
    pub native: String,
    /// Charged, in nano-USD.
    pub cost_nanousd: i64,
}

/// What was asked of the decision, and every decision that was made for one request.
pub struct Trail {
    /// When the request was admitted, on the clock that prices are read at.
    pub at: Timestamp,
    /// What was known of the request.
    pub facts: Facts,
    /// Who asked for whom.
    pub user: String,
    /// The session that was named.
    pub session: String,
    /// The request's randomness.
    pub seed: u64,
    /// The policies that it saw.
    pub policies: Arc<Policies>,
    /// What was asked for, in the words of the books.
    pub operation: Arc<str>,
    /// What it is booked with.
    pub labels: Arc<BTreeMap<String, String>>,
    /// It is the operator's own: the shadow of the request of that id.
    pub shadow_of: Option<Arc<str>>,
    shadow: OnceLock<Arc<str>>,
    made: Mutex<Vec<Made>>,
}

/// One decision with all that went into it beside the trail's own.
#[derive(Clone, Debug)]
pub struct Made {
    /// The instant that it was made for.
    pub at: Timestamp,
    /// What the time limit left.
    pub time_left: Option<Duration>,
    /// The tightest budget.
    pub budget: BudgetSeen,
    /// Which one that is (`team/search/month`).
    pub fence: Option<Arc<str>>,
    /// A budget of money bound the request.
    pub budgeted: bool,
    /// Who had failed.
    pub failed: Vec<CandidateId>,
    /// Whose own budgets were reached, and which those are.
    pub exhausted: Vec<(CandidateId, Arc<str>)>,
    /// What was told of the candidates.
    pub noted: Vec<Noted>,
    /// What came of it.
    pub decision: Arc<Decision>,
}

impl Trail {
    /// The trail of a request of which nothing is decided yet.
    pub fn new(at: Timestamp, facts: Facts, user: String, session: String, seed: u64, policies: Arc<Policies>) -> Self {
        Self {
            at,
            facts,
            user,
            session,
            seed,
            policies,
            operation: "chat".into(),
            labels: Arc::default(),
            shadow_of: None,
            shadow: OnceLock::new(),
            made: Mutex::default(),
        }
    }

    /// The same with the words of the books.
    #[must_use]
    pub fn booked_as(self, operation: &Arc<str>, labels: &Arc<BTreeMap<String, String>>) -> Self {
        Self { operation: Arc::clone(operation), labels: Arc::clone(labels), ..self }
    }

    /// The same as the operator's own copy of `request`.
    #[must_use]
    pub fn repeating(self, request: &Arc<str>) -> Self {
        Self { shadow_of: Some(Arc::clone(request)), ..self }
    }

    /// Notes that the request of this id was sent as its shadow.
    pub fn cast(&self, shadow: Arc<str>) {
        let _ = self.shadow.set(shadow);
    }

    /// Its shadow, if it has one.
    pub fn shadow(&self) -> Option<&Arc<str>> {
        self.shadow.get()
    }

    /// Adds a decision; tells its number.
    pub fn add(&self, made: Made) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    }

    /// How many decisions were made.
    pub fn decisions(&self) -> usize {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The number of the latest decision, from 0.
    pub fn latest(&self) -> u32 {
        u32::try_from(self.decisions().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Shows every decision, in order.
    pub fn each<T>(&self, show: impl FnMut(&Made) -> T) -> Vec<T> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).iter().map(show).collect()
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("at", &self.at).field("decisions", &self.decisions()).finish_non_exhaustive()
    }
}

/// The record as one line of the log. An upstream's own words are not in it: they may quote the prompt.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (input, output) = self.attempts.iter().fold((0_u64, 0_u64), |(input, output), attempt| {
            (input.saturating_add(attempt.input_tokens), output.saturating_add(attempt.output_tokens))
        });
        // Every request has a line: a text is handed on as it is, which costs a third of a formatter.
        let mut put = |texts: &[&str]| texts.iter().try_for_each(|text| f.write_str(text));
        put(&["request id=", &self.id, " team=", &self.team, " key=", &self.key, " route=", &self.route])?;
        if let Some(arm) = &self.arm {
            put(&[" arm=", arm])?;
        }
        let mut number = itoa::Buffer::new();
        put(&[" status=", number.format(self.status), " end=", self.end])?;
        put(&[" model=", &self.model, " backend=", &self.backend])?;
        if !self.code.is_empty() {
            put(&[" code=", self.code])?;
        }
        put(&[" attempts="])?;
        for (place, attempt) in self.attempts.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let hedge = if attempt.hedge { "+" } else { "" };
            put(&[comma, hedge, &attempt.model, "@", &attempt.backend, ":", attempt.outcome])?;
        }
        put(&[" input_tokens=", number.format(input)])?;
        put(&[" output_tokens=", number.format(output)])?;
        put(&[" cost_usd="])?;
        Money::from_nanousd(self.cost_nanousd).fmt(f)?;
        let mut put =
            |name: &str, value: u64| [name, number.format(value)].iter().try_for_each(|text| f.write_str(text));
        if let Some(first) = self.first_byte_ms {
            put(" first_byte_ms=", first)?;
        }
        put(" total_ms=", self.total_ms)?;
        put(" overhead_us=", self.overhead_us)
    }
}
