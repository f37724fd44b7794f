//! Finding the one server that counts, and connecting to it.
//!
//! All keys of a deployment lie in one slot, so a cluster is, for us, the one master of that slot. Sentinels know the
//! one master of a name. Either way there is one connection to one master, and whatever goes wrong with it (a master
//! that turned into a replica, a slot that moved) ends in asking again who that master is.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
    Value, aio::MultiplexedConnection,
};
use secrecy::{ExposeSecret, SecretString};

use super::{link::cause, scripts::Wire};
use crate::base::store::{RedisConfig, RedisPlace};

/// How long a connection may take to be made, with its handshake.
const CONNECT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What the server or the connection says.
    #[error("{}", cause(.0))]
    Redis(#[from] RedisError),
    /// Nothing was heard in time.
    #[error("no answer within {} s", CONNECT.as_secs())]
    Silent,
    /// The file of trusted certificates.
    #[error("cannot read `{0}`: {1}")]
    Ca(String, std::io::Error),
    /// Nobody who was asked knows the server.
    #[error("{0}")]
    Unknown(String),
    /// The server is a replica.
    #[error("the server is a replica; hint: name the master, or its sentinels")]
    Replica,
}

/// Connects to the server that counts for `config`, and loads the scripts.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(config: &RedisConfig) -> Result<Wire, ConnectError> {
    let ca = match &config.ca {
        Some(path) => {
            Some(tokio::fs::read(path).await.map_err(|error| ConnectError::Ca(path.display().to_string(), error))?)
        }
        None => None,
    };
    let mut connection = find(config, ca.as_deref()).await?;
    // A replica answers reads and would be found out by the first write only.
    let role = within(ask(&mut connection, &["ROLE"])).await?;
    if word(&role, 0).as_deref() != Some("master") {
        return Err(ConnectError::Replica);
    }
    within(async { Ok(Wire::new(connection, &config.name).await?) }).await
}

fn info(url: &SecretString) -> Result<ConnectionInfo, RedisError> {
    url.expose_secret().into_connection_info()
}

async fn within<T>(work: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
    tokio::time::timeout(CONNECT, work).await.unwrap_or(Err(ConnectError::Silent))
}

async fn open(info: ConnectionInfo, ca: Option<&[u8]>) -> Result<MultiplexedConnection, ConnectError> {
    let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let client = match ca {
        Some(pem) if tls => {
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) })?
        }
        _ => Client::open(info)?,
    };
    // Our own clocks run over every call; the crate's would answer at other times.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    within(async { Ok(client.get_multiplexed_async_connection_with_config(&config).await?) }).await
}

/// A connection to the master, by the first of those who are named that knows it.
async fn find(config: &RedisConfig, ca: Option<&[u8]>) -> Result<MultiplexedConnection, ConnectError> {
    let mut failed = ConnectError::Unknown("no server is named".to_owned());
    match &config.place {
        RedisPlace::Single(url) => return open(info(url)?, ca).await,
        RedisPlace::Cluster(seeds) => {
            let key = format!("{{tp:{}}}:e", config.name);
            for seed in seeds {
                match of_cluster(info(seed)?, &key, ca).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => failed = error,
                }
            }
        }
        RedisPlace::Sentinel { sentinels, master, password } => {
            for sentinel in sentinels {
                match of_sentinel(info(sentinel)?, master, password.as_ref(), ca).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => failed = error,
                }
            }
        }
    }
    Err(failed)
}

async fn ask(connection: &mut MultiplexedConnection, words: &[&str]) -> Result<Value, ConnectError> {
    let mut cmd = ::redis::Cmd::new();
    for word in words {
        cmd.arg(word);
    }
    Ok(cmd.query_async(connection).await?)
}

fn item(value: &Value, index: usize) -> Option<&Value> {
    match value {
        Value::Array(items) => items.get(index),
        _ => None,
    }
}

fn word(value: &Value, index: usize) -> Option<String> {
    match item(value, index)? {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

fn number(value: &Value, index: usize) -> Option<i64> {
    match item(value, index)? {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// `info` with another address.
fn moved(info: ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => ConnectionAddr::Tcp(host, port),
        // The address of a transport that this version of the crate does not have yet.
        #[allow(unreachable_patterns, reason = "the enum may grow")]
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.set_addr(addr)
}

/// A connection to the master of the slot that `key` is in.
async fn of_cluster(seed: ConnectionInfo, key: &str, ca: Option<&[u8]>) -> Result<MultiplexedConnection, ConnectError> {
    let mut connection = open(seed.clone(), ca).await?;
    let Value::Int(slot) = within(ask(&mut connection, &["CLUSTER", "KEYSLOT", key])).await? else {
        return Err(ConnectError::Unknown("the server does not know the slot of a key".to_owned()));
    };
    let Value::Array(ranges) = within(ask(&mut connection, &["CLUSTER", "SLOTS"])).await? else {
        return Err(ConnectError::Unknown("the server does not know the slots of the cluster".to_owned()));
    };
    let serves =
        |range: &&Value| number(range, 0).zip(number(range, 1)).is_some_and(|(from, to)| (from..=to).contains(&slot));
    let master = ranges.iter().find(serves).and_then(|range| item(range, 2));
    let address = master.and_then(|master| Some((word(master, 0)?, u16::try_from(number(master, 1)?).ok()?)));
    let Some((host, port)) = address else {
        return Err(ConnectError::Unknown(format!("nobody in the cluster serves slot {slot}")));
    };
    // A server that does not know its own address says nothing: it is the one that was asked.
    if host.is_empty() { Ok(connection) } else { open(moved(seed, host, port), ca).await }
}

/// A connection to the master that a sentinel knows as `name`.
async fn of_sentinel(
    sentinel: ConnectionInfo,
    name: &str,
    password: Option<&SecretString>,
    ca: Option<&[u8]>,
) -> Result<MultiplexedConnection, ConnectError> {
    let mut connection = open(sentinel.clone(), ca).await?;
    let answer = within(ask(&mut connection, &["SENTINEL", "get-master-addr-by-name", name])).await?;
    let address = word(&answer, 0).zip(word(&answer, 1).and_then(|port| port.parse().ok()));
    let Some((host, port)) = address else {
        return Err(ConnectError::Unknown(format!("no sentinel knows `{name}`")));
    };
    let mut settings = ::redis::RedisConnectionInfo::default();
    if let Some(password) = password {
        settings = settings.set_password(password.expose_secret());
    }
    open(moved(sentinel, host, port).set_redis_settings(settings), ca).await
}
