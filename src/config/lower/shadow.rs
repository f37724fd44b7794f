//! `shadow:` of a route: a share of its requests goes to another model too, at the operator's own expense.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::{
    super::{allowances, tree::Node, units},
    Work, routes,
};
use crate::{
    base::{
        catalog::Candidate,
        fences::{Fence, Owner, Purpose, Unit},
        names::RouteName,
    },
    policy::{Choice, Prefer, Require, Route, Shadow},
};

/// The name of its fence among its route's.
const NAME: &str = "shadow";

/// What `node` says for the route of that name.
pub fn lower(
    work: &mut Work<'_, '_>,
    name: &RouteName,
    node: &Node,
    max_output: u64,
    candidates: &[Arc<Candidate>],
) -> Option<Arc<Shadow>> {
    let to = node.get("to")?;
    let model = to.text()?;
    let sections = work.sections;
    if sections.find("models", model).is_none() && sections.find("routes", model).is_some() {
        let fault = work.report.fault(to.span, format!("`{model}` is a route"));
        fault.label("a shadow goes to a model").hint("name the model whose answers you want to know the cost of");
        return None;
    }
    let found = routes::named_by(work, to.span, model, candidates);
    if found.is_empty() {
        return None;
    }
    let choice = Choice::Value { candidates: found, prefer: Prefer::BALANCED };
    let (limit, per) = node.read("limit", allowances::spend)?;
    let owner = Owner::Route(name.clone());
    let fence = Fence {
        id: Fence::id_of(&owner, NAME),
        owner,
        name: NAME.into(),
        unit: Unit::Money,
        purpose: Purpose::Budget,
        cap: limit,
        raised: 0,
        per: Some(per),
        zone: TimeZone::UTC,
        warn_ppm: Arc::default(),
    };
    let route = Route {
        priority: None,
        name: RouteName::from(format!("shadow@{name}").as_str()),
        implicit: true,
        choice,
        require: Require::default(),
        category: None,
        rules: Vec::new(),
        attempts: 1,
        max_output,
        fences: Arc::default(),
        shadow: None,
        hedge: None,
    };
    let share_ppm = node.read("share", units::share)?;
    Some(Arc::new(Shadow { share_ppm, fence: Arc::new(fence), route: Arc::new(route) }))
}

/// Notes a budget of the route that would be counted as its shadow.
pub fn check(work: &mut Work<'_, '_>, node: &Node) {
    let budgets = node.get("budgets").map(Node::items).unwrap_or_default();
    if let Some(name) = budgets.iter().filter_map(|budget| budget.get("name")).find(|name| name.text() == Some(NAME)) {
        let fault = work.report.fault(name.span, "a budget named `shadow` beside a shadow");
        fault.label("booked under one name").hint("rename the budget");
    }
}
