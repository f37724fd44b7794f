//! `turnpike explain` and `turnpike why`: what would be decided, what was decided, and why. Both print one table.

mod table;

pub(super) use self::table::candidates_told;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use http::Method;
use jiff::Timestamp;
use serde_json::{json, value::RawValue};

use super::{
    books::configuration,
    flags::{self, BadUsage},
    policies,
    records::{missed_told, records_folder},
    remote::{Remote, Server},
};
use crate::{
    admin::{
        api::{DecisionAnswer, ExplainRequest},
        decisions,
    },
    config,
    proxy::explain::{Wanted, Who},
    telemetry::record::read::{self, Missed},
};

/// The longest request that is read.
const LONGEST: u64 = 32 << 20;
/// A record is in its file so long after its request has ended.
const WRITTEN_AFTER: Duration = Duration::from_millis(1500);

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The body of a chat request, `-` for stdin; without one, a short greeting to the route.
    #[arg(value_name = "REQUEST.json")]
    request: Option<PathBuf>,
    /// The route (or model), instead of the request's `model`.
    #[arg(long)]
    route: Option<String>,
    /// Who pays; the key's team, `default`, or the only team, unless named.
    #[arg(long)]
    team: Option<String>,
    /// The public id of the client key that asks.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The end user who asks, instead of the one whom the request names.
    #[arg(long)]
    user: Option<String>,
    /// The session, as in `x-turnpike-session`.
    #[arg(long)]
    session: Option<String>,
    /// Decide as at that moment, with its prices and scores.
    #[arg(long, value_name = "TIME", value_parser = flags::instant)]
    at: Option<Timestamp>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// The `x-request-id` of an answer.
    #[arg(value_name = "REQUEST-ID")]
    id: String,
    /// The folder of the records, instead of that of the configuration.
    #[arg(long, value_name = "FOLDER", conflicts_with = "server")]
    records: Option<PathBuf>,
    /// Also what was asked and answered, if the gateway keeps that: it is read from the files alone.
    #[arg(long, conflicts_with = "server")]
    content: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Prints what would be decided: by the files, with nothing measured and nothing spent; with `--server`, by a running
/// gateway, with what it sees.
///
/// # Errors
/// A request that is none, a gateway that does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let at = args.at;
    let request = request(args.request.as_deref(), args.route.as_deref())?;
    let answer = match &args.server.server {
        Some(address) => {
            let remote = Remote::new(address, args.server.token_file.as_deref())?;
            let request = RawValue::from_string(request).context("the request is not JSON")?;
            let Args { route, team, key, user, session, .. } = args;
            let asked = ExplainRequest { request, route, team, key, user, session, at: at.map(|at| at.to_string()) };
            remote.ask(Method::POST, "/api/v1/explain", Some(&asked))?
        }
        None => {
            let loaded = match config::load_to_try(&policies::or_folder(&args.server.config), None) {
                Ok(loaded) => loaded,
                Err(faults) => {
                    anstream::eprint!("{faults}");
                    return Ok(ExitCode::FAILURE);
                }
            };
            let who = Who { team: args.team, key: args.key, user: args.user, session: args.session };
            let wanted = Wanted { body: request.into(), route: args.route, who, at };
            decisions::dry(&loaded.policies, wanted, Timestamp::now())?
        }
    };
    print(&answer, args.json)
}

fn request(path: Option<&Path>, route: Option<&str>) -> anyhow::Result<String> {
    let mut text = String::new();
    match (path, route) {
        (Some(path), _) if path == Path::new("-") => {
            io::stdin().take(LONGEST + 1).read_to_string(&mut text).context("stdin cannot be read")?;
        }
        (Some(path), _) => {
            let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
            read.map_err(|error| {
                anyhow::anyhow!(
                    "`{}` cannot be read: {error}\nhint: name a file with the body of a chat request, or `-` for stdin",
                    path.display()
                )
            })?;
        }
        (None, Some(route)) => {
            text = json!({"model": route, "messages": [{"role": "user", "content": "Hello!"}]}).to_string();
        }
        (None, None) => {
            let text = "nothing to explain\nhint: name a file with a chat request, `-` for stdin, or `--route`";
            bail!(BadUsage(text.to_owned()))
        }
    }
    if text.len() as u64 > LONGEST {
        bail!("the request is longer than 32 MiB\nhint: no gateway takes one unless `limits.body` says so");
    }
    Ok(text)
}

/// Prints what was decided: from the files of the configuration's journal, or by a running gateway.
///
/// # Errors
/// An id that is none, records that cannot be read, a gateway that does not answer.
pub fn why(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let answer: DecisionAnswer = if let Some(address) = &args.server.server {
        let remote = Remote::new(address, args.server.token_file.as_deref())?;
        let id = uuid::Uuid::parse_str(&args.id).map_err(|_| anyhow::anyhow!("that is no request id"))?;
        remote.ask(Method::GET, &format!("/api/v1/decisions/{id}"), None::<&()>)?
    } else {
        let folder = match &args.records {
            Some(folder) => folder.clone(),
            None => records_folder(&configuration(&args.server)?.server),
        };
        from_files(&folder, &args)?
    };
    if answer.evidence.is_empty() {
        anstream::eprintln!("note: its policies are not kept, so the rows behind the numbers are not shown");
    }
    print(&answer, args.json)
}

fn from_files(folder: &Path, args: &WhyArgs) -> anyhow::Result<DecisionAnswer> {
    if !folder.is_dir() {
        bail!("there are no records in `{}`\nhint: name their folder with `--records`", folder.display());
    }
    let mut found = decisions::recorded(folder, &args.id, None)?;
    if found.answer.is_none() {
        // It may have ended this very moment.
        std::thread::sleep(WRITTEN_AFTER);
        found = decisions::recorded(folder, &args.id, None)?;
    }
    let Some(mut answer) = found.answer else { bail!("{}", not_found(folder, &found.missed)) };
    found.missed.retain(|missed| missed.damaged() > 0);
    if !found.missed.is_empty() {
        anstream::eprintln!("warning: {}", missed_told(&found.missed));
    }
    if args.content {
        answer.texts = read::find(folder, &args.id)?.line.and_then(|line| line.texts);
        if answer.texts.is_none() {
            anstream::eprintln!("note: no text of it is kept; {}", why_no_text(folder, &answer));
        }
    }
    Ok(answer)
}

/// What would have to be otherwise for the texts of such requests to be kept.
fn why_no_text(folder: &Path, answer: &DecisionAnswer) -> &'static str {
    let then = config::recorded(folder, &answer.policy).ok();
    let team = then.as_ref().and_then(|then| then.policies.teams.get(answer.team.as_ref()));
    if team.is_some_and(|team| !team.may_keep_texts()) {
        return "its team, or one above it, has `records: {content: never}`";
    }
    "`records: {content: 16KiB}` in `turnpike.yaml` keeps those to come"
}

fn not_found(folder: &Path, missed: &[Missed]) -> String {
    let hint = "it may be another gateway's, or have been refused before anything was decided, or be too long ago";
    let told = format!("no record of that request is in `{}`", folder.display());
    if missed.is_empty() {
        return format!("{told}\nhint: {hint}");
    }
    format!("{told}, as far as they can be read: {}\nhint: {hint}", missed_told(missed))
}

fn print(answer: &DecisionAnswer, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(answer)?);
    } else {
        anstream::print!("{}", table::text(answer));
    }
    Ok(ExitCode::SUCCESS)
}
