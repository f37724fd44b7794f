//! Layer 3: the only reader of files: load, lower, diagnose, watch.
//!
//! A load goes through five steps, and every step goes on after a fault, so that one run tells all: files become
//! texts, texts become trees that know where everything stands ([`tree`]), trees are checked against tables of keys
//! ([`sections`]), files are merged ([`merge`]), and what they hold is lowered to what the gateway decides by
//! ([`lower`]).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{Timestamp, civil};
use sha2::{Digest, Sha256};

use crate::{base::store::StoreConfig, policy::Policies};

mod allowances;
pub mod cases;
pub mod catalog;
mod close;
pub mod diagnostic;
mod environment;
mod files;
mod hidden;
pub mod import;
mod kept;
mod lower;
mod merge;
mod recorded;
mod schema;
mod secrets;
mod sections;
mod server;
mod shape;
mod store;
mod tree;
mod units;
pub mod watch;

pub use allowances::quota;
pub use close::{closest, hint as close_names};
pub use diagnostic::{Diagnostic, Faults, Severity};
pub use environment::{NoKeys, from_environment};
pub use kept::{keep, load_or_kept};
pub use recorded::{RecordedError, keep_recorded, load_to_try, recorded};
pub use schema::schema;
pub use secrets::Environment;
pub use server::{Admin, AdminToken, Limits, Right, ServerConfig, Tls};
pub use server::{WrongKey, faults_of_keys};
pub use units::{Unfit, day, decimal, duration, instant, usd};

use diagnostic::{Report, Span};
use merge::Sections;
use secrets::Secrets;
use watch::Seen;

/// A configuration without a fault.
pub struct Loaded {
    /// What a restart changes.
    pub server: ServerConfig,
    /// What operators edit.
    pub policies: Arc<Policies>,
    /// What is doubtful, by file and line.
    pub warnings: Vec<Diagnostic>,
    /// What to watch: the policies' folder and the files of secrets, as they were when they were read.
    pub sources: Vec<Seen>,
    /// The policy files as they were read.
    pub texts: Vec<(PathBuf, String)>,
    /// Keys of the environment whose vendor comes with a later version: (provider, variable). Only without a file.
    pub later: Vec<(&'static str, &'static str)>,
    /// Variables and files of secrets that were not there.
    pub missing: Vec<String>,
}

/// Loads `turnpike.yaml` and its folder of policies. A folder in its place holds policies only, and everything of the
/// server is as usual.
///
/// # Errors
/// All faults of all files.
pub fn load(path: &Path, env: Environment<'_>) -> Result<Loaded, Faults> {
    load_at(path, env, Timestamp::now())
}

/// [`load`] as of `now`, which only warnings depend on.
///
/// # Errors
/// All faults of all files.
pub fn load_at(path: &Path, env: Environment<'_>, now: Timestamp) -> Result<Loaded, Faults> {
    load_with(path, Secrets::new(env), now, None)
}

/// [`load_at`] with these secrets; `catalog` is the pin of a folder, which has no `turnpike.yaml` to say one.
fn load_with(
    path: &Path,
    mut secrets: Secrets<'_>,
    now: Timestamp,
    catalog: Option<civil::Date>,
) -> Result<Loaded, Faults> {
    let mut report = Report::default();
    let (server, places) = if path.is_dir() {
        (ServerConfig { policies: path.to_owned(), catalog, ..ServerConfig::default() }, Places::default())
    } else {
        match files::read(path) {
            Ok(text) => read_server(&mut report, &mut secrets, path.to_owned(), text),
            Err(problem) => {
                let hint = "name it with `-c`; without one, `turnpike serve` takes keys from the environment";
                let list = vec![Diagnostic::nowhere(Severity::Fault, problem, hint)];
                return Err(Faults { list, sources: Vec::new() });
            }
        }
    };
    if places.elsewhere {
        // A policy file in the place of `turnpike.yaml`: what else is missing follows from that.
        return Err(report.into_faults());
    }
    let folder = Seen::now(server.policies.clone());
    let texts = files::policies(&mut report, &server.policies, places.policies);
    watched(folder, &mut secrets, |secrets| lower_texts(report, secrets, server, places, texts, now))
}

/// Loads the policies anew; what `turnpike.yaml` says stays.
///
/// # Errors
/// All faults of all files.
pub fn load_policies(server: &ServerConfig, env: Environment<'_>) -> Result<Loaded, Faults> {
    let (mut report, mut secrets) = (Report::default(), Secrets::new(env));
    let folder = Seen::now(server.policies.clone());
    let texts = files::policies(&mut report, &server.policies, None);
    let (server, now) = (server.clone(), Timestamp::now());
    watched(folder, &mut secrets, |secrets| lower_texts(report, secrets, server, Places::default(), texts, now))
}

/// The same configuration as of another set of the built-in catalog; `None` = the newest.
///
/// # Errors
/// All faults: names that only a newer set knows are missing from an older one.
pub fn at_catalog(
    loaded: &Loaded,
    date: Option<civil::Date>,
    env: Environment<'_>,
    now: Timestamp,
) -> Result<Loaded, Faults> {
    let server = ServerConfig { catalog: date, ..loaded.server.clone() };
    let (report, texts) = (Report::default(), loaded.texts.clone());
    lower_texts(report, &mut Secrets::new(env), server, Places::default(), texts, now)
}

/// The same policies with more texts beside them, for what runs within one process.
///
/// # Errors
/// All faults.
pub fn with_texts(
    loaded: &Loaded,
    more: Vec<(PathBuf, String)>,
    env: Environment<'_>,
    now: Timestamp,
) -> Result<Loaded, Faults> {
    let texts = loaded.texts.iter().cloned().chain(more).collect();
    lower_texts(Report::default(), &mut Secrets::new(env), loaded.server.clone(), Places::default(), texts, now)
}

/// Adds what a load has read to what comes of it, good or not. `folder` was looked at before it was read: a change in
/// between must not be lost.
fn watched<'e>(
    folder: Seen,
    secrets: &mut Secrets<'e>,
    load: impl FnOnce(&mut Secrets<'e>) -> Result<Loaded, Faults>,
) -> Result<Loaded, Faults> {
    let mut result = load(secrets);
    let mut sources = vec![folder];
    sources.append(&mut secrets.files);
    match &mut result {
        Ok(loaded) => loaded.sources = sources,
        Err(faults) => faults.sources = sources,
    }
    result
}

/// Loads texts that stand in no file: for tests, the demo and benches. A text whose path ends in `turnpike.yaml` is
/// the server's; without one, everything of it is as usual. `now` is for warnings only.
///
/// # Errors
/// All faults of all texts.
pub fn from_texts(files: &[(PathBuf, String)], env: Environment<'_>, now: Timestamp) -> Result<Loaded, Faults> {
    let mut report = Report::default();
    let mut secrets = Secrets::new(env);
    let is_server = |path: &Path| path.file_name().is_some_and(|name| name == "turnpike.yaml");
    let (server, places) = match files.iter().find(|(path, _)| is_server(path)) {
        Some((path, text)) => read_server(&mut report, &mut secrets, path.clone(), text.clone()),
        None => Default::default(),
    };
    let texts = files.iter().filter(|(path, _)| !is_server(path)).cloned().collect();
    lower_texts(report, &mut secrets, server, places, texts, now)
}

/// Where `turnpike.yaml` says what may turn out wrong later.
#[derive(Default)]
struct Places {
    listen: Option<Span>,
    policies: Option<Span>,
    catalog: Option<Span>,
    /// The file is one of policies.
    elsewhere: bool,
}

fn read_server(report: &mut Report, secrets: &mut Secrets<'_>, path: PathBuf, text: String) -> (ServerConfig, Places) {
    let (file, source) = report.add(path, text);
    let folder = source.path.parent().unwrap_or(Path::new(""));
    // An empty file says that everything is as usual.
    let root = tree::parse(report, file, &source.text).ok().flatten().unwrap_or_else(|| tree::Node::empty(file));
    let place = |key: &str| root.get(key).map(|node| node.span);
    let elsewhere = root.entries().iter().any(|(key, _)| server::is_of_policies(&key.text));
    let places = Places { listen: place("listen"), policies: place("policies"), catalog: place("catalog"), elsewhere };
    (ServerConfig::read(report, secrets, &root, folder), places)
}

/// The common end of every load: parse, merge, lower, and tell.
fn lower_texts(
    mut report: Report,
    secrets: &mut Secrets<'_>,
    server: ServerConfig,
    places: Places,
    mut texts: Vec<(PathBuf, String)>,
    now: Timestamp,
) -> Result<Loaded, Faults> {
    texts.sort_by(|a, b| a.0.cmp(&b.0));
    let hash = hash(&texts, server.catalog);
    let (mut roots, mut unreadable) = (Vec::new(), false);
    for (path, text) in texts.clone() {
        let (file, source) = report.add(path, text);
        match tree::parse(&mut report, file, &source.text) {
            Ok(root) => roots.extend(root),
            Err(tree::Unreadable) => unreadable = true,
        }
    }
    let sections = Sections::merge(&mut report, roots);
    if unreadable {
        // Names of a file that cannot be read would all be missed elsewhere.
        return Err(report.into_faults());
    }
    let (newest, followed) = (catalog::built_in(), server.catalog.map(catalog::as_of));
    let catalog = followed.as_deref().unwrap_or(newest);
    let mut work = lower::Work { report: &mut report, sections: &sections, catalog, newest, secrets, now };
    let policies = lower::lower(&mut work, hash);
    let hidden = lower::warnings::hidden_prices(&work, &policies);
    if matches!(server.store, StoreConfig::Redis(_)) {
        lower::warnings::counted_apart(&mut work);
    }
    check_pin(&mut report, &server, places.catalog, &hidden, now);
    if texts.is_empty() && server.policies.is_dir() {
        let title = format!("no policies are in `{}`", server.policies.display());
        let warning = report.warning_at(places.policies, title).label("an empty folder");
        warning
            .hint("write files such as `main.yaml` into it; subfolders and names with a dot before them are not read");
    }
    check_open(&mut report, &server, places.listen, &policies);
    let warnings = report.finish()?;
    let (sources, later, missing) = (Vec::new(), Vec::new(), std::mem::take(&mut secrets.missing));
    Ok(Loaded { server, policies: Arc::new(policies), warnings, sources, texts, later, missing })
}

/// What a pinned catalog charges by while the newest one has other prices.
fn check_pin(report: &mut Report, server: &ServerConfig, place: Option<Span>, hidden: &[String], now: Timestamp) {
    if let Some(date) = server.catalog.filter(|date| lower::idle::later_than(*date, now)) {
        let warning = report.warning_at(place, format!("`catalog: {date}` is a day to come"));
        warning
            .label("nothing is pinned until then")
            .hint(format!("write the newest set's, `{}`", catalog::built_in().date));
    }
    if let (Some(date), [first, ..]) = (server.catalog, hidden) {
        let others = match hidden.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let title = format!("`catalog: {date}` hides newer prices of `{first}`{others}");
        let warning = report.warning_at(place, title).label("an older set");
        warning.hint("see `turnpike catalog diff`, then move the date");
    }
}

/// A gateway that anybody may reach serves nobody without a key: `serve` refuses to start. Only a warning here, since
/// `key create` reads the same file to make the first one.
fn check_open(report: &mut Report, server: &ServerConfig, place: Option<Span>, policies: &Policies) {
    let stored = server.journal.join("keys.redb").exists();
    if !server.listen.ip().is_loopback() && policies.keys.is_empty() && !stored {
        let title = format!("`listen: {}` without any client key", server.listen);
        let hint = "make one with `turnpike key create`, or listen on 127.0.0.1";
        report.warning_at(place, title).label("`serve` refuses to start so").hint(hint);
    }
}

/// Twelve hexadecimal digits of the SHA-256 of all that decisions depend on: the texts in the order of their paths, the
/// built-in catalog and its pin.
fn hash(texts: &[(PathBuf, String)], pin: Option<civil::Date>) -> Arc<str> {
    let mut digest = Sha256::new();
    for (_, text) in texts {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    }
    match pin {
        // The same rows in every version.
        Some(pin) => digest.update(pin.to_string()),
        None => digest.update(catalog::digest()),
    }
    let hex: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Arc::from(hex)
}

#[cfg(test)]
mod tests;
