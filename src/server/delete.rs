//! Removing manifests, tags and blobs.

use http::StatusCode;

use super::error::{Code, Outcome, Refusal};
use super::policy::Policy;
use super::pull::{parse_digest, parse_reference, unknown_blob, unknown_manifest};
use super::registry::Exchange;
use super::respond::empty;
use crate::oci::Reference;
use crate::{Batch, Committed, Error, ErrorKind, Expect, Listed, Repository};

impl<P: Policy> Exchange<'_, P> {
    /// `DELETE /v2/<name>/manifests/<reference>`. A tag goes alone; a manifest takes its tags along, whatever lists it.
    pub(super) async fn delete_manifest(&self, reference: &str) -> Outcome {
        let reference = parse_reference(reference)?;
        let wanted = reference.clone();
        let removed = self.remove(move |batch, repository| match &wanted {
            Reference::Tag(tag) => batch.untag(repository, tag, Expect::Any),
            Reference::Digest(digest) => batch.delete_listed_manifest(repository, digest, Listed::Allow),
        });
        match removed.await? {
            Ok(removed) => {
                // A tag that was not there is not removed.
                let is_there = |change: &crate::TagChange| change.previous.is_some();
                if matches!(reference, Reference::Tag(_)) && !removed.tags.iter().any(is_there) {
                    return Err(unknown_manifest(&reference));
                }
                Ok(empty(StatusCode::ACCEPTED))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown_manifest(&reference)),
            Err(error) => Err(Refusal::of(error, Code::ManifestUnknown, Code::Unsupported)),
        }
    }

    /// `DELETE /v2/<name>/blobs/<digest>`
    pub(super) async fn delete_blob(&self, digest: &str) -> Outcome {
        let digest = parse_digest(digest)?;
        let removed = self.remove(move |batch, repository| {
            batch.delete_listed_blob(repository, &digest, Listed::Allow);
        });
        match removed.await? {
            Ok(_) => Ok(empty(StatusCode::ACCEPTED)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown_blob(digest)),
            Err(error) => Err(Refusal::of(error, Code::BlobUnknown, Code::Unsupported)),
        }
    }

    async fn remove(
        &self,
        plan: impl FnOnce(&mut Batch, &Repository) + Send + 'static,
    ) -> Outcome<Result<Committed, Error>> {
        let repository = self.repository.clone();
        let commit = move || {
            let mut batch = repository.store().batch();
            plan(&mut batch, &repository);
            batch.commit()
        };
        self.inner.writers.run(commit).await
    }
}
