//! Rates and hours of an operator's price that cannot mean what they say: told of, since the first that matches is
//! charged and all open windows multiply.

use super::{super::tree::Node, Work};
use crate::base::{
    price::{PriceRow, When, Window},
    tier::Tier,
};

/// Notes rates that are never reached, and windows that are open at once.
pub(super) fn note(work: &mut Work<'_, '_>, node: &Node, row: &PriceRow) {
    unreached(work, node, row);
    unbounded(work, node, row);
    let windows = node.get("calendar").map(Node::items).unwrap_or_default();
    for (index, (place, window)) in windows.iter().zip(&row.calendar).enumerate() {
        let earlier = windows.iter().zip(&row.calendar).take(index);
        if let Some((first, _)) = earlier.into_iter().find(|(_, other)| Window::meet(other, window, work.now)) {
            let warning = work.report.warning(place.span, "two windows of a price are open at once");
            let warning = warning.label("open while the other is").also(first.span, "the other");
            warning.hint("both factors are multiplied then: let one end where the other begins, unless that is meant");
        }
    }
}

fn unreached(work: &mut Work<'_, '_>, node: &Node, row: &PriceRow) {
    let places = node.get("rates").map(Node::items).unwrap_or_default();
    for (index, (place, rate)) in places.iter().zip(&row.rates).enumerate() {
        let earlier = places.iter().zip(&row.rates).take(index);
        if let Some((first, _)) = earlier.into_iter().find(|(_, other)| covers(&other.when, &rate.when)) {
            let span = place.get("when").map_or(place.span, |when| when.span);
            let warning = work.report.warning(span, "a rate that never comes to its turn");
            let warning = warning.label("an earlier one matches all of this").also(first.span, "matches before it");
            warning.hint("the first that matches is charged: put the narrower one first");
        }
    }
}

/// Where no rate of the usual tier holds for every size: what is beyond all is charged by the last.
fn unbounded(work: &mut Work<'_, '_>, node: &Node, row: &PriceRow) {
    let places = node.get("rates").map(Node::items).unwrap_or_default();
    let usual = || row.rates.iter().filter(|rate| rate.when.tier == Tier::Standard);
    let open = |thinking: bool| {
        let of_all = |when: &When| when.input_upto.is_none() && when.output_upto.is_none();
        usual().any(|rate| of_all(&rate.when) && rate.when.thinking.is_none_or(|wanted| wanted == thinking))
    };
    let last = row.rates.iter().rposition(|rate| rate.when.tier == Tier::Standard);
    let Some(place) = last.and_then(|last| places.get(last)).filter(|_| !(open(true) && open(false))) else { return };
    let span = place.get("when").map_or(place.span, |when| when.span);
    let warning = work.report.warning(span, "a price without a rate for every request");
    let warning = warning.label("what none matches is charged by this one");
    warning.hint("end with a rate for all the rest: without `input_upto`, `output_upto` and `thinking`");
}

/// Whether everything that falls under `inner` falls under `outer` too.
fn covers(outer: &When, inner: &When) -> bool {
    let wider = |outer: Option<u64>, inner: Option<u64>| outer.is_none_or(|most| inner.is_some_and(|own| own <= most));
    outer.tier == inner.tier
        && wider(outer.input_upto, inner.input_upto)
        && wider(outer.output_upto, inner.output_upto)
        && (outer.thinking.is_none() || outer.thinking == inner.thinking)
}
