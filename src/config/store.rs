//! `store:` of `turnpike.yaml`: where budgets are counted.

use std::path::Path;

use secrecy::SecretString;

use super::{diagnostic::Report, secrets::Secrets, tree::Node, units};
use crate::base::store::{LeaseConfig, RedisConfig, RedisPlace, StoreConfig};

/// The three ways to name a Redis.
const PLACES: [&str; 3] = ["redis", "cluster", "sentinel"];

/// What `node` says; faults are noted. `folder` is the file's.
pub(super) fn read(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node, folder: &Path) -> StoreConfig {
    if node.text().is_some() {
        return StoreConfig::Embedded;
    }
    let places: Vec<_> = node.entries().iter().filter(|(key, _)| PLACES.contains(&key.text.as_str())).collect();
    let [(key, value)] = &places[..] else {
        let (span, title) = match places.get(1) {
            Some((second, _)) => (second.span, "a store in two places"),
            None => (node.span, "a store without a place"),
        };
        let fault = report.fault(span, title);
        fault
            .label("one of them")
            .hint("write one of `redis: URL`, `cluster: [URL, …]` and `sentinel: {…}`, or `embedded`");
        return StoreConfig::Embedded;
    };
    let place = match key.text.as_str() {
        "redis" => url(report, secrets, value).map(RedisPlace::Single),
        "cluster" => Some(RedisPlace::Cluster(urls(report, secrets, value))),
        _ => sentinel(report, secrets, value),
    };
    let Some(place) = place else { return StoreConfig::Embedded };
    let mut config = RedisConfig::at(place);
    config.ca = node.word("ca").map(|path| folder.join(path));
    if let Some(name) = node.get("name") {
        config.name = deployment(report, name);
    }
    config.timeout = node.read("timeout", units::duration).unwrap_or(config.timeout);
    if let Some(lease) = node.get("lease") {
        let usual = LeaseConfig::default();
        config.lease = LeaseConfig {
            share_ppm: lease.read("share", units::share).unwrap_or(usual.share_ppm),
            ttl: lease.read("ttl", units::duration).unwrap_or(usual.ttl),
        };
    }
    StoreConfig::Redis(config)
}

/// An address; what is wrong with it is said without repeating it, since a password may be in it.
fn url(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node) -> Option<SecretString> {
    let text = filled(report, secrets, node)?;
    let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    if rest.is_none_or(str::is_empty) {
        let fault = report.fault(node.span, "not the address of a Redis");
        fault.label("expected `redis://` or `rediss://`").hint("write it as `redis://:${PASSWORD}@10.0.0.5:6379`");
        return None;
    }
    Some(SecretString::from(text))
}

fn filled(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node) -> Option<String> {
    match secrets.fill(node.text()?) {
        Ok(text) => Some(text),
        Err(unfilled) => {
            let hint = unfilled.hint.split(", or ").next().unwrap_or_default().to_owned();
            report.fault(node.span, unfilled.problem).label("nothing to fill in here").hint(hint);
            None
        }
    }
}

fn urls(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node) -> Vec<SecretString> {
    node.items().iter().filter_map(|item| url(report, secrets, item)).collect()
}

fn sentinel(report: &mut Report, secrets: &mut Secrets<'_>, node: &Node) -> Option<RedisPlace> {
    let sentinels = urls(report, secrets, node.get("sentinels")?);
    let password = node.get("password").and_then(|password| filled(report, secrets, password));
    let master = node.word("master")?.to_owned();
    Some(RedisPlace::Sentinel { sentinels, master, password: password.map(SecretString::from) })
}

/// The name is part of every key of the store, between braces.
fn deployment(report: &mut Report, node: &Node) -> String {
    let name = node.text().unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(plain) {
        let fault = report.fault(node.span, format!("`{name}` is no name for a deployment"));
        fault.label("part of every key of the store").hint("use letters, digits, `-`, `_` and `.`");
    }
    name.to_owned()
}
