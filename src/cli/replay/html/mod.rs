//! A replay as one file that any browser shows: no script, nothing fetched, light or dark as the reader has it, and every
//! chart also as a table.

mod charts;

use std::fmt::Write as _;

use jiff::Timestamp;

use super::table::{exhausted, moved, percent_told, rows, unpriced, unread, verified, who};
use crate::{
    admin::api::{ReplayAnswer, SideLine},
    telemetry::record::line::Label,
};

const STYLE: &str = include_str!("report.css");

/// With this a page of ours begins, up to its title.
const TITLE: &str = "<title>Turnpike replay</title>";

/// Whether a file's beginning is that of such a page, which another may replace.
pub(super) fn is_ours(begin: &[u8]) -> bool {
    begin.starts_with(b"<!doctype html>") && memchr::memmem::find(begin, TITLE.as_bytes()).is_some()
}

/// The page.
pub(super) fn page(answer: &ReplayAnswer) -> String {
    let mut page = String::with_capacity(64 << 10);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"content-security-policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n{TITLE}\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n"
    );
    head(&mut page, answer);
    summary(&mut page, answer);
    charts::costs(&mut page, answer);
    shares(&mut page, answer);
    moves(&mut page, answer);
    changed(&mut page, answer);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn head(page: &mut String, answer: &ReplayAnswer) {
    let (difference, percent) = (answer.difference_nanousd, percent_told(answer));
    let word = if difference < 0 { "less" } else { "more" };
    let known = if answer.old.unpriced + answer.new.unpriced == 0 { "" } else { ", as far as costs are known" };
    let verdict = if difference == 0 {
        format!("It would have cost the same{known}.")
    } else {
        let size = difference.unsigned_abs().min(i64::MAX as u64) as i64;
        format!("It would have cost {} USD {word}{percent}{known}.", dollars(size))
    };
    let stretch = match (answer.since, answer.until) {
        (Some(since), Some(until)) => format!("{} to {}", minute(since), minute(until)),
        _ => String::new(),
    };
    let prices =
        answer.prices_at.map(|at| format!(", at the prices of {}", at.strftime("%Y-%m-%d"))).unwrap_or_default();
    let _ = write!(
        page,
        "<header><h1>{}</h1>\n<p>{} requests, {stretch}. From <b class=\"old\">{}</b> to <b class=\"new\">{}</b>{prices}.</p>\n\
         <p class=\"note\">{}.</p>\n",
        escape(&verdict),
        answer.requests,
        escape(&answer.old_policies),
        escape(&answer.new_policies),
        escape(&verified(answer)),
    );
    for told in unread(answer) {
        let _ = writeln!(page, "<p class=\"note\">{}.</p>", escape(told.trim_start()));
    }
    page.push_str("</header>\n");
}

fn summary(page: &mut String, answer: &ReplayAnswer) {
    page.push_str("<section><h2>Both sides</h2>\n");
    let rows = rows(answer, dollars).into_iter();
    let rows = rows.map(|(name, [old, new, difference])| vec![name, old, new, difference]);
    table(page, "", &["", "before", "after", "difference"], rows);
    for told in unpriced(answer) {
        let _ = writeln!(page, "<p class=\"note\">{}.</p>", escape(&told));
    }
    for what in &answer.not_followed {
        let _ = writeln!(page, "<p class=\"note\">Not followed: {}.</p>", escape(what));
    }
    page.push_str("<h2>Budgets that ran out</h2>\n");
    let all = exhausted(answer);
    if all.is_empty() {
        page.push_str("<p>No budget had too little left.</p>\n");
    } else {
        let told = |at: Option<Timestamp>| at.map_or_else(|| "not".to_owned(), |at| format!("from {}", minute(at)));
        let more = all.len().saturating_sub(BUDGETS_SHOWN);
        let lines = all.into_iter().take(BUDGETS_SHOWN);
        let rows = lines.map(|line| vec![line.budget.to_string(), minute(line.window), told(line.old), told(line.new)]);
        table(page, "stack", &["budget", "window of", "before", "after"], rows);
        if more > 0 {
            let _ = writeln!(page, "<p class=\"note\">And {more} more; all with --json.</p>");
        }
    }
    page.push_str("</section>\n");
}

/// Requests and costs by who answers, before and after.
fn shares(page: &mut String, answer: &ReplayAnswer) {
    let mut labels: Vec<&Label> = answer.old.by_candidate.keys().chain(answer.new.by_candidate.keys()).collect();
    labels.sort();
    labels.dedup();
    if labels.is_empty() {
        return;
    }
    let of = |side: &SideLine, label: &Label| side.by_candidate.get(label).copied().unwrap_or_default();
    page.push_str("<section><h2>Who answers</h2>\n<h3>Requests</h3>\n");
    charts::bars(page, answer, &labels, "Requests by who answers; the table below says the same", |side, label| {
        let requests = of(side, label).requests;
        (i64::try_from(requests).unwrap_or(i64::MAX), requests.to_string())
    });
    page.push_str("<h3>Cost in USD</h3>\n");
    charts::bars(page, answer, &labels, "Cost by who answers; the table below says the same", |side, label| {
        let cost = of(side, label).cost_nanousd;
        (cost, dollars(cost))
    });
    let rows = labels.iter().map(|label| {
        let [old, new] = [&answer.old, &answer.new].map(|side| of(side, label));
        let requests = [old.requests, new.requests].map(|requests| requests.to_string());
        let costs = [old.cost_nanousd, new.cost_nanousd].map(dollars);
        std::iter::once(label.to_string()).chain(requests).chain(costs).collect()
    });
    table(page, "stack", &["", "requests before", "after", "USD before", "USD after"], rows);
    page.push_str("</section>\n");
}

fn moves(page: &mut String, answer: &ReplayAnswer) {
    page.push_str("<section><h2>Who moved</h2>\n");
    if answer.moves.is_empty() {
        page.push_str("<p>Every request is answered by who answered it.</p>");
    } else {
        let rows = answer
            .moves
            .iter()
            .take(50)
            .map(|line| vec![who(&line.from), who(&line.to), line.requests.to_string(), moved(line, dollars)]);
        table(page, "stack", &["from", "to", "requests", "USD"], rows);
    }
    page.push_str("</section>\n");
}

fn changed(page: &mut String, answer: &ReplayAnswer) {
    if answer.changed_most.is_empty() {
        return;
    }
    page.push_str("<section><h2>What changed most</h2>\n");
    let rows = answer.changed_most.iter().map(|line| {
        let estimated = if line.estimated { "estimated" } else { "" }.to_owned();
        let (old, new) = (dollars(line.old_nanousd), dollars(line.new_nanousd));
        vec![line.id.to_string(), minute(line.at), who(&line.from), who(&line.to), old, new, estimated]
    });
    table(page, "stack", &["request", "at", "from", "to", "was, USD", "is, USD", ""], rows);
    page.push_str("</section>\n");
}

/// A table; a column is one of numbers if its first cell is.
fn table(page: &mut String, class: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    let number = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first));
    let dated = |cell: &String| cell.ends_with('Z');
    let align = |at: usize| {
        let numbers = rows.iter().filter_map(|row| row.get(at)).any(|cell| number(cell) && !dated(cell));
        if at > 0 && numbers { " class=\"number\"" } else { "" }
    };
    let _ = write!(page, "<div class=\"scroll\"><table class=\"{class}\"><thead><tr>");
    for (at, cell) in head.iter().enumerate() {
        let _ = write!(page, "<th scope=\"col\"{}>{}</th>", align(at), escape(cell));
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in &rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match at {
                0 => write!(page, "<th scope=\"row\">{cell}</th>"),
                _ => write!(
                    page,
                    "<td{} data-column=\"{}\">{cell}</td>",
                    align(at),
                    escape(head.get(at).copied().unwrap_or_default())
                ),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// Dollars as people read them: to a hundredth of a cent, below a dollar to a millionth; `--json` has all digits.
fn dollars(nano: i64) -> String {
    if nano == 0 {
        return "0".to_owned();
    }
    let places = if nano.unsigned_abs() < 1_000_000_000 { 6 } else { 4 };
    let unit = 10_u64.pow(9 - places);
    let rounded = (nano.unsigned_abs() + unit / 2) / unit;
    let whole = 10_u64.pow(places);
    let sign = if nano < 0 && rounded > 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", rounded / whole, rounded % whole, width = places as usize)
}

/// How many budgets a page shows.
const BUDGETS_SHOWN: usize = 40;

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%MZ").to_string()
}

/// A text as the page shows it: names come from files and clients.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            control if control.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
