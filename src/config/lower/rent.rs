//! `rent` and `spill` of a backend: what own servers cost, and when a request does not wait for them.

use std::time::Duration;

use super::{
    super::{tree::Node, units},
    Work,
    prices::{self, Currencies},
};
use crate::base::rent::{Capacity, Rent};

/// The rent of one endpoint.
pub fn rent(work: &mut Work<'_, '_>, backend: &Node, currencies: &Currencies) -> Option<Rent> {
    let node = backend.get("rent")?;
    of_own_servers(work, backend, node, "rent");
    let price = node.get("gpu_hour")?;
    let (gpu_hour, currency) = price.text().and_then(|text| units::money(text).ok())?;
    prices::check_exchange(work, price, currency, currencies);
    let gpus = node.read("gpus", units::count).unwrap_or(1);
    let Ok(hour) = i64::try_from(i128::from(gpu_hour) * i128::from(gpus)) else {
        let fault = work.report.fault(node.span, "a rent that is too large");
        fault.label("more than 64 bits hold").hint("`gpu_hour` is for one GPU, `gpus` for one endpoint");
        return None;
    };
    let capacity = node.get("tokens_per_hour").and_then(|node| {
        let count = |key: &str| node.read(key, units::count);
        Some(Capacity { input: count("input")?, output: count("output")? })
    });
    Some(Rent { hour, currency, capacity })
}

/// How long a request may wait for its turn.
pub fn spill(work: &mut Work<'_, '_>, backend: &Node) -> Option<Duration> {
    let node = backend.get("spill")?;
    of_own_servers(work, backend, node, "spill");
    node.read("queue_wait", units::duration)
}

/// A vendor's site is paid by the token, and its queue is not seen from here.
fn of_own_servers(work: &mut Work<'_, '_>, backend: &Node, node: &Node, key: &str) {
    if backend.get("endpoints").is_none() && backend.get("discover").is_none() {
        let fault = work.report.fault(node.span, format!("`{key}` without own servers"));
        fault.label("for servers of your own").hint("name them under `endpoints:`");
    }
}
