//! Values of flags, read while the command line is: one that does not fit is bad usage, like a flag that is unknown.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{
    base::facts::Category,
    config::{self, Unfit},
};

/// Bad usage that only several flags together show, or whose value must not be repeated: exit 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// A length of time, and the words for it: a running gateway reads them itself.
#[derive(Clone, Debug)]
pub struct Length {
    /// As it was written.
    pub text: String,
    /// What that is.
    pub time: Duration,
}

impl Length {
    /// The instant so long after `now`.
    ///
    /// # Errors
    /// An instant that no calendar has.
    pub fn after(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        Ok(now.checked_add(jiff::SignedDuration::try_from(self.time)?)?)
    }
}

fn told(unfit: Unfit) -> String {
    format!("{}\nhint: {}", unfit.problem, unfit.hint)
}

/// `2025-02-01` (midnight UTC), `2025-02-01T03:00+08:00`.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    config::instant(text).map_err(told)
}

/// An instant after this one.
pub fn end(text: &str) -> Result<Timestamp, String> {
    let end = instant(text)?;
    if end > Timestamp::now() {
        return Ok(end);
    }
    Err(format!("`{text}` lies in the past\nhint: write a day or an instant to come"))
}

/// `2025-02-01`, or an instant whose day in UTC is meant.
pub fn day(text: &str) -> Result<civil::Date, String> {
    match (config::day(text), config::instant(text)) {
        (Ok(day), _) => Ok(day),
        (_, Ok(instant)) => Ok(instant.to_zoned(TimeZone::UTC).date()),
        (Err(unfit), Err(_)) => Err(told(unfit)),
    }
}

/// `4h`, `7d`.
pub fn length(text: &str) -> Result<Length, String> {
    config::duration(text).map(|time| Length { text: text.to_owned(), time }).map_err(told)
}

/// `2 USD`, in nano-USD.
pub fn usd(text: &str) -> Result<i64, String> {
    config::usd(text).map_err(told)
}

/// A kind of work.
pub fn category(text: &str) -> Result<Category, String> {
    Category::parse(text).ok_or_else(|| {
        let hint = config::close_names(text, Category::ALL.map(|category| category.as_str()), "");
        format!("there is no category `{text}`\nhint: {hint}")
    })
}

/// The address of a running gateway.
pub fn gateway(text: &str) -> Result<String, String> {
    let ours = |uri: http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    let hint = "write `http://HOST:PORT` or `https://HOST:PORT`, as in `listen` and `admin.listen`";
    if text.parse().is_ok_and(ours) { Ok(text.to_owned()) } else { Err(format!("it is not an address\nhint: {hint}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_says_what_would() {
        for (told, part) in [
            (instant("soon").unwrap_err(), "2025-02-09T00:00+08:00"),
            (end("2020-01-01").unwrap_err(), "lies in the past\nhint: "),
            (day("soon").unwrap_err(), "write it as `2025-01-01`"),
            (length("3").unwrap_err(), "write `3s`"),
            (usd("3").unwrap_err(), "write `3 USD`"),
            (category("maths").unwrap_err(), "did you mean `math`?"),
            (gateway("localhost:9090").unwrap_err(), "http://HOST:PORT"),
            (gateway("ftp://localhost:9090").unwrap_err(), "https://HOST:PORT"),
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(day("2025-02-01T03:00+08:00").unwrap().to_string(), "2025-01-31");
        assert_eq!(length("4h").unwrap().time, Duration::from_secs(4 * 3600));
    }
}
