//! Reports from the books: spend and tokens, why they changed, whether the books balance, and how they compare with a
//! vendor's bill. Pure: they read entries, and know of no file, clock or network.

pub mod ask;
pub mod audit;
pub mod csv;
pub mod invoice;
mod recompute;
pub mod usage;
pub mod variance;

use std::{borrow::Cow, fmt};

use jiff::{Timestamp, tz::TimeZone};

use super::row::Row;

/// A stretch of time, by the instant at which attempts were dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first instant.
    pub since: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
}

impl Stretch {
    /// Whether `row` was dispatched in it.
    pub fn has(&self, row: &Row) -> bool {
        self.since.as_millisecond() <= row.at_ms && row.at_ms < self.until.as_millisecond()
    }
}

/// What rows are grouped or chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Who pays.
    Team,
    /// The end user.
    User,
    /// The key's public id.
    Key,
    /// The route that decided.
    Route,
    /// The arm of a split.
    Arm,
    /// The model.
    Model,
    /// What the backend calls it.
    Upstream,
    /// The backend.
    Backend,
    /// Its provider.
    Provider,
    /// The credential.
    Account,
    /// What was asked for.
    Operation,
    /// How the attempt ended.
    Outcome,
    /// The hour of dispatch.
    Hour,
    /// The day of dispatch.
    Day,
    /// The week of dispatch, by ISO 8601.
    Week,
    /// The month of dispatch.
    Month,
    /// The value of a label.
    Label(String),
}

impl Dimension {
    /// The words for all dimensions but labels, which are `label:NAME`.
    pub const WORDS: [&str; 16] = [
        "team",
        "user",
        "key",
        "route",
        "arm",
        "model",
        "upstream",
        "backend",
        "provider",
        "account",
        "operation",
        "outcome",
        "hour",
        "day",
        "week",
        "month",
    ];

    /// The dimension of that word, `None` for anything else.
    pub fn parse(word: &str) -> Option<Self> {
        if let Some(label) = word.strip_prefix("label:").filter(|label| !label.is_empty()) {
            return Some(Self::Label(label.to_owned()));
        }
        Some(match word {
            "team" => Self::Team,
            "user" => Self::User,
            "key" => Self::Key,
            "route" => Self::Route,
            "arm" => Self::Arm,
            "model" => Self::Model,
            "upstream" => Self::Upstream,
            "backend" => Self::Backend,
            "provider" => Self::Provider,
            "account" => Self::Account,
            "operation" => Self::Operation,
            "outcome" => Self::Outcome,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            _ => return None,
        })
    }

    /// The value of `row` on this dimension; empty where it has none. Times are told in `zone`.
    pub fn value<'r>(&self, row: &'r Row, zone: &TimeZone) -> Cow<'r, str> {
        let time = |format: &str| {
            let at = Timestamp::from_millisecond(row.at_ms).unwrap_or_default();
            Cow::Owned(at.to_zoned(zone.clone()).strftime(format).to_string())
        };
        Cow::Borrowed(match self {
            Self::Team => &row.about.team,
            Self::User => &row.about.user,
            Self::Key => &row.about.key,
            Self::Route => &row.about.route,
            Self::Arm => row.about.arm.as_deref().unwrap_or_default(),
            Self::Model => &row.served.model,
            Self::Upstream => &row.served.upstream,
            Self::Backend => &row.served.backend,
            Self::Provider => &row.served.provider,
            Self::Account => &row.served.account,
            Self::Operation => &row.about.operation,
            Self::Outcome => &row.outcome,
            Self::Label(name) => row.about.labels.get(name).map(String::as_str).unwrap_or_default(),
            // With its offset: the hour that a clock change repeats is two hours.
            Self::Hour => return time("%Y-%m-%dT%H:00%:z"),
            Self::Day => return time("%Y-%m-%d"),
            Self::Week => return time("%G-W%V"),
            Self::Month => return time("%Y-%m"),
        })
    }
}

/// The word that [`Dimension::parse`] reads.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Team => "team",
            Self::User => "user",
            Self::Key => "key",
            Self::Route => "route",
            Self::Arm => "arm",
            Self::Model => "model",
            Self::Upstream => "upstream",
            Self::Backend => "backend",
            Self::Provider => "provider",
            Self::Account => "account",
            Self::Operation => "operation",
            Self::Outcome => "outcome",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Label(name) => return write!(f, "label:{name}"),
        })
    }
}

/// Which rows are looked at: those that have, on each of these dimensions, one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(pub Vec<(Dimension, Vec<String>)>);

impl Filter {
    /// Whether `row` is looked at.
    pub fn lets(&self, row: &Row, zone: &TimeZone) -> bool {
        self.0.iter().all(|(dimension, values)| {
            let value = dimension.value(row, zone);
            values.iter().any(|wanted| *wanted == value)
        })
    }

    /// Adds a value that a dimension may have.
    pub fn allow(&mut self, dimension: Dimension, value: &str) {
        match self.0.iter_mut().find(|(known, _)| *known == dimension) {
            Some((_, values)) => values.push(value.to_owned()),
            None => self.0.push((dimension, vec![value.to_owned()])),
        }
    }
}

/// `a ÷ b` rounded to the nearest, halves away from zero, for `b` > 0.
pub fn divided(a: i128, b: i128) -> i128 {
    let (quotient, rest) = (a / b, a % b);
    if rest.unsigned_abs() >= b.unsigned_abs().div_ceil(2) && rest != 0 { quotient + rest.signum() } else { quotient }
}

#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;
