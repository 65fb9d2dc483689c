//! A repository of a registry: what is common to all that is asked of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use reqwest::Url;

use super::host::Host;
use super::pages;
use super::session::Session;
use super::upload::Begun;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{RegistryName, RepositoryName, Tag};

/// A repository of a registry. Cheap to clone; clones share their connections and tokens, and can be used by many threads at once.
///
/// An answer that something is not there is given only when the registry said so.
#[derive(Clone)]
pub struct RemoteRepository {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) session: Session,
    pub(super) name: RepositoryName,
    /// What tokens must allow.
    pub(super) pull: [String; 1],
    pub(super) push: [String; 1],
    pub(super) delete: [String; 1],
    /// Upload sessions that a registry began instead of a mount, for the push that follows.
    pub(super) begun: Mutex<HashMap<Digest, Begun>>,
    /// It keeps lists of referrers.
    pub(super) api: AtomicBool,
    /// All tags, while they are read page by page.
    tags: Mutex<Option<Arc<Vec<Tag>>>>,
}

impl RemoteRepository {
    pub(super) fn new(host: Arc<Host>, name: &RepositoryName) -> Result<Self> {
        if name.is_unnamed() {
            let registry = &host.registry;
            return Err(Error::invalid(format!(
                "a repository of a registry needs a name, registry={registry}"
            )));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                session: Session::new(host, Some(name)),
                name: name.clone(),
                pull: [scope(name, "pull")],
                push: [scope(name, "pull,push")],
                delete: [scope(name, "delete,pull")],
                begun: Mutex::default(),
                api: AtomicBool::default(),
                tags: Mutex::default(),
            }),
        })
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &RegistryName {
        &self.inner.session.host.registry
    }

    /// The name of the repository.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        &self.inner.name
    }

    /// All tags, in the order of their bytes; none for a repository that is not there.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `Denied`, `Unavailable`; the last also for names that are no tags.
    pub fn all_tags(&self) -> Result<Vec<Tag>> {
        pages::tags(&self.inner.session, &self.inner.path("tags/list"), &self.inner.pull)
    }

    /// The tags for a reader by pages: read anew when it begins.
    pub(super) fn tags_from(&self, last: Option<&Tag>) -> Result<Arc<Vec<Tag>>> {
        let known = self.inner.tags.lock().clone();
        if let (Some(tags), Some(_)) = (known, last) {
            return Ok(tags);
        }
        let tags = Arc::new(self.all_tags()?);
        *self.inner.tags.lock() = Some(Arc::clone(&tags));
        Ok(tags)
    }
}

impl Inner {
    /// The path of something in the repository.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("v2/{}/{rest}", self.name)
    }

    /// The address of something in the repository.
    pub(super) fn url(&self, rest: &str) -> Result<Url> {
        self.session.url(&self.path(rest), "")
    }
}

impl Session {
    /// An address of the registry: a path, and a query if there is one.
    pub(super) fn url(&self, path: &str, query: &str) -> Result<Url> {
        let mut url = self.host.base.clone();
        url.set_path(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        Ok(url)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for (_, begun) in self.begun.get_mut().drain() {
            begun.cancel(&self.session, &self.push);
        }
    }
}

impl fmt::Debug for RemoteRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteRepository").field(&self.inner.session.place).finish()
    }
}

/// What a token must allow, in the words of the token specification.
pub(super) fn scope(name: &RepositoryName, actions: &str) -> String {
    format!("repository:{name}:{actions}")
}
