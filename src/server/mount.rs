//! Taking over content that another repository holds.

use http::Response;

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::policy::{Action, Policy, Verb};
use super::quota;
use super::registry::Exchange;
use super::uploads::created;
use crate::oci::RepositoryName;
use crate::{Digest, ErrorKind};

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
            if self.may_mount(&source).await? && self.mount_from(source, digest).await? {
                return Ok(Some(created(self.name, &digest)));
            }
        }
        Ok(None)
    }

    /// Whether the source may be read, and mounted from.
    async fn may_mount(&self, source: &RepositoryName) -> Outcome<bool> {
        let read = Action::new(Verb::Pull, Some(source));
        let mount = Action::new(Verb::Push, Some(self.name)).with_mount(source.clone());
        for action in [read, mount] {
            match self.inner.policy.decide(self.parts, &action).await {
                Ok(_) => {}
                Err(denial) if denial.is_later() => return Err(denial.into()),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// False when the source does not hold it, or is of another store.
    async fn mount_from(&self, source: RepositoryName, digest: Digest) -> Outcome<bool> {
        let (repository, granted) = (self.repository.clone(), self.grant.quota);
        let names = self.inner.names.clone();
        let mounted = self.inner.writers.run(move || {
            let Some(source) = names.own(&source)? else { return Ok(None) };
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
        let own = self.repository.name().clone();
        let holders =
            self.look_at_all(Code::BlobUnknown, move |store| store.unscoped().holders(&digest)).await?;
        let (mut first, others): (Vec<_>, Vec<_>) = holders.into_iter().partition(|name| *name == own);
        first.extend(others.into_iter().take(CANDIDATES));
        Ok(first
            .into_iter()
            .filter_map(|name| self.inner.names.served(self.repository.store(), &name))
            .collect())
    }
}
