//! The client: one for all registries that a program talks to.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::{Method, StatusCode};
use parking_lot::Mutex;

use super::host::Host;
use super::options::RegistryOptions;
use super::pages;
use super::repository::RemoteRepository;
use super::session::{Request, Session};
use crate::error::Result;
use crate::oci::{RegistryName, RepositoryName};

/// A client of registries. Cheap to clone; clones share their connections.
///
/// Calls block; of tokio's runtimes they must be kept away, as other blocking calls.
///
/// ```no_run
/// use orlop::oci::RemoteName;
/// use orlop::transfer::{Credential, RegistryOptions};
///
/// # fn main() -> orlop::Result<()> {
/// let client = RegistryOptions::new().credentials(Credential::password("me", "secret")).client();
/// let name: RemoteName = "registry.example/app:v1".parse()?;
/// let repository = client.repository(&name.registry, &name.repository)?;
/// let reference = name.reference.expect("a tag was named");
/// if let Some(descriptor) = repository.resolve(&reference)? {
///     println!("{} has {} bytes", descriptor.digest, descriptor.size);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RegistryClient(Arc<Inner>);

struct Inner {
    options: Arc<RegistryOptions>,
    hosts: Mutex<HashMap<RegistryName, Arc<Host>>>,
}

impl RegistryClient {
    pub(super) fn new(options: RegistryOptions) -> Self {
        Self(Arc::new(Inner { options: Arc::new(options), hosts: Mutex::default() }))
    }

    /// A repository of a registry. It need not exist, and nothing is asked yet.
    ///
    /// # Errors
    ///
    /// `Invalid` for certificates that cannot be used, or the unnamed repository; `NotFound` for files of them that are not there.
    pub fn repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> Result<RemoteRepository> {
        RemoteRepository::new(self.host(registry)?, repository)
    }

    /// Asks a registry whether it takes the credentials that there are for it; without any, whether it answers those who have
    /// none.
    ///
    /// # Errors
    ///
    /// `Unauthorized`; `Denied`; `Unavailable`, also where no registry answers.
    pub fn check(&self, registry: &RegistryName) -> Result<()> {
        const WHAT: &str = "cannot use the registry";
        let session = Session::new(self.host(registry)?, None);
        let url = session.url("v2/", "")?;
        let answer = session.expect(&Request::new(Method::GET, url, &[], WHAT), &[StatusCode::OK])?;
        answer.map(drop).ok_or_else(|| session.about(WHAT).broken("no registry answers there"))
    }

    /// The names of all repositories of a registry, in the order of their bytes. Many registries do not tell them.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there is no such list; `Unauthorized`; `Denied`; `Unavailable`.
    pub fn repositories(&self, registry: &RegistryName) -> Result<Vec<RepositoryName>> {
        pages::repositories(&Session::new(self.host(registry)?, None))
    }

    fn host(&self, registry: &RegistryName) -> Result<Arc<Host>> {
        let mut hosts = self.0.hosts.lock();
        if let Some(host) = hosts.get(registry) {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(Host::new(&self.0.options, registry)?);
        hosts.insert(registry.clone(), Arc::clone(&host));
        Ok(host)
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryClient").field(&self.0.options).finish()
    }
}
