//! Budgets and limits of any owner: read from its node, told of where they contradict, made into fences.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::{
    super::{allowances, close, tree::Node, units},
    Work,
};
use crate::{
    base::{
        fences::{Fence, Owner},
        tenants::{Allowance, Budget, Limits, Period},
    },
    provider,
};

/// The fences that `node` puts around `owner`, checked.
pub fn around(work: &mut Work<'_, '_>, owner: &Owner, node: &Node) -> Arc<[Arc<Fence>]> {
    check(work, node);
    allowance(node).around(owner).collect()
}

/// The fences of every provider that the operator names under `providers:`, checked.
pub fn of_provider(work: &Work<'_, '_>, name: &str) -> Vec<Arc<Fence>> {
    let found = work.sections.find("providers", name);
    found.map(|(_, node)| allowance(node).around(&Owner::Provider(name.into())).collect()).unwrap_or_default()
}

/// Notes what is wrong with `providers:`.
pub fn check_providers(work: &mut Work<'_, '_>) {
    let sections = work.sections;
    for (key, node) in sections.table("providers") {
        check(work, node);
        if provider::by_name(&key.text).is_none() {
            let names = provider::TABLE.iter().map(|provider| provider.name());
            let fault = work.report.fault(key.span, format!("no provider `{}`", key.text));
            fault.label("not a dialect that is spoken here").hint(close::hint(&key.text, names, ""));
        }
    }
}

/// Notes budgets of one name, and names that would be taken apart.
pub fn check(work: &mut Work<'_, '_>, node: &Node) {
    let budgets = node.get("budgets").map(Node::items).unwrap_or_default();
    for (index, budget) in budgets.iter().enumerate() {
        let same = |other: &&Node| other.word("name").is_some() && other.word("name") == budget.word("name");
        if let Some(first) = budgets[..index].iter().find(same) {
            let fault = work.report.fault(budget.span, "two budgets of one name");
            fault
                .label("here again")
                .also(first.span, "first here")
                .hint("what is spent is booked by name: rename one");
        }
        if let Some(name) = budget.get("name").filter(|name| name.text().is_some_and(|text| text.contains('/'))) {
            let fault = work.report.fault(name.span, "a budget's name with `/`");
            fault.label("stands behind its owner's in the books").hint("write `month`, not `search/month`");
        }
    }
}

/// What `node` says under `budgets` and `limits`; what does not fit has been told of by the check of its shape.
pub fn allowance(node: &Node) -> Allowance {
    Allowance { budgets: budgets(node.get("budgets")), limits: limits(node.get("limits"), None) }
}

/// The budgets of a list.
pub fn budgets(list: Option<&Node>) -> Vec<Budget> {
    list.map(Node::items).unwrap_or_default().iter().filter_map(budget).collect()
}

/// Limits; each that `node` does not name is as `usual` has it.
pub fn limits(node: Option<&Node>, usual: Option<&Node>) -> Limits {
    let nodes = || node.into_iter().chain(usual);
    let rate = |key: &str| nodes().find_map(|node| node.read(key, allowances::rate));
    Limits {
        requests: rate("requests"),
        tokens: rate("tokens"),
        concurrent: nodes().find_map(|node| node.read("concurrent", units::count)),
    }
}

fn budget(node: &Node) -> Option<Budget> {
    let warn = node.get("warn").map(Node::items).unwrap_or_default();
    let mut warn_ppm: Vec<u32> =
        warn.iter().filter_map(Node::text).filter_map(|text| units::share(text).ok()).collect();
    warn_ppm.sort_unstable();
    warn_ppm.dedup();
    Some(Budget {
        name: Arc::from(node.word("name")?),
        limit: node.read("limit", allowances::quota)?,
        per: Period::ALL.into_iter().find(|period| Some(period.as_str()) == node.word("per"))?,
        zone: node.read("zone", units::zone).unwrap_or(TimeZone::UTC),
        warn_ppm: warn_ppm.into(),
    })
}
