//! `turnpike scores`: the register of benchmark scores with where each comes from, and what the fit makes of them.

mod table;
mod view;

use std::{path::PathBuf, process::ExitCode};

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{flags, policies};
use crate::{
    base::{
        facts::Category,
        scores::{Scores, Trust, account::Account},
    },
    config::{self, catalog::Catalog},
    policy::Policies,
};

/// Arguments of `scores`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this one, with every row: a model, its name in the catalog, or an alias.
    model: Option<String>,
    /// What was known on that day, as in `2025-02-01`; today unless named.
    #[arg(long, value_name = "DAY", value_parser = flags::day)]
    at: Option<civil::Date>,
    /// Only this category.
    #[arg(long, value_parser = flags::category)]
    category: Option<Category>,
    /// The server's file, or a folder of policies; `turnpike.yaml` unless named, else the folder `policies`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// All models of the register, and not only those of the policies.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A model under the operator's name, with its account.
pub struct Known<'a> {
    /// The operator's name, or the register's.
    pub name: String,
    /// `None` = no row names it.
    pub account: Option<&'a Account<'a>>,
}

/// Prints the register.
///
/// # Errors
/// A configuration at fault, a model that nobody knows.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let day = args.at.unwrap_or_else(|| Timestamp::now().to_zoned(TimeZone::UTC).date());
    let category = args.category;
    let loaded = policies::load(args.config.as_deref(), Timestamp::now())?;
    let built_in = loaded.is_none().then(|| of_catalog(config::catalog::built_in()));
    let policies = loaded.as_ref().map(|loaded| loaded.policies.as_ref());
    let Some(scores) = policies.map(|policies| &policies.scores).or(built_in.as_ref()) else {
        anyhow::bail!("there is no register");
    };
    let accounts = scores.accounts(day);
    let known = match &args.model {
        Some(model) => one(model, policies, &accounts)?,
        None => many(policies.filter(|_| !args.all), &accounts),
    };
    let view = view::View { day, category, scores, known: &known };
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&view.json())?);
    } else if args.model.is_some() {
        anstream::println!("{}", table::detailed(&view));
    } else {
        anstream::println!("{}", table::overview(&view));
    }
    Ok(ExitCode::SUCCESS)
}

/// The register of the catalog alone, with the usual trust.
fn of_catalog(catalog: &Catalog) -> Scores {
    Scores::new(catalog.scores.clone(), catalog.benchmarks.clone(), Trust::default())
}

fn find<'a>(accounts: &'a [Account<'a>], name: &str) -> Option<&'a Account<'a>> {
    accounts.iter().find(|account| account.model.as_str() == name)
}

fn one<'a>(wanted: &str, policies: Option<&Policies>, accounts: &'a [Account<'a>]) -> anyhow::Result<Vec<Known<'a>>> {
    let alias = policies.and_then(|policies| policies.aliases.get(wanted)).map_or(wanted, String::as_str);
    let model = policies.and_then(|policies| policies.models.get(alias));
    let name = model.and_then(|model| model.catalog.as_ref()).map_or(alias, |name| name.as_str());
    let account = find(accounts, name);
    if model.is_none() && account.is_none() {
        let models = policies.into_iter().flat_map(|policies| policies.models.keys()).map(|name| name.as_str());
        let names: Vec<&str> = models.chain(accounts.iter().map(|account| account.model.as_str())).collect();
        let hint = config::close_names(wanted, names, "the register is empty on that day");
        anyhow::bail!("no score of `{wanted}` is known\nhint: {hint}");
    }
    Ok(vec![Known { name: alias.to_owned(), account }])
}

fn many<'a>(policies: Option<&Policies>, accounts: &'a [Account<'a>]) -> Vec<Known<'a>> {
    let Some(policies) = policies else {
        let known = |account: &'a Account<'a>| Known { name: account.model.to_string(), account: Some(account) };
        return accounts.iter().map(known).collect();
    };
    let models = policies.models.values();
    let known = |model: &std::sync::Arc<crate::base::catalog::Model>| {
        let name = model.catalog.as_ref().unwrap_or(&model.name);
        Known { name: model.name.to_string(), account: find(accounts, name) }
    };
    models.map(known).collect()
}

/// Parts per million in whole per cent, rounded.
pub fn percent(ppm: u32) -> u32 {
    ppm.saturating_add(5_000) / 10_000
}

/// The word for who measured.
pub const fn by(by: crate::base::scores::By) -> &'static str {
    match by {
        crate::base::scores::By::Vendor => "vendor",
        crate::base::scores::By::Independent => "independent",
        crate::base::scores::By::Own => "own",
    }
}

/// The day on which a row counts half.
pub fn half_day(scores: &Scores, date: civil::Date) -> Option<civil::Date> {
    scores.trust().half_day(date)
}
