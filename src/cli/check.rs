//! `turnpike check`: everything that is wrong with the configuration, in one run.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::Timestamp;

use super::{bounds, cases, store_loss};
use crate::{
    base::store::{RedisConfig, StoreConfig},
    config::{self, Diagnostic, Environment, Loaded, WrongKey, cases::FOLDER},
    net::tls::{self, ServerTls, TlsError},
};

/// What `check` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's file, or a folder of policies; `turnpike.yaml` unless named, else the folder `policies`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints the faults and the policy tests that failed, or else the warnings and what there is.
///
/// # Errors
/// None: what is wrong with the configuration is printed, exit 1.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let usual = || {
        let file = Path::new("turnpike.yaml");
        let folder = Path::new("policies");
        if !file.exists() && folder.is_dir() { folder.to_owned() } else { file.to_owned() }
    };
    let path = args.config.unwrap_or_else(usual);
    let environment = |name: &str| std::env::var(name).ok();
    // The stream takes the colours out again where they are not wanted: no terminal, or `NO_COLOR`.
    match text(&path, &environment, Timestamp::now(), true) {
        Ok((warnings, summary)) => {
            anstream::eprint!("{warnings}");
            anstream::println!("{summary}");
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            anstream::eprint!("{faults}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The warnings and the summary, or else the faults, as `check` prints them.
///
/// # Errors
/// The text of all faults.
pub fn text(
    path: &Path,
    environment: Environment<'_>,
    now: Timestamp,
    colour: bool,
) -> Result<(String, String), String> {
    let loaded = config::load_at(path, environment, now).map_err(|faults| faults.render(colour))?;
    let unusable = unusable(&loaded);
    if !unusable.is_empty() {
        return Err(config::faults_of_keys(path, unusable).render(colour));
    }
    let tested = cases::run(&loaded, environment, now).map_err(|(faults, line)| faults.render(colour) + &line)?;
    let (untested, tested) = tested.map(|outcome| (outcome.warnings, format!("\n{}", outcome.summary))).unzip();
    let untested: Vec<Diagnostic> = untested.unwrap_or_default();
    let none = || format!("\npolicy tests: none in `{}`", loaded.server.policies.join(FOLDER).display());
    let tested = tested.unwrap_or_else(none);
    let all = loaded.warnings.iter().chain(&untested);
    let warnings = all.map(|warning| warning.render(colour) + "\n\n").collect();
    let bounds = bounds::lines(&loaded.policies, now).into_iter();
    let bounds =
        bounds.chain(store_loss::lines(&loaded.server.store, &loaded.policies)).map(|line| format!("\n{line}"));
    let summary = summary(&loaded, loaded.warnings.len() + untested.len());
    Ok((warnings, summary + &tested + &bounds.collect::<String>()))
}

/// Certificates and keys that `serve` would not start with: no other command reads them.
fn unusable(loaded: &Loaded) -> Vec<WrongKey> {
    let mut wrong = Vec::new();
    let mut note = |keys: &'static [&'static str], failed: &TlsError| {
        let text = failed.to_string();
        let (title, hint) = text.split_once("; hint: ").unwrap_or((&text, "paths are relative to turnpike.yaml"));
        wrong.push(WrongKey { keys, title: title.to_owned(), label: "cannot be used", hint: hint.to_owned() });
    };
    if let Some(tls) = &loaded.server.tls
        && let Err(failed) = ServerTls::load(&tls.cert, &tls.key)
    {
        let keys: &[&str] = match &failed {
            TlsError::Read { path, .. } | TlsError::Pem { path, .. } if *path == tls.cert => &["tls", "cert"],
            TlsError::Read { .. } | TlsError::Pem { .. } => &["tls", "key"],
            TlsError::Refused(_) => &["tls"],
        };
        note(keys, &failed);
    }
    if let StoreConfig::Redis(RedisConfig { ca: Some(ca), .. }) = &loaded.server.store
        && let Err(failed) = tls::client_config(Some(ca))
    {
        note(&["store", "ca"], &failed);
    }
    wrong
}

fn summary(loaded: &Loaded, warnings: usize) -> String {
    let policies = &loaded.policies;
    let routes = policies.routes.values().filter(|route| !route.implicit).count();
    let counts = [
        count(policies.backends.len(), "backend"),
        count(policies.models.len(), "model"),
        count(routes, "route"),
        count(policies.teams.len(), "team"),
        count(policies.keys.len(), "key"),
    ];
    let warnings = match warnings {
        0 => String::new(),
        warnings => format!("; {}", count(warnings, "warning")),
    };
    format!("ok: {}, policy {}{warnings}", counts.join(", "), policies.hash)
}

/// `1 fault`, `2 faults`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
