//! `turnpike schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use crate::config;

/// What `schema` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the schema.
///
/// # Errors
/// When it cannot be written out.
pub fn run(_: Args) -> anyhow::Result<ExitCode> {
    anstream::println!("{}", serde_json::to_string_pretty(&config::schema())?);
    Ok(ExitCode::SUCCESS)
}
