//! Certificates: read from files, and read again when they were renewed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Exit, Failure};

pub(super) const H2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A certificate with its key, from two files. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificate {
    pub(super) fn read(chain: PathBuf, key: PathBuf) -> Result<Self, Failure> {
        let current = Arc::new(RwLock::new(Arc::new(config(&chain, &key)?)));
        Ok(Self { chain, key, current })
    }

    /// Reads the files again, for connections that come from now on; what was in force stays if they make no sense.
    pub(super) fn reload(&self) -> Result<(), Failure> {
        *self.current.write() = Arc::new(config(&self.chain, &self.key)?);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read()))
    }
}

fn config(chain: &Path, key: &Path) -> Result<ServerConfig, Failure> {
    let text = read("certificate", chain)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| senseless("certificate", chain, &error))?;
    if certificates.is_empty() {
        return Err(senseless("certificate", chain, &"no CERTIFICATE in it"));
    }
    let text = read("key", key)?;
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| senseless("key", key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Exit::Other, format!("cannot speak TLS: {error}")))?
        .with_no_client_auth()
        .with_single_cert(certificates, secret)
        .map_err(|error| senseless("key", key, &error))?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1.to_vec()];
    Ok(config)
}

#[expect(clippy::disallowed_methods, reason = "a file of the operator's, no part of a store")]
fn read(what: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::io(&format!("read the {what}"), path, &error))
}

fn senseless(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("the {what} cannot be used, path={}: {error}", path.display()))
        .with_hint("both files are PEM: the certificate with those that vouch for it behind it, and its key")
}
