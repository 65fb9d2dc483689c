//! How registries are talked to.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::client::RegistryClient;
use super::credential::Credentials;
use super::credential_files::CredentialFiles;
use crate::error::{Error, Result};

/// Where certificates of single registries are, one directory for each.
const CERTIFICATES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

type Sleep = dyn Fn(Duration) -> ControlFlow<()> + Send + Sync;

/// How registries are talked to: what [`RegistryClient`] is made of.
///
/// Without anything set: HTTPS, and HTTP for registries on this machine; the certificates of the system, and of the directories
/// `certs.d` of docker and podman; the credentials of [`CredentialFiles::from_env`]; the proxies that the environment names
/// (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), never for registries on this machine.
#[derive(Clone)]
pub struct RegistryOptions {
    pub(super) plain_http: bool,
    pub(super) insecure: bool,
    pub(super) authorities: Vec<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    pub(super) certificates: Vec<PathBuf>,
    pub(super) headers: HeaderMap,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) stall: Duration,
    pub(super) attempts: u32,
    pub(super) first_wait: Duration,
    pub(super) longest_wait: Duration,
    pub(super) chunk: u64,
    pub(super) sleep: Arc<Sleep>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RegistryOptions {
    /// The smallest and the largest part that large content may be sent in.
    const CHUNKS: std::ops::RangeInclusive<u64> = 1..=256 << 20;

    /// Nothing set.
    #[must_use]
    pub fn new() -> Self {
        Self {
            plain_http: false,
            insecure: false,
            authorities: Vec::new(),
            identity: None,
            certificates: CERTIFICATES.map(PathBuf::from).to_vec(),
            headers: HeaderMap::new(),
            credentials: Arc::new(CredentialFiles::from_env()),
            stall: Duration::from_secs(60),
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            chunk: 8 << 20,
            sleep: Arc::new(|time| {
                thread::sleep(time);
                ControlFlow::Continue(())
            }),
        }
    }

    /// Whether to speak HTTP to every registry, and not only to those on this machine. Everybody on the way can read and change
    /// what is said, passwords too.
    #[must_use]
    pub fn plain_http(mut self, plain: bool) -> Self {
        self.plain_http = plain;
        self
    }

    /// Whether to take any certificate. Everybody on the way can read and change what is said, passwords too.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// A file of certificates (PEM) of authorities that are trusted beside those of the system.
    #[must_use]
    pub fn certificate_authority(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities.push(file.into());
        self
    }

    /// The files (PEM) of a certificate and its key by which registries know who asks. Other hosts that a registry refers to are
    /// not shown it.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The directories with certificates of single registries, instead of `/etc/containers/certs.d` and `/etc/docker/certs.d`:
    /// `HOST[:PORT]/*.crt` are authorities, `*.cert` with the `*.key` of the same name is a client certificate.
    #[must_use]
    pub fn certificate_directories(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        self.certificates = directories.into_iter().collect();
        self
    }

    /// One more header for every request to a registry. Other hosts that a registry refers to do not get it.
    ///
    /// # Errors
    ///
    /// `Invalid` for what is no header; the value is not in the message.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("not a header, name={}", crate::digest::excerpt(name)));
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        self.headers.append(parsed, value);
        Ok(self)
    }

    /// Where credentials come from.
    #[must_use]
    pub fn credentials(mut self, credentials: impl Credentials + 'static) -> Self {
        self.credentials = Arc::new(credentials);
        self
    }

    /// How long nothing may come, when a registry is reached, answers, or sends content: 60 seconds.
    #[must_use]
    pub fn stall(mut self, time: Duration) -> Self {
        self.stall = time;
        self
    }

    /// How often something is tried at most, and how long at first and at most it is waited in between: 5 times, half a second,
    /// a minute. Waits double, less up to a half by chance; a registry that names a time with `Retry-After` is asked again then,
    /// unless that is longer than the longest.
    #[must_use]
    pub fn retry(mut self, attempts: u32, first_wait: Duration, longest_wait: Duration) -> Self {
        self.attempts = attempts.max(1);
        (self.first_wait, self.longest_wait) = (first_wait, longest_wait);
        self
    }

    /// How waits are spent, instead of by sleeping; if it breaks, the operation ends with `Interrupted`.
    #[must_use]
    pub fn sleep(mut self, sleep: impl Fn(Duration) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        self.sleep = Arc::new(sleep);
        self
    }

    /// In parts of how many bytes content is sent that is larger: 8 MiB. A part is kept in memory. Registries that want larger
    /// ones get those.
    ///
    /// # Errors
    ///
    /// `Invalid` for none, and for more than 256 MiB.
    pub fn chunk(mut self, bytes: u64) -> Result<Self> {
        if !Self::CHUNKS.contains(&bytes) {
            let limit = Self::CHUNKS.end();
            return Err(Error::invalid(format!(
                "parts of this size cannot be sent, size={bytes}, limit={limit}"
            )));
        }
        self.chunk = bytes;
        Ok(self)
    }

    /// A client that talks to registries in this way. Nothing is connected or read before something is asked.
    #[must_use]
    pub fn client(self) -> RegistryClient {
        RegistryClient::new(self)
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("plain_http", &self.plain_http)
            .field("insecure", &self.insecure)
            .field("authorities", &self.authorities)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
