//! `turnpike score`: a benchmark suite against models, through a gateway of its own before the configured backends.

mod ask;
mod books;
mod grade;
mod keys;
mod progress;
mod reading;
mod report;
mod results;
mod rounds;
mod rows;
mod schema;
mod suite;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use secrecy::SecretString;

use self::{
    ask::{Asker, Plan},
    books::Till,
    grade::Check,
    results::Results,
    suite::Suite,
};
use super::{
    flags::{self, BadUsage},
    policies,
};
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
/// A suite or configuration at fault, files that cannot be written, a gateway that has the books or refuses for good.
pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    telemetry::log::start_at("error");
    let named = args.model.len();
    let mut seen = std::collections::BTreeSet::new();
    args.model.retain(|model| seen.insert(model.clone()));
    if args.model.len() < named {
        anstream::eprintln!("a model that is named twice is asked once");
    }
    let suite = Arc::new(Suite::read(&args.suite)?);
    check(&args, &suite)?;
    let way = Way::find(&args)?;
    let place = args.results.clone().unwrap_or_else(|| {
        let stem = args.suite.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        PathBuf::from(format!("{stem}.results.jsonl"))
    });
    if let Some(out) = &args.out {
        if std::path::absolute(out)? == std::path::absolute(&place)? {
            bail!(BadUsage("`--out` and `--results` are one file\nhint: give each its own".to_owned()));
        }
        rows::fits(out, &suite, &args.model)?;
    }
    let mut results = Results::open(&place, &suite)?;
    if results.unread > 0 {
        anstream::eprintln!(
            "`{}`: lines that are no results and are passed over: {}; what they cost is not counted, what they answered is \
             asked again",
            place.display(),
            results.unread
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = runtime.block_on(rounds::drive(&args, &way, &suite, &mut results))?;
    report::finish(&args, &suite, &results, stopped.as_ref())
}

/// Whether there is a judge where one is needed, and only there where it may be; whether names fit the way, and each is a
/// model of its own.
fn check(args: &Args, suite: &Suite) -> anyhow::Result<()> {
    let mut names = args.model.iter().chain(&args.judge);
    if let Some(name) = names.find(|name| args.through.is_some() && name.contains('@')) {
        let hint = "a gateway that runs knows models and routes; which backend answers is its own choice";
        bail!(BadUsage(format!("`{name}` names a backend, which `--through` cannot\nhint: {hint}")));
    }
    for (index, model) in args.model.iter().enumerate() {
        let known = rows::bare(model);
        if let Some(other) = args.model[..index].iter().find(|other| rows::bare(other) == known) {
            bail!(BadUsage(format!(
                "`{other}` and `{model}` are both the model `{known}`, and a score bears the model's name alone\n\
                 hint: name one of them; to compare backends, ask each in a run of its own, with an `--out` of its own"
            )));
        }
    }
    let judged = suite.questions.iter().find(|question| matches!(question.check, Check::Judge(_)));
    match (judged, &args.judge) {
        (Some(question), None) => bail!("`{}` is judged by a model\nhint: name one with `--judge`", question.id),
        (_, Some(judge)) if args.model.iter().any(|model| rows::bare(model) == rows::bare(judge)) => {
            bail!("`{judge}` cannot judge itself")
        }
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
