//! Amounts with their units, read exactly: decimals go into integers, never through a float.

use std::{ops::RangeInclusive, time::Duration};

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{base::money::Currency, policy::rollout::ErrorBound};

/// Why a text is not the amount that is wanted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

fn unfit<T>(problem: impl Into<String>, hint: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit { problem: problem.into(), hint: hint.into() })
}

/// Budgets stay below 2⁵³ nano-USD: a store's counters may be doubles.
pub const MAX_BUDGET_NANOUSD: i64 = 1 << 53;
/// No clock of a gateway runs longer than ten years.
const MAX_DURATION_NANOS: i128 = 3650 * 86_400 * 1_000_000_000;

/// Splits `2.10 USD` into its number and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+' | '_')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A decimal as an integer of so many decimal `places`: `2.10` with 9 places is 2,100,000,000.
pub fn decimal(number: &str, places: usize) -> Result<i128, Unfit> {
    let (negative, digits) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) || digits.ends_with('.') {
        return unfit(format!("`{number}` is not a number"), "write digits with one point, as in `2.10`");
    }
    if part.len() > places {
        return unfit(
            format!("`{number}` has more than {places} decimal places"),
            format!("round it to {places} places; amounts are kept exactly"),
        );
    }
    let scaled = format!("{whole}{part}{}", "0".repeat(places - part.len()));
    match scaled.parse::<i128>() {
        Ok(scaled) if scaled <= i128::from(i64::MAX) => Ok(if negative { -scaled } else { scaled }),
        _ => unfit(format!("`{number}` is too large"), "amounts are kept in 64 bits"),
    }
}

/// A decimal that is not negative.
fn positive(number: &str, places: usize) -> Result<i128, Unfit> {
    match decimal(number, places)? {
        value if value < 0 => unfit(format!("`{number}` is negative"), "write an amount of zero or more"),
        value => Ok(value),
    }
}

/// `2.10 USD`, `8 CNY`: billionths of the unit, and the unit.
pub fn money(text: &str) -> Result<(i64, Currency), Unfit> {
    let (number, unit) = split(text);
    if unit.is_empty() && decimal(number, 9).is_ok() {
        return unfit(format!("`{number}` has no currency"), format!("write `{number} USD`"));
    }
    let Some(currency) = Currency::parse(unit) else {
        return unfit(format!("`{text}` is not an amount of money"), "write a number and a currency, as in `2.10 USD`");
    };
    let nano = positive(number, 9)?;
    Ok((i64::try_from(nano).unwrap_or(i64::MAX), currency))
}

/// An amount of dollars, in nano-USD.
pub fn usd(text: &str) -> Result<i64, Unfit> {
    match money(text)? {
        (nano, Currency::USD) => Ok(nano),
        (_, other) => unfit(format!("`{text}` is in {other}"), "write it in USD; only prices have other currencies"),
    }
}

/// The amount of a budget in nano-USD: more than nothing, at most [`MAX_BUDGET_NANOUSD`].
pub fn budget(text: &str) -> Result<i64, Unfit> {
    match usd(text)? {
        0 => unfit("a budget of nothing", "take the route out of the team's `may_use` to forbid it"),
        nano if nano > MAX_BUDGET_NANOUSD => {
            unfit(format!("`{text}` is more than a budget can hold"), "write at most `9007199.254740992 USD`")
        }
        nano => Ok(nano),
    }
}

/// `30s`, `30 s`, `500ms`, `1.5m`, `1h`, `30d`.
pub fn duration(text: &str) -> Result<Duration, Unfit> {
    let (number, unit) = split(text);
    let nanos: i128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "" if decimal(number, 9).is_ok() => {
            return unfit(format!("`{number}` has no unit"), format!("write `{number}s` for seconds"));
        }
        _ => {
            return unfit(
                format!("`{text}` is not a length of time"),
                "write it as `500ms`, `30s`, `2m`, `1h` or `30d`",
            );
        }
    };
    let total = positive(number, 9)?.saturating_mul(nanos) / 1_000_000_000;
    if total > MAX_DURATION_NANOS {
        return unfit(format!("`{text}` is too long"), "write at most `3650d`");
    }
    Ok(Duration::from_nanos(u64::try_from(total).unwrap_or(u64::MAX)))
}

/// A length of time that is more than nothing.
pub fn some_duration(text: &str) -> Result<Duration, Unfit> {
    match duration(text)? {
        Duration::ZERO => unfit(format!("`{text}` leaves no time"), "write more than nothing, as in `30s`"),
        length => Ok(length),
    }
}

/// `4096`, `400k`, `2M`: a count of things, for which 1 is a whole number. k = 1000.
pub fn count(text: &str) -> Result<u64, Unfit> {
    let (number, unit) = split(text);
    let places = match unit {
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "%" => return unfit(format!("`{text}` is a share"), format!("write it without `%`, as in `{number}`")),
        _ => return unfit(format!("`{text}` is not a count"), "write it as `4096`, `128k` or `2M`; k = 1000"),
    };
    if places == 0 && number.contains('.') {
        return unfit(format!("`{text}` is not a whole number"), "write it without a point");
    }
    Ok(u64::try_from(positive(number, places)?).unwrap_or(u64::MAX))
}

/// A count within `range`.
pub fn count_in(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Unfit> {
    match count(text)? {
        value if range.contains(&value) => Ok(value),
        _ => unfit(
            format!("`{}` is out of range", text.trim()),
            format!("write a number from {} to {}", range.start(), range.end()),
        ),
    }
}

/// `32MiB`, `64KiB`, `10MB`: bytes.
pub fn bytes(text: &str) -> Result<u64, Unfit> {
    let (number, unit) = split(text);
    let factor: i128 = match unit {
        "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" if decimal(number, 9).is_ok() => {
            return unfit(format!("`{number}` has no unit"), format!("write `{number}MiB`, or `{number}B` for bytes"));
        }
        _ => return unfit(format!("`{text}` is not a size"), "write it as `32MiB`, `64KiB` or `10MB`"),
    };
    let total = positive(number, 6)?.saturating_mul(factor) / 1_000_000;
    u64::try_from(total).or_else(|_| unfit(format!("`{text}` is too large"), "sizes are kept in 64 bits"))
}

/// `95%`, `0.5%`: parts per million, at most 100 %.
pub fn share(text: &str) -> Result<u32, Unfit> {
    let (number, unit) = split(text);
    if unit.is_empty() && decimal(number, 4).is_ok() {
        return unfit(format!("`{number}` has no unit"), "write shares in per cent, as in `95%`");
    }
    if unit != "%" {
        return unfit(format!("`{text}` is not a share"), "write it in per cent, as in `95%`");
    }
    match u32::try_from(positive(number, 4)?) {
        Ok(ppm) if ppm <= 1_000_000 => Ok(ppm),
        _ => unfit(format!("`{text}` is more than the whole"), "write at most `100%`"),
    }
}

/// `+20%`, `+150%`: by how much something may be more, in parts per million; at most ten times as much.
pub fn excess(text: &str) -> Result<u32, Unfit> {
    let hint = "write it with its sign and in per cent, as in `+20%`";
    let number = text.trim().strip_prefix('+').and_then(|rest| rest.trim_end().strip_suffix('%'));
    let Some(number) = number else { return unfit(format!("`{text}` does not say by how much more"), hint) };
    match u32::try_from(positive(number.trim(), 4)?) {
        Ok(ppm) if ppm <= 10_000_000 => Ok(ppm),
        _ => unfit(format!("`{text}` is more than ten times as much"), hint),
    }
}

/// `2%` or `+2%`: a bound on errors, of itself or beyond the control's.
pub fn error_bound(text: &str) -> Result<ErrorBound, Unfit> {
    if text.trim().starts_with('+') { excess(text).map(ErrorBound::Beyond) } else { share(text).map(ErrorBound::Share) }
}

/// A plain factor such as `2` or `0.5`: parts per million, more than nothing.
pub fn factor(text: &str) -> Result<i64, Unfit> {
    let (number, unit) = split(text);
    if !unit.is_empty() {
        return unfit(format!("`{text}` is not a factor"), "write a plain number, as in `2` or `0.5`");
    }
    match positive(number, 6)? {
        0 => unfit("a factor of nothing", "write what prices are multiplied by, as in `2` or `0.5`"),
        ppm => Ok(i64::try_from(ppm).unwrap_or(i64::MAX)),
    }
}

/// A plain weight such as `2` or `0.5`: thousandths.
pub fn weight(text: &str) -> Result<u64, Unfit> {
    let (number, unit) = split(text);
    if !unit.is_empty() {
        return unfit(format!("`{text}` is not a weight"), "write a plain number, as in `2` or `0.5`");
    }
    match u64::try_from(positive(number, 3)?) {
        Ok(milli @ 10..=100_000) => Ok(milli),
        _ => unfit(format!("a weight of `{}` is out of range", text.trim()), "write a number from 0.01 to 100"),
    }
}

/// A plain number such as a score: `64.4`, `1365`, `-3`.
pub fn number(text: &str) -> Result<f64, Unfit> {
    decimal(text.trim(), 9)?;
    text.trim().parse().or_else(|_| unfit(format!("`{text}` is not a number"), "write it as `64.4`"))
}

/// A score as thousandths: `70`, `62.3`, `70%`.
pub fn thousandths(text: &str) -> Result<i64, Unfit> {
    let number = text.trim();
    let milli = decimal(number.strip_suffix('%').unwrap_or(number).trim_end(), 3)?;
    Ok(i64::try_from(milli).unwrap_or(i64::MAX))
}

/// `2025-02-09T00:00+08:00`, RFC 3339, or a date for its midnight in UTC.
pub fn instant(text: &str) -> Result<Timestamp, Unfit> {
    let text = text.trim();
    if let Ok(date) = civil::Date::strptime("%Y-%m-%d", text) {
        let midnight = date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        return midnight.or_else(|_| unfit(format!("`{text}` is out of range"), "write a date of this millennium"));
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    if text.parse::<civil::DateTime>().is_ok() {
        return unfit(
            format!("`{text}` has no zone"),
            format!("write `{text}Z` for UTC, or an offset such as `+08:00`"),
        );
    }
    unfit(format!("`{text}` is not a date"), "write it as `2025-02-09` (midnight UTC) or `2025-02-09T00:00+08:00`")
}

/// `2025-01-01`: a day of the calendar.
pub fn day(text: &str) -> Result<civil::Date, Unfit> {
    civil::Date::strptime("%Y-%m-%d", text.trim())
        .or_else(|_| unfit(format!("`{text}` is not a day"), "write it as `2025-01-01`"))
}

/// `09:00-12:00`: when a window opens and when it closes. `24:00` is midnight.
pub fn hours(text: &str) -> Result<(civil::Time, civil::Time), Unfit> {
    let time = |text: &str| {
        let text = text.trim();
        if text == "24:00" { Some(civil::Time::midnight()) } else { civil::Time::strptime("%H:%M", text).ok() }
    };
    let ends = text.split_once('-').and_then(|(opens, closes)| Some((time(opens)?, time(closes)?)));
    match ends {
        Some((opens, closes)) if opens == closes => {
            unfit(format!("`{text}` is no window"), "leave `hours` out for the whole day")
        }
        Some(ends) => Ok(ends),
        None => unfit(format!("`{text}` are not hours"), "write them as `09:00-12:00`; they may cross midnight"),
    }
}

/// An IANA zone.
pub fn zone(text: &str) -> Result<TimeZone, Unfit> {
    TimeZone::get(text.trim())
        .or_else(|_| unfit(format!("no time zone `{text}`"), "write an IANA name such as `Europe/Berlin` or `UTC`"))
}

/// `mon`, `mon-fri`: days of the week as indices from Monday, the first to the last (which may wrap).
pub fn weekdays(text: &str) -> Result<Vec<usize>, Unfit> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let index = |name: &str| DAYS.iter().position(|day| *day == name.trim());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (index(first), index(last)) {
        (Some(first), Some(last)) => {
            let length = (last + 7 - first) % 7;
            Ok((0..=length).map(|step| (first + step) % 7).collect())
        }
        _ => {
            unfit(format!("`{text}` is not a day of the week"), "write `mon`, `tue`, …, `sun`, or a span as `mon-fri`")
        }
    }
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`: where a listener listens.
pub fn address(text: &str) -> Result<std::net::SocketAddr, Unfit> {
    let text = text.trim();
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .or_else(|_| unfit(format!("`{text}` is not an address to listen on"), "write it as `127.0.0.1:8080`"))
}

/// `10.0.0.2:53`: where a server of others is asked.
pub fn server(text: &str) -> Result<std::net::SocketAddr, Unfit> {
    address(text).or_else(|_| {
        unfit(
            format!("`{}` is not the address of a server", text.trim()),
            "write its IP address and its port, as in `10.0.0.2:53`; a name would have to be asked for somewhere first",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(decimal("2.10", 9), Ok(2_100_000_000));
        assert_eq!(decimal("0.000000001", 9), Ok(1));
        assert_eq!(decimal("-3.5", 1), Ok(-35));
        assert_eq!(decimal("9223372036.854775807", 9), Ok(i128::from(i64::MAX)));
        for bad in ["", ".", "1.", ".5", "1e3", "1_000", "0x1f", "--1", "9223372036.854775808", "0.0000000001", "１"] {
            assert!(decimal(bad, 9).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_carry_their_unit_with_or_without_a_blank() {
        assert_eq!(usd("2.10 USD"), usd("2.10USD"));
        assert_eq!(usd("0.0002 USD"), Ok(200_000));
        assert_eq!(money("8 CNY").map(|(nano, _)| nano), Ok(8_000_000_000));
        assert_eq!(duration("30 s"), duration("30s"));
        let lengths = ["500ms", "1.5s", "2m", "1h", "30d"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(lengths, [500, 1500, 120_000, 3_600_000, 2_592_000_000]);
        assert_eq!(
            ["4096", "128k", "1.5M", "2M"].map(|text| count(text).unwrap()),
            [4096, 128_000, 1_500_000, 2_000_000]
        );
        let sizes = ["32MiB", "64 KiB", "10MB", "512B", "0.5KiB"].map(|text| bytes(text).unwrap());
        assert_eq!(sizes, [33_554_432, 65_536, 10_000_000, 512, 512]);
        assert_eq!(["95%", "0.5 %", "100%"].map(|text| share(text).unwrap()), [950_000, 5_000, 1_000_000]);
        assert_eq!(budget("9007199.254740992 USD"), Ok(MAX_BUDGET_NANOUSD));
        assert!(budget("9007199.254740993 USD").is_err());
    }

    #[test]
    fn dates_without_a_time_are_midnight_utc() {
        assert_eq!(instant("2025-01-01"), instant("2025-01-01T00:00Z"));
        assert_eq!(instant("2025-02-09T00:00+08:00"), instant("2025-02-08T16:00:00Z"));
        assert!(instant("2025-02-30").is_err() && instant("2025-02-09T00:00").is_err());
    }

    #[test]
    fn days_of_the_week_may_wrap() {
        assert_eq!(weekdays("mon-fri"), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(weekdays("sat-mon"), Ok(vec![5, 6, 0]));
        assert_eq!(weekdays("sun"), Ok(vec![6]));
    }
}
