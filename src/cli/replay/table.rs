//! A replay as text.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;

use super::super::books::{shown, time};
use crate::{
    admin::api::{MoveLine, ReplayAnswer, SideLine},
    base::money::Money,
    telemetry::record::line::Label,
};

/// What of the files was not read, or was not counted.
pub(super) fn unread(answer: &ReplayAnswer) -> Vec<String> {
    let mut told = Vec::new();
    let lost = [(answer.unreadable_lines, "lines"), (answer.lost_bytes, "bytes")];
    for (many, what) in lost.into_iter().filter(|(many, _)| *many > 0) {
        told.push(format!("{many} {what} could not be read: damaged, no record, or of a later version"));
    }
    let named = |files: &BTreeMap<String, u64>, tell: &dyn Fn(&str, u64) -> String, told: &mut Vec<String>| {
        told.extend(files.iter().take(FILES_SHOWN).map(|(file, many)| tell(&shown(file), *many)));
        let more = files.len().saturating_sub(FILES_SHOWN);
        if more > 0 {
            told.push(format!("  and {more} files more; all with --json"));
        }
    };
    named(&answer.damaged_files, &|file, bytes| format!("  {bytes} bytes of {file}"), &mut told);
    let cut = |file: &str, requests| {
        format!("{file} was cut off: {requests} requests of its end were read, the rest is lost")
    };
    named(&answer.cut_files, &cut, &mut told);
    if answer.repeated > 0 {
        told.push(format!("records that are copies of others, which count once: {}", answer.repeated));
    }
    if answer.shadows > 0 {
        told.push(format!("records of shadows, which no client asked for, are left out: {}", answer.shadows));
    }
    if answer.open_bytes > 0 {
        told.push("the newest file is being written, or was cut off: what is whole of its end was read".to_owned());
    }
    told
}

/// How many damaged files are shown.
const FILES_SHOWN: usize = 10;
/// How many rows of moves are shown.
const MOVES_SHOWN: usize = 20;
/// How many budgets are.
const BUDGETS_SHOWN: usize = 20;

/// The whole answer.
pub(super) fn text(answer: &ReplayAnswer) -> String {
    let mut text = String::new();
    let (Some(since), Some(until)) = (answer.since, answer.until) else {
        text.push_str("no request could be decided again\n");
        unread(answer).iter().for_each(|told| text.extend([told, "\n"]));
        return text;
    };
    let _ = writeln!(text, "{} requests, {} to {}", answer.requests, time(since), time(until));
    if let Some(at) = answer.prices_at {
        let _ = writeln!(text, "the new side pays the prices of {}", at.strftime("%Y-%m-%d"));
    }
    let _ = writeln!(text, "{}", verified(answer));
    unread(answer).iter().for_each(|told| text.extend([told, "\n"]));
    let _ = writeln!(text, "{}", sides(answer));
    for told in unpriced(answer) {
        let _ = writeln!(text, "{told}");
    }
    exhausted_told(&mut text, answer);
    for what in &answer.not_followed {
        let _ = writeln!(text, "not followed: {what}");
    }
    if answer.moves.is_empty() {
        let _ = writeln!(text, "\nevery request is answered by who answered it");
    } else {
        let _ = writeln!(text, "\nwho moved\n{}", moves(answer));
    }
    if !answer.changed_most.is_empty() {
        let _ = writeln!(text, "\nwhat changed most\n{}", changed(answer));
    }
    text
}

/// What the check of the recorded decisions says.
pub(super) fn verified(answer: &ReplayAnswer) -> String {
    let verified = answer.verified;
    let of = verified.same + verified.other;
    let mut told = match (of, verified.other) {
        (0, _) => "the policies of the records are not kept, so their decisions could not be made again".to_owned(),
        (_, 0) => format!("all {of} recorded decisions come out the same when they are made again, number for number"),
        (_, other) => format!("{other} of {of} recorded decisions come out otherwise when they are made again"),
    };
    if verified.unknown > 0 && of > 0 {
        let _ = write!(told, "; {} were not checked, their policies are not kept", verified.unknown);
    }
    told
}

/// Whose costs are not known, side by side: such requests are in no sum.
pub(super) fn unpriced(answer: &ReplayAnswer) -> Vec<String> {
    let mut told = Vec::new();
    for (side, line) in [("old", &answer.old), ("new", &answer.new)] {
        if line.unpriced == 0 {
            continue;
        }
        let by: Vec<String> = line
            .unpriced_by_candidate
            .iter()
            .map(|(label, many)| format!("{} {many}", shown(&label.to_string())))
            .collect();
        told.push(format!(
            "the cost of {} requests is not known on the {side} side, whose sum is without it: no price is known of {}",
            line.unpriced,
            by.join(", ")
        ));
    }
    if !told.is_empty() {
        told.push("differences are those of the requests whose cost is known on both sides".to_owned());
    }
    told
}

/// ` (+12.3 %)` of all costs, where all are known.
pub(super) fn percent_told(answer: &ReplayAnswer) -> String {
    if answer.old.unpriced + answer.new.unpriced > 0 {
        return String::new();
    }
    percent_change(answer.old.cost_nanousd, answer.new.cost_nanousd)
}

fn sides(answer: &ReplayAnswer) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["", &answer.old_policies, &answer.new_policies, "difference"]);
    for (name, cells) in rows(answer, usd) {
        let [old, new, difference] = cells;
        table.add_row([name, old, new, difference]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What both sides come to, as rows of old, new and difference.
pub(super) fn rows(answer: &ReplayAnswer, money: fn(i64) -> String) -> Vec<(String, [String; 3])> {
    let (old, new) = (&answer.old, &answer.new);
    let mut rows = Vec::new();
    let mut row = |name: &str, old: String, new: String, difference: String| {
        rows.push((name.to_owned(), [old, new, difference]));
    };
    let percent = percent_told(answer);
    row(
        "cost, USD",
        money(old.cost_nanousd),
        money(new.cost_nanousd),
        format!("{}{percent}", signed_as(answer.difference_nanousd, money)),
    );
    if old.unpriced + new.unpriced > 0 {
        row("  not known, requests", old.unpriced.to_string(), new.unpriced.to_string(), String::new());
    }
    row("  of it estimated", part(old, money), part(new, money), String::new());
    row("  within (80 %)", interval(old, money), interval(new, money), String::new());
    row("P(right), mean", ppm(old.right_ppm), ppm(new.right_ppm), points(old.right_ppm, new.right_ppm));
    row("served", old.served.to_string(), new.served.to_string(), count(old.served, new.served));
    row("  as recorded", old.known.to_string(), new.known.to_string(), String::new());
    row("  estimated", old.estimated.to_string(), new.estimated.to_string(), String::new());
    let times = [("first token", old.first_token_ms, new.first_token_ms), ("whole answer", old.total_ms, new.total_ms)];
    for (name, old, new) in times {
        for (at, which) in ["median", "95 %", "99 %"].iter().enumerate() {
            let change = i128::from(new[at]) - i128::from(old[at]);
            let change = format!(
                "{}{}",
                if change < 0 { "-" } else { "+" },
                seconds(u64::try_from(change.unsigned_abs()).unwrap_or(u64::MAX))
            );
            row(&format!("{name}, {which}, s"), seconds(old[at]), seconds(new[at]), change);
        }
    }
    let mut codes: Vec<_> = old.refused.keys().chain(new.refused.keys()).collect();
    codes.sort();
    codes.dedup();
    for code in codes {
        let of = |side: &SideLine| side.refused.get(code).copied().unwrap_or(0);
        row(&format!("not served: {}", shown(code)), of(old).to_string(), of(new).to_string(), count(of(old), of(new)));
    }
    rows
}

fn part(side: &SideLine, money: fn(i64) -> String) -> String {
    if side.estimated == 0 { "nothing".to_owned() } else { money(side.estimated_nanousd) }
}

fn interval(side: &SideLine, money: fn(i64) -> String) -> String {
    if side.estimated == 0 {
        return if side.unpriced == 0 { "exact" } else { "exact, of those known" }.to_owned();
    }
    format!("{} – {}", money(side.cost_low_nanousd), money(side.cost_high_nanousd))
}

/// A budget that ran out on one side or both, and when.
pub(super) struct RanOut {
    pub(super) budget: Arc<str>,
    pub(super) window: Timestamp,
    pub(super) old: Option<Timestamp>,
    pub(super) new: Option<Timestamp>,
}

/// The budgets of both sides, by name and window.
pub(super) fn exhausted(answer: &ReplayAnswer) -> Vec<RanOut> {
    let mut all: BTreeMap<(&Arc<str>, Timestamp), [Option<Timestamp>; 2]> = BTreeMap::new();
    for (side, line) in [(0, &answer.old), (1, &answer.new)] {
        for line in &line.exhausted {
            all.entry((&line.budget, line.window)).or_default()[side] = Some(line.at);
        }
    }
    let ran_out = |((budget, window), [old, new]): ((&Arc<str>, Timestamp), [Option<Timestamp>; 2])| RanOut {
        budget: Arc::clone(budget),
        window,
        old,
        new,
    };
    all.into_iter().map(ran_out).collect()
}

fn exhausted_told(text: &mut String, answer: &ReplayAnswer) {
    let lines = exhausted(answer);
    if lines.is_empty() {
        let _ = writeln!(text, "\nno budget had too little left");
        return;
    }
    let _ = writeln!(text, "\nbudgets that had too little left");
    let told = |at: Option<Timestamp>| at.map_or_else(|| "not".to_owned(), |at| format!("from {}", time(at)));
    for line in lines.iter().take(BUDGETS_SHOWN) {
        let (old, new) = (told(line.old), told(line.new));
        let _ = writeln!(text, "  {} of {}: {old}; now {new}", shown(&line.budget), time(line.window));
    }
    let more = lines.len().saturating_sub(BUDGETS_SHOWN);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more; all with --json");
    }
}

fn moves(answer: &ReplayAnswer) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["from", "to", "requests", "USD"]);
    for line in answer.moves.iter().take(MOVES_SHOWN) {
        let requests = line.requests.to_string();
        table.add_row([who(&line.from), who(&line.to), requests, moved(line, usd)]);
    }
    let more = answer.moves.len().saturating_sub(MOVES_SHOWN);
    if more > 0 {
        table.add_row([format!("and {more} more; all with --json"), String::new(), String::new(), String::new()]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn changed(answer: &ReplayAnswer) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["request", "from", "to", "was, USD", "is, USD", ""]);
    for line in &answer.changed_most {
        let estimated = if line.estimated { "estimated" } else { "" }.to_owned();
        let (old, new) = (usd(line.old_nanousd), usd(line.new_nanousd));
        table.add_row([shown(&line.id), who(&line.from), who(&line.to), old, new, estimated]);
    }
    for column in table.column_iter_mut().skip(3).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What a move changes; what is not known of it is no nothing.
pub(super) fn moved(line: &MoveLine, money: fn(i64) -> String) -> String {
    match (line.unpriced, line.requests) {
        (0, _) => signed_as(line.difference_nanousd, money),
        (unpriced, requests) if unpriced == requests => "?".to_owned(),
        (unpriced, _) => format!("{} (+ ? of {unpriced})", signed_as(line.difference_nanousd, money)),
    }
}

/// Who answers.
pub(super) fn who(label: &Option<Label>) -> String {
    label.as_ref().map_or_else(|| "nobody".to_owned(), |label| shown(&label.to_string()))
}

/// Dollars.
pub(super) fn usd(nano: i64) -> String {
    Money::from_nanousd(nano).to_string()
}

/// Dollars with their sign, written by `money`.
pub(super) fn signed_as(nano: i64, money: fn(i64) -> String) -> String {
    if nano > 0 { format!("+{}", money(nano)) } else { money(nano) }
}

/// ` (+12.3 %)`, or nothing where there was nothing.
fn percent_change(old: i64, new: i64) -> String {
    let change = (i128::from(new) - i128::from(old)) * 1000;
    match change.checked_div(i128::from(old)) {
        Some(permille) => {
            let sign = if permille < 0 { '-' } else { '+' };
            format!(" ({sign}{}.{} %)", permille.unsigned_abs() / 10, permille.unsigned_abs() % 10)
        }
        None => String::new(),
    }
}

fn ppm(ppm: u64) -> String {
    let hundredths = ppm.saturating_add(50) / 100;
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn points(old: u64, new: u64) -> String {
    let sign = if new < old { '-' } else { '+' };
    let hundredths = old.abs_diff(new).saturating_add(50) / 100;
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

fn count(old: u64, new: u64) -> String {
    format!("{}{}", if new < old { '-' } else { '+' }, old.abs_diff(new))
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
