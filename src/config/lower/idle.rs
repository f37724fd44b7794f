//! Settings that are read and change nothing: each is likely a slip, so each is told of.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{
    super::{tree::Node, units},
    Work,
};
use crate::{
    base::catalog::Backend,
    policy::{Choice, Policies, Route, hedge::After},
};

/// Notes what does nothing in backends and routes.
pub(super) fn note(work: &mut Work<'_, '_>, policies: &Policies) {
    let sections = work.sections;
    for (key, node) in sections.table("backends") {
        if let Some(backend) = policies.backends.get(key.text.as_str()) {
            accounts(work, node, backend);
            clocks(work, node, backend);
        }
    }
    for (key, node) in sections.table("routes") {
        if let Some(route) = policies.routes.get(key.text.as_str()) {
            hedge(work, node, route);
            shadow(work, node, policies, route);
            lonely_arm(work, node, route);
        }
    }
}

/// `pick: spread` over one account, and accounts that are one and the same to their vendor.
fn accounts(work: &mut Work<'_, '_>, node: &Node, backend: &Backend) {
    if let Some(pick) = node.get("pick").filter(|_| backend.accounts.len() < 2) {
        let warning = work.report.warning(pick.span, "`pick` with a single account");
        warning.label("nothing to pick from").hint("list several under `accounts:`, or leave it out");
    }
    let places = node.get("accounts").map(Node::items).unwrap_or_default();
    let keys: Vec<_> = places
        .iter()
        .zip(&backend.accounts)
        .filter_map(|(place, account)| Some((place.get("api_key")?.span, account, account.api_key.as_ref()?)))
        .collect();
    for (index, (span, account, secret)) in keys.iter().enumerate() {
        let same = keys[..index].iter().find(|(.., other)| other.expose_secret() == secret.expose_secret());
        if let Some((first, ..)) = same {
            let warning = work.report.warning(*span, format!("account `{}` has another one's key", account.name));
            let warning = warning.label("the same key").also(*first, "here already");
            warning.hint("the vendor counts them as one: give each its own key, or keep one");
        }
    }
}

/// Clocks of an attempt that its `total` stops first.
fn clocks(work: &mut Work<'_, '_>, node: &Node, backend: &Backend) {
    let Some(stated) = node.get("timeouts") else { return };
    let clocks = &backend.timeouts;
    for (name, length) in [("connect", clocks.connect), ("first_token", clocks.first_token), ("idle", clocks.idle)] {
        let Some(place) = stated.get(name).filter(|_| length > clocks.total) else { continue };
        let title = format!("`{name}` is longer than `total`");
        let warning = work.report.warning(place.span, title).label("never reached");
        let whole = match stated.word("total") {
            Some(text) => text.to_owned(),
            None => format!("{}s, as it is unless stated", clocks.total.as_secs()),
        };
        warning.hint(format!("`total` is {whole}: lower this one, or raise that"));
    }
}

fn hedge(work: &mut Work<'_, '_>, node: &Node, route: &Route) {
    let (Some(place), Some(hedge)) = (node.get("hedge"), &route.hedge) else { return };
    let at = |key: &str| place.get(key).map_or(place.span, |node| node.span);
    if route.attempts < 2 {
        let span = node.get("attempts").map_or(place.span, |node| node.span);
        let warning = work.report.warning(place.span, "`hedge` beside `attempts: 1`");
        let warning = warning.label("never made").also(span, "one attempt");
        warning.hint("a hedge is an attempt of its own: allow two");
    }
    if hedge.spend_ppm == 0 {
        let warning = work.report.warning(at("spend"), "a hedge that may cost nothing");
        warning.label("never made").hint("write a share such as `2%`, or leave `hedge` out");
    }
    if hedge.after == After::Time(Duration::ZERO) {
        let warning = work.report.warning(at("after"), "a hedge after no time");
        let warning = warning.label("every stream is asked for twice at once");
        warning.hint("write `p95`, or a time in which most answers have begun");
    }
}

fn shadow(work: &mut Work<'_, '_>, node: &Node, policies: &Policies, route: &Route) {
    let (Some(place), Some(shadow)) = (node.get("shadow"), &route.shadow) else { return };
    let at = |key: &str| place.get(key).map_or(place.span, |node| node.span);
    if shadow.share_ppm == 0 {
        let warning = work.report.warning(at("share"), "a shadow of no request");
        warning.label("never cast").hint("write a share such as `2%`, or leave `shadow` out");
    }
    let own = super::warnings::ids(&route.choice);
    let to = super::warnings::ids(&shadow.route.choice);
    if !own.is_empty() && own.iter().all(|id| to.contains(id)) {
        let names = policies.candidates.get(own[0].0 as usize).map(|it| it.model.name.to_string()).unwrap_or_default();
        let warning = work.report.warning(at("to"), format!("`{names}` is all that the route chooses from"));
        let warning = warning.label("asked what it answers anyway");
        warning.hint("name a model that the route does not send everything to");
    }
}

fn lonely_arm(work: &mut Work<'_, '_>, node: &Node, route: &Route) {
    if let (Choice::Split { arms, .. }, Some(list)) = (&route.choice, node.get("split"))
        && arms.len() == 1
    {
        let warning = work.report.warning(list.span, "a split of one arm");
        warning.label("everybody is dealt to it").hint("add another arm, or name this one under `aliases:`");
    }
}

/// A pin that is still to come: until then the newest catalog counts, whichever binary brings it.
pub(in super::super) fn later_than(day: jiff::civil::Date, now: jiff::Timestamp) -> bool {
    day > now.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// What is dated later than today, and counts for nothing until then.
pub(super) fn score_to_come(work: &mut Work<'_, '_>, node: &Node) {
    let Some(place) = node.get("date") else { return };
    let Some(date) = place.text().and_then(|text| units::day(text).ok()) else { return };
    if later_than(date, work.now) {
        let warning = work.report.warning(place.span, "a score of a day to come").label("does not count until then");
        warning.hint("write the day on which it was measured or published");
    }
}
