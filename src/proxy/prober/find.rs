//! Asks a name server for the servers of one backend.
//!
//! What was found stays until an answer names others: a failure or an empty answer changes nothing, since a name server
//! that is away or restarts must not take a pool with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Uri;
use tokio::time::timeout;

use super::super::{
    Gateway,
    live::{
        Live,
        seen::Kept,
        servers::{LookUp, Wanted},
    },
};
use crate::{
    base::catalog::{Discover, USUAL_WEIGHT_MILLI},
    net::dns::{DnsError, Found, Resolver},
    provider::{self, Provider},
    telemetry::metrics::{DiscoveryLabels, Label},
};

/// How long all queries of one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for as long as it is polled, if the backend is found by name.
pub(super) async fn find(gateway: &Gateway, live: &Live, kept: &Kept) {
    let Some(discover) = &kept.backend().discover else { return };
    let mut resolver = None;
    let mut last = kept.servers().look_up();
    loop {
        let found = look_up(&mut resolver, discover).await;
        let outcome = match &found {
            Ok(_) => "found",
            Err(Trouble::Dns(DnsError::Empty)) => "empty",
            Err(Trouble::Dns(_) | Trouble::Late) => "failed",
        };
        let labels = DiscoveryLabels { backend: Label(kept.backend().name.shared()), outcome: Label(outcome.into()) };
        gateway.metrics.discoveries.get_or_create(&labels).inc();
        match found {
            Ok(found) => {
                took(gateway, live, kept, discover, &found);
                last = LookUp { answered: Some(live.elapsed()), trouble: None };
            }
            Err(trouble) => {
                let trouble = trouble.to_string();
                if last.trouble.is_none() {
                    let servers = kept.servers().count();
                    tracing::warn!(backend = %kept.backend().name, dns = %discover.dns, servers, cause = %trouble,
                        "servers cannot be found; the ones that are known stay");
                }
                last.trouble = Some(trouble);
                // The system's name servers may have changed.
                resolver = None;
            }
        }
        kept.servers().looked_up(last.clone());
        tokio::time::sleep(discover.refresh).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error("no answer in {} s", PATIENCE.as_secs())]
    Late,
}

async fn look_up(resolver: &mut Option<Resolver>, discover: &Discover) -> Result<Vec<Found>, Trouble> {
    let asking = match resolver {
        Some(resolver) => resolver,
        None => resolver.insert(Resolver::new(discover.server.as_deref().and_then(|server| server.parse().ok()))?),
    };
    Ok(timeout(PATIENCE, asking.find(&discover.dns)).await.map_err(|_| Trouble::Late)??)
}

/// Puts what was found in force.
fn took(gateway: &Gateway, live: &Live, kept: &Kept, discover: &Discover, found: &[Found]) {
    let wanted = wanted(kept.provider(), discover, found);
    let before: Vec<Uri> = kept.servers().all().iter().map(|server| server.url.clone()).collect();
    let added = wanted.iter().filter(|wanted| !before.contains(&wanted.url)).count();
    let removed = before.iter().filter(|url| !wanted.iter().any(|wanted| wanted.url == **url)).count();
    if added + removed > 0 {
        let servers = wanted.len();
        tracing::info!(backend = %kept.backend().name, dns = %discover.dns, servers, added, removed, "servers found");
    }
    if kept.servers().look_up().trouble.is_some() {
        tracing::info!(backend = %kept.backend().name, dns = %discover.dns, "servers can be found again");
    }
    // Also where nothing changed: SRV records may have other weights.
    kept.put(&wanted, &gateway.pool, live.elapsed());
}

/// Base URLs of what was found. The weights of SRV records are shares of those with one priority; where all are 0, all
/// are alike (RFC 2782).
fn wanted(provider: &dyn Provider, discover: &Discover, found: &[Found]) -> Vec<Wanted> {
    let mut sums: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    for one in found {
        let (sum, count) = sums.entry(one.priority).or_default();
        (*sum, *count) = (*sum + u64::from(one.weight), *count + 1);
    }
    let weight = |one: &Found| {
        let (sum, count) = sums.get(&one.priority).copied().unwrap_or_default();
        (u64::from(one.weight) * USUAL_WEIGHT_MILLI * count).checked_div(sum).unwrap_or(USUAL_WEIGHT_MILLI).max(1)
    };
    let url = |one: &Found| {
        let port = one.port.or(discover.port)?;
        let address = std::net::SocketAddr::new(one.ip, port);
        let scheme = if discover.tls { "https" } else { "http" };
        provider::normalise(provider, &format!("{scheme}://{address}")).ok()
    };
    let name: Option<Arc<str>> = discover.tls.then(|| discover.host().into());
    let wanted = found.iter().filter_map(|one| {
        let name = name.clone();
        Some(Wanted { url: url(one)?, name, weight_milli: weight(one), priority: one.priority })
    });
    // Two targets of one address are one server.
    let mut known: Vec<Wanted> = Vec::new();
    for one in wanted {
        if known.iter().all(|known| known.url != one.url) {
            known.push(one);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: [u8; 4], port: Option<u16>, priority: u16, weight: u16) -> Found {
        Found { priority, ip: ip.into(), port, weight }
    }

    fn urls(found: &[Found], port: Option<u16>) -> Vec<(String, u64, u16)> {
        let discover = Discover { dns: "x".into(), port, refresh: PATIENCE, server: None, tls: false };
        let vllm = provider::by_name("vllm").unwrap();
        let wanted = wanted(vllm, &discover, found);
        assert!(wanted.iter().all(|one| one.name.is_none()));
        wanted.into_iter().map(|one| (one.url.to_string(), one.weight_milli, one.priority)).collect()
    }

    #[test]
    fn addresses_get_the_port_and_count_alike() {
        let two = [found([10, 0, 0, 1], None, 0, 1), found([10, 0, 0, 2], None, 0, 1)];
        let expected = ["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"].map(|url| (url.to_owned(), 1_000, 0));
        assert_eq!(urls(&two, Some(8000)), expected);
        let six = [Found { ip: "fd00::1".parse().unwrap(), ..two[0] }];
        assert_eq!(urls(&six, Some(8000))[0].0, "http://[fd00::1]:8000/v1");
    }

    #[test]
    fn with_tls_all_have_the_name_that_was_asked_for() {
        for (dns, name) in
            [("vllm.ml.svc", "vllm.ml.svc"), ("_https._tcp.vllm.ml.svc.", "vllm.ml.svc"), ("_x._y", "_y")]
        {
            let (port, server) = (None, None);
            let discover = Discover { dns: dns.into(), port, refresh: PATIENCE, server, tls: true };
            let found = [found([10, 0, 0, 1], Some(8443), 0, 1), found([10, 0, 0, 2], Some(443), 0, 1)];
            let wanted = wanted(provider::by_name("vllm").unwrap(), &discover, &found);
            let told: Vec<(String, Option<&str>)> =
                wanted.iter().map(|one| (one.url.to_string(), one.name.as_deref())).collect();
            let expected =
                ["https://10.0.0.1:8443/v1", "https://10.0.0.2:443/v1"].map(|url| (url.to_owned(), Some(name)));
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn records_have_shares_of_their_priority() {
        let three = [
            found([10, 0, 0, 1], Some(1), 0, 3),
            found([10, 0, 0, 2], Some(2), 0, 1),
            found([10, 0, 0, 2], Some(2), 0, 1),
            found([10, 0, 0, 3], Some(3), 5, 0),
        ];
        let shares: Vec<(u64, u16)> = urls(&three, None).into_iter().map(|(_, weight, of)| (weight, of)).collect();
        assert_eq!(shares, [(1_800, 0), (600, 0), (1_000, 5)]);
        let idle = [found([10, 0, 0, 1], Some(1), 0, 0), found([10, 0, 0, 2], Some(2), 0, 7)];
        assert_eq!(urls(&idle, None)[0].1, 1, "a weight of 0 beside others is next to nothing");
    }
}
