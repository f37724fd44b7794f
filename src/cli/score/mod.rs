//! `turnpike score`: a benchmark suite against models, through a gateway of its own before the configured backends.

mod ask;
mod books;
mod grade;
mod progress;
mod report;
mod results;
mod rows;
mod schema;
mod suite;

use std::{
    collections::VecDeque,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use secrecy::SecretString;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use self::{
    ask::{Asker, NoAnswer, Plan, Spent, to_judge},
    books::Till,
    grade::{Check, Verdict, first_json},
    progress::Progress,
    results::{Done, Results},
    suite::{Question, Suite},
};
use super::{flags, policies};
use crate::{base::money::write_nano, config, policy::Policies, telemetry};

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
    /// Ask a gateway that runs, with the client key in `TURNPIKE_KEY`, whose team pays and whose budgets bind.
    #[arg(long, value_name = "URL", value_parser = flags::gateway, conflicts_with_all = ["budget", "config"])]
    through: Option<String>,
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
/// A suite or configuration at fault, files that cannot be written, a gateway that has the books.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::log::start_at("error");
    let suite = Arc::new(Suite::read(&args.suite)?);
    check(&args, &suite)?;
    let way = Way::find(&args)?;
    let place = args.results.clone().unwrap_or_else(|| {
        let stem = args.suite.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        PathBuf::from(format!("{stem}.results.jsonl"))
    });
    if let Some(out) = &args.out {
        rows::fits(out)?;
    }
    let mut results = Results::open(&place, &suite)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = runtime.block_on(drive(&args, &way, &suite, &mut results))?;
    report::finish(&args, &suite, &results, stopped.as_deref())
}

/// Whether there is a judge where one is needed, and only there where it may be.
fn check(args: &Args, suite: &Suite) -> anyhow::Result<()> {
    let judged = suite.questions.iter().find(|question| matches!(question.check, Check::Judge(_)));
    match (judged, &args.judge) {
        (Some(question), None) => bail!("`{}` is judged by a model\nhint: name one with `--judge`", question.id),
        (_, Some(judge)) if args.model.contains(judge) => bail!("`{judge}` cannot judge itself"),
        _ => Ok(()),
    }
}

/// How the models are asked.
enum Way {
    /// Through a gateway of this process's own, by this configuration.
    Own(Box<config::Loaded>, PathBuf),
    /// Through one that runs, with a client key.
    Through(String, SecretString),
}

impl Way {
    fn find(args: &Args) -> anyhow::Result<Self> {
        if let Some(address) = &args.through {
            let key = std::env::var("TURNPIKE_KEY");
            let key =
                key.context("a gateway is asked with a client key\nhint: set `TURNPIKE_KEY` to one of its keys")?;
            return Ok(Self::Through(address.clone(), key.trim().to_owned().into()));
        }
        let path =
            policies::place(args.config.as_deref()).context("no policies are here\nhint: name them with `-c`")?;
        let env = |name: &str| std::env::var(name).ok();
        let loaded =
            config::load(&path, &env).map_err(|faults| anyhow::anyhow!("the configuration is at fault\n{faults}"))?;
        known(args, &loaded.policies)?;
        Ok(Self::Own(Box::new(loaded), path))
    }

    /// Begins to ask; `left` = what may be spent, in nano-USD.
    async fn start(&self, args: &Args, left: Option<i128>) -> anyhow::Result<Asker> {
        match self {
            Self::Through(address, key) => Asker::through(address, key.clone(), args.max_output),
            Self::Own(loaded, path) => {
                let mut models: Vec<String> = args.model.iter().chain(&args.judge).cloned().collect();
                models.sort();
                models.dedup();
                let env = |name: &str| std::env::var(name).ok();
                let plan = Plan::new(loaded, &models, left, args.max_output, &env)?;
                Asker::start(plan, Till::open(path, &loaded.server)?).await
            }
        }
    }
}

/// Whether the models are there.
fn known(args: &Args, policies: &Policies) -> anyhow::Result<()> {
    for model in args.model.iter().chain(&args.judge) {
        let known = policies.models.contains_key(model.as_str());
        if !known && !policies.candidates.iter().any(|candidate| candidate.label() == *model) {
            let names: Vec<&str> = policies.models.keys().map(|name| name.as_str()).collect();
            bail!("no model `{model}`\nhint: {}", config::close_names(model, names, "define it under `models:`"));
        }
    }
    Ok(())
}

/// One question to one model.
#[derive(Clone, Debug)]
struct Task {
    question: usize,
    model: String,
}

/// Asks what has no verdict yet. What it gives says why it stopped before the end.
async fn drive(args: &Args, way: &Way, suite: &Arc<Suite>, results: &mut Results) -> anyhow::Result<Option<String>> {
    let open = |results: &Results| -> VecDeque<Task> {
        let models = args.model.iter();
        let tasks = models
            .flat_map(|model| (0..suite.questions.len()).map(move |question| Task { question, model: model.clone() }));
        tasks.filter(|task| results.verdict(&task.model, &suite.questions[task.question].id).is_none()).collect()
    };
    let left = args.budget.map(|budget| i128::from(budget) - results.spent_nanousd);
    let tasks = open(results);
    if tasks.is_empty() {
        return Ok(None);
    }
    if left.is_some_and(|left| left <= 0) {
        return Ok(Some("the budget is spent".to_owned()));
    }
    let asker = Arc::new(way.start(args, left).await?);
    let mut progress = Progress::new(tasks.len());
    let many = usize::from(args.concurrency);
    let mut round = round(many, tasks, &asker, suite, args, results, &mut progress).await?;
    // What others held while a question was refused may have been freed: the rest is asked one by one.
    while !round.refused.is_empty() && round.answered > 0 {
        round = self::round(1, round.refused, &asker, suite, args, results, &mut progress).await?;
    }
    progress.end();
    asker.close().await;
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
