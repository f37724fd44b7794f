//! From an origin's address to a byte stream: look-up, TCP, TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::pool::SendError;
use super::wire::{Transport, Wire};

/// How long one address may take before the next is tried beside it (RFC 8305 §5 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// Why a URI names no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Neither `http` nor `https`.
    #[error("`{0}` has no scheme `http` or `https`; hint: write `https://host`")]
    Scheme(String),
    /// No host, or one that TLS cannot check.
    #[error("`{0}` has no usable host")]
    Host(String),
    /// `user:password@host`.
    #[error("an address may not carry a user name or password; hint: use `api_key`")]
    UserInfo,
}

/// Where an origin is, with all that each request needs of it made once.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) host_header: HeaderValue,
    host: Box<str>,
    port: u16,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Target {
    pub(super) fn from_uri(uri: &Uri) -> Result<Target, OriginError> {
        let scheme = uri.scheme().filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS);
        // The host alone is quoted: a whole address may carry a secret in its path.
        let shown = || uri.host().unwrap_or_default().to_owned();
        let scheme = scheme.ok_or_else(|| OriginError::Scheme(shown()))?.clone();
        let authority = uri.authority().ok_or_else(|| OriginError::Host(shown()))?;
        if authority.as_str().contains('@') {
            return Err(OriginError::UserInfo);
        }
        let tls = scheme == Scheme::HTTPS;
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| OriginError::Host(shown()))?;
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| OriginError::Host(shown()))?;
        Ok(Target {
            host: bare.into(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            server_name: tls.then_some(name),
            authority: authority.clone(),
            host_header,
            scheme,
        })
    }

    /// The same server under another name: what is dialled stays, `host` and the certificate are that name's.
    pub(super) fn called(self, name: &str) -> Result<Target, OriginError> {
        let wrong = || OriginError::Host(name.to_owned());
        let usual = self.port == if self.is_tls() { 443 } else { 80 };
        let authority = if usual { name.to_owned() } else { format!("{name}:{}", self.port) };
        let authority = Authority::try_from(authority).map_err(|_| wrong())?;
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        let called = ServerName::try_from(name.to_owned()).map_err(|_| wrong())?;
        let server_name = self.server_name.map(|_| called);
        Ok(Target { authority, host_header, server_name, ..self })
    }

    /// What is dialled.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether connections to it may turn out to speak HTTP/2.
    pub(super) fn is_tls(&self) -> bool {
        self.server_name.is_some()
    }
}

/// A new connection. The caller sets the time limit, and drops the future to give up.
pub(super) async fn dial(target: &Target, tls: &Arc<ClientConfig>) -> Result<Wire, SendError> {
    let addresses = tokio::net::lookup_host((&*target.host, target.port)).await.map_err(SendError::Connect)?;
    let tcp = connect_any(interleave(addresses)).await.map_err(SendError::Connect)?;
    tcp.set_nodelay(true).map_err(SendError::Connect)?;
    let Some(name) = target.server_name.clone() else {
        return Ok(Wire::new(Transport::Plain(tcp)));
    };
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(SendError::Tls)?;
    Ok(Wire::new(Transport::Tls(Box::new(stream.into()))))
}

/// The first address of each family in turn, so that a broken IPv6 costs one stagger and not a timeout (RFC 8305 §4).
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(SocketAddr::is_ipv6);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = (first.next(), second.next());
        mixed.extend(pair.0.into_iter().chain(pair.1));
        if pair == (None, None) {
            return mixed;
        }
    }
}

/// Tries the addresses one after the other without waiting for a slow one to fail; the first to connect wins.
async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        let next = waiting.next();
        let more = next.is_some();
        if let Some(address) = next {
            running.spawn(TcpStream::connect(address));
        }
        let joined = if more {
            tokio::time::timeout(STAGGER, running.join_next()).await.unwrap_or(None)
        } else {
            running.join_next().await
        };
        match joined {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failed = error,
            Some(Err(panicked)) => failed = io::Error::other(panicked),
            None if more => {}
            None => return Err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Result<Target, OriginError> {
        Target::from_uri(&uri.parse().unwrap())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let plain = target("http://10.0.0.11:8000/v1").unwrap();
        assert_eq!((&*plain.host, plain.port, plain.is_tls()), ("10.0.0.11", 8000, false));
        let six = target("https://[::1]/v1").unwrap();
        assert_eq!((&*six.host, six.port, six.is_tls()), ("::1", 443, true));
        assert_eq!(six.host_header, "[::1]");
    }

    #[test]
    fn what_is_no_origin_is_refused_without_quoting_secrets() {
        assert!(matches!(target("/v1/chat"), Err(OriginError::Scheme(_))));
        assert!(matches!(target("ftp://host/"), Err(OriginError::Scheme(_))));
        let refused = target("https://user:sk-secret@host/").unwrap_err();
        assert!(!refused.to_string().contains("sk-secret"));
    }

    #[test]
    fn families_take_turns() {
        let (a, b, c) = ("[::1]:1", "[::2]:1", "127.0.0.1:1");
        let all = [a, b, c].map(|s| s.parse::<SocketAddr>().unwrap());
        assert_eq!(interleave(all.into_iter()), [all[0], all[2], all[1]]);
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_living_one() {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let alive = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![dead, alive.local_addr().unwrap()];
        let stream = connect_any(addresses).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive.local_addr().unwrap());
        assert!(connect_any(vec![dead, dead]).await.is_err());
        assert!(connect_any(Vec::new()).await.is_err());
    }
}
