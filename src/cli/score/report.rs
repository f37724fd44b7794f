//! What a run came to: the table, JSON, and the rows that are appended to the scores file.

use std::{path::Path, process::ExitCode};

use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Args,
    ask::Spent,
    nano,
    results::Results,
    rounds::Stopped,
    rows::{self, Row},
    suite::Suite,
};
use crate::base::facts::Category;

/// What a model came to in one category.
struct Line {
    row: Row,
    open: usize,
    spent: Spent,
}

fn lines(args: &Args, suite: &Suite, results: &Results) -> Vec<Line> {
    let mut lines = Vec::new();
    for model in &args.model {
        for category in Category::ALL {
            let verdicts: Vec<_> = suite.of(category).map(|question| results.verdict(model, &question.id)).collect();
            if verdicts.is_empty() {
                continue;
            }
            let known: Vec<_> = verdicts.iter().flatten().collect();
            let count = |right: usize| u32::try_from(right).unwrap_or(u32::MAX);
            let row = Row {
                model: rows::bare(model).to_owned(),
                category,
                right: count(known.iter().filter(|(right, _)| *right).count()),
                asked: count(known.len()),
            };
            let spent = known.iter().fold(Spent::default(), |sum, (_, spent)| sum.and(*spent));
            lines.push(Line { row, open: verdicts.len() - known.len(), spent });
        }
    }
    lines
}

/// Prints what came of it, and appends the scores of categories that were answered in full.
///
/// # Errors
/// A scores file that cannot be written.
pub(super) fn finish(
    args: &Args,
    suite: &Suite,
    results: &Results,
    stopped: Option<&Stopped>,
) -> anyhow::Result<ExitCode> {
    let lines = lines(args, suite, results);
    let whole: Vec<Row> = lines.iter().filter(|line| line.open == 0).map(|line| line.row.clone()).collect();
    let now = Timestamp::now();
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&as_json(suite, &lines, results, stopped))?);
    } else if args.out.is_some() {
        anstream::println!("{}", table(suite, &lines, results));
    } else {
        anstream::eprintln!("{}", table(suite, &lines, results));
        if !whole.is_empty() {
            anstream::print!("{}", rows::merged("", suite, &whole, now)?);
        }
    }
    if let Some(path) = args.out.as_deref().filter(|_| !whole.is_empty()) {
        rows::append(path, suite, &whole, now)?;
        told(path, whole.len());
    }
    let open: usize = lines.iter().map(|line| line.open).sum();
    if open == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let (why, hint) = stopped
        .map_or(("see the notes in the results file", "run it again to go on where it was"), |stopped| {
            (stopped.why.as_str(), stopped.hint)
        });
    anstream::eprintln!("{open} questions are open: {why}\nhint: {hint}");
    Ok(ExitCode::FAILURE)
}

fn told(path: &Path, rows: usize) {
    anstream::eprintln!(
        "{rows} scores are in `{}`; in a folder of policies they count from the next load on",
        path.display()
    );
}

fn as_json(suite: &Suite, lines: &[Line], results: &Results, stopped: Option<&Stopped>) -> Value {
    let row = |line: &Line| {
        let (share, low, high) = line.row.share();
        serde_json::json!({
            "model": line.row.model,
            "benchmark": suite.benchmark(line.row.category),
            "right": line.row.right,
            "asked": line.row.asked,
            "open": line.open,
            "percent": share,
            "interval": [low, high],
            "cost_usd": nano(line.spent.nanousd),
            "output_tokens": line.spent.output,
        })
    };
    serde_json::json!({
        "suite": suite.name,
        "digest": suite.digest,
        "scores": lines.iter().map(row).collect::<Vec<_>>(),
        "spent_usd": nano(results.spent_nanousd),
        "stopped": stopped.map(|stopped| &stopped.why),
    })
}

fn table(suite: &Suite, lines: &[Line], results: &Results) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "model",
        "benchmark",
        "right",
        "of",
        "%",
        "95 % interval",
        "USD",
        "tokens out",
        "s each",
        "open",
    ]);
    for line in lines {
        let (share, low, high) = line.row.share();
        let each = line.spent.ms.checked_div(u64::from(line.row.asked)).unwrap_or(0);
        table.add_row([
            line.row.model.clone(),
            suite.benchmark(line.row.category),
            line.row.right.to_string(),
            line.row.asked.to_string(),
            share,
            format!("{low}–{high}"),
            nano(line.spent.nanousd),
            line.spent.output.to_string(),
            format!("{}.{}", each / 1000, each % 1000 / 100),
            line.open.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{} USD in all", nano(results.spent_nanousd))
}
