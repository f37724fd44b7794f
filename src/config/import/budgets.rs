//! Budgets: LiteLLM's `max_budget`, `budget_duration` and `soft_budget` as `budgets`, never wider than they were.

use super::{
    super::{tree::Node, units::MAX_BUDGET_NANOUSD},
    Work, cost, write,
};
use crate::base::money::Money;

/// Whose budget it is: a team's or key's 0 lets it spend nothing, the proxy's own 0 is its word for none
/// (litellm/proxy/auth/auth_checks.py asks `litellm.max_budget > 0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The whole proxy's.
    Proxy,
    /// A team's or a key's.
    TeamOrKey,
}

/// The smallest budget, in nano-USD: nothing can be paid from it.
const NOTHING: i128 = 1;

/// The budget of a row, as an entry of its line.
pub fn read(work: &mut Work, node: &Node, whose: Whose) -> Option<(String, String)> {
    let stated = node.get("max_budget").filter(|place| place.text().is_some());
    let none =
        |place: &&Node| whose == Whose::Proxy && nano(place).is_some_and(|(nano, rounded)| nano == 0 && !rounded);
    let Some(place) = stated.filter(|place| !none(place)) else {
        for node in ["budget_duration", "soft_budget"].iter().filter_map(|key| node.get(key)) {
            if node.text().is_some() {
                work.lost(node.span, "a budget without `max_budget`", "a budget needs a limit");
            }
        }
        if let Some(place) = stated {
            work.unread.pass(place.span, "max_budget".to_owned());
        }
        return None;
    };
    let limit = limit(work, place);
    let span = node.get("budget_duration").map_or(place.span, |node| node.span);
    let per = match node.word("budget_duration") {
        Some("1m" | "60s") => "minute",
        Some("1h" | "60m") => "hour",
        Some("1d" | "24h" | "daily") => "day",
        Some("7d" | "1w" | "weekly") => "week",
        Some("30d" | "31d" | "1mo" | "monthly") => "month",
        other => {
            let said = other.map_or_else(|| "that never begins anew".to_owned(), |other| format!("for `{other}`"));
            work.changed(
                span,
                format!("a budget {said}"),
                "becomes a month's",
                "windows are minute, hour, day, week or month; lower the amount if that is too much",
            );
            "month"
        }
    };
    let mut fields = vec![
        ("name".to_owned(), per.to_owned()),
        ("limit".to_owned(), format!("{} USD", Money::saturating_from(limit))),
        ("per".to_owned(), per.to_owned()),
    ];
    let soft = node.get("soft_budget").filter(|soft| soft.text().is_some());
    let share = soft.and_then(nano).map(|(soft, _)| soft.saturating_mul(100) / limit);
    let share = share.filter(|share| (1..=100).contains(share));
    if let Some(soft) = soft.filter(|_| share.is_none()) {
        work.lost(soft.span, "a soft budget beyond the budget, or no plain number", "`warn: [80%]` of a budget");
    }
    fields.extend(share.map(|share| ("warn".to_owned(), format!("[{share}%]"))));
    Some(("budgets".to_owned(), format!("[{}]", write::map(&fields))))
}

/// An amount in nano-USD, rounded down, and whether it had to be.
fn nano(node: &Node) -> Option<(i128, bool)> {
    cost::scaled(node.text()?, 9)
}

/// The limit in nano-USD: what is too much or cannot be read is made less, and told.
fn limit(work: &mut Work, place: &Node) -> i128 {
    let most = i128::from(MAX_BUDGET_NANOUSD);
    match nano(place) {
        None => {
            let title = "a budget that is no amount";
            let hint = "nothing can be paid from it: write the amount that is meant as its `limit`";
            work.changed(place.span, title, "becomes a budget of nothing", hint);
            NOTHING
        }
        Some((0, _)) => {
            let title = "a budget of nothing";
            let hint = "it refuses all that costs anything; what is free is served: take models out of `may_use` too";
            work.changed(place.span, title, "becomes a billionth of a dollar", hint);
            NOTHING
        }
        Some((nano, _)) if nano > most => {
            let hint = format!("`{} USD` is the most that a budget holds", Money::saturating_from(most));
            work.changed(place.span, "a budget beyond what one can hold", "becomes the largest", hint);
            most
        }
        Some((nano, rounded)) => {
            if rounded {
                let hint = "amounts are exact to a billionth of a dollar";
                work.changed(place.span, "a budget with more than nine decimal places", "rounded down", hint);
            }
            nano
        }
    }
}
