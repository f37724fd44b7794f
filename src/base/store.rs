//! Where budgets are counted, as operators state it.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

/// Where budgets are counted.
#[derive(Clone, Debug, Default)]
pub enum StoreConfig {
    /// In this process and its journal.
    #[default]
    Embedded,
    /// In Redis, by several gateways together.
    Redis(RedisConfig),
}

/// A Redis and how it is used.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where it is.
    pub place: RedisPlace,
    /// A PEM file of certificates to trust instead of the system's; for `rediss://`.
    pub ca: Option<PathBuf>,
    /// The name of the deployment: what gateways with one name count, they count together.
    pub name: String,
    /// How long a call under way may wait for its answer.
    pub timeout: Duration,
    /// What gateways set aside in advance.
    pub lease: LeaseConfig,
}

/// How a Redis is found.
#[derive(Clone, Debug)]
pub enum RedisPlace {
    /// One server: `redis://` or `rediss://`, with the password in it.
    Single(SecretString),
    /// Some of the servers of a cluster; the others are found by asking them.
    Cluster(Vec<SecretString>),
    /// Sentinels, and the name under which they know the server.
    Sentinel {
        /// The sentinels, as URLs.
        sentinels: Vec<SecretString>,
        /// The name.
        master: String,
        /// The server's password.
        password: Option<SecretString>,
    },
}

/// What gateways set aside in advance, so that a request need not ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// At most so much of what is left, in parts per million; 0 = no leases.
    pub share_ppm: u32,
    /// A slice that was not used for so long is returned.
    pub ttl: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { share_ppm: 10_000, ttl: Duration::from_secs(60) }
    }
}

impl RedisConfig {
    /// The usual way to use the Redis at `place`.
    pub fn at(place: RedisPlace) -> Self {
        Self {
            place,
            ca: None,
            name: "turnpike".to_owned(),
            timeout: Duration::from_millis(250),
            lease: LeaseConfig::default(),
        }
    }
}
