//! `turnpike score`: a benchmark suite against models, through a gateway of its own before the configured backends.

mod ask;
mod grade;
mod results;
mod rows;
mod schema;
mod suite;

use std::{
    collections::VecDeque,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use self::{
    ask::{Asker, NoAnswer, Plan, Spent, to_judge},
    grade::{Check, Verdict, first_json},
    results::{Done, Results},
    rows::Row,
    suite::{Question, Suite},
};
use super::{flags, policies};
use crate::{
    base::{facts::Category, money::write_nano},
    config::{self, Loaded},
    policy::Policies,
    telemetry,
};

/// Arguments of `score`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The suite: one question a line, as JSON.
    #[arg(long, value_name = "FILE")]
    suite: PathBuf,
    /// A model, or `model@backend`; may be given several times.
    #[arg(long, required = true, value_name = "MODEL")]
    model: Vec<String>,
    /// Who judges the answers that no rule can.
    #[arg(long, value_name = "MODEL")]
    judge: Option<String>,
    /// The policy file that the scores are appended to; without it they are printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where answers are noted as they come, and looked up by the next run; beside the suite's name unless named.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// The most that all runs with this results file may spend, as in `2 USD`.
    #[arg(long, value_name = "AMOUNT", value_parser = flags::usd)]
    budget: Option<i64>,
    /// How many questions are asked at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// The cap on an answer's tokens.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_output: u64,
    /// The server's file, or a folder of policies; `turnpike.yaml` unless named, else the folder `policies`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// An amount in nano-units as a decimal.
pub fn nano(nano: i128) -> String {
    struct Shown(i128);
    impl std::fmt::Display for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write_nano(f, self.0)
        }
    }
    Shown(nano).to_string()
}

/// Runs the suite. Exit 1 when something was left unanswered.
///
/// # Errors
/// A suite or configuration at fault, files that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::log::start_at("error");
    let suite = Arc::new(Suite::read(&args.suite)?);
    let path = policies::place(args.config.as_deref()).context("no policies are here\nhint: name them with `-c`")?;
    let env = |name: &str| std::env::var(name).ok();
    let loaded =
        config::load(&path, &env).map_err(|faults| anyhow::anyhow!("the configuration is at fault\n{faults}"))?;
    check(&args, &suite, &loaded.policies)?;
    let budget = args.budget.map(i128::from);
    let place = args.results.clone().unwrap_or_else(|| {
        let stem = args.suite.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        PathBuf::from(format!("{stem}.results.jsonl"))
    });
    if let Some(out) = &args.out {
        rows::fits(out)?;
    }
    let mut results = Results::open(&place, &suite)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = runtime.block_on(drive(&args, &loaded, &suite, &mut results, budget))?;
    finish(&args, &suite, &results, stopped.as_deref())
}

/// Whether the models are there, and a judge where one is needed.
fn check(args: &Args, suite: &Suite, policies: &Policies) -> anyhow::Result<()> {
    for model in args.model.iter().chain(&args.judge) {
        let known = policies.models.contains_key(model.as_str());
        if !known && !policies.candidates.iter().any(|candidate| candidate.label() == *model) {
            let names: Vec<&str> = policies.models.keys().map(|name| name.as_str()).collect();
            bail!("no model `{model}`\nhint: {}", config::close_names(model, names, "define it under `models:`"));
        }
    }
    let judged = suite.questions.iter().find(|question| matches!(question.check, Check::Judge(_)));
    match (judged, &args.judge) {
        (Some(question), None) => bail!("`{}` is judged by a model\nhint: name one with `--judge`", question.id),
        (_, Some(judge)) if args.model.contains(judge) => bail!("`{judge}` cannot judge itself"),
        _ => Ok(()),
    }
}

/// One question to one model.
#[derive(Clone, Debug)]
struct Task {
    question: usize,
    model: String,
}

/// Asks what has no verdict yet. What it gives says why it stopped before the end.
async fn drive(
    args: &Args,
    loaded: &Loaded,
    suite: &Arc<Suite>,
    results: &mut Results,
    budget: Option<i128>,
) -> anyhow::Result<Option<String>> {
    let open = |results: &Results| -> VecDeque<Task> {
        let models = args.model.iter();
        let tasks = models
            .flat_map(|model| (0..suite.questions.len()).map(move |question| Task { question, model: model.clone() }));
        tasks.filter(|task| results.verdict(&task.model, &suite.questions[task.question].id).is_none()).collect()
    };
    let left = budget.map(|budget| budget - results.spent_nanousd);
    let tasks = open(results);
    if tasks.is_empty() {
        return Ok(None);
    }
    if left.is_some_and(|left| left <= 0) {
        return Ok(Some("the budget is spent".to_owned()));
    }
    let mut models: Vec<String> = args.model.iter().chain(&args.judge).cloned().collect();
    models.sort();
    models.dedup();
    let env = |name: &str| std::env::var(name).ok();
    let plan = Plan::new(loaded, &models, left, args.max_output, &env)?;
    let asker = Arc::new(Asker::start(plan).await?);
    let mut progress = Progress::new(tasks.len());
    let many = usize::from(args.concurrency);
    let mut round = round(many, tasks, &asker, suite, args, results, &mut progress).await?;
    // What others held while a question was refused may have been freed: the rest is asked one by one.
    while !round.refused.is_empty() && round.answered > 0 {
        round = self::round(1, round.refused, &asker, suite, args, results, &mut progress).await?;
    }
    progress.end();
    Ok((!round.refused.is_empty()).then(|| "the budget cannot pay for the next question".to_owned()))
}

/// What came of a round.
struct Round {
    /// Questions that the budget could not pay for, and those behind them.
    refused: VecDeque<Task>,
    /// How many others there were.
    answered: usize,
}

async fn round(
    many: usize,
    tasks: VecDeque<Task>,
    asker: &Arc<Asker>,
    suite: &Arc<Suite>,
    args: &Args,
    results: &mut Results,
    progress: &mut Progress,
) -> anyhow::Result<Round> {
    let tasks = Arc::new(Mutex::new(tasks));
    let (empty, (sender, mut receiver)) = (Arc::new(AtomicBool::new(false)), mpsc::channel::<Done>(many));
    let mut workers = JoinSet::new();
    for _ in 0..many {
        let (tasks, empty, sender) = (Arc::clone(&tasks), Arc::clone(&empty), sender.clone());
        let (asker, suite, judge) = (Arc::clone(asker), Arc::clone(suite), args.judge.clone());
        workers.spawn(async move {
            while !empty.load(Ordering::Acquire) {
                let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(task) = next else { break };
                let question = &suite.questions[task.question];
                match answer(&asker, &task, question, judge.as_deref()).await {
                    Some(done) => {
                        if sender.send(done).await.is_err() {
                            break;
                        }
                    }
                    None => {
                        empty.store(true, Ordering::Release);
                        tasks.lock().unwrap_or_else(PoisonError::into_inner).push_front(task);
                    }
                }
            }
        });
    }
    drop(sender);
    let mut answered = 0;
    while let Some(done) = receiver.recv().await {
        results.append(suite, &done)?;
        answered += 1;
        progress.count(&done, results.spent_nanousd);
    }
    while workers.join_next().await.is_some() {}
    let refused = std::mem::take(&mut *tasks.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Round { refused, answered })
}

/// Asks one question and judges the answer; `None` = the budget cannot pay for it, and nothing was spent.
async fn answer(asker: &Asker, task: &Task, question: &Question, judge: Option<&str>) -> Option<Done> {
    let mut body = Value::Object(question.params.clone());
    body["messages"] = question.messages.clone();
    let (said, spent) = asker.ask(&task.model, body).await;
    let done = |right, note: String, spent| {
        Some(Done { question: task.question, model: task.model.clone(), right, note, spent })
    };
    let text = match said {
        Ok(text) => text,
        Err(NoAnswer::Budget) if spent.nanousd == 0 => return None,
        Err(NoAnswer::Budget) => return done(None, "the budget was empty".to_owned(), spent),
        Err(NoAnswer::Failed(why)) => return done(None, why.chars().take(500).collect(), spent),
    };
    match (question.check.grade(&text), judge, &question.check) {
        (Verdict::Read(right, read), ..) => done(Some(right), read, spent),
        (Verdict::Ask, Some(judge), Check::Judge(rubric)) => {
            let (verdict, took) = judged(asker, judge, question, rubric, &text).await;
            let note = if verdict.is_some() { format!("judged by {judge}") } else { format!("no verdict of {judge}") };
            done(verdict, note, spent.and(took))
        }
        (Verdict::Ask, ..) => done(None, "no judge".to_owned(), spent),
    }
}

/// A judge's verdict, asked for twice at most.
async fn judged(asker: &Asker, judge: &str, question: &Question, rubric: &str, answer: &str) -> (Option<bool>, Spent) {
    let mut spent = Spent::default();
    for _ in 0..2 {
        let body = serde_json::json!({"messages": to_judge(&question.messages, rubric, answer)});
        let (said, took) = asker.ask(judge, body).await;
        spent = spent.and(took);
        let verdict = said.ok().and_then(|text| first_json(&text)?["right"].as_bool());
        if verdict.is_some() {
            return (verdict, spent);
        }
    }
    (None, spent)
}

/// A line on a terminal that says how far it is; nothing elsewhere.
struct Progress {
    shown: bool,
    done: usize,
    all: usize,
    right: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { shown: std::io::stderr().is_terminal(), done: 0, all, right: 0 }
    }

    fn count(&mut self, done: &Done, spent_nanousd: i128) {
        self.done += 1;
        self.right += usize::from(done.right == Some(true));
        if self.shown {
            let filled = 30 * self.done / self.all.max(1);
            let bar = "█".repeat(filled) + &"░".repeat(30 - filled);
            let (asked, all, right, spent) = (self.done, self.all, self.right, nano(spent_nanousd));
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r\x1b[K{bar} {asked}/{all}, {right} right, {spent} USD, {}", done.model);
            let _ = stderr.flush();
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = writeln!(std::io::stderr());
        }
    }
}

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
                // A score belongs to the model, whoever served it.
                model: model.split('@').next().unwrap_or(model).to_owned(),
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
fn finish(args: &Args, suite: &Suite, results: &Results, stopped: Option<&str>) -> anyhow::Result<ExitCode> {
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
    let why = stopped.map_or_else(|| "see the notes in the results file".to_owned(), str::to_owned);
    anstream::eprintln!("{open} questions are open: {why}\nhint: run it again to go on where it was");
    Ok(ExitCode::FAILURE)
}

fn told(path: &Path, rows: usize) {
    anstream::eprintln!(
        "{rows} scores are in `{}`; in a folder of policies they count from the next load on",
        path.display()
    );
}

fn as_json(suite: &Suite, lines: &[Line], results: &Results, stopped: Option<&str>) -> Value {
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
        "stopped": stopped,
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
