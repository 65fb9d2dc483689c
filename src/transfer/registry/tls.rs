//! Whom a connection is with: which certificates are trusted, and which one is shown.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::options::RegistryOptions;
use crate::error::{Error, Result};
use crate::oci::RegistryName;
use crate::sys;

/// Where systems have the certificates that they trust, in one file; the first that is there counts.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// The largest file of certificates, in bytes, and the most files of one directory.
const MAX_FILE: u64 = 16 << 20;
const MAX_FILES: usize = 1000;

/// How to speak to a registry, or with None to other hosts, which see no client certificate.
pub(super) fn config(options: &RegistryOptions, registry: Option<&RegistryName>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |error: rustls::Error| Error::invalid("cannot set up TLS").with_source(error);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let directory = |dir: &PathBuf| Some(dir.join(registry?.as_str()));
    let directories: Vec<PathBuf> = options.certificates.iter().filter_map(directory).collect();
    let mut files = Vec::new();
    for directory in &directories {
        let listed = sys::names_in(directory, MAX_FILES);
        files.extend(listed.map_err(|error| Error::io("list the certificates", directory, error))?);
    }
    let builder = if options.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let mut roots = system_roots()?;
        let of_registry = files.iter().filter(|path| has_extension(path, "crt"));
        for path in options.authorities.iter().chain(of_registry) {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unreadable(path).with_source(error))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let named = registry.and_then(|_| options.identity.clone());
    let found = files.iter().find(|path| has_extension(path, "cert"));
    let identity = named.or_else(|| found.map(|path| (path.clone(), path.with_extension("key"))));
    let mut config = match identity {
        Some((certificate, key)) => {
            let chain = certificates(&certificate)?;
            let key = private_key(&key)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unreadable(&certificate).with_source(error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// What this system trusts: `$SSL_CERT_FILE` and `$SSL_CERT_DIR`, or else the file of the system. What of it is no certificate
/// is passed over, as everywhere: one odd authority of hundreds should not keep everybody out.
fn system_roots() -> Result<RootCertStore> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let (file, directories) = (variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR"));
    let mut roots = RootCertStore::empty();
    let mut take = |path: &Path| -> Result<bool> {
        let bytes = sys::read_small(path, MAX_FILE)
            .map_err(|error| Error::io("read the certificates of the system", path, error))?;
        let Some(bytes) = bytes else { return Ok(false) };
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
        Ok(true)
    };
    if let Some(file) = &file {
        take(Path::new(file))?;
    }
    for directory in directories.iter().flat_map(env::split_paths) {
        let names = sys::names_in(&directory, MAX_FILES)
            .map_err(|error| Error::io("list the certificates of the system", &directory, error))?;
        for path in names {
            // Directories and links that lead nowhere are no certificates.
            let _ = take(&path);
        }
    }
    if file.is_none() && directories.is_none() {
        for path in SYSTEM {
            if take(Path::new(path))? {
                break;
            }
        }
    }
    Ok(roots)
}

/// The certificates of a file that was named: all of them, and at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = named(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| unreadable(path).with_source(error))?;
    if found.is_empty() { Err(unreadable(path)) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let bytes = named(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        Error::invalid(format!("no private key in the file, file={}", path.display())).with_source(error)
    })
}

fn named(path: &Path) -> Result<Vec<u8>> {
    let bytes =
        sys::read_small(path, MAX_FILE).map_err(|error| Error::io("read the certificate", path, error))?;
    bytes.ok_or_else(|| Error::not_found(format!("no such file of certificates, file={}", path.display())))
}

#[cold]
fn unreadable(path: &Path) -> Error {
    Error::invalid(format!("no certificate in the file that can be used, file={}", path.display()))
}

/// Takes any certificate, for whoever said so. That who shows it has its key is checked all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
