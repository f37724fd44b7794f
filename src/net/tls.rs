//! Whom we trust upstream, and the certificate that we show to clients.
//!
//! The cryptography (aws-lc-rs) is passed to every configuration: nothing here depends on a process-wide default.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// Protocols offered in ALPN, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file holds no PEM, or not what is wanted of it.
    #[error("no usable {what} in `{}`: {source}; hint: a PEM file is expected", path.display())]
    Pem {
        /// `certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the PEM reader says.
        source: pem::Error,
    },
    /// rustls refuses the certificate, the key, or the two together.
    #[error("the TLS configuration is refused: {0}")]
    Refused(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What the pool trusts: the roots of the system, and those of `extra_ca`, a PEM file of certificates (`ca` of a
/// private server).
///
/// A system without roots is no error here, since a gateway may speak to plain local servers only; each TLS handshake
/// then fails and says why.
///
/// # Errors
/// [`TlsError`] if `extra_ca` cannot be read or holds no certificate.
pub fn client_config(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let extra = extra_ca.map(read_certificates).transpose()?.unwrap_or_default();
    client_config_with(extra)
}

/// As [`client_config`], with the extra roots in hand.
///
/// # Errors
/// [`TlsError::Refused`] if one of them is no usable certificate.
pub fn client_config_with(extra: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let extras = extra.len();
    let verifier: Arc<dyn ServerCertVerifier> = match Verifier::new_with_extra_roots(extra, Arc::clone(&provider)) {
        Ok(verifier) => Arc::new(verifier),
        Err(rustls::Error::General(_)) if extras == 0 => Arc::new(NoRoots(Arc::clone(&provider))),
        Err(error) => return Err(error.into()),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

/// Stands in where the system has no root certificates: trusts nobody, and says so.
#[derive(Debug)]
struct NoRoots(Arc<CryptoProvider>);

impl ServerCertVerifier for NoRoots {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(rustls::Error::General(
            "this system has no root certificates; hint: install `ca-certificates`, or name a `ca`".into(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("this system has no root certificates".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("this system has no root certificates".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The listener's certificate, exchanged while connections go on: an open connection keeps the one it began with.
#[derive(Debug)]
pub struct ServerTls {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    /// The chain in force, to tell a changed file from one that was only touched.
    chain: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads a PEM chain and its key.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or parsed, or if the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<ServerTls>, TlsError> {
        let loaded = Loaded::read(cert, key)?;
        Ok(Arc::new(ServerTls { cert: cert.to_owned(), key: key.to_owned(), current: ArcSwap::from_pointee(loaded) }))
    }

    /// Reads both files again and tells whether there was a new certificate. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`]; the certificate in force stays. Of two files that are replaced one after the other, the moment
    /// between shows as such an error and passes at the next call.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let loaded = Loaded::read(&self.cert, &self.key)?;
        let changed = loaded.chain != self.current.load().chain;
        if changed {
            self.current.store(Arc::new(loaded));
        }
        Ok(changed)
    }

    /// The configuration for a handshake that begins now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }
}

impl Loaded {
    fn read(cert: &Path, key: &Path) -> Result<Loaded, TlsError> {
        let chain = read_certificates(cert)?;
        let text = read(key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|source| TlsError::Pem {
            what: "private key",
            path: key.to_owned(),
            source,
        })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key)?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Ok(Loaded { chain, config: Arc::new(config) })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let fault = |source| TlsError::Pem { what: "certificate", path: path.to_owned(), source };
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(fault)?;
    if chain.is_empty() {
        return Err(fault(pem::Error::NoItemsFound));
    }
    Ok(chain)
}
