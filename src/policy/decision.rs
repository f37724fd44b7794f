//! What a decision says: who may be tried in which order, who may not and why, and the numbers behind both.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Prefer, Purse, Require, Seen, Terms, Unavailable, stake::Stake};
use crate::base::{
    catalog::Candidate,
    facts::{Ability, Category},
    money::Money,
    names::{Location, RouteName},
    price::{Charge, PriceRow},
    tier::Tier,
    usage::Usage,
};

/// What was decided, with the reason for every loser.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The route that decided (an arm's, after a split).
    pub route: RouteName,
    /// The arm, if the named route was a split.
    pub arm: Option<RouteName>,
    /// Arms that nobody is dealt to now, and why.
    pub withdrawn: Vec<(RouteName, Arc<str>)>,
    /// The category that scores were read for.
    pub category: Category,
    /// Who may be tried, the best first.
    pub ranked: Vec<Ranked>,
    /// Who may not, and why.
    pub rejected: Vec<Rejected>,
    /// The largest cap on an answer's tokens among the ranked; each has its own in [`Ranked::max_output`].
    pub max_output: u64,
    /// How many attempts may be made.
    pub attempts: u32,
    /// The dearest first hold among those that `attempts` can reach: what must be set aside before the first of them.
    pub ceiling: Money,
    /// Names of the rules that matched (`rule 2`), in order.
    pub rules: Vec<Arc<str>>,
    /// How many rules failed while they ran, and so did not match.
    pub rule_errors: u32,
    /// The date and hash of the fit that P came from.
    pub fit: Arc<str>,
    /// The preference in force, after the rules.
    pub order: Ordering,
    /// The conditions in force, after the rules.
    pub require: Require,
    /// Nobody was able, so that a candidate with an open breaker is tried all the same.
    pub last_resort: bool,
    /// All who are ranked are expected too late: nobody is in time, so they are tried within the time that is left.
    pub late: bool,
    /// What a budget could still pay, where that bound the choice.
    pub purse: Option<Purse>,
    /// For each rented candidate: from which load on its servers cost no more than the tokens elsewhere.
    pub break_even: Vec<BreakEven>,
}

/// The load at which rented servers cost as much as buying the same tokens of the cheapest able candidate that is paid by
/// the token.
#[derive(Clone, Debug)]
pub struct BreakEven {
    /// Whose servers are rented.
    pub candidate: Arc<Candidate>,
    /// Who is the cheapest.
    pub against: Arc<Candidate>,
    /// Prompt and completion tokens an hour of all servers together, in the mix of this request.
    pub tokens_per_hour: u64,
}

/// By what the ranked were ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// By value.
    Prefer(Prefer),
    /// By the file.
    Listed,
}

/// A candidate that may be tried, with the terms of its value.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The candidate.
    pub candidate: Arc<Candidate>,
    /// The terms.
    pub terms: Terms,
    /// What had been observed of it.
    pub seen: Seen,
    /// The price in force, `None` when none is known (then `terms.cost` is zero and unknown).
    pub price: Option<PriceInForce>,
    /// The cap on the answer's tokens that is written upstream and held for.
    pub max_output: u64,
    /// The cap was lowered to what a budget can still pay.
    pub clamped: bool,
    /// An upper bound on what one attempt can cost: all of the prompt uncached, the answer at its cap.
    pub ceiling: Money,
    /// What is set aside for one attempt: at first, and at most.
    pub stake: Stake,
}

impl Ranked {
    /// Prompt and completion tokens together, for fences that count tokens: the bound where the prompt was counted. A
    /// token a byte would turn requests away from a limit that they are well within, so elsewhere it is the estimate.
    pub fn tokens(&self, output: u64) -> u64 {
        let input = if self.stake.counted { self.stake.input } else { self.terms.input_tokens };
        input.saturating_add(output)
    }

    /// Whether nobody knows what it costs. Servers that are rented need no price: their rent is paid anyway.
    pub fn is_unpriced(&self) -> bool {
        self.price.is_none() && self.candidate.backend.rent.is_none()
    }

    /// Prompt and completion tokens that a request for so many answers is expected to use.
    pub fn expected_tokens(&self, answers: u64) -> u64 {
        self.terms.input_tokens.saturating_add(self.terms.output_tokens.saturating_mul(answers.max(1)))
    }
}

/// A price row with what the instant makes of it.
#[derive(Clone, Debug)]
pub struct PriceInForce {
    /// The row.
    pub row: Arc<PriceRow>,
    /// The product of the open windows' factors, in parts per million.
    pub factor_ppm: i64,
    /// Nano-USD for one unit of the row's currency; 10⁹ for USD.
    pub exchange_nanousd: i64,
}

impl PriceInForce {
    /// What `usage` costs at this price.
    pub fn charge(&self, usage: &Usage, thinking: bool) -> Charge {
        self.row.charge(usage, thinking, self.factor_ppm, self.exchange_nanousd)
    }
}

/// A candidate that may not be tried.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The candidate.
    pub candidate: Arc<Candidate>,
    /// Why.
    pub why: Rejection,
    /// Its terms, where they had been worked out.
    pub terms: Option<Terms>,
}

/// Why a candidate may not be tried, with the number that failed.
///
/// The conditions are tested in the order of the variants, and the first that fails is named; only an open breaker
/// is looked at last, since it may be overridden when nobody else is able.
#[derive(Clone, Debug, PartialEq)]
pub enum Rejection {
    /// A rule took it out.
    Rule(Arc<str>),
    /// An operator switched it off, its backend or its provider.
    Off {
        /// Why.
        why: Arc<str>,
    },
    /// The vendor retired it.
    Retired {
        /// When.
        since: Timestamp,
    },
    /// The vendor does not serve it yet, or not at this time.
    NotYet {
        /// From when.
        from: Timestamp,
    },
    /// The team's data may not go there.
    Location {
        /// Where it would go; `None` = not stated.
        location: Option<Location>,
    },
    /// It lacks an ability that the request needs.
    Lacks(Ability),
    /// Prompt and answer do not fit its context.
    Context {
        /// Tokens needed.
        needed: u64,
        /// Tokens it has.
        context: u64,
    },
    /// No price is known and the team has a budget, or the route a `max_cost`.
    NoPrice {
        /// For this tier of service.
        tier: Tier,
    },
    /// Its chance of a right answer is below the floor (both in parts per million).
    BelowFloor {
        /// Its lower end.
        right_ppm: u32,
        /// The floor.
        floor_ppm: u32,
    },
    /// Its score in the demanded benchmark is below the floor, or missing (both in thousandths).
    BelowBenchmark {
        /// Its value.
        value_milli: Option<i64>,
        /// The floor.
        at_least_milli: i64,
    },
    /// It is expected to cost more than allowed.
    TooDear {
        /// Expected.
        cost: Money,
        /// Allowed.
        max: Money,
    },
    /// Its first token is expected too late.
    TooSlow {
        /// Its 95th percentile (or prior).
        p95: Duration,
        /// Allowed.
        max: Duration,
    },
    /// More could be spent on it than is left.
    Unaffordable {
        /// The upper bound.
        ceiling: Money,
        /// Left.
        left: Money,
    },
    /// A budget or limit of its own (its model's, backend's or provider's) has too little left: which.
    Exhausted(Arc<str>),
    /// It would wait too long for its turn (`spill`).
    Spilled {
        /// Expected.
        wait: Duration,
        /// Allowed.
        max: Duration,
    },
    /// Not to be tried now.
    Unavailable(Unavailable),
    /// It failed on this request already.
    Failed,
    /// The time limit of the request ends before its answer is expected to begin (or, unstreamed, to end), as measured,
    /// and somebody else is in time; or it has ended.
    Deadline {
        /// When it is expected.
        expected: Duration,
        /// What the limit leaves.
        left: Duration,
    },
}

impl Rejection {
    /// The words for why, as policy tests and records name it.
    pub const WORDS: [&str; 22] = [
        "rule",
        "off",
        "retired",
        "not_yet",
        "location",
        "lacks",
        "context",
        "no_price",
        "below_floor",
        "below_benchmark",
        "too_dear",
        "too_slow",
        "unaffordable",
        "exhausted",
        "spilled",
        "broken",
        "not_ready",
        "parked",
        "full",
        "crowded",
        "failed",
        "deadline",
    ];

    /// The word for it, one of [`Self::WORDS`].
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::Off { .. } => "off",
            Self::Retired { .. } => "retired",
            Self::NotYet { .. } => "not_yet",
            Self::Location { .. } => "location",
            Self::Lacks(_) => "lacks",
            Self::Context { .. } => "context",
            Self::NoPrice { .. } => "no_price",
            Self::BelowFloor { .. } => "below_floor",
            Self::BelowBenchmark { .. } => "below_benchmark",
            Self::TooDear { .. } => "too_dear",
            Self::TooSlow { .. } => "too_slow",
            Self::Unaffordable { .. } => "unaffordable",
            Self::Exhausted(_) => "exhausted",
            Self::Spilled { .. } => "spilled",
            Self::Unavailable(Unavailable::Broken(_)) => "broken",
            Self::Unavailable(Unavailable::NotReady) => "not_ready",
            Self::Unavailable(Unavailable::Parked(_)) => "parked",
            Self::Unavailable(Unavailable::Full) => "full",
            Self::Unavailable(Unavailable::Crowded) => "crowded",
            Self::Failed => "failed",
            Self::Deadline { .. } => "deadline",
        }
    }
}

/// Parts per million as a percentage with one decimal.
pub(super) struct Percent(pub(super) u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permille = self.0.saturating_add(500) / 1000;
        write!(f, "{}.{}%", permille / 10, permille % 10)
    }
}

/// Seconds with two decimals.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} s", self.0.as_secs(), self.0.subsec_millis() / 10)
    }
}

struct Thousandths(i64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", size / 1000, size % 1000)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(left) => write!(f, "its breaker is open for another {}", Seconds(*left)),
            Self::NotReady => f.write_str("none of its servers is ready, or none is found"),
            Self::Parked(left) => {
                write!(f, "all its accounts are parked or at their limits for another {}", Seconds(*left))
            }
            Self::Full => f.write_str("it has as many requests in flight as it takes"),
            Self::Crowded => f.write_str("it refused a request for its load a short while ago"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "taken out by {rule}"),
            Self::Off { why } => write!(f, "switched off: {why}"),
            Self::Retired { since } => write!(f, "retired by its vendor on {since}"),
            Self::NotYet { from } => write!(f, "not served by its vendor before {from}"),
            Self::Location { location: Some(location) } => write!(f, "data of this team may not go to `{location}`"),
            Self::Location { location: None } => f.write_str("its backend states no location, and the team is fenced"),
            Self::Lacks(ability) => write!(f, "lacks `{}`", ability.as_str()),
            Self::Context { needed, context } => write!(f, "needs {needed} tokens of context, has {context}"),
            Self::NoPrice { tier: Tier::Standard } => f.write_str("its price is not known"),
            Self::NoPrice { tier } => write!(f, "its price at the service tier `{}` is not known", tier.as_str()),
            Self::BelowFloor { right_ppm, floor_ppm } => {
                write!(f, "right with at least {}, the floor is {}", Percent(*right_ppm), Percent(*floor_ppm))
            }
            Self::BelowBenchmark { value_milli: Some(value), at_least_milli } => {
                write!(f, "scores {}, the floor is {}", Thousandths(*value), Thousandths(*at_least_milli))
            }
            Self::BelowBenchmark { value_milli: None, at_least_milli } => {
                write!(f, "has no score, the floor is {}", Thousandths(*at_least_milli))
            }
            Self::TooDear { cost, max } => write!(f, "expected to cost {cost} USD, at most {max} USD is allowed"),
            Self::TooSlow { p95, max } => {
                write!(f, "first token within {} (95 %), at most {} is allowed", Seconds(*p95), Seconds(*max))
            }
            Self::Unaffordable { ceiling, left } => {
                write!(f, "may cost up to {ceiling} USD, {left} USD is left")
            }
            Self::Exhausted(fence) => write!(f, "{fence} has too little left"),
            Self::Spilled { wait, max } => {
                write!(f, "would wait {} for its turn, at most {} is allowed", Seconds(*wait), Seconds(*max))
            }
            Self::Unavailable(unavailable) => unavailable.fmt(f),
            Self::Failed => f.write_str("failed on this request already"),
            Self::Deadline { expected, left } => {
                write!(f, "expected after {}, {} is left", Seconds(*expected), Seconds(*left))
            }
        }
    }
}
