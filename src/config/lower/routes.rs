//! `routes:` and `aliases:`: what clients name, and how it chooses.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest, Sha256};

use super::{
    super::{allowances, close, diagnostic::Span, tree::Key, tree::Node, units},
    Named, Work, fences,
    rules::{self, prefer, require},
    shadow,
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId, Model},
        facts::Category,
        fences::Owner,
        hex,
        names::{ModelName, RouteName},
        priority::Priority,
    },
    policy::{
        Arm, Choice, Prefer, Require, Route, StickyBy,
        hedge::{After, Hedge},
        rollout::Guard,
    },
};

/// Attempts of a route that states none.
const ATTEMPTS: u32 = 3;
/// The cap on an answer's tokens in a route that states none.
const MAX_OUTPUT: u64 = 4096;

/// The operator's routes, and one for each model that has none of its name.
pub fn lower(
    work: &mut Work<'_, '_>,
    models: &Named<ModelName, Model>,
    candidates: &[Arc<Candidate>],
) -> Named<RouteName, Route> {
    let mut routes = BTreeMap::new();
    let sections = work.sections;
    for (key, node) in sections.table("routes") {
        if let Some(route) = route(work, key, node, candidates) {
            routes.insert(route.name.clone(), Arc::new(route));
        }
    }
    for model in models.keys() {
        let name = RouteName::from(model.as_str());
        routes.entry(name.clone()).or_insert_with(|| Arc::new(implicit(name, candidates)));
    }
    routes
}

/// The route that a model has without any file saying so.
fn implicit(name: RouteName, candidates: &[Arc<Candidate>]) -> Route {
    let own = candidates.iter().filter(|candidate| candidate.model.name.as_str() == name.as_str());
    Route {
        choice: Choice::Value { candidates: own.map(|candidate| candidate.id).collect(), prefer: Prefer::BALANCED },
        name,
        implicit: true,
        require: Require::default(),
        category: None,
        rules: Vec::new(),
        attempts: ATTEMPTS,
        priority: None,
        hedge: None,
        max_output: MAX_OUTPUT,
        fences: Arc::default(),
        shadow: None,
    }
}

fn route(work: &mut Work<'_, '_>, key: &Key, node: &Node, candidates: &[Arc<Candidate>]) -> Option<Route> {
    let choice = choice(work, key, node, candidates)?;
    let require = node.get("require").map(|node| require(work, node)).unwrap_or_default();
    let rules = rules::lower(work, node, &choice, &require, candidates);
    let name = RouteName::from(key.text.as_str());
    let max_output = node.read("max_output", units::count).unwrap_or(MAX_OUTPUT);
    let shadow = node.get("shadow").and_then(|at| shadow::lower(work, &name, at, max_output, candidates));
    if shadow.is_some() {
        shadow::check(work, node);
    }
    Some(Route {
        fences: fences::around(work, &Owner::Route(name.clone()), node),
        name,
        implicit: false,
        choice,
        require,
        category: node.word("category").and_then(Category::parse),
        rules,
        priority: node.word("priority").and_then(Priority::parse),
        hedge: node.get("hedge").map(hedge),
        attempts: node.read("attempts", units::count).and_then(|n| u32::try_from(n).ok()).unwrap_or(ATTEMPTS),
        max_output,
        shadow,
    })
}

fn hedge(node: &Node) -> Hedge {
    let after = node.read("after", allowances::overdue).unwrap_or(After::P95);
    Hedge { after, spend_ppm: node.read("spend", units::share).unwrap_or(Hedge::SPEND_PPM) }
}

fn choice(work: &mut Work<'_, '_>, key: &Key, node: &Node, candidates: &[Arc<Candidate>]) -> Option<Choice> {
    let ways: Vec<&(Key, Node)> = node
        .entries()
        .iter()
        .filter(|(key, _)| matches!(key.text.as_str(), "candidates" | "order" | "split"))
        .collect();
    let (way, list) = match ways.as_slice() {
        [only] => (&only.0, &only.1),
        [] => {
            let fault = work.report.fault(key.span, format!("route `{}` names no candidate", key.text));
            fault.label("nothing to choose from").hint("write `candidates:`, `order:` or `split:`");
            return None;
        }
        [first, second, ..] => {
            let fault = work.report.fault(second.0.span, format!("both `{}` and `{}`", first.0.text, second.0.text));
            let fault = fault.label("another way to choose").also(first.0.span, "one way to choose");
            fault.hint("a route chooses in one way: keep one, or make two routes");
            return None;
        }
    };
    if way.text == "split" {
        return Some(split(work, node, list));
    }
    forbid(work, node, &["by"], "only a `split` keeps callers on an arm");
    forbid(work, node, &["guard"], "only an arm of a `split` is withdrawn");
    let chosen = named(work, list, candidates);
    if way.text == "order" {
        forbid(work, node, &["prefer"], "an `order` is its own preference: use `candidates` with `prefer`");
        return Some(Choice::Order(chosen));
    }
    let prefer = node.get("prefer").and_then(prefer).unwrap_or(Prefer::BALANCED);
    Some(Choice::Value { candidates: chosen, prefer })
}

/// Notes keys that have no place in this kind of route.
fn forbid(work: &mut Work<'_, '_>, node: &Node, keys: &[&str], hint: &str) {
    for (key, _) in node.entries().iter().filter(|(key, _)| keys.contains(&key.text.as_str())) {
        work.report.fault(key.span, format!("`{}` has no place in this route", key.text)).label("not here").hint(hint);
    }
}

fn split(work: &mut Work<'_, '_>, node: &Node, list: &Node) -> Choice {
    let of_arms = ["prefer", "category", "require", "attempts", "priority", "hedge", "max_output", "rules"];
    forbid(work, node, &of_arms, "it belongs to the routes that the split names");
    let sections = work.sections;
    let mut arms = Vec::new();
    for (name, weight) in list.entries() {
        let route = sections.find("routes", &name.text);
        if let Some((_, other)) = route
            && other.get("split").is_some()
        {
            let fault = work.report.fault(name.span, format!("`{}` is a split itself", name.text));
            fault.label("an arm is a route or a model").hint("name the other split's arms here");
        } else if route.is_none() && sections.find("models", &name.text).is_none() {
            // An arm is no split, so this one is not offered either.
            let whole = sections.table("routes").iter().filter(|(_, route)| route.get("split").is_none());
            let names = whole.map(|(key, _)| key.text.as_str()).chain(sections.names("models")).collect();
            unknown_target(work, &name.text, name.span, names);
        }
        let weight = weight.text().and_then(|text| units::count(text).ok()).and_then(|n| u32::try_from(n).ok());
        arms.push(Arm { route: RouteName::from(name.text.as_str()), weight: weight.unwrap_or(1) });
    }
    if list.entries().is_empty() {
        work.report.fault(list.span, "a split without arms").label("empty").hint("write `split: {auto: 95, cheap: 5}`");
    }
    let by = match node.word("by") {
        Some("session") => StickyBy::Session,
        Some("key") => StickyBy::Key,
        Some("request") => StickyBy::Request,
        _ => StickyBy::User,
    };
    let guard = node.get("guard").and_then(|guard| self::guard(work, guard, list));
    Choice::Split { arms, by, guard, revision: revision(work, node, list) }
}

/// Arms for which a guard states no number are looked at by so many requests.
const MIN_REQUESTS: u64 = 500;

fn guard(work: &mut Work<'_, '_>, node: &Node, arms: &Node) -> Option<Guard> {
    let guard = Guard {
        errors: node.read("error_rate", units::error_bound),
        cost_ppm: node.read("cost", units::excess),
        first_token_p95: node.read("first_token_p95", units::duration),
        min_requests: u32::try_from(node.read("min_requests", units::count).unwrap_or(MIN_REQUESTS)).ok()?,
    };
    if ["error_rate", "cost", "first_token_p95"].iter().all(|key| node.get(key).is_none()) {
        let fault = work.report.fault(node.span, "a guard without a bound");
        fault.label("withdraws nothing").hint("write `error_rate: 2%`, `cost: +20%` or `first_token_p95: 3s`");
    }
    if arms.entries().len() == 1 {
        let fault = work.report.fault(node.span, "a guard over a single arm");
        fault.label("nothing to compare with").hint("the arm with the largest share is the control of the others");
    }
    Some(guard)
}

/// What a withdrawal is bound to: the split, its guard, and the routes or models that are its arms.
fn revision(work: &Work<'_, '_>, node: &Node, arms: &Node) -> Arc<str> {
    let mut digest = Sha256::new();
    node.digest(&mut digest);
    for (name, _) in arms.entries() {
        let arm = ["routes", "models"].into_iter().find_map(|section| work.sections.find(section, &name.text));
        arm.into_iter().for_each(|(_, node)| node.digest(&mut digest));
    }
    let mut digits = hex::digits(&digest.finalize().into());
    digits.truncate(12);
    digits.into()
}

fn unknown_target(work: &mut Work<'_, '_>, name: &str, span: Span, names: Vec<&str>) {
    let hint = close::hint(name, names, "define it under `routes:` or `models:`");
    work.report.fault(span, format!("no route or model `{name}`")).label("not defined").hint(hint);
}

/// The candidates that a list of `model` and `model@backend` names, in its order.
pub fn named(work: &mut Work<'_, '_>, list: &Node, candidates: &[Arc<Candidate>]) -> Vec<CandidateId> {
    let mut named: Vec<CandidateId> = Vec::new();
    for place in list.items() {
        let Some(text) = place.text() else { continue };
        let found = named_by(work, place.span, text, candidates);
        if let Some(twice) = found.iter().find(|id| named.contains(id)) {
            let label = candidates.get(twice.0 as usize).map(|candidate| candidate.label()).unwrap_or_default();
            work.report
                .fault(place.span, format!("`{label}` stands twice"))
                .label("again")
                .hint("keep it where it stands first");
        }
        named.extend(found);
    }
    named
}

/// The candidates that `model` or `model@backend` names; none, with a fault, where nothing is called so.
pub(super) fn named_by(
    work: &mut Work<'_, '_>,
    span: Span,
    text: &str,
    candidates: &[Arc<Candidate>],
) -> Vec<CandidateId> {
    let (model, backend) = text.split_once('@').map_or((text, None), |(model, backend)| (model, Some(backend)));
    let sections = work.sections;
    let Some((_, node)) = sections.find("models", model) else {
        if sections.find("routes", model).is_some() {
            let fault = work.report.fault(span, format!("`{model}` is a route"));
            fault.label("a candidate is a model").hint("name its models, or use `split` to hand over to a route");
        } else {
            work.known("models", "model", model, span);
        }
        return Vec::new();
    };
    if let Some(backend) = backend {
        let served: Vec<&str> = node
            .get("backends")
            .map(Node::entries)
            .unwrap_or_default()
            .iter()
            .map(|(key, _)| key.text.as_str())
            .collect();
        if !served.contains(&backend) {
            let fault = work.report.fault(span, format!("`{model}` is not served by `{backend}`"));
            fault.label("not among its backends").hint(close::hint(backend, served, "name its backends in `models:`"));
            return Vec::new();
        }
    }
    let of_model = candidates.iter().filter(|candidate| candidate.model.name.as_str() == model);
    let wanted = of_model.filter(|candidate| backend.is_none_or(|backend| candidate.backend.name.as_str() == backend));
    wanted.map(|candidate| candidate.id).collect()
}

/// Other names of routes and models.
pub fn aliases(work: &mut Work<'_, '_>) -> BTreeMap<String, String> {
    let sections = work.sections;
    let mut aliases = BTreeMap::new();
    for (key, node) in sections.table("aliases") {
        let Some(target) = node.text() else { continue };
        for section in ["routes", "models"] {
            if let Some((other, _)) = sections.find(section, &key.text) {
                let fault = work.report.fault(key.span, format!("`{}` is a name already", key.text));
                fault.label("an alias").also(other.span, "the name").hint("rename the alias, or take it out");
            }
        }
        if sections.find("aliases", target).is_some() {
            let fault = work.report.fault(node.span, format!("`{target}` is an alias itself"));
            fault.label("an alias").hint("name the route or model behind it");
        } else if sections.find("routes", target).is_none() && sections.find("models", target).is_none() {
            let names = sections.names("routes").chain(sections.names("models")).collect();
            unknown_target(work, target, node.span, names);
        }
        aliases.insert(key.text.clone(), target.to_owned());
    }
    aliases
}
