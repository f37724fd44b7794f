//! `turnpike.yaml`: what a restart changes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::civil;
use secrecy::SecretString;

use super::{
    diagnostic::{Faults, Report, Span},
    files,
    secrets::Secrets,
    sections,
    shape::Shape,
    store,
    tree::{self, Node, Value},
    units,
};
use crate::base::{records::RecordsConfig, store::StoreConfig};

/// What `turnpike.yaml` says.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The operators' listener.
    pub admin: Admin,
    /// Certificate and key of the clients' listener; `None` = plain HTTP.
    pub tls: Option<Tls>,
    /// The folder of the policy files.
    pub policies: PathBuf,
    /// The folder of books and keys.
    pub journal: PathBuf,
    /// Where budgets are counted.
    pub store: StoreConfig,
    /// Catalog rows that begin after this day are not used; `None` = all are.
    pub catalog: Option<civil::Date>,
    /// How records of requests are kept; `None` = they are not.
    pub records: Option<RecordsConfig>,
    /// Bounds on what clients may send.
    pub limits: Limits,
    /// How long running requests may take after SIGTERM.
    pub drain: Duration,
    /// When a stream without an event gets its status line.
    pub stream_commit_after: Duration,
}

/// The operators' listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// Whether `/metrics` needs a token.
    pub metrics_need_token: bool,
    /// Who may do what.
    pub tokens: Vec<AdminToken>,
}

/// A token of the operators' listener.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// Who acts, in the books.
    pub name: String,
    /// The secret.
    pub token: SecretString,
    /// What it allows.
    pub may: Vec<Right>,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To read.
    Read,
    /// To make and revoke keys.
    Keys,
    /// To raise budgets.
    Budgets,
    /// To switch off and on.
    Switch,
}

/// Certificate and key, as paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Bounds on what clients may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub body: u64,
    /// Open client connections.
    pub connections: u64,
    /// Chat requests at once.
    pub in_flight: u32,
    /// The longest wait for a place.
    pub queue_wait: Duration,
    /// How late the gateway itself may be before it turns lower classes away.
    pub lag: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: Admin {
                listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
                metrics_need_token: false,
                tokens: Vec::new(),
            },
            tls: None,
            policies: PathBuf::from("policies"),
            journal: PathBuf::from("data"),
            store: StoreConfig::Embedded,
            catalog: None,
            records: Some(RecordsConfig::default()),
            limits: Limits {
                body: 32 << 20,
                connections: 20_000,
                in_flight: 20_000,
                queue_wait: Duration::from_secs(5),
                lag: Duration::from_millis(100),
            },
            drain: Duration::from_secs(600),
            stream_commit_after: Duration::from_secs(15),
        }
    }
}

impl ServerConfig {
    /// What `node`, the root of the file in `folder`, says; faults are noted.
    pub fn read(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node, folder: &Path) -> Self {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            let fault = report.fault(node.span, format!("expected keys, found {}", node.form()));
            fault.label("no key").hint("`turnpike.yaml` begins with a key such as `listen:`");
            return Self::default();
        }
        let misplaced = node.entries().iter().find(|(key, _)| is_of_policies(&key.text));
        if let Some((key, _)) = misplaced {
            let fault = report.fault(key.span, format!("`{}` is a section of the policies", key.text));
            let fault = fault.label("not a key of turnpike.yaml");
            fault.hint(
                "move it into a file of the folder `policies`; `turnpike check -c FOLDER` checks such a folder alone",
            );
            return Self::default();
        }
        sections::SERVER.check(report, node);
        let usual = Self::default();
        let path = |key: &str, other: &Path| folder.join(node.word(key).map_or(other, Path::new));
        let limits = node.get("limits");
        let limit =
            |key: &str, read: fn(&str) -> Result<u64, units::Unfit>| limits.and_then(|node| node.read(key, read));
        let time = |key: &str| limits.and_then(|node| node.read(key, units::duration));
        let server = Self {
            listen: node.read("listen", units::address).unwrap_or(usual.listen),
            tls: node
                .get("tls")
                .and_then(|tls| Some(Tls { cert: folder.join(tls.word("cert")?), key: folder.join(tls.word("key")?) })),
            policies: path("policies", &usual.policies),
            journal: path("journal", &usual.journal),
            store: node.get("store").map_or(usual.store, |node| store::read(report, secrets, node, folder)),
            catalog: node.read("catalog", units::day),
            records: node.get("records").map_or(usual.records, |node| records(report, node)),
            limits: Limits {
                body: limit("body", units::bytes).unwrap_or(usual.limits.body),
                connections: limit("connections", units::count).unwrap_or(usual.limits.connections),
                in_flight: limit("in_flight", units::count)
                    .and_then(|most| u32::try_from(most).ok())
                    .unwrap_or(usual.limits.in_flight),
                queue_wait: time("queue_wait").unwrap_or(usual.limits.queue_wait),
                lag: time("lag").unwrap_or(usual.limits.lag),
            },
            drain: node.read("drain", units::duration).unwrap_or(usual.drain),
            stream_commit_after: node.read("stream_commit_after", units::duration).unwrap_or(usual.stream_commit_after),
            admin: node.get("admin").map_or(usual.admin, |node| admin(report, secrets, node)),
        };
        server.check(report, node);
        server
    }

    /// Notes what cannot hold together: two listeners at one address, a file where the journal's folder would be.
    fn check(&self, report: &mut Report, node: &Node) {
        let (clients, operators) = (self.listen, self.admin.listen);
        let ip = |at: SocketAddr| at.ip();
        let same = ip(clients) == ip(operators) || ip(clients).is_unspecified() || ip(operators).is_unspecified();
        if clients.port() == operators.port() && clients.port() != 0 && same {
            let (own, other) = (node.get("listen"), node.get("admin").and_then(|admin| admin.get("listen")));
            let place = other.or(own).map(|node| node.span);
            let fault =
                report.fault_at(place, format!("`listen: {clients}` and `admin.listen: {operators}` are one place"));
            let fault = fault.label("taken by the other").hint("give the operators' listener another port");
            if let (Some(own), Some(_)) = (own, other) {
                fault.also(own.span, "clients connect here");
            }
        }
        if self.journal.exists() && !self.journal.is_dir() {
            let place = node.get("journal").map(|node| node.span);
            let fault = report.fault_at(place, format!("`{}` is no folder", self.journal.display()));
            fault.label("books and keys are kept in a folder").hint("name a folder; it is made where there is none");
        }
    }
}

/// A key of `turnpike.yaml` that names something which cannot be used.
pub struct WrongKey {
    /// The key, after those that it stands below.
    pub keys: &'static [&'static str],
    /// What is wrong.
    pub title: String,
    /// The words beside the place.
    pub label: &'static str,
    /// What to do.
    pub hint: String,
}

/// Faults that were found once the file at `path` had been read, with the places of their keys.
pub fn faults_of_keys(path: &Path, wrong: Vec<WrongKey>) -> Faults {
    let mut report = Report::default();
    let (file, source) = report.add(path.to_owned(), files::read(path).unwrap_or_default());
    let root = tree::parse(&mut report, file, &source.text).ok().flatten().unwrap_or_else(|| Node::empty(file));
    // The check hides what is secret.
    sections::SERVER.check(&mut report, &root);
    for WrongKey { keys, title, label, hint } in wrong {
        let found = keys.iter().try_fold(&root, |node, key| node.get(key));
        report.fault_at(found.map(|node| node.span), title).label(label).hint(hint);
    }
    report.into_faults()
}

/// Whether a key at the top stands in policy files, and not in `turnpike.yaml`.
pub(super) fn is_of_policies(key: &str) -> bool {
    let has = |shape: &Shape| shape.fields.iter().any(|field| field.key == key);
    has(&sections::POLICIES) && !has(&sections::SERVER)
}

fn admin(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node) -> Admin {
    let usual = ServerConfig::default().admin;
    let mut tokens: Vec<AdminToken> = Vec::new();
    for item in node.get("tokens").map(Node::items).unwrap_or_default() {
        let (Some(name), Some(place)) = (item.word("name"), item.get("token")) else { continue };
        if tokens.iter().any(|other| other.name == name) {
            report
                .fault(item.span, format!("two tokens `{name}`"))
                .label("here again")
                .hint("acts are booked by name: rename one");
        }
        let rights = item.get("may").map(Node::items).unwrap_or_default();
        let may = rights.iter().filter_map(Node::text).filter_map(right).collect();
        match secrets.fill(place.text().unwrap_or_default()) {
            Ok(token) if token.len() < 16 => {
                report
                    .fault(place.span, "a token of less than 16 characters")
                    .label("easily guessed")
                    .hint("make one with `openssl rand -hex 32`");
            }
            Ok(token) => tokens.push(AdminToken { name: name.to_owned(), token: SecretString::from(token), may }),
            Err(unfilled) => {
                let hint = unfilled.hint.split(", or write `if_missing").next().unwrap_or_default().to_owned();
                report.fault(place.span, unfilled.problem).label("no secret here").hint(hint);
            }
        }
    }
    Admin {
        listen: node.read("listen", units::address).unwrap_or(usual.listen),
        metrics_need_token: node.word("metrics") == Some("token"),
        tokens,
    }
}

/// `records: off`, or how large and how old files grow, and how much is kept.
fn records(report: &mut Report, node: &Node) -> Option<RecordsConfig> {
    if node.text() == Some("off") {
        return None;
    }
    let usual = RecordsConfig::default();
    let config = RecordsConfig {
        file_bytes: node.read("file", units::bytes).unwrap_or(usual.file_bytes),
        every: node.read("every", units::some_duration).unwrap_or(usual.every),
        keep_bytes: node.read("keep", units::bytes).unwrap_or(usual.keep_bytes),
        content_bytes: node.read("content", units::bytes).and_then(|bytes| usize::try_from(bytes).ok()),
    };
    if let Some(bytes) = config.content_bytes {
        check_content(report, node.get("content").map_or(node.span, |node| node.span), bytes);
    }
    let place = |key: &str| node.get(key).map_or(node.span, |node| node.span);
    if !(SMALLEST_FILE..=LARGEST_FILE).contains(&config.file_bytes) {
        let fault = report.fault(place("file"), "a file of records of that size");
        fault.label("too small or too large").hint("files of 1MiB to 1GiB are read in a moment and not too many");
    } else if config.keep_bytes < config.file_bytes.saturating_mul(2) {
        let fault = report.fault(place("keep"), "`keep` is less than two files of records");
        fault.label("the first would go before the second is full").hint("raise `keep`, or lower `file`");
    }
    Some(config)
}

/// Texts of clients on the disk are worth a word at every start.
fn check_content(report: &mut Report, place: Span, bytes: usize) {
    if (1..=MOST_CONTENT).contains(&bytes) {
        let warning = report.warning(place, "prompts and answers are kept on the disk");
        warning
            .label("beginning with so much of each")
            .hint("whoever reads the records' folder reads them; a team with `records: {content: never}` is left out");
    } else {
        let fault = report.fault(place, "records with so much of each text");
        fault.label("nothing, or more than 256KiB").hint("write 16KiB, or leave `content` out and keep no text");
    }
}

/// The most of a prompt or an answer that is kept: every request under way holds so much in memory.
const MOST_CONTENT: usize = 256 << 10;

/// Files of records are read whole, so that they have an end; each costs a call when the folder is looked through.
const SMALLEST_FILE: u64 = 1 << 20;
const LARGEST_FILE: u64 = 1 << 30;

fn right(word: &str) -> Option<Right> {
    match word {
        "read" => Some(Right::Read),
        "keys" => Some(Right::Keys),
        "budgets" => Some(Right::Budgets),
        "switch" => Some(Right::Switch),
        _ => None,
    }
}
