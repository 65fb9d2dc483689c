//! Names of other tools, served as a repository that can only be read.
//!
//! It shows the tags that entries of `index.json` give it, what these name and what belongs to that, and nothing else that the
//! repositories hold in which it happens to be: of what is attached, only what an entry of the same path names too.

use std::sync::Arc;

use super::error::{Code, Outcome, Refusal};
use super::names::{Entries, holders};
use super::policy::Policy;
use super::pull::{parse_digest, parse_reference, unknown_blob, unknown_manifest};
use super::registry::Exchange;
use super::route::Route;
use crate::oci::Reference;
use crate::{Digest, Repository};

impl<P: Policy> Exchange<'_, P> {
    /// Answers what reads.
    pub(super) async fn dispatch_entries(mut self, route: Route<'_>, entries: Arc<Entries>) -> Outcome {
        match route {
            Route::Manifest { reference, .. } => {
                let parsed = parse_reference(reference)?;
                let (digest, by_digest) = match &parsed {
                    Reference::Digest(digest) => (Some(*digest), true),
                    Reference::Tag(tag) => (entries.tags.get(tag).copied(), false),
                };
                let digest = digest.ok_or_else(|| unknown_manifest(&parsed))?;
                let holder = self.holder(&entries, digest, false).await?;
                self.repository = holder.ok_or_else(|| unknown_manifest(&parsed))?;
                self.manifest_of(Reference::Digest(digest), by_digest).await
            }
            Route::Blob { digest: text, .. } => {
                let digest = parse_digest(text)?;
                let holder = self.holder(&entries, digest, true).await?;
                self.repository = holder.ok_or_else(|| unknown_blob(text))?;
                self.blob(text).await
            }
            Route::Tags { .. } => self.list_tags(entries.tags.keys()),
            Route::Referrers { .. } | Route::ArtifactReferrers { .. } => {
                let shown = Arc::clone(&entries);
                let reached = self.look_at_all(Code::NameUnknown, move |store| shown.reached(store)).await?;
                self.shown = Some(reached);
                match route {
                    Route::Referrers { digest, .. } => self.referrers(digest).await,
                    _ => self.artifact_referrers().await,
                }
            }
            Route::Extensions { .. } => Ok(self.inner.extensions()),
            // Everything else writes, and was refused before.
            _ => Err(Refusal::not_found(Code::Unsupported, "no such endpoint")),
        }
    }

    /// A repository that holds a content which the entries reach.
    async fn holder(
        &self,
        entries: &Arc<Entries>,
        digest: Digest,
        blob: bool,
    ) -> Outcome<Option<Repository>> {
        let entries = Arc::clone(entries);
        self.look_at_all(Code::NameUnknown, move |store| {
            if !entries.reach(store, &digest)? {
                return Ok(None);
            }
            for holder in holders(store, &digest)? {
                let is_held = |stat: crate::Stat| if blob { stat.blob } else { stat.media_type.is_some() };
                if holder.stat(&digest)?.is_some_and(is_held) {
                    return Ok(Some(holder));
                }
            }
            Ok(None)
        })
        .await
    }
}
