//! What the fences around a request have left, as every answer says it in its headers.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::{
    base::{
        fences::{Fence, Purpose, Unit},
        money::Money,
    },
    ledger::Ledger,
    policy::BudgetSeen,
};

/// The tightest fence of each kind around a request, as last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    requests: Option<Pace>,
    tokens: Option<Pace>,
    /// What the tightest budget of money has left.
    pub budget_left: Option<Money>,
    /// The budget of money of which the largest share is used, for rules.
    pub budget: BudgetSeen,
    /// Which of the fences that is.
    pub tightest: Option<usize>,
}

/// A limit on requests or tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    limit: i64,
    remaining: i64,
    reset: Duration,
}

impl Standing {
    /// Reads what stands against `fences` now.
    pub fn of(ledger: &Ledger, fences: &[Arc<Fence>], now: Timestamp) -> Self {
        let mut standing = Self::default();
        for (place, fence) in fences.iter().enumerate() {
            let pace = match (fence.unit, fence.purpose) {
                (Unit::Money, _) => None,
                (Unit::Requests, Purpose::Limit) => Some(&mut standing.requests),
                (Unit::Tokens, Purpose::Limit) => Some(&mut standing.tokens),
                _ => continue,
            };
            let level = ledger.level(fence, now);
            let fence = ledger.books().raises().apply(fence, now);
            let remaining = fence.cap.saturating_sub(level.used()).max(0);
            if let Some(pace) = pace {
                let reset = Duration::try_from(now.duration_until(level.window.end)).unwrap_or_default();
                if pace.is_none_or(|pace| remaining < pace.remaining) {
                    *pace = Some(Pace { limit: fence.cap, remaining, reset });
                }
                continue;
            }
            let left = Some(Money::from_nanousd(remaining));
            standing.budget_left = standing.budget_left.min(left).or(left);
            let used_ppm = share_ppm(level.used(), fence.cap);
            if standing.budget.left.is_none() || used_ppm >= standing.budget.used_ppm {
                let pace_ppm = used_ppm.saturating_mul(1_000_000) / level.window.elapsed_ppm(now);
                standing.budget = BudgetSeen { used_ppm, left, pace_ppm };
                standing.tightest = Some(place);
            }
        }
        standing
    }

    /// Writes the headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        let kinds = [
            (
                self.requests,
                ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ),
            (self.tokens, ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]),
        ];
        for (pace, [limit, remaining, reset]) in kinds {
            let Some(pace) = pace else { continue };
            headers.insert(HeaderName::from_static(limit), HeaderValue::from(pace.limit));
            headers.insert(HeaderName::from_static(remaining), HeaderValue::from(pace.remaining));
            if let Ok(time) = HeaderValue::from_str(&go_duration(pace.reset)) {
                headers.insert(HeaderName::from_static(reset), time);
            }
        }
        if let Some(value) = self.budget_left.and_then(|left| HeaderValue::from_str(&left.to_string()).ok()) {
            headers.insert(const { HeaderName::from_static("x-turnpike-budget-left-usd") }, value);
        }
    }
}

fn share_ppm(part: i64, whole: i64) -> u64 {
    u64::try_from(i128::from(part).max(0) * 1_000_000 / i128::from(whole).max(1)).unwrap_or(u64::MAX)
}

/// A length of time as OpenAI writes it: `120ms`, `59.5s`, `6m0s`, `23h59m59s`.
fn go_duration(time: Duration) -> String {
    let mut text = String::with_capacity(16);
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    if seconds == 0 {
        let _ = write!(text, "{millis}ms");
        return text;
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if seconds >= 60 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}", seconds % 60);
    if millis > 0 {
        let _ = write!(text, ".{}", format!("{millis:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_does() {
        let written = [0, 17, 1_000, 59_500, 60_000, 360_000, 3_600_000, 86_399_042]
            .map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(written, ["0ms", "17ms", "1s", "59.5s", "1m0s", "6m0s", "1h0m0s", "23h59m59.042s"]);
    }
}
