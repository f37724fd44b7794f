//! Budgets and limits as they are written: amounts, rates, where users are named, what a lost store means, when an attempt
//! is overdue.

use std::sync::Arc;

use super::units::{self, Unfit};
use crate::{
    base::{
        money::Money,
        tenants::{OnStoreLoss, Period, Quota, Rate, UserSource},
    },
    policy::hedge::After,
};

/// Counts stay below 2⁵³: a store's counters may be doubles.
const MAX_COUNT: u64 = 1 << 53;
/// The longest name of a header or a field.
const MAX_NAME: usize = 64;
/// Headers that hold a secret, or that say nothing of the user.
const NO_USERS: [&str; 4] = ["authorization", "x-api-key", "cookie", "proxy-authorization"];

fn unfit<T>(problem: impl Into<String>, hint: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit { problem: problem.into(), hint: hint.into() })
}

/// `500 USD`, `10M tokens`, `10k requests`: the amount of a budget.
pub fn quota(text: &str) -> Result<Quota, Unfit> {
    let text = text.trim();
    let counted = |word: &str| text.strip_suffix(word).or_else(|| text.strip_suffix(word.strip_suffix('s')?));
    let count = |number: &str| some_count(number.trim_end(), text);
    if let Some(number) = counted("tokens") {
        return count(number).map(Quota::Tokens);
    }
    if let Some(number) = counted("requests") {
        return count(number).map(Quota::Requests);
    }
    if units::count(text).is_ok() || units::decimal(text, 9).is_ok() {
        return unfit(
            format!("`{text}` has no unit"),
            format!("write `{text} tokens` or `{text} requests`, or an amount such as `500 USD`"),
        );
    }
    units::budget(text).map(|nano| Quota::Money(Money::from_nanousd(nano)))
}

/// `600/min`, `400k/min`, `1M/day`: so many in each window of that length.
pub fn rate(text: &str) -> Result<Rate, Unfit> {
    let text = text.trim();
    let Some((amount, per)) = text.split_once('/') else {
        return unfit(format!("`{text}` says not in what time"), format!("write `{text}/min`"));
    };
    Ok(Rate { per: period(per)?, amount: some_count(amount.trim(), text)? })
}

/// `20 USD/day`: nano-USD that may be spent in each window of that length.
pub fn spend(text: &str) -> Result<(i64, Period), Unfit> {
    match text.split_once('/') {
        Some((amount, per)) => match units::usd(amount)? {
            0 => unfit(format!("`{}` allows nothing", text.trim()), "write what it may cost, as in `20 USD/day`"),
            _ => Ok((units::budget(amount)?, period(per)?)),
        },
        None => unfit(format!("`{text}` says not in what time"), format!("write `{}/day`", text.trim())),
    }
}

fn period(word: &str) -> Result<Period, Unfit> {
    match word.trim() {
        "min" | "minute" => Ok(Period::Minute),
        "h" | "hour" => Ok(Period::Hour),
        "d" | "day" => Ok(Period::Day),
        "week" => Ok(Period::Week),
        "month" => Ok(Period::Month),
        "s" | "sec" | "second" => {
            unfit("limits are counted by the minute or longer", "write sixty times as much per `min`")
        }
        other => unfit(format!("`{other}` is no length of a window"), "write `/min`, `/hour`, `/day` or `/month`"),
    }
}

fn some_count(number: &str, whole: &str) -> Result<u64, Unfit> {
    match units::count(number)? {
        0 => unfit(format!("`{whole}` allows nothing"), "write at least 1; `may_use` forbids a route altogether"),
        count if count > MAX_COUNT => {
            unfit(format!("`{whole}` is more than can be counted"), "write less than 9000000G")
        }
        count => Ok(count),
    }
}

/// `header:x-turnpike-user`, `body:user`: where a request names its user.
pub fn user_source(text: &str) -> Result<UserSource, Unfit> {
    let text = text.trim();
    let wanted = "write `header:NAME` or `body:NAME`, as in `header:x-turnpike-user`";
    let Some((kind, name)) = text.split_once(':') else {
        return unfit(format!("`{text}` is no place of a request"), wanted);
    };
    let name = name.trim();
    match kind.trim() {
        "header" => {
            let lower = name.to_ascii_lowercase();
            if NO_USERS.contains(&lower.as_str()) {
                return unfit(format!("`{lower}` holds a secret"), "name a header that holds the user's identifier");
            }
            if name.len() > MAX_NAME || http::HeaderName::from_bytes(lower.as_bytes()).is_err() {
                return unfit(format!("`{name}` is no header"), wanted);
            }
            Ok(UserSource::Header(Arc::from(lower)))
        }
        "body" => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
                let hint = "name a text at the top level of the body, as in `body:user`";
                return unfit(format!("`{name}` is no field of a body"), hint);
            }
            if matches!(name, "messages" | "model") {
                return unfit(format!("`{name}` names no user"), "write `body:user` or `body:safety_identifier`");
            }
            Ok(UserSource::Body(Arc::from(name)))
        }
        _ => unfit(format!("`{text}` is no place of a request"), wanted),
    }
}

/// `lease`, `closed`, `open(20 USD)`: what happens while the store is away.
pub fn store_loss(text: &str) -> Result<OnStoreLoss, Unfit> {
    match text.trim() {
        "lease" => Ok(OnStoreLoss::Lease),
        "closed" => Ok(OnStoreLoss::Closed),
        other => match other.strip_prefix("open(").and_then(|rest| rest.strip_suffix(')')) {
            Some(amount) => units::budget(amount).map(|nano| OnStoreLoss::Open(Money::from_nanousd(nano))),
            None => unfit(
                format!("`{other}` is no way to go on without the store"),
                "write `lease`, `closed` or `open(20 USD)`, the most that each gateway may spend meanwhile",
            ),
        },
    }
}

/// `p95`, `800ms`: when an attempt is overdue.
pub fn overdue(text: &str) -> Result<After, Unfit> {
    let text = text.trim();
    match (text, units::duration(text)) {
        ("p95", _) => Ok(After::P95),
        (_, Ok(time)) => Ok(After::Time(time)),
        (_, Err(_)) => unfit(
            format!("`{text}` does not say when an attempt is overdue"),
            "write `p95`, the only percentile that is measured, or a time such as `800ms`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_money_tokens_or_requests() {
        assert_eq!(quota("0.5 USD"), Ok(Quota::Money(Money::from_nanousd(500_000_000))));
        assert_eq!(quota("10M tokens"), Ok(Quota::Tokens(10_000_000)));
        assert_eq!(quota("10k requests"), Ok(Quota::Requests(10_000)));
        assert_eq!((quota("1 request"), quota("5tokens")), (Ok(Quota::Requests(1)), Ok(Quota::Tokens(5))));
        for bad in
            ["10", "10M", "0 USD", "0 tokens", "-1 requests", "2 CNY", "1.5 requests", "9007200G tokens", "tokens"]
        {
            assert!(quota(bad).is_err(), "{bad}");
        }
        assert!(quota("10k").is_err_and(|unfit| unfit.hint.contains("10k tokens")));
    }

    #[test]
    fn rates_have_an_amount_and_a_window() {
        assert_eq!(rate("600/min"), Ok(Rate { amount: 600, per: Period::Minute }));
        assert_eq!(rate("400k / minute"), Ok(Rate { amount: 400_000, per: Period::Minute }));
        assert_eq!(rate("1M/day"), Ok(Rate { amount: 1_000_000, per: Period::Day }));
        for bad in ["600", "600/s", "0/min", "/min", "600/", "600/year", "1.5/min", "-1/min"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_are_named_in_a_header_or_a_field() {
        assert_eq!(user_source("header:X-Turnpike-User"), Ok(UserSource::Header("x-turnpike-user".into())));
        assert_eq!(user_source("body:user"), Ok(UserSource::Body("user".into())));
        for bad in
            ["user", "header:", "header:a b", "header:Authorization", "body:", "body:a.b", "body:messages", "x:y"]
        {
            assert!(user_source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lost_store_leaves_three_ways() {
        assert_eq!(store_loss("lease"), Ok(OnStoreLoss::Lease));
        assert_eq!(store_loss("closed"), Ok(OnStoreLoss::Closed));
        assert_eq!(store_loss("open(20 USD)"), Ok(OnStoreLoss::Open(Money::from_nanousd(20_000_000_000))));
        for bad in ["open", "open()", "open(20)", "open(0 USD)", "ajar"] {
            assert!(store_loss(bad).is_err(), "{bad}");
        }
    }
}
