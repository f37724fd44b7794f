//! The rent of own servers: what is rented is told to the books once a minute, who book what no request paid for.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::Gateway;
use crate::ledger::Rented;

/// How often it is told. A pool that changes within is counted as it was found.
const EVERY: Duration = Duration::from_secs(60);

/// Keeps the rents of the policies in force, until it is dropped.
pub async fn keep_rent(gateway: Arc<Gateway>) {
    let mut minutes = interval(EVERY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        minutes.tick().await;
        if let Err(error) = gateway.ledger().keep_rent(&rented(&gateway), gateway.now()).await {
            tracing::warn!(%error, "the rent of own servers cannot be booked yet");
        }
    }
}

/// What is rented now: also what is switched off, since it is paid all the same.
fn rented(gateway: &Gateway) -> Vec<Rented> {
    let (live, now) = (gateway.live(), gateway.now());
    let of = |backend: &Arc<crate::base::catalog::Backend>| {
        let rent = backend.rent.as_ref()?;
        Some(Rented {
            backend: backend.name.shared(),
            provider: backend.provider.into(),
            // Policies name at least one: with none, the name server has not answered yet.
            servers: Some(live.line(backend)?.servers).filter(|servers| *servers > 0),
            rent_nano: rent.hour,
            exchange_nanousd: live.policies.exchange_nanousd(rent.currency, now)?,
        })
    };
    live.policies.backends.values().filter_map(of).collect()
}
