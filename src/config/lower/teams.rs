//! `teams:`, `defaults.team` and `keys:`: who pays, within which fences, and by which key.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    super::{allowances, close, tree::Key as Name, tree::Node, units},
    Work, fences,
};
use crate::base::{
    fences::{Fence, Owner},
    hex,
    names::{KeyId, Location, TeamName},
    priority::Priority,
    tenants::{Allowance, Key, Midstream, OnEmpty, Team, UserSource},
};

/// The team that pays while the gateway is open.
const DEFAULT: &str = "default";

type Teams = HashMap<TeamName, Arc<Team>>;

/// Teams and keys.
pub fn lower(work: &mut Work<'_, '_>) -> (Teams, HashMap<KeyId, Arc<Key>>) {
    let sections = work.sections;
    let usual = sections.find("defaults", "team").map(|(_, node)| node);
    if let Some(usual) = usual {
        check(work, usual);
    }
    let mut teams = Teams::new();
    for (name, node) in sections.table("teams") {
        check(work, node);
        check_parents(work, name, node);
    }
    for (name, _) in sections.table("teams") {
        team(work, &name.text, usual, &mut teams, 0);
    }
    if !teams.contains_key(DEFAULT) {
        let open = made(DEFAULT, None, None, usual);
        teams.insert(open.name.clone(), Arc::new(open));
    }
    (teams, keys(work))
}

/// Notes what a team names that is not there, and what is wrong with its budgets.
fn check(work: &mut Work<'_, '_>, node: &Node) {
    let sections = work.sections;
    for place in node.get("may_use").map(Node::items).unwrap_or_default() {
        let Some(name) = place.text() else { continue };
        let mut names = sections.names("routes").chain(sections.names("models")).chain(sections.names("aliases"));
        if !names.clone().any(|known| known == name) {
            let hint = close::hint(name, names.by_ref().collect::<Vec<_>>(), "define it under `routes:` or `models:`");
            let fault = work.report.fault(place.span, format!("no route, model or alias `{name}`"));
            fault.label("not defined").hint(hint);
        }
    }
    fences::check(work, node);
    if let Some(users) = node.get("per_user") {
        fences::check(work, users);
    }
}

/// Notes a parent that is not there, and a team that is above itself.
fn check_parents(work: &mut Work<'_, '_>, name: &Name, node: &Node) {
    let Some(place) = node.get("parent") else { return };
    let Some(parent) = place.text() else { return };
    if !work.known("teams", "team", parent, place.span) {
        return;
    }
    let sections = work.sections;
    let mut chain = vec![name.text.as_str()];
    let mut above = Some(parent);
    while let Some(next) = above.filter(|_| chain.len() <= sections.table("teams").len()) {
        chain.push(next);
        if next == name.text && chain.iter().all(|other| *other >= name.text.as_str()) {
            let fault = work.report.fault(place.span, format!("team `{next}` is above itself"));
            fault.label(chain.join(" → ")).hint("take one `parent` out");
            return;
        }
        above = sections.find("teams", next).and_then(|(_, node)| node.word("parent"));
    }
}

/// The team of that name with all teams above it; `depth` ends a cycle, which is a fault already.
fn team(work: &Work<'_, '_>, name: &str, usual: Option<&Node>, teams: &mut Teams, depth: usize) -> Option<Arc<Team>> {
    if let Some(team) = teams.get(name) {
        return Some(Arc::clone(team));
    }
    let sections = work.sections;
    let (_, node) = sections.find("teams", name)?;
    let above = node.word("parent").filter(|_| depth < 64);
    let parent = above.and_then(|parent| team(work, parent, usual, teams, depth + 1));
    let team = Arc::new(made(name, parent, Some(node), usual));
    teams.insert(team.name.clone(), Arc::clone(&team));
    Some(team)
}

fn made(name: &str, parent: Option<Arc<Team>>, node: Option<&Node>, usual: Option<&Node>) -> Team {
    let get = |key: &str| node.and_then(|node| node.get(key)).or_else(|| usual.and_then(|usual| usual.get(key)));
    let own: Option<Vec<Location>> =
        get("locations").map(|list| list.items().iter().filter_map(Node::text).map(Location::from).collect());
    let fence = parent.as_ref().and_then(|parent| parent.locations.clone());
    let locations = match (own, fence) {
        (Some(own), Some(fence)) => Some(own.into_iter().filter(|location| fence.contains(location)).collect()),
        (own, fence) => own.or(fence),
    };
    let may_use = get("may_use").map(|list| list.items().iter().filter_map(Node::text).map(Arc::from).collect());
    let labels: BTreeMap<String, String> = get("labels")
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .filter_map(|(key, value)| Some((key.text.clone(), value.text()?.to_owned())))
        .collect();
    let limits = fences::limits(node.and_then(|node| node.get("limits")), usual.and_then(|usual| usual.get("limits")));
    let allowance = Allowance { budgets: fences::budgets(get("budgets")), limits };
    let fences = allowance.around(&Owner::Team(TeamName::from(name))).collect();
    let word = |key: &str| get(key).and_then(Node::text);
    let plain = Team::named(name);
    Team {
        parent,
        may_use,
        locations,
        priority: word("priority").and_then(Priority::parse),
        fences,
        per_user: get("per_user").map(fences::allowance),
        user_from: get("user_from").map_or(plain.user_from, user_from),
        on_empty: if word("on_empty") == Some("downgrade") { OnEmpty::Downgrade } else { OnEmpty::Refuse },
        clamp_output: word("clamp_output") == Some("true"),
        midstream: if word("midstream") == Some("finish") { Midstream::Finish } else { Midstream::Cut },
        on_store_loss: word("on_store_loss").and_then(|text| allowances::store_loss(text).ok()).unwrap_or_default(),
        labels: Arc::new(labels),
        no_texts: get("records").and_then(|node| node.word("content")) == Some("never"),
        name: plain.name,
    }
}

fn user_from(list: &Node) -> Arc<[UserSource]> {
    list.items().iter().filter_map(Node::text).filter_map(|text| allowances::user_source(text).ok()).collect()
}

fn keys(work: &mut Work<'_, '_>) -> HashMap<KeyId, Arc<Key>> {
    let sections = work.sections;
    let rows = sections.list("keys");
    let mut keys = HashMap::new();
    for (index, node) in rows.iter().enumerate() {
        for key in ["id", "hash"] {
            let same = |other: &&Node| other.word(key).is_some() && other.word(key) == node.word(key);
            if let (Some(place), Some(first)) = (node.get(key), rows[..index].iter().find(same)) {
                let fault = work.report.fault(place.span, format!("two keys with the same `{key}`"));
                fault.label("here again").also(first.span, "first here").hint("keep one of them");
            }
        }
        if let Some(team) = node.get("team") {
            let name = team.text().unwrap_or_default();
            if name != DEFAULT {
                work.known("teams", "team", name, team.span);
            }
        }
        let Some(hash) = node.get("hash") else { continue };
        let Some(digest) = hash.text().and_then(|text| hex::digest(text.strip_prefix("sha256:")?)) else {
            work.report.hide(hash.span);
            let fault = work.report.fault(hash.span, "not a SHA-256 of a key");
            fault
                .label("not a hash")
                .hint("write `sha256:` and 64 hexadecimal digits; `turnpike key create --yaml` prints such a row");
            continue;
        };
        expired(work, node);
        keys.extend(key(node, digest).map(|key| (key.id.clone(), Arc::new(key))));
    }
    keys
}

fn expired(work: &mut Work<'_, '_>, node: &Node) {
    let expires = node.read("expires", units::instant);
    if let Some(place) = node.get("expires").filter(|_| expires.is_some_and(|instant: Timestamp| instant <= work.now)) {
        let warning = work.report.warning(place.span, format!("key `{}` has expired", node.word("id").unwrap_or("?")));
        warning.label("opens nothing").hint("take the row out, or give it a later `expires`");
    }
}

/// The classes of keys that state one.
pub fn key_priorities(work: &Work<'_, '_>) -> HashMap<KeyId, Priority> {
    let stated = |node: &Node| Some((KeyId::from(node.word("id")?), Priority::parse(node.word("priority")?)?));
    work.sections.list("keys").iter().filter_map(stated).collect()
}

/// The fences of keys that have any.
pub fn key_fences(work: &mut Work<'_, '_>) -> HashMap<KeyId, Arc<[Arc<Fence>]>> {
    let mut found = HashMap::new();
    for node in work.sections.list("keys") {
        let Some(id) = node.word("id").map(KeyId::from) else { continue };
        let around = fences::around(work, &Owner::Key(id.clone()), node);
        if !around.is_empty() {
            found.insert(id, around);
        }
    }
    found
}

fn key(node: &Node, hash: [u8; 32]) -> Option<Key> {
    Some(Key {
        id: KeyId::from(node.word("id")?),
        team: TeamName::from(node.word("team")?),
        hash,
        name: node.word("name").map(Arc::from),
        expires: node.read("expires", units::instant),
        explain: node.word("explain") == Some("true"),
    })
}
