//! What goes from a repository. A registry need not be able to.

use http::{Method, StatusCode};

use super::repository::RemoteRepository;
use super::session::Request;
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::{Manifest, Tag};

const DONE: [StatusCode; 3] = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];

impl RemoteRepository {
    /// Deletes a manifest, and with it its tags. False if there is none.
    ///
    /// Where the registry does not keep referrers itself, the list under the fallback tag of its subject forgets it.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the registry does not do that; `Unauthorized`, `Denied`, `Unavailable`.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<bool> {
        let manifest = self.manifest(&(*digest).into())?;
        let Some(manifest) = manifest else { return Ok(false) };
        let parsed = Manifest::read(&manifest.descriptor.media_type, &manifest.bytes).ok();
        let subject = parsed.as_ref().and_then(Manifest::subject).map(|subject| subject.digest);
        let is_gone = self.delete(&format!("manifests/{digest}"), "cannot delete the manifest")?;
        if let Some(subject) = subject {
            self.forget_in_fallback(digest, &subject)?;
        }
        Ok(is_gone)
    }

    /// Deletes a tag and not what it names. False if there is none.
    ///
    /// # Errors
    ///
    /// As [`delete_manifest`](Self::delete_manifest); many registries can delete tags only with their manifests.
    pub fn delete_tag(&self, tag: &Tag) -> Result<bool> {
        self.delete(&format!("manifests/{tag}"), "cannot delete the tag")
    }

    /// Deletes content from the repository. False if there is none.
    ///
    /// # Errors
    ///
    /// As [`delete_manifest`](Self::delete_manifest).
    pub fn delete_blob(&self, digest: &Digest) -> Result<bool> {
        self.delete(&format!("blobs/{digest}"), "cannot delete the content")
    }

    fn delete(&self, path: &str, what: &str) -> Result<bool> {
        let inner = &self.inner;
        let request = Request::new(Method::DELETE, inner.url(path)?, &inner.delete, what);
        Ok(inner.session.expect(&request, &DONE)?.is_some())
    }
}
