//! Teams and keys: exports of LiteLLM's database (`GET /team/list`, `GET /key/list?return_full_object=true`) as teams,
//! budgets and hashes.
//!
//! LiteLLM stores a key as the SHA-256 of the whole secret in hexadecimal, which is what `hash:` holds, so that clients
//! keep their keys. A key that may use fewer models than its team gets a team of its own below it: Turnpike's teams
//! bear that fence, and nothing is loosened.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{tree::Node, units},
    Work, backends,
    budgets::{self, Whose},
    name, unique, unread, write,
};
use crate::base::hex;

/// What comes of the exports.
#[derive(Debug, Default)]
pub struct People {
    /// Lines of `teams:`.
    pub teams: Vec<String>,
    /// Lines of `keys:`.
    pub keys: Vec<String>,
}

/// The team of keys that have none.
const LOOSE: &str = "litellm";
/// Words that stand for all models.
const ALL: [&str; 3] = ["all-proxy-models", "all-team-models", "*"];

struct Known<'a> {
    /// Names that a team may use.
    names: &'a BTreeSet<String>,
    /// Teams by LiteLLM's id, with what they may use.
    teams: BTreeMap<String, (String, Option<Vec<String>>)>,
    /// LiteLLM's ids of those that it refuses.
    blocked: BTreeSet<String>,
    taken: BTreeSet<String>,
    parent: Option<String>,
}

/// Reads the proxy's own budget and the exports. `names` are the routes, models and aliases that there are.
pub fn read(work: &mut Work, root: &Node, exports: &[Node], names: &BTreeSet<String>) -> People {
    let mut people = People::default();
    let mut known =
        Known { names, teams: BTreeMap::new(), blocked: BTreeSet::new(), taken: BTreeSet::new(), parent: None };
    if let Some(settings) = root.get("litellm_settings")
        && let Some(budgets) = budgets::read(work, settings, Whose::Proxy)
    {
        people.teams.push(format!("everyone: {}    # {}", write::map(&[budgets]), work.place(settings.span)));
        known.taken.insert("everyone".to_owned());
        known.parent = Some("everyone".to_owned());
    }
    let parent = known.parent.iter().map(|parent| ("parent".to_owned(), parent.clone())).collect::<Vec<_>>();
    // Who asks a gateway on its own machine without any key.
    people.teams.push(format!("default: {}", write::map(&parent)));
    known.taken.extend(["default".to_owned(), LOOSE.to_owned()]);
    let rows = |keys: [&str; 2]| {
        let lists = exports.iter().flat_map(move |root| {
            let named = keys.iter().find_map(|key| root.get(key)).unwrap_or(root);
            named.items()
        });
        lists.collect::<Vec<&Node>>()
    };
    let is_key = |node: &&Node| node.get("token").is_some();
    for export in exports {
        pages(work, export);
    }
    for node in rows(["teams", "keys"]).into_iter().filter(|node| !is_key(node) && node.get("team_id").is_none()) {
        work.lost(node.span, "a row without `team_id` or `token`", "export teams and keys with their ids and hashes");
    }
    for node in rows(["teams", "keys"]).into_iter().filter(|node| !is_key(node) && node.get("team_id").is_some()) {
        team(work, &mut people, &mut known, node);
    }
    let keys: Vec<&Node> = rows(["keys", "teams"]).into_iter().filter(is_key).collect();
    let mut loose = false;
    for node in keys {
        loose |= key(work, &mut people, &mut known, node);
    }
    if loose {
        people.teams.push(format!("{LOOSE}: {}    # keys without a team", write::map(&parent)));
    }
    people
}

/// What an export says beside its rows; most of all whether it is the whole.
fn pages(work: &mut Work, export: &Node) {
    let number = |key: &str| export.word(key).and_then(|text| text.parse::<u64>().ok());
    if let Some(pages) = export.get("total_pages").filter(|_| number("total_pages") > Some(1)) {
        work.lost(pages.span, "the other pages of an export", "export each page, and give every file");
    }
    unread::rest(work, export, &["teams", "keys", "total_pages", "total_count", "current_page"], "of an export");
}

fn team(work: &mut Work, people: &mut People, known: &mut Known<'_>, node: &Node) {
    let Some(id) = node.word("team_id").map(str::to_owned) else { return };
    let label = node.word("team_alias").filter(|alias| !alias.is_empty()).unwrap_or(&id);
    let made = unique(&name(label), |name| known.taken.contains(name));
    let may_use = may_use(work, node, known);
    let mut fields: Vec<(String, String)> = Vec::new();
    fields.extend(known.parent.iter().map(|parent| ("parent".to_owned(), write::scalar(parent))));
    fields.extend(may_use.as_ref().map(|names| ("may_use".to_owned(), write::list(names.iter().map(String::as_str)))));
    fields.extend(budgets::read(work, node, Whose::TeamOrKey));
    let limits = backends::limits(work, node);
    fields.extend((!limits.is_empty()).then(|| ("limits".to_owned(), write::map(&limits))));
    if node.word("blocked") == Some("true") {
        let hint = "its keys are left out; make new ones with `turnpike key create` when it is to be served again";
        work.lost(node.span, format!("team `{made}` is blocked"), hint);
        known.blocked.insert(id.clone());
    }
    unread::rest(work, node, &[&READ[..], &["team_alias"]].concat(), "of a team");
    people.teams.push(format!("{}: {}    # {}", write::scalar(&made), write::map(&fields), work.place(node.span)));
    known.taken.insert(made.clone());
    known.teams.insert(id, (made, may_use));
}

/// The names that `models` allows; `None` = all.
fn may_use(work: &mut Work, node: &Node, known: &Known<'_>) -> Option<Vec<String>> {
    let list = node.get("models").filter(|list| !list.items().is_empty())?;
    let wanted: Vec<&str> = list.items().iter().filter_map(Node::text).collect();
    if wanted.iter().any(|wanted| ALL.contains(wanted)) {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for wanted in wanted {
        let own = name(wanted);
        if known.names.contains(&own) {
            names.push(own);
        } else {
            work.lost(list.span, format!("the right to use `{wanted}`"), "no such model came of `model_list`");
        }
    }
    Some(names)
}

/// One key; `true` where it has no team.
fn key(work: &mut Work, people: &mut People, known: &mut Known<'_>, node: &Node) -> bool {
    let Some(place) = node.get("token") else { return false };
    let token = place.text().unwrap_or_default().to_ascii_lowercase();
    if hex::digest(&token).is_none() {
        work.report.hide(place.span);
        work.lost(
            place.span,
            "a key that is no SHA-256 in hexadecimal",
            "export the stored hash (`token`), never the key itself",
        );
        return false;
    }
    if node.word("blocked") == Some("true") {
        work.lost(place.span, "a key that is blocked", "it opens nothing here either");
        return false;
    }
    let of_team = node.word("team_id").filter(|id| !id.is_empty()).map(str::to_owned);
    if of_team.as_ref().is_some_and(|id| known.blocked.contains(id)) {
        work.lost(place.span, "a key of a team that is blocked", "it opens nothing here either");
        return false;
    }
    let team = match &of_team {
        None => (LOOSE.to_owned(), None),
        Some(id) => match known.teams.get(id) {
            Some(team) => team.clone(),
            None => {
                work.lost(
                    place.span,
                    format!("a key of the team `{id}`"),
                    "no such team is in the exports: give them with `--teams`",
                );
                return false;
            }
        },
    };
    let label = node.word("key_alias").filter(|alias| !alias.is_empty());
    let team = narrowed(work, people, known, node, team, label.unwrap_or(&token[..8]));
    let mut fields = vec![
        ("id".to_owned(), write::scalar(&format!("litellm-{}", &token[..12]))),
        ("team".to_owned(), write::scalar(&team)),
        ("hash".to_owned(), format!("\"sha256:{token}\"")),
    ];
    fields.extend(label.map(|label| ("name".to_owned(), write::scalar(label))));
    fields.extend(expires(work, node));
    fields.extend(budgets::read(work, node, Whose::TeamOrKey));
    let limits = backends::limits(work, node);
    fields.extend((!limits.is_empty()).then(|| ("limits".to_owned(), write::map(&limits))));
    let read = [&READ[..], &["token", "key_alias", "expires", "key_type"]].concat();
    unread::rest(work, node, &read, "of a key");
    let kind = node.get("key_type").filter(|kind| !matches!(kind.text(), Some("default" | "llm_api" | "")));
    if let Some(kind) = kind {
        work.lost(kind.span, "the kind of a key", "it may ask models; operators' tokens are `admin.tokens`");
    }
    people.keys.push(format!("- {}    # {}", write::map(&fields), work.place(node.span)));
    of_team.is_none()
}

/// The team of a key: where the key may use less than its team, one below it.
fn narrowed(
    work: &mut Work,
    people: &mut People,
    known: &mut Known<'_>,
    node: &Node,
    team: (String, Option<Vec<String>>),
    label: &str,
) -> String {
    let Some(own) = may_use(work, node, known) else { return team.0 };
    let allowed: Vec<String> = match &team.1 {
        Some(of_team) => own.into_iter().filter(|name| of_team.contains(name)).collect(),
        None => own,
    };
    if team.1.as_ref().is_some_and(|of_team| of_team.iter().all(|name| allowed.contains(name))) {
        return team.0;
    }
    let made = unique(&name(&format!("{}.{label}", team.0)), |name| known.taken.contains(name));
    let fields = [
        ("parent".to_owned(), write::scalar(&team.0)),
        ("may_use".to_owned(), write::list(allowed.iter().map(String::as_str))),
    ];
    people.teams.push(format!("{}: {}    # {}", write::scalar(&made), write::map(&fields), work.place(node.span)));
    known.taken.insert(made.clone());
    made
}

/// `expires`; without a zone it is UTC, as LiteLLM keeps it.
fn expires(work: &mut Work, node: &Node) -> Option<(String, String)> {
    let place = node.get("expires")?;
    let text = place.text()?.trim().replacen(' ', "T", 1);
    let zoned = [text.clone(), format!("{text}Z")];
    match zoned.iter().find_map(|text| units::instant(text).ok()) {
        Some(at) => Some(("expires".to_owned(), write::scalar(&at.to_string()))),
        None => {
            work.lost(place.span, "an expiry that is no instant", "write it as `2027-01-01T00:00:00Z`");
            None
        }
    }
}

/// Keys of a team or a key that are read.
const READ: [&str; 11] = [
    "models",
    "max_budget",
    "budget_duration",
    "soft_budget",
    "tpm_limit",
    "rpm_limit",
    "tpm",
    "rpm",
    "max_parallel_requests",
    "blocked",
    "team_id",
];
