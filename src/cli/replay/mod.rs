//! `turnpike replay`: recorded requests, decided again under other policies or at other prices.

mod course;
mod fate;
mod fences;
mod html;
mod quantiles;
mod table;
mod tally;

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use jiff::{Timestamp, civil};

use self::{
    course::Side,
    fate::Fate,
    fences::{Before, Exhausted},
    tally::{Answers, Changes, Tally},
};
use super::{
    flags::{self, BadUsage},
    records::{self, stream},
};
use crate::{
    admin::api::{ReplayAnswer, VerifiedLine},
    base::price::{PriceRow, in_force},
    config::{self, RecordedError},
    policy::Policies,
    telemetry::record::{
        Line,
        decided::DecidedLine,
        read::Missed,
        recall::{Again, Change, Lately},
    },
};

/// So many bytes of a file tell whether it is a report: more than a report has before its title.
const BEGIN: u64 = 1024;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new policies: a folder, or a `turnpike.yaml`. Those of the latest record, if only prices are to change.
    #[arg(long, value_name = "NEW")]
    policies: Option<PathBuf>,
    /// Compare with these policies instead of with what was recorded.
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,
    /// The new side pays the prices of that date, at each request's own time of day and rate of exchange.
    #[arg(long, value_name = "DATE", value_parser = flags::instant)]
    prices_at: Option<Timestamp>,
    /// Folders of records, or files of them.
    #[arg(value_name = "RECORDS", required = true)]
    records: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Also write a report that any browser shows, without a network; an earlier report there is replaced.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
}

/// Decides again and prints what changes.
///
/// # Errors
/// Policies or records that cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let prices_at = args.prices_at;
    if args.policies.is_none() && prices_at.is_none() {
        let hint = "name other policies with `--policies NEW`, or the prices of a date with `--prices-at DATE`";
        bail!(BadUsage(format!("nothing is to be other than it was\nhint: {hint}")));
    }
    if let Some(path) = &args.html {
        has_a_place(path)?;
    }
    let files = stream::files(&args.records)?;
    let mut kept = Kept::beside(&files);
    let latest = kept.latest(&files)?;
    let pin = latest.as_ref().and_then(|latest| latest.pin);
    let new = match &args.policies {
        Some(path) => load("--policies", path, pin)?,
        None => {
            latest
                .context("the policies of the latest record are not kept\nhint: name some with `--policies`")?
                .policies
        }
    };
    let new = match prices_at {
        Some(at) => Arc::new(with_prices_of(new, at)?),
        None => new,
    };
    let old = args.against.as_deref().map(|path| load("--against", path, pin)).transpose()?;
    let mut replay = Replay::new(&new, old.as_deref(), kept);
    let passed = stream::each(&files, |line| replay.add(line))?;
    let mut answer = replay.finish();
    (answer.unreadable_lines, answer.prices_at) = (passed.unreadable, prices_at);
    (answer.lost_bytes, answer.open_bytes) = (passed.lost_bytes(), passed.open_bytes());
    answer.repeated = passed.repeated;
    let named = |missed: &Missed, many: u64| (missed.file.display().to_string(), many);
    let damaged = passed.missed.iter().filter(|missed| missed.damaged() > 0);
    answer.damaged_files = damaged.map(|missed| named(missed, missed.damaged())).collect();
    let cut = passed.missed.iter().filter(|missed| missed.is_cut());
    answer.cut_files = cut.map(|missed| named(missed, missed.lost.torn_lines)).collect();
    records::warn(&passed);
    for told in table::unpriced(&answer) {
        anstream::eprintln!("warning: {told}");
    }
    if let Some(path) = &args.html {
        let written = fs::write(path, html::page(&answer));
        written.with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        anstream::print!("{}", table::text(&answer));
    }
    Ok(if answer.requests == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The page is written at the end: what keeps it from being written is told before.
fn has_a_place(page: &Path) -> anyhow::Result<()> {
    let hint = "`--html` writes a file whose name ends in `.html`, as in `report.html`";
    if page.extension().is_none_or(|extension| extension != "html") {
        bail!(BadUsage(format!("`{}` is no name of a page\nhint: {hint}", page.display())));
    }
    let folder = page.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if page.is_dir() || !folder.is_dir() {
        bail!("`{}` cannot be written\nhint: `--html` names a file in a folder that is there", page.display());
    }
    if !page.exists() {
        return Ok(());
    }
    let hint = "only an earlier report is replaced: name another file, or move this one";
    let other = || anyhow::anyhow!("`{}` is there, and is no report of a replay\nhint: {hint}", page.display());
    if !page.is_file() {
        return Err(other());
    }
    let mut begin = Vec::new();
    let read = fs::File::open(page).and_then(|file| file.take(BEGIN).read_to_end(&mut begin));
    read.with_context(|| format!("`{}` is there and cannot be read", page.display()))?;
    if !begin.is_empty() && !html::is_ours(&begin) {
        return Err(other());
    }
    Ok(())
}

/// Policies to be tried out, as `flag` names them.
fn load(flag: &str, path: &Path, pin: Option<civil::Date>) -> anyhow::Result<Arc<Policies>> {
    if !path.exists() {
        bail!(
            "`{}` is not there\nhint: `{flag}` names a folder of policies, or a `turnpike.yaml` beside one",
            path.display()
        );
    }
    let loaded = config::load_to_try(path, pin);
    let loaded = loaded.map_err(|faults| anyhow::anyhow!("`{}` is at fault\n{faults}", path.display()))?;
    Ok(loaded.policies)
}

/// The same policies with the price rows of one instant at all times. Hours and rates of exchange stay those of each
/// request, so that a difference is the prices' alone.
fn with_prices_of(policies: Arc<Policies>, at: Timestamp) -> anyhow::Result<Policies> {
    let Some(mut policies) = Arc::into_inner(policies) else { bail!("the policies are in use") };
    let unpriced: Vec<String> = policies
        .candidates
        .iter()
        .filter(|candidate| !candidate.prices.is_empty() && in_force(&candidate.prices, at).is_none())
        .map(|candidate| candidate.label().to_string())
        .collect();
    if !unpriced.is_empty() {
        anstream::eprintln!(
            "warning: no price at that instant, so they keep those of each request: {}",
            unpriced.join(", ")
        );
    }
    for candidate in &mut policies.candidates {
        let row = in_force(&candidate.prices, at).map(|row| PriceRow {
            from: Timestamp::MIN,
            until: None,
            ..row.as_ref().clone()
        });
        if let Some(row) = row {
            Arc::make_mut(candidate).prices = std::iter::once(Arc::new(row)).collect();
        }
    }
    Ok(policies)
}

/// Policies that were kept beside the records, by hash.
struct Kept {
    folders: Vec<PathBuf>,
    known: HashMap<Arc<str>, Option<Arc<Before>>>,
    /// Told once.
    warned: bool,
}

struct Latest {
    policies: Arc<Policies>,
    pin: Option<civil::Date>,
}

impl Kept {
    fn beside(files: &[PathBuf]) -> Self {
        let mut folders: Vec<PathBuf> = files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
        folders.dedup();
        Self { folders, known: HashMap::new(), warned: false }
    }

    /// The policies of the latest record.
    fn latest(&mut self, files: &[PathBuf]) -> anyhow::Result<Option<Latest>> {
        let hash = stream::latest(files)?.map(|line| line.policy);
        let loaded = hash.and_then(|hash| self.load(&hash));
        Ok(loaded.map(|loaded| Latest { pin: loaded.server.catalog, policies: loaded.policies }))
    }

    fn load(&mut self, hash: &str) -> Option<config::Loaded> {
        let mut why = None;
        for folder in &self.folders {
            match config::recorded(folder, hash) {
                Ok(loaded) => return Some(loaded),
                Err(RecordedError::Gone(_)) => {}
                Err(error) => why = Some(error),
            }
        }
        if let Some(why) = why.filter(|_| !std::mem::replace(&mut self.warned, true)) {
            anstream::eprintln!("warning: {why}");
        }
        None
    }

    fn of(&mut self, hash: &Arc<str>) -> Option<Arc<Before>> {
        if let Some(known) = self.known.get(hash) {
            return known.clone();
        }
        let loaded = self.load(hash).map(|loaded| Arc::new(Before::new(loaded.policies)));
        self.known.insert(Arc::clone(hash), loaded.clone());
        loaded
    }
}

/// A replay under way.
struct Replay<'p> {
    kept: Kept,
    old: Option<Side<'p>>,
    new: Side<'p>,
    tallies: [Tally; 2],
    answers: Answers,
    changes: Changes,
    lately: Lately,
    answer: ReplayAnswer,
    recorded_budgets: Exhausted,
}

impl<'p> Replay<'p> {
    fn new(new: &'p Policies, old: Option<&'p Policies>, kept: Kept) -> Self {
        let answer = ReplayAnswer {
            old_policies: old.map_or_else(|| "recorded".to_owned(), |old| old.hash.to_string()),
            new_policies: new.hash.to_string(),
            not_followed: fences::not_followed(new),
            ..ReplayAnswer::default()
        };
        Self {
            kept,
            old: old.map(Side::new),
            new: Side::new(new),
            tallies: Default::default(),
            answers: Answers::default(),
            changes: Changes::default(),
            lately: Lately::default(),
            answer,
            recorded_budgets: Exhausted::new(),
        }
    }

    fn add(&mut self, line: &Line) {
        if line.shadow_of.is_some() {
            self.answer.shadows += 1;
            return;
        }
        self.lately.learn(line);
        self.answers.add(line);
        let before = self.kept.of(&line.policy);
        let before = before.as_deref();
        verify(&mut self.answer.verified, line, before.map(|before| before.policies.as_ref()));
        let old = match &mut self.old {
            Some(old) => old.fate(line, &self.lately, before),
            None => {
                fences::note_exhausted(&mut self.recorded_budgets, line, before);
                Fate::recorded(line, before.map(|before| before.policies.as_ref()))
            }
        };
        let new = self.new.fate(line, &self.lately, before);
        self.changes.add(line, &old, &new);
        self.tallies[0].add(&old);
        self.tallies[1].add(&new);
        let answer = &mut self.answer;
        answer.requests += 1;
        answer.since = Some(answer.since.map_or(line.at, |since| since.min(line.at)));
        answer.until = Some(answer.until.map_or(line.at, |until| until.max(line.at)));
    }

    fn finish(self) -> ReplayAnswer {
        let mut answer = self.answer;
        let [old, new] = self.tallies;
        let lengths = self.answers.lengths();
        let exhausted = self.old.map_or(self.recorded_budgets, |old| old.fences.exhausted);
        answer.old = old.finish(exhausted, &lengths);
        answer.new = new.finish(self.new.fences.exhausted, &lengths);
        answer.difference_nanousd = self.changes.difference;
        (answer.moves, answer.changed_most, answer.hours) = self.changes.finish();
        answer
    }
}

/// Makes every decision again under the policies that made it, and compares all numbers.
fn verify(verified: &mut VerifiedLine, line: &Line, policies: Option<&Policies>) {
    let again = policies.and_then(|policies| Again::new(policies, line, None).ok());
    for decision in &line.decisions {
        match &again {
            None => verified.unknown += 1,
            Some(again) => {
                let made = DecidedLine::from(&again.decide(&decision.asked, &Change::default()));
                if made == decision.decided { verified.same += 1 } else { verified.other += 1 }
            }
        }
    }
}
