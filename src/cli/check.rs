//! `turnpike check`: every fault of the configuration and the policies, at once.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use crate::config;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "turnpike.yaml")]
    config: PathBuf,
}

/// Checks and tells.
///
/// # Errors
/// None: faults are what it is for.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match config::load(&args.config, &|name| std::env::var(name).ok()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                anstream::eprintln!("{}", warning.render(colour));
            }
            let policies = &loaded.policies;
            anstream::println!(
                "ok: {} backends, {} models, {} routes, {} teams, {} warnings, policy {}",
                policies.backends.len(),
                policies.models.len(),
                policies.routes.values().filter(|route| !route.implicit).count(),
                policies.teams.len(),
                loaded.warnings.len(),
                policies.hash,
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            anstream::eprint!("{}", faults.render(colour));
            Ok(ExitCode::FAILURE)
        }
    }
}
