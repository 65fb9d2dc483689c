//! Taking over content that another repository holds.

use http::Response;

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::policy::{Action, Policy};
use super::quota;
use super::registry::Exchange;
use super::uploads::created;
use crate::oci::RepositoryName;
use crate::{Digest, ErrorKind, Repository};

/// Holders that are asked about where the client names none.
const CANDIDATES: usize = 16;

impl<P: Policy> Exchange<'_, P> {
    /// Mounts a content; none when that cannot be, or the client must not know whether it could. Without a source every holder
    /// that may be read will do.
    pub(super) async fn mount(&self, digest: Digest, from: Option<&str>) -> Outcome<Option<Response<Body>>> {
        let sources = match from {
            Some(from) => from.parse().into_iter().collect(),
            None => self.holders(digest).await?,
        };
        for source in sources {
            let action = Action::mount(self.name, source);
            if self.inner.policy.decide(self.parts, &action).await.is_err() {
                continue;
            }
            let source = action.mount.and_then(|name| self.inner.repository(&name));
            if let Some(source) = source
                && self.mount_from(source, digest).await?
            {
                return Ok(Some(created(self.name, &digest)));
            }
        }
        Ok(None)
    }

    /// False when the source does not hold it, or is of another store.
    async fn mount_from(&self, source: Repository, digest: Digest) -> Outcome<bool> {
        let (repository, granted) = (self.repository.clone(), self.grant.quota);
        let mounted = self.inner.writers.run(move || {
            quota::apply(&repository, granted)?;
            repository.mount(&source, &digest)
        });
        match mounted.await? {
            Ok(mounted) => Ok(mounted.is_some()),
            // It is of another store, or was deleted in between.
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(Refusal::of(error, Code::BlobUnknown, Code::Unsupported)),
        }
    }

    /// A few of the repositories that hold a content, by the names that requests have for them; this one first, which needs no
    /// new membership.
    async fn holders(&self, digest: Digest) -> Outcome<Vec<RepositoryName>> {
        let store = self.repository.store().clone();
        let own = self.repository.name().clone();
        let holders = self.look(Code::BlobUnknown, move |_| store.unscoped().holders(&digest)).await?;
        let (mut first, others): (Vec<_>, Vec<_>) = holders.into_iter().partition(|name| *name == own);
        first.extend(others.into_iter().take(CANDIDATES));
        Ok(first.into_iter().filter_map(|name| self.inner.served(self.repository.store(), &name)).collect())
    }
}
