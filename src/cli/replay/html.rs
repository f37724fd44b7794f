//! A replay as one file that any browser shows: no script, nothing fetched, light or dark as the reader has it, and every
//! chart also as a table.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::table::{percent_change, rows, signed, usd, verified, who};
use crate::{
    admin::api::{ReplayAnswer, SideLine},
    telemetry::record::line::Label,
};

const STYLE: &str = include_str!("report.css");
/// Charts are drawn in these units; the page scales them.
const WIDTH: i64 = 720;
const HEIGHT: i64 = 240;
/// Room for the labels beside and below.
const LEFT: i64 = 90;
const BELOW: i64 = 28;
/// The most points of a line.
const POINTS: usize = 400;

/// The page.
pub(super) fn page(answer: &ReplayAnswer) -> String {
    let mut page = String::with_capacity(64 << 10);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"content-security-policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>Turnpike replay</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n"
    );
    head(&mut page, answer);
    summary(&mut page, answer);
    costs(&mut page, answer);
    shares(&mut page, answer);
    moves(&mut page, answer);
    changed(&mut page, answer);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn head(page: &mut String, answer: &ReplayAnswer) {
    let (old, new) = (answer.old.cost_nanousd, answer.new.cost_nanousd);
    let percent = percent_change(old, new);
    let word = if new < old { "less" } else { "more" };
    let verdict = if new == old {
        "It would have cost the same.".to_owned()
    } else {
        let size = answer.difference_nanousd.unsigned_abs().min(i64::MAX as u64) as i64;
        format!("It would have cost {} USD {word}{percent}.", usd(size))
    };
    let stretch = match (answer.since, answer.until) {
        (Some(since), Some(until)) => format!("{} to {}", day(since), day(until)),
        _ => String::new(),
    };
    let prices =
        answer.prices_at.map(|at| format!(", at the prices of {}", at.strftime("%Y-%m-%d"))).unwrap_or_default();
    let _ = write!(
        page,
        "<header><h1>{}</h1>\n<p>{} requests, {stretch}. From <b class=\"old\">{}</b> to <b class=\"new\">{}</b>{prices}.</p>\n\
         <p class=\"note\">{}.</p></header>\n",
        escape(&verdict),
        answer.requests,
        escape(&answer.old_policies),
        escape(&answer.new_policies),
        escape(&verified(answer)),
    );
}

fn summary(page: &mut String, answer: &ReplayAnswer) {
    page.push_str("<section><h2>Both sides</h2>\n");
    let rows = rows(answer).into_iter().map(|(name, [old, new, difference])| vec![name, old, new, difference]);
    table(page, &["", "before", "after", "difference"], rows);
    let exhausted = |side: &SideLine| -> Vec<String> {
        side.exhausted
            .iter()
            .map(|line| format!("{} of {}: from {}", line.budget, day(line.window), minute(line.at)))
            .collect()
    };
    for (name, side) in [("Before", &answer.old), ("After", &answer.new)] {
        let lines = exhausted(side);
        let told = if lines.is_empty() { "no budget had too little left".to_owned() } else { lines.join("; ") };
        let _ = writeln!(page, "<p>{name}: {}.</p>", escape(&told));
    }
    page.push_str("</section>\n");
}

/// Both costs as they add up over time.
fn costs(page: &mut String, answer: &ReplayAnswer) {
    if answer.hours.len() < 2 {
        return;
    }
    let mut sums = [0_i128; 2];
    let mut points: Vec<(Timestamp, [i128; 2])> = Vec::with_capacity(answer.hours.len());
    for (at, costs) in &answer.hours {
        (0..2).for_each(|side| sums[side] += i128::from(costs[side]));
        points.push((*at, sums));
    }
    let every = points.len().div_ceil(POINTS);
    let last = points.len() - 1;
    let points: Vec<_> = points
        .into_iter()
        .enumerate()
        .filter(|(at, _)| at % every == 0 || *at == last)
        .map(|(_, point)| point)
        .collect();
    let (Some(first), Some(end)) = (points.first(), points.last()) else { return };
    let most = end.1[0].max(end.1[1]).max(1);
    let span = i128::from(end.0.as_second() - first.0.as_second()).max(1);
    let x = |at: Timestamp| {
        i128::from(LEFT) + i128::from(at.as_second() - first.0.as_second()) * i128::from(WIDTH - LEFT - 10) / span
    };
    let y = |sum: i128| i128::from(HEIGHT - BELOW) - sum * i128::from(HEIGHT - BELOW - 10) / most;
    page.push_str("<section><h2>Cost, added up</h2>\n");
    let told = format!("Cost added up over time: {} USD before, {} USD after", nano(end.1[0]), nano(end.1[1]));
    let _ = writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(&told));
    for quarter in 0..=4 {
        let level = most * quarter / 4;
        let _ = writeln!(
            page,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0}\" y2=\"{0}\"/><text x=\"{1}\" y=\"{2}\" \
             text-anchor=\"end\">{3}</text>",
            y(level),
            LEFT - 6,
            y(level) + 4,
            nano(level)
        );
    }
    for (at, anchor) in [(first.0, "start"), (end.0, "end")] {
        let _ =
            writeln!(page, "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", x(at), HEIGHT - 6, minute(at));
    }
    for (side, class) in [(0, "old"), (1, "new")] {
        let path: Vec<String> = points.iter().map(|(at, sums)| format!("{},{}", x(*at), y(sums[side]))).collect();
        let _ = writeln!(page, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
    }
    page.push_str("</svg>\n<p class=\"key\"><span class=\"old\">━ before</span> <span class=\"new\">┅ after</span></p></section>\n");
}

/// Requests by candidate, before and after.
fn shares(page: &mut String, answer: &ReplayAnswer) {
    let mut labels: Vec<&Label> = answer.old.by_candidate.keys().chain(answer.new.by_candidate.keys()).collect();
    labels.sort();
    labels.dedup();
    let requests = |side: &SideLine, label: &Label| side.by_candidate.get(label).map_or(0, |line| line.requests);
    let most =
        labels.iter().flat_map(|label| [requests(&answer.old, label), requests(&answer.new, label)]).max().unwrap_or(0);
    if most == 0 {
        return;
    }
    page.push_str("<section><h2>Who answers</h2>\n");
    let (row, left) = (44, 250);
    let height = row * labels.len() as i64 + 4;
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Requests by who answers; the table below says the same\">"
    );
    for (at, label) in labels.iter().enumerate() {
        let top = row * at as i64 + 4;
        let name = label.to_string();
        let _ =
            writeln!(page, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", left - 8, top + 22, escape(&name));
        for (offset, class, side) in [(0, "old", &answer.old), (18, "new", &answer.new)] {
            let many = requests(side, label);
            let width = i128::from(many) * i128::from(WIDTH - left - 90) / i128::from(most);
            let _ = writeln!(
                page,
                "<rect class=\"{class}\" x=\"{left}\" y=\"{}\" width=\"{width}\" height=\"16\" rx=\"2\"/><text x=\"{}\" \
                 y=\"{}\">{many}</text>",
                top + offset,
                i128::from(left) + width + 6,
                top + offset + 13
            );
        }
    }
    page.push_str(
        "</svg>\n<p class=\"key\"><span class=\"old\">■ before</span> <span class=\"new\">■ after</span></p>\n",
    );
    let cells = |side: &SideLine, label: &Label| {
        let line = side.by_candidate.get(label).copied().unwrap_or_default();
        [line.requests.to_string(), usd(line.cost_nanousd)]
    };
    let rows = labels.iter().map(|label| {
        let [[old, old_usd], [new, new_usd]] = [cells(&answer.old, label), cells(&answer.new, label)];
        vec![label.to_string(), old, new, old_usd, new_usd]
    });
    table(page, &["", "before", "after", "USD before", "USD after"], rows);
    page.push_str("</section>\n");
}

fn moves(page: &mut String, answer: &ReplayAnswer) {
    page.push_str("<section><h2>Who moved</h2>\n");
    if answer.moves.is_empty() {
        page.push_str("<p>Every request is answered by who answered it.</p>");
    } else {
        let rows = answer.moves.iter().take(50).map(|line| {
            vec![who(&line.from), who(&line.to), line.requests.to_string(), signed(line.difference_nanousd)]
        });
        table(page, &["from", "to", "requests", "USD"], rows);
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
        let (old, new) = (usd(line.old_nanousd), usd(line.new_nanousd));
        vec![line.id.to_string(), minute(line.at), who(&line.from), who(&line.to), old, new, estimated]
    });
    table(page, &["request", "at", "from", "to", "was, USD", "is, USD", ""], rows);
    page.push_str("</section>\n");
}

fn table(page: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<div class=\"scroll\"><table><thead><tr>");
    for cell in head {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(cell));
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let number = cell.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first)) && at > 0;
            let tag = if at == 0 {
                "th scope=\"row\""
            } else if number {
                "td class=\"number\""
            } else {
                "td"
            };
            let _ = write!(page, "<{tag}>{}</{}>", escape(cell), if at == 0 { "th" } else { "td" });
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn nano(amount: i128) -> String {
    let cut = amount / 10_000 * 10_000;
    usd(i64::try_from(cut).unwrap_or(i64::MAX))
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

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
