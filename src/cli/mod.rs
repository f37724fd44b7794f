//! Layer 4: one file a command. Data goes to stdout, everything else to stderr; exit 0 done, 1 failed, 2 bad usage.

mod audit;
mod books;
mod bounds;
mod budget;
mod cases;
pub mod catalog;
pub mod check;
mod damage;
mod demo;
mod explain;
mod flags;
mod import;
mod key;
mod policies;
mod prices;
mod records;
mod remote;
mod replay;
mod run;
mod schema;
mod score;
mod scores;
mod serve;
mod store_loss;
mod switch;
mod usage;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// A model-routing gateway: one endpoint, a policy decides, the cost is known.
#[derive(Debug, Parser)]
#[command(name = "turnpike", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway.
    Serve(serve::Args),
    /// Start the gateway with simulated backends and live traffic; needs no key and no network.
    Demo(demo::Args),
    /// Validate the configuration and every policy file, all faults at once.
    Check(check::Args),
    /// What would be decided for a request, and why.
    Explain(explain::Args),
    /// What was decided for a request, and why, from the records.
    Why(explain::WhyArgs),
    /// Recorded requests, decided again under other policies or prices: what changes in cost, quality and time.
    Replay(replay::Args),
    /// Make, list, rotate and revoke client keys.
    Key(key::Args),
    /// Budgets now; a raise until a date, with a reason.
    Budget(budget::Args),
    /// Switch a backend, provider, model, team or key off, at all gateways at once; or list what is off.
    Off(switch::Off),
    /// Switch it on again.
    On(switch::On),
    /// Spend and tokens from the books.
    Usage(Box<usage::Args>),
    /// Prove that the books balance, or compare them with a vendor's bill; exit 1 when they differ.
    Audit(Box<audit::Args>),
    /// Bring the books to another place.
    Books(books::ship::Args),
    /// The register of prices: every row with its dates, source and currency, and what is in force.
    Prices(prices::Args),
    /// The register of scores: every row with its source and weight, and the number that they come to.
    Scores(scores::Args),
    /// What a newer set of the built-in catalog changes, and which routes move.
    Catalog(catalog::Args),
    /// Another gateway's configuration or price table as policies.
    Import(import::Args),
    /// Run a benchmark suite against models, and append what comes of it to a scores file.
    Score(Box<score::Args>),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::Args),
}

/// Runs one command line and gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers (0), the rest is bad usage (2).
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Why(args) => explain::why(args),
        Command::Replay(args) => replay::run(args),
        Command::Key(args) => key::run(args),
        Command::Budget(args) => budget::run(args),
        Command::Off(args) => switch::off(args),
        Command::On(args) => switch::on(args),
        Command::Usage(args) => usage::run(*args),
        Command::Audit(args) => audit::run(*args),
        Command::Books(args) => books::ship::run(args),
        Command::Prices(args) => prices::run(args),
        Command::Scores(args) => scores::run(args),
        Command::Catalog(args) => catalog::run(args),
        Command::Import(args) => import::run(args),
        Command::Score(args) => score::run(*args),
        Command::Schema(args) => schema::run(args),
    };
    done.unwrap_or_else(|error| {
        anstream::eprintln!("error: {}", told(&error));
        if error.is::<flags::BadUsage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

/// An error with its causes. Some say their cause themselves, and none is told twice.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.is_empty() {
            cause
        } else if told.contains(&cause) {
            told
        } else {
            format!("{told}: {cause}")
        }
    })
}
