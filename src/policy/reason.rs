//! A decision in words: the one line of `x-turnpike-reason`.

use std::{fmt::Write as _, time::Duration};

use super::{
    Decision, Ordering, Prefer, Ranked, Unavailable,
    decision::{Percent, Seconds},
};
use crate::base::money::Money;

/// The longest reason, in bytes.
const MAX_REASON: usize = 200;

/// What is said of a candidate that would have to come later for want of a price, whatever its other terms.
const UNPRICED: &str = "set back: its price is not known";

impl Decision {
    /// The one line of `x-turnpike-reason`, ASCII, at most 200 bytes:
    /// `cheapest of 3 above the floor; gpt-4o +0.0031 USD`.
    pub fn reason(&self) -> String {
        let mut text = String::with_capacity(96);
        self.write_verdict(&mut text);
        if let Some(warm) = self.ranked.first().map(|winner| winner.seen.warm_tokens).filter(|warm| *warm > 0) {
            let _ = write!(text, "; {warm} tokens are warm there");
        }
        if let [winner, second, ..] = self.ranked.as_slice() {
            let _ = write!(text, "; {} ", second.candidate.model.name);
            self.write_difference(&mut text, winner, second);
        } else if let (Some(_), Some(loser)) = (self.ranked.first(), self.rejected.first()) {
            let _ = write!(text, "; {}: {}", loser.candidate.model.name, loser.why);
        }
        if self.late {
            text.insert_str(0, "expected late, nobody is in time; ");
        }
        // Before the rest: what was done to the answer must not be cut off at the end of the line.
        if let Some(winner) = self.ranked.first().filter(|winner| winner.clamped) {
            text.insert_str(0, &format!("answer capped at {} tokens for its budget; ", winner.max_output));
        }
        header_safe(text)
    }

    fn write_verdict(&self, text: &mut String) {
        let able = self.ranked.len();
        let floor = match (self.purse, &self.require.right) {
            (Some(_), _) => " that the budget can still pay",
            (None, Some(_)) => " above the floor",
            (None, None) => "",
        };
        let _ = match (able, self.order) {
            (0, _) => write!(text, "no candidate of {}", self.rejected.len()),
            (1, _) if self.last_resort => {
                let why = match self.ranked.first().and_then(|winner| winner.seen.unavailable) {
                    Some(Unavailable::Crowded) => "it refused for its load a short while ago",
                    Some(Unavailable::NotReady) => "none of its servers is ready",
                    _ => "its breaker is open",
                };
                write!(text, "last resort: {why}, and no other is able")
            }
            (1, _) if self.rejected.is_empty() => write!(text, "the only candidate"),
            (1, _) if self.purse.is_some() => write!(text, "the only one of {}{floor}", 1 + self.rejected.len()),
            (1, _) => write!(text, "the only one of {} that passes", 1 + self.rejected.len()),
            (_, Ordering::Listed) => write!(text, "first of {able} in order"),
            (_, Ordering::Prefer(Prefer::Cheapest)) => write!(text, "cheapest of {able}{floor}"),
            (_, Ordering::Prefer(Prefer::Fastest)) => write!(text, "fastest of {able}{floor}"),
            (_, Ordering::Prefer(Prefer::Best)) => write!(text, "best of {able}{floor}"),
            (_, Ordering::Prefer(Prefer::Worth { .. })) => write!(text, "best value of {able}{floor}"),
        };
    }

    /// What the second would have changed: cost, seconds, chance or value.
    fn write_difference(&self, text: &mut String, winner: &Ranked, second: &Ranked) {
        let (won, lost) = (&winner.terms, &second.terms);
        let _ = match self.order {
            Ordering::Listed => write!(text, "next"),
            Ordering::Prefer(Prefer::Cheapest | Prefer::Worth { .. }) if second.is_unpriced() => {
                write!(text, "{}", if winner.is_unpriced() { "at an unknown price, too" } else { UNPRICED })
            }
            Ordering::Prefer(Prefer::Cheapest) => write!(text, "{} USD", signed(lost.marginal - won.marginal)),
            Ordering::Prefer(Prefer::Fastest) => {
                write!(text, "+{}", Seconds(Duration::from_millis(lost.expected_ms.saturating_sub(won.expected_ms))))
            }
            Ordering::Prefer(Prefer::Best) => {
                write!(text, "-{}", Percent(won.right_ppm.saturating_sub(lost.right_ppm)))
            }
            Ordering::Prefer(Prefer::Worth { .. }) => write!(text, "{} USD of value", signed(lost.value - won.value)),
        };
    }
}

/// An amount with its sign, to four decimals where it has a digit there, else in full.
fn signed(amount: Money) -> String {
    let (sign, size) = if amount < Money::ZERO { ("-", -amount) } else { ("+", amount) };
    let rounded = Money::from_nanousd(size.nanousd() / 100_000 * 100_000);
    format!("{sign}{}", if rounded == Money::ZERO { size } else { rounded })
}

/// Printable ASCII, cut to the length of a header's line.
fn header_safe(mut text: String) -> String {
    let safe = |c: char| c == ' ' || c.is_ascii_graphic();
    if !text.bytes().all(|byte| safe(byte.into())) {
        text = text.chars().map(|c| if safe(c) { c } else { '?' }).collect();
    }
    text.truncate(MAX_REASON);
    text
}
