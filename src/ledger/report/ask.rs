//! What may be asked of the books, as words: the same for the command line and the operators' API.

use jiff::{Timestamp, ToSpan, civil, tz::TimeZone};

use super::{Dimension, Filter, Stretch};
use crate::base::money::Currency;

/// A question about the books.
#[derive(Clone, Debug)]
pub struct Ask {
    /// When.
    pub stretch: Stretch,
    /// What it is compared with.
    pub against: Option<Stretch>,
    /// In which groups.
    pub by: Vec<Dimension>,
    /// Of which rows.
    pub filter: Filter,
    /// Whose calendar is meant.
    pub zone: TimeZone,
    /// In which currency the sums are told.
    pub currency: Currency,
    /// Only what this node has booked, and not what the others have.
    pub own: bool,
}

/// What is wrong with a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\nhint: {hint}")]
pub struct AskError {
    problem: String,
    hint: String,
}

fn wrong(problem: impl Into<String>, hint: impl Into<String>) -> AskError {
    AskError { problem: problem.into(), hint: hint.into() }
}

/// The most dimensions of one question.
const MOST_DIMENSIONS: usize = 8;

impl Ask {
    /// Reads a question from names and values: `by`, `month`, `since`, `until`, `zone`, `currency`, `against`,
    /// `label` (`NAME=VALUE`), and any dimension with a value that it must have. Without a time it is the month of
    /// `now` so far.
    ///
    /// # Errors
    /// [`AskError`] says what is wrong and what would be right.
    pub fn read(pairs: &[(String, String)], now: Timestamp) -> Result<Self, AskError> {
        let one = |name: &str| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let zone = match one("zone") {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name)
                .map_err(|_| wrong(format!("there is no zone `{name}`"), "write one as in `Europe/Berlin`"))?,
        };
        let currency = match one("currency") {
            None => Currency::USD,
            Some(code) => Currency::parse(&code.to_ascii_uppercase())
                .ok_or_else(|| wrong(format!("`{code}` is not a currency"), "write three letters, as in `CNY`"))?,
        };
        let mut ask = Self {
            stretch: stretch(&one, &zone, now)?,
            against: one("against").map(|text| month_or_range(text, &zone)).transpose()?,
            by: dimensions(one("by").unwrap_or_default())?,
            filter: Filter::default(),
            zone,
            currency,
            own: match one("own") {
                None | Some("false") => false,
                Some("true") => true,
                Some(word) => return Err(wrong(format!("`own` is not `{word}`"), "write `own=true`")),
            },
        };
        for (name, value) in pairs {
            match name.as_str() {
                "by" | "month" | "since" | "until" | "zone" | "currency" | "against" | "own" => {}
                "label" => {
                    let (label, value) = value.split_once('=').ok_or_else(|| {
                        wrong(format!("`{value}` is not a label with its value"), "write it as `cost_center=4711`")
                    })?;
                    ask.filter.allow(Dimension::Label(label.to_owned()), value);
                }
                name => match Dimension::parse(name) {
                    Some(dimension) => ask.filter.allow(dimension, value),
                    None => return Err(unknown(name)),
                },
            }
        }
        Ok(ask)
    }
}

fn unknown(word: &str) -> AskError {
    let known = Dimension::WORDS.join("`, `");
    wrong(format!("rows have no `{word}`"), format!("there are `{known}` and `label:NAME`"))
}

fn dimensions(list: &str) -> Result<Vec<Dimension>, AskError> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let by = words.map(|word| Dimension::parse(word).ok_or_else(|| unknown(word))).collect::<Result<Vec<_>, _>>()?;
    if by.len() > MOST_DIMENSIONS {
        return Err(wrong(format!("more than {MOST_DIMENSIONS} groupings at once"), "leave some out"));
    }
    Ok(by)
}

fn stretch<'a>(one: &impl Fn(&str) -> Option<&'a str>, zone: &TimeZone, now: Timestamp) -> Result<Stretch, AskError> {
    let stretch = match (one("month"), one("since"), one("until")) {
        (Some(text), None, None) => month(text, zone)?,
        (Some(_), ..) => {
            return Err(wrong("both `month` and `since` or `until`", "name a month, or the two ends"));
        }
        (None, since, until) => {
            let first = || {
                let first = now.to_zoned(zone.clone()).date().first_of_month();
                midnight(first, zone)
            };
            Stretch {
                since: since.map_or_else(first, |text| instant(text, zone))?,
                until: until.map_or(Ok(now), |text| instant(text, zone))?,
            }
        }
    };
    ordered(stretch)
}

fn ordered(stretch: Stretch) -> Result<Stretch, AskError> {
    if stretch.since >= stretch.until {
        return Err(wrong("the time ends before it begins", "`until` is the first instant that does not count"));
    }
    Ok(stretch)
}

/// `2026-10`, or `2026-10-01..2026-10-08`.
fn month_or_range(text: &str, zone: &TimeZone) -> Result<Stretch, AskError> {
    match text.split_once("..") {
        Some((since, until)) => ordered(Stretch { since: instant(since, zone)?, until: instant(until, zone)? }),
        None => month(text, zone),
    }
}

fn month(text: &str, zone: &TimeZone) -> Result<Stretch, AskError> {
    let not_a_month = || wrong(format!("`{text}` is not a month"), "write it as `2026-11`");
    let first = civil::Date::strptime("%Y-%m-%d", format!("{text}-01")).map_err(|_| not_a_month())?;
    let next = first.checked_add(1.month()).map_err(|_| not_a_month())?;
    Ok(Stretch { since: midnight(first, zone)?, until: midnight(next, zone)? })
}

fn instant(text: &str, zone: &TimeZone) -> Result<Timestamp, AskError> {
    if let Ok(day) = civil::Date::strptime("%Y-%m-%d", text) {
        return midnight(day, zone);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let local = text.parse::<civil::DateTime>().ok().and_then(|local| local.to_zoned(zone.clone()).ok());
    local.map(|zoned| zoned.timestamp()).ok_or_else(|| {
        wrong(format!("`{text}` is not a time"), "write it as `2026-11-01`, or with an hour: `2026-11-01T09:00+01:00`")
    })
}

fn midnight(day: civil::Date, zone: &TimeZone) -> Result<Timestamp, AskError> {
    let zoned = day.to_zoned(zone.clone());
    zoned.map(|zoned| zoned.timestamp()).map_err(|_| wrong(format!("{day} is out of range"), "write another day"))
}
