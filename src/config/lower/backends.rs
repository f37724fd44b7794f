//! `backends:`: upstreams with their credentials and clocks.

use std::sync::Arc;

use secrecy::SecretString;

use super::{
    super::{close, tree::Key, tree::Node, units},
    Named, Work, fences,
    prices::Currencies,
    rent, servers,
};
use crate::{
    base::{
        catalog::{Account, Backend, Pick, Timeouts},
        fences::Owner,
        names::{AccountName, BackendName, Location},
        tenants::Limits,
        tier::Tier,
    },
    policy::balance,
    provider::{self, Provider},
};

/// All backends that could be read.
pub fn lower(work: &mut Work<'_, '_>, currencies: &Currencies) -> Named<BackendName, Backend> {
    let sections = work.sections;
    let entries = sections.table("backends").iter();
    entries
        .filter_map(|(key, node)| {
            Some((BackendName::from(key.text.as_str()), Arc::new(backend(work, key, node, currencies)?)))
        })
        .collect()
}

fn backend(work: &mut Work<'_, '_>, key: &Key, node: &Node, currencies: &Currencies) -> Option<Backend> {
    let dialect = dialect(work, node)?;
    let region = region(work, node, dialect);
    let mut off = off(work, node);
    let accounts = accounts(work, key, node, dialect, &mut off);
    let endpoints = servers::endpoints(work, key, node, dialect, region.as_deref(), &mut off);
    let discover = servers::discover(work, node, dialect);
    let name = BackendName::from(key.text.as_str());
    let own = fences::around(work, &Owner::Backend(name.clone()), node);
    let of_provider = fences::of_provider(work, dialect.name());
    Some(Backend {
        name,
        fences: own.iter().cloned().chain(of_provider).collect(),
        provider: dialect.name(),
        endpoints,
        discover,
        probe: servers::probe(work, node, dialect),
        accounts,
        pick: if node.word("pick") == Some("spread") { Pick::Spread } else { Pick::Order },
        balance: balance::by_name(node.word("balance").unwrap_or_default()).name(),
        location: node.word("location").map(Location::from),
        region,
        timeouts: node.get("timeouts").map(timeouts).unwrap_or_default(),
        rent: rent::rent(work, node, currencies),
        spill: rent::spill(work, node),
        tier: node.word("tier").map(Tier::parse).unwrap_or_default(),
        shows_reasoning: dialect.shows_reasoning(),
        max_in_flight: node.read("max_in_flight", units::count).and_then(|limit| u32::try_from(limit).ok()),
        off,
    })
}

fn dialect(work: &mut Work<'_, '_>, node: &Node) -> Option<&'static dyn Provider> {
    let place = node.get("provider")?;
    let name = place.text()?;
    let found = provider::by_name(name);
    if found.is_none() {
        let later = provider::LATER.iter().any(|(provider, _)| *provider == name);
        let names = provider::TABLE.iter().map(|provider| provider.name());
        if later {
            let fault = work.report.fault(place.span, format!("provider `{name}` comes with a later version"));
            fault.label("not in this version").hint("`openai_compatible` speaks to any server with OpenAI's dialect");
        } else {
            let fault = work.report.fault(place.span, format!("no provider `{name}`"));
            fault.label("not a dialect that is spoken here").hint(close::hint(name, names, ""));
        }
    }
    found
}

fn region(work: &mut Work<'_, '_>, node: &Node, dialect: &dyn Provider) -> Option<Arc<str>> {
    let place = node.get("region")?;
    let region = place.text()?;
    let mut sites = dialect.regions().to_vec();
    if sites.is_empty() {
        sites = work.catalog.regions_of(dialect.name());
    }
    if !sites.contains(&region) {
        let fault = work.report.fault(place.span, format!("`{}` has no site `{region}`", dialect.name()));
        fault.label("not a site").hint(close::hint(region, sites, "this provider has one site: leave `region` out"));
    }
    Some(Arc::from(region))
}

fn off(work: &mut Work<'_, '_>, node: &Node) -> Option<Arc<str>> {
    let place = node.get("off")?;
    let why = place.text()?;
    if matches!(why, "" | "true" | "false") {
        let fault = work.report.fault(place.span, "`off` says why");
        fault.label("not a reason").hint("write `off: moved to the new account`, or leave it out");
    }
    Some(Arc::from(why))
}

/// The credentials; a missing one switches the backend off where it says so.
fn accounts(
    work: &mut Work<'_, '_>,
    key: &Key,
    node: &Node,
    dialect: &dyn Provider,
    off: &mut Option<Arc<str>>,
) -> Vec<Account> {
    let (single, several) = (node.get("api_key"), node.get("accounts"));
    if let (Some(single), Some(several)) = (single, several) {
        let fault = work.report.fault(single.span, "both `api_key` and `accounts`");
        fault.label("one key").also(several.span, "several keys").hint("move the key into `accounts`");
    }
    let mut accounts: Vec<Account> = Vec::new();
    for account in several.map(Node::items).unwrap_or_default() {
        let (Some(name), Some(secret)) = (account.word("name"), account.get("api_key")) else { continue };
        if accounts.iter().any(|other| other.name.as_str() == name) {
            work.report.fault(account.span, format!("two accounts `{name}`")).label("here again").hint("rename one");
        }
        let api_key = api_key(work, node, secret, off);
        let limits = fences::limits(account.get("limits"), None);
        accounts.push(Account { name: AccountName::from(name), api_key, limits });
    }
    if several.is_none() {
        let api_key = single.and_then(|secret| api_key(work, node, secret, off));
        accounts.push(Account { name: AccountName::from("default"), api_key, limits: Limits::default() });
        if single.is_none() && !dialect.self_hosted() && dialect.key_variable().is_some() {
            let variable = dialect.key_variable().unwrap_or_default();
            let fault = work.report.fault(key.span, format!("backend `{}` needs `api_key`", key.text));
            fault.label("no credential").hint(format!("write `api_key: \"${{{variable}}}\"`"));
        }
    }
    accounts
}

fn api_key(work: &mut Work<'_, '_>, backend: &Node, secret: &Node, off: &mut Option<Arc<str>>) -> Option<SecretString> {
    let key = SecretString::from(filled(work, backend, secret, off)?);
    if provider::check_key(&key).is_err() {
        let fault = work.report.fault(secret.span, "a key that no HTTP header can carry");
        fault.label("goes into a header").hint("look for a line break, a blank or a character beyond ASCII in it");
    }
    Some(key)
}

/// The text of a secret; where it is missing, a fault, or the reason why the backend is off.
pub(super) fn filled(
    work: &mut Work<'_, '_>,
    backend: &Node,
    node: &Node,
    off: &mut Option<Arc<str>>,
) -> Option<String> {
    match work.secrets.fill(node.text()?) {
        Ok(text) => Some(text),
        Err(unfilled) if unfilled.missing && backend.word("if_missing_secret") == Some("off") => {
            if !work.secrets.lenient {
                off.get_or_insert_with(|| Arc::from(unfilled.problem));
            }
            None
        }
        Err(unfilled) => {
            work.report.fault(node.span, unfilled.problem).label("no secret here").hint(unfilled.hint);
            None
        }
    }
}

fn timeouts(node: &Node) -> Timeouts {
    let usual = Timeouts::default();
    let read = |key: &str, other| node.read(key, units::duration).unwrap_or(other);
    Timeouts {
        connect: read("connect", usual.connect),
        first_token: read("first_token", usual.first_token),
        idle: read("idle", usual.idle),
        total: read("total", usual.total),
    }
}
