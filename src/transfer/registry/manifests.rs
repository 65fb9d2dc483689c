//! Manifests of a repository: what a name or a digest means, the bytes, and how they come in and get their tags.

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use reqwest::blocking::Response;

use super::address::with_parameter;
use super::host::text;
use super::ranges::number;
use super::repository::{Inner, RemoteRepository};
use super::session::Request;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::media_type::{self, essence};
use crate::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest, ManifestKind, Reference, Tag};
use crate::transfer::Fetched;

/// What the registry says that the bytes hash to.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// What the registry says that the manifest refers to, if it keeps referrers itself.
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// The tags that the registry gave a manifest that was pushed by its digest.
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// What a manifest is called that nothing says a type of.
const UNKNOWN: &str = "application/octet-stream";

impl RemoteRepository {
    /// The descriptor of a manifest: its media type, digest and size. None if there is none.
    ///
    /// # Errors
    ///
    /// `Mismatch` when the registry has another digest for it; `Unauthorized`, `Denied`, `Unavailable`.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        const WHAT: &str = "cannot look for the manifest";
        let inner = &self.inner;
        let request = inner.read_manifest(Method::HEAD, reference, WHAT)?;
        let Some(response) = inner.session.expect(&request, &[StatusCode::OK])? else { return Ok(None) };
        let said = said_digest(&response);
        let digest = match (reference, said) {
            (Reference::Digest(digest), said) => {
                if said.is_some_and(|said| said.algorithm() == digest.algorithm() && said != *digest) {
                    return Err(inner.mismatch(WHAT, digest));
                }
                Some(*digest)
            }
            (Reference::Tag(_), said) => said,
        };
        let size = text(&response, header::CONTENT_LENGTH).and_then(number).filter(|size| *size > 0);
        match (digest, size, said_type(&response)) {
            (Some(digest), Some(size), Some(kind)) => {
                Ok(Some(Descriptor::new(kind.media_type(), digest, size)))
            }
            // A registry that says less when it is asked for less is asked for the whole.
            _ => Ok(self.manifest(reference)?.map(|manifest| manifest.descriptor)),
        }
    }

    /// A manifest. Its bytes are what its digest says, and at most [`MAX_MANIFEST_SIZE`]. None if there is none.
    ///
    /// # Errors
    ///
    /// `Mismatch` for other bytes than the digest, or than the registry itself, says; `Unauthorized`, `Denied`, `Unavailable`.
    pub fn manifest(&self, reference: &Reference) -> Result<Option<Fetched>> {
        const WHAT: &str = "cannot read the manifest";
        let inner = &self.inner;
        let request = inner.read_manifest(Method::GET, reference, WHAT)?;
        let Some(response) = inner.session.expect(&request, &[StatusCode::OK])? else { return Ok(None) };
        let (said, kind) = (said_digest(&response), said_type(&response));
        let other = text(&response, header::CONTENT_TYPE).map(|name| essence(name).to_owned());
        let bytes = inner.session.read(response, MAX_MANIFEST_SIZE, WHAT)?;
        for expected in [said, digest_of(reference)].into_iter().flatten() {
            if expected.algorithm().digest(&bytes) != expected {
                return Err(inner.mismatch(WHAT, &expected));
            }
        }
        let digest = digest_of(reference).or(said).unwrap_or_else(|| Digest::of(&bytes));
        let kind = kind.map(ManifestKind::media_type).or_else(|| Manifest::sniff(&bytes));
        let other = other.filter(|name| media_type::validate(name).is_ok());
        let media_type = kind.map(str::to_owned).or(other).unwrap_or_else(|| UNKNOWN.into());
        Ok(Some(Fetched::new(Descriptor::new(media_type, digest, bytes.len() as u64), bytes)))
    }

    /// Puts a manifest into the repository and lets tags name it. What it refers to must be there already, except its subject.
    ///
    /// Where the registry does not keep referrers itself, the list of them under the fallback tag of the subject is maintained
    /// (distribution-spec, "Pushing Manifests with Subject").
    ///
    /// # Errors
    ///
    /// `Mismatch` when the bytes are not what the descriptor says; `Invalid` for what the registry does not accept; `Conflict` when
    /// something else is under the fallback tag; `Unsupported` for a tag on a digest that is not sha256, which not every registry
    /// can give; `Unauthorized`, `Denied`, `Unavailable`.
    pub fn push_manifest(&self, manifest: &Fetched, tags: &[Tag]) -> Result<()> {
        let Fetched { descriptor, bytes } = manifest;
        let inner = &self.inner;
        let algorithm = descriptor.digest.algorithm();
        if algorithm.digest(bytes) != descriptor.digest {
            return Err(inner.mismatch("cannot push the manifest", &descriptor.digest));
        }
        let mut listed = true;
        if tags.is_empty() || algorithm != Algorithm::Sha256 {
            listed &= self.put(manifest, &descriptor.digest.into(), tags)?;
        }
        if algorithm == Algorithm::Sha256 {
            for tag in tags {
                listed &= self.put(manifest, &tag.clone().into(), &[])?;
            }
        }
        if listed { Ok(()) } else { self.list_present(manifest) }
    }

    /// Has a manifest that is there listed among the referrers of its subject, if it has one and the registry does not do that.
    pub(super) fn list_present(&self, manifest: &Fetched) -> Result<()> {
        // What cannot be read here has no subject that a registry could know of.
        let Ok(parsed) = Manifest::read(&manifest.descriptor.media_type, &manifest.bytes) else {
            return Ok(());
        };
        match parsed.subject() {
            Some(subject) => self.list_in_fallback(manifest, &parsed, &subject.digest),
            None => Ok(()),
        }
    }

    /// Lets another tag name a manifest that is there. False if it is not.
    ///
    /// # Errors
    ///
    /// As [`manifest`](Self::manifest) and [`push_manifest`](Self::push_manifest).
    pub fn tag(&self, digest: &Digest, tag: &Tag) -> Result<bool> {
        let Some(manifest) = self.manifest(&(*digest).into())? else { return Ok(false) };
        if digest.algorithm() == Algorithm::Sha256 {
            self.put(&manifest, &tag.clone().into(), &[])?;
        } else {
            self.put(&manifest, &(*digest).into(), std::slice::from_ref(tag))?;
        }
        Ok(true)
    }

    /// Sends a manifest; says whether the registry lists it among the referrers of its subject.
    pub(super) fn put(&self, manifest: &Fetched, reference: &Reference, tags: &[Tag]) -> Result<bool> {
        const WHAT: &str = "cannot push the manifest";
        let Fetched { descriptor, bytes } = manifest;
        let inner = &self.inner;
        let mut url = inner.url(&format!("manifests/{reference}"))?;
        for tag in tags {
            url = with_parameter(url, "tag", tag.as_str());
        }
        let request = Request::new(Method::PUT, url, &inner.push, WHAT)
            .header(header::CONTENT_TYPE, &descriptor.media_type)
            .body(Bytes::clone(bytes));
        let about = inner.session.about(WHAT);
        let response = inner.session.expect(&request, &[StatusCode::CREATED, StatusCode::OK])?;
        let Some(response) = response else {
            return Err(Error::not_found(format!(
                "registry has no such repository, or lacks what the manifest refers to, registry={}",
                inner.session.place
            )));
        };
        if let Some(said) = said_digest(&response)
            && said.algorithm() == descriptor.digest.algorithm()
            && said != descriptor.digest
        {
            return Err(inner.mismatch(WHAT, &descriptor.digest));
        }
        let given: Vec<&str> =
            response.headers().get_all(TAG).iter().filter_map(|value| value.to_str().ok()).collect();
        let is_given = |tag: &Tag| {
            given.iter().flat_map(|value| value.split(',')).any(|given| given.trim_ascii() == tag.as_str())
        };
        if let Some(tag) = tags.iter().find(|tag| !is_given(tag)) {
            return Err(about
                .broken(&format!("registry gives no tag to this digest, tag={tag}"))
                .with_kind(ErrorKind::Unsupported));
        }
        Ok(response.headers().contains_key(SUBJECT))
    }
}

impl Inner {
    fn read_manifest<'a>(
        &'a self,
        method: Method,
        reference: &Reference,
        what: &'a str,
    ) -> Result<Request<'a>> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let mut request = Request::new(method, url, &self.pull, what);
        let accepted: Vec<&str> = ManifestKind::ALL.into_iter().map(ManifestKind::media_type).collect();
        // Anything else, too, rather than nothing: then it is opaque.
        request = request.header(header::ACCEPT, &format!("{}, */*;q=0.1", accepted.join(", ")));
        Ok(request)
    }

    #[cold]
    pub(super) fn mismatch(&self, what: &str, digest: &Digest) -> Error {
        let place = &self.session.place;
        Error::new(
            ErrorKind::Mismatch,
            format!("{what}: other bytes than the digest says, registry={place}, digest={digest}"),
        )
    }
}

fn digest_of(reference: &Reference) -> Option<Digest> {
    match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(_) => None,
    }
}

/// The digest that an answer names, if it is of a kind that can be computed.
fn said_digest(response: &Response) -> Option<Digest> {
    text(response, CONTENT_DIGEST)?.trim_ascii().parse().ok()
}

/// The media type that an answer names, if it is that of a manifest.
fn said_type(response: &Response) -> Option<ManifestKind> {
    ManifestKind::of(text(response, header::CONTENT_TYPE)?)
}
