//! Asks the domain name system for the servers of a pool.
//!
//! Nothing is cached here: whoever asks does so at intervals of its own, and an answer that is kept for its time to live
//! would tell of a removed server late. Of a name's two families the addresses of IPv4 are taken, those of IPv6 where
//! there are none: a server of a dual-stack cluster has one of each, and would count twice.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use tokio::task::JoinSet;

/// How long one query may take before it is sent again.
const QUERY: Duration = Duration::from_secs(1);
/// The most servers that are taken from an answer.
pub const MOST: usize = 256;
/// The most names that are asked for at once.
const AT_ONCE: usize = 16;

/// A server that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Of an SRV record: servers of a higher number serve where no other can. 0 for addresses.
    pub priority: u16,
    /// Its address.
    pub ip: IpAddr,
    /// Its port, as an SRV record says it.
    pub port: Option<u16>,
    /// Its share of those with its priority; 1 for addresses.
    pub weight: u16,
}

/// Why no server was found.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The name has no such records, or is not there.
    #[error("the name has no addresses")]
    Empty,
    /// The system's name servers are not known.
    #[error("the system's name servers cannot be read: {0}")]
    Config(#[source] NetError),
    /// It did not answer in time, or not as it should.
    #[error("the name server does not answer as it should: {0}")]
    Failed(#[source] NetError),
}

impl From<NetError> for DnsError {
    fn from(error: NetError) -> Self {
        if error.is_no_records_found() { Self::Empty } else { Self::Failed(error) }
    }
}

/// Whoever asks name servers.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// One that asks `server`, or the system's own name servers (`/etc/resolv.conf`, with its search domains).
    ///
    /// # Errors
    /// [`DnsError::Config`] when the system's cannot be read.
    pub fn new(server: Option<SocketAddr>) -> Result<Self, DnsError> {
        let mut builder = match server {
            None => TokioResolver::builder_tokio().map_err(DnsError::Config)?,
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                    .map(|mut connection| {
                        connection.port = server.port();
                        connection
                    })
                    .into();
                let mut named = NameServerConfig::udp_and_tcp(server.ip());
                named.connections = connections;
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![named]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        (options.timeout, options.attempts, options.cache_size) = (QUERY, 2, 0);
        Ok(Self(builder.build().map_err(DnsError::Config)?))
    }

    /// The servers of a name, in order, each once, at most [`MOST`]: the targets of its SRV records where it begins with
    /// `_`, else its addresses.
    ///
    /// # Errors
    /// [`DnsError::Empty`] when there are none, else whatever kept it from being known. Of an SRV name it is enough that
    /// one target has an address.
    pub async fn find(&self, name: &str) -> Result<Vec<Found>, DnsError> {
        let found = if name.starts_with('_') { self.targets(name).await? } else { self.addresses(name).await? };
        if found.is_empty() { Err(DnsError::Empty) } else { Ok(found.into_iter().take(MOST).collect()) }
    }

    async fn addresses(&self, name: &str) -> Result<BTreeSet<Found>, DnsError> {
        let ips = ips(&self.0, name).await?;
        Ok(ips.into_iter().map(|ip| Found { priority: 0, ip, port: None, weight: 1 }).collect())
    }

    async fn targets(&self, name: &str) -> Result<BTreeSet<Found>, DnsError> {
        let answer = self.0.srv_lookup(name).await?;
        let mut targets: Vec<(u16, u16, u16, String)> = Vec::new();
        for record in answer.answers() {
            let RData::SRV(srv) = &record.data else { continue };
            // A target of `.` says that there is decidedly no such service (RFC 2782).
            if !srv.target.is_root() {
                targets.push((srv.priority, srv.port, srv.weight, srv.target.to_ascii()));
            }
        }
        targets.sort();
        targets.truncate(MOST);
        let (mut found, mut failed) = (BTreeSet::new(), None);
        for group in targets.chunks(AT_ONCE) {
            let mut asked = JoinSet::new();
            for (priority, port, weight, target) in group.iter().cloned() {
                let resolver = self.0.clone();
                // One server has one address here: the first.
                asked.spawn(async move {
                    let ip = ips(&resolver, &target).await.map(|ips| ips.into_iter().min());
                    ip.map(|ip| ip.map(|ip| Found { priority, ip, port: Some(port), weight }))
                });
            }
            while let Some(one) = asked.join_next().await {
                match one {
                    Ok(Ok(one)) => found.extend(one),
                    Ok(Err(error)) => failed = Some(error),
                    Err(_) => {}
                }
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

async fn ips(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, DnsError> {
    let of = |answer: &Lookup| -> Vec<IpAddr> {
        let ip = |data: &RData| match data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        };
        answer.answers().iter().filter_map(|record| ip(&record.data)).collect()
    };
    match resolver.lookup(name, RecordType::A).await {
        Ok(answer) => Ok(of(&answer)),
        Err(error) if error.is_no_records_found() => Ok(of(&resolver.lookup(name, RecordType::AAAA).await?)),
        Err(error) => Err(error.into()),
    }
}
