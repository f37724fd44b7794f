//! `turnpike prices`: the register of prices, as it stands at an instant.

mod table;
mod view;

use std::{path::PathBuf, process::ExitCode};

use jiff::Timestamp;

use super::{flags, policies};
use crate::config;
pub use view::{Nano, Offer, of_catalog};

/// Arguments of `prices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this one, with every row: a model, its name in the catalog, an alias, or what a vendor calls it.
    model: Option<String>,
    /// As of that instant, as in `2025-02-01T03:00+08:00`; now unless named.
    #[arg(long, value_name = "TIME", value_parser = flags::instant)]
    at: Option<Timestamp>,
    /// The server's file, or a folder of policies; `turnpike.yaml` unless named, else the folder `policies`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The whole built-in catalog, and not only what the policies use.
    #[arg(long)]
    catalog: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the register.
///
/// # Errors
/// A configuration at fault, a model that nobody sells.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let at = args.at.unwrap_or_else(Timestamp::now);
    let loaded = policies::load(args.config.as_deref(), Timestamp::now())?;
    let currencies = loaded.as_ref().map(|loaded| loaded.policies.currencies.clone()).unwrap_or_default();
    let set = loaded.as_ref().and_then(|loaded| loaded.server.catalog).map(config::catalog::as_of);
    let set = set.as_deref().unwrap_or_else(|| config::catalog::built_in());
    let own = loaded.as_ref().filter(|_| !args.catalog).map(|loaded| view::of_policies(&loaded.policies));
    let own = own.unwrap_or_default();
    let everything = || view::of_catalog(set);
    let offers = match &args.model {
        None if own.is_empty() => everything(),
        None => own,
        Some(wanted) => {
            let alias = loaded.as_ref().and_then(|loaded| loaded.policies.aliases.get(wanted)).unwrap_or(wanted);
            let mut found = view::named(own, alias);
            if found.is_empty() {
                found = view::named(everything(), alias);
            }
            if found.is_empty() {
                let all = everything();
                let names = all.iter().flat_map(Offer::names);
                let hint = match config::closest(wanted, names) {
                    Some(close) => close,
                    None => {
                        "`turnpike prices` lists what your policies use, `turnpike prices --catalog` all".to_owned()
                    }
                };
                anyhow::bail!("no price of `{wanted}` is known\nhint: {hint}");
            }
            found
        }
    };
    let view = view::View { at, catalog: set.date, currencies: &currencies, offers: &offers };
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&view.json())?);
    } else if args.model.is_some() {
        anstream::println!("{}", table::detailed(&view));
    } else {
        anstream::println!("{}", table::overview(&view));
    }
    Ok(ExitCode::SUCCESS)
}
