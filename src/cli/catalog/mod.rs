//! `turnpike catalog diff`: what a newer set of the built-in catalog changes, and which routes move by it.

mod changes;
mod moves;
mod samples;

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use comfy_table::{Table, presets};
use jiff::{Timestamp, civil};
use serde_json::json;

use super::{flags, policies};
use crate::config::{self, Loaded, catalog};
pub use changes::{Change, changes};
pub use moves::{Moved, moves};

/// Arguments of `catalog`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What changes between two sets of the built-in catalog.
    Diff(Diff),
}

/// Arguments of `catalog diff`.
#[derive(Debug, clap::Args)]
struct Diff {
    /// The older set; `catalog:` of the configuration unless named.
    #[arg(long, value_name = "DATE", value_parser = flags::day)]
    from: Option<civil::Date>,
    /// The newer set; the newest one unless named.
    #[arg(long, value_name = "DATE", value_parser = flags::day)]
    to: Option<civil::Date>,
    /// Decide the sample requests at that instant; now unless named.
    #[arg(long, value_name = "TIME", value_parser = flags::instant)]
    at: Option<Timestamp>,
    /// The server's file, or a folder of policies; `turnpike.yaml` unless named, else the folder `policies`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Changes of models that the policies do not use, too.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the catalog's commands.
///
/// # Errors
/// A configuration at fault, dates that stand the wrong way round.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Diff(args) = args.command;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let loaded = policies::load(args.config.as_deref(), at)?;
    let pinned = loaded.as_ref().and_then(|loaded| loaded.server.catalog);
    let Some(from) = args.from.or(pinned) else {
        bail!(
            "the configuration pins no catalog, so it follows the newest\nhint: name the older set, as in `--from {}`",
            catalog::built_in().date
        );
    };
    let to = args.to.unwrap_or(catalog::built_in().date);
    if to < from {
        bail!(flags::BadUsage(format!("`--to {to}` is before `--from {from}`\nhint: `--from` is the older set")));
    }
    let report = report(from, to, at, loaded.as_ref(), args.all)?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        anstream::println!("{}", report.table());
    }
    Ok(ExitCode::SUCCESS)
}

/// What `catalog diff` tells.
pub struct Report {
    from: civil::Date,
    to: civil::Date,
    at: Timestamp,
    /// Changes that are shown.
    pub changes: Vec<Change>,
    /// How many more there are, of models that the policies do not use.
    pub others: usize,
    /// Routes whose decision differs; `None` without policies.
    pub moves: Option<Vec<Moved>>,
}

/// Lays two sets side by side.
///
/// # Errors
/// Policies that one of the sets does not fit.
pub fn report(
    from: civil::Date,
    to: civil::Date,
    at: Timestamp,
    loaded: Option<&Loaded>,
    all: bool,
) -> anyhow::Result<Report> {
    let (older, newer) = (catalog::as_of(from), catalog::as_of(to));
    let every = changes(&older, &newer, loaded.map(|loaded| loaded.policies.as_ref()));
    let known = every.len();
    let shown: Vec<Change> = every.into_iter().filter(|change| all || loaded.is_none() || change.used).collect();
    let moves = loaded.map(|loaded| {
        let at_set = |date| {
            config::at_catalog(loaded, Some(date), &policies::environment, at)
                .map_err(|faults| anyhow::anyhow!("the policies do not fit the catalog of {date}\n{faults}"))
        };
        Ok::<_, anyhow::Error>(moves(&at_set(from)?.policies, &at_set(to)?.policies, at))
    });
    Ok(Report { from, to, at, others: known - shown.len(), changes: shown, moves: moves.transpose()? })
}

impl Report {
    fn json(&self) -> serde_json::Value {
        json!({
            "from": self.from.to_string(),
            "to": self.to.to_string(),
            "at": self.at.to_string(),
            "changes": self.changes.iter().map(Change::json).collect::<Vec<_>>(),
            "changes_of_unused_models": self.others,
            "moves": self.moves.as_ref().map(|moves| moves.iter().map(Moved::json).collect::<Vec<_>>()),
            "sample_requests": samples::all().len(),
        })
    }

    fn table(&self) -> String {
        let mut text = format!("catalog {} → {}\n", self.from, self.to);
        if self.changes.is_empty() {
            text.push_str("nothing changes\n");
        } else {
            let mut table = Table::new();
            table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
            table.set_header(["what", "of", "before", "after", "since", "source"]);
            for change in &self.changes {
                table.add_row(change.cells());
            }
            text.push_str(&format!("{table}\n"));
        }
        if self.others > 0 {
            text.push_str(&format!("{} more of models that the policies do not use (`--all`)\n", self.others));
        }
        match self.moves.as_deref() {
            None => text.push_str("no policies here, so no route is tried\n"),
            Some([]) => text.push_str(&format!("no route moves for {} sample requests\n", samples::all().len())),
            Some(moves) => {
                let mut table = Table::new();
                table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
                table.set_header(["route", "sample request", "goes to", "USD", "would go to", "USD"]);
                for moved in moves {
                    table.add_row(moved.cells());
                }
                text.push_str(&format!(
                    "routes that move, of {} sample requests each\n{table}\n",
                    samples::all().len()
                ));
            }
        }
        text.trim_end().to_owned()
    }
}
