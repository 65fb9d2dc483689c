//! Reading content and manifests.

use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::policy::Policy;
use super::registry::Exchange;
use super::respond::{set, set_digest};
use super::stream::Content;
use crate::Digest;
use crate::oci::{Descriptor, Reference};

/// Content up to this size is one piece of an answer.
const SMALL: u64 = 64 << 10;

impl<P: Policy> Exchange<'_, P> {
    /// `GET` and `HEAD /v2/<name>/blobs/<digest>`
    pub(super) async fn blob(&self, digest: &str) -> Outcome {
        let digest = parse_digest(digest)?;
        let Some(stat) = self.look(Code::BlobUnknown, move |repository| repository.stat(&digest)).await?
        else {
            return Err(unknown_blob(&digest));
        };
        let mut response = Response::new(Body::default());
        set_digest(&mut response, &digest);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(stat.size));
        if self.parts.method == Method::HEAD {
            return Ok(response);
        }
        *response.body_mut() = if stat.size <= SMALL {
            let blob = self.look(Code::BlobUnknown, move |repository| repository.get(&digest)).await?;
            Body::from(blob.ok_or_else(|| unknown_blob(&digest))?.into_bytes())
        } else {
            let reader = self.look(Code::BlobUnknown, move |repository| repository.reader(&digest)).await?;
            let reader = reader.ok_or_else(|| unknown_blob(&digest))?;
            Body::content(Content::new(self.inner.readers.clone(), reader, 0..stat.size))
        };
        Ok(response)
    }

    /// `GET` and `HEAD /v2/<name>/manifests/<reference>`
    pub(super) async fn manifest(&self, reference: &str) -> Outcome {
        let reference = parse_reference(reference)?;
        let wanted = reference.clone();
        let found = self
            .look(Code::ManifestUnknown, move |repository| {
                let Some(descriptor) = repository.resolve_reference(&wanted)? else { return Ok(None) };
                repository.manifest(&descriptor.digest)
            })
            .await?;
        let manifest = found.ok_or_else(|| unknown_manifest(&reference))?;
        let Descriptor { media_type, digest, size, .. } = &manifest.descriptor;
        let mut response = Response::new(Body::default());
        set_digest(&mut response, digest);
        set(&mut response, header::CONTENT_TYPE, media_type);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(*size));
        if self.parts.method != Method::HEAD {
            *response.body_mut() = Body::from(manifest.content.clone().into_bytes());
        }
        *response.status_mut() = StatusCode::OK;
        Ok(response)
    }
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse::<Digest>().map_err(|error| Refusal::bad_request(Code::DigestInvalid, error.to_string()))
}

pub(super) fn parse_reference(text: &str) -> Result<Reference, Refusal> {
    text.parse::<Reference>().map_err(|error| {
        let code = if text.contains(':') { Code::DigestInvalid } else { Code::ManifestInvalid };
        Refusal::bad_request(code, error.to_string())
    })
}

pub(super) fn unknown_blob(digest: &Digest) -> Refusal {
    Refusal::not_found(Code::BlobUnknown, format!("blob unknown to registry, digest={digest}"))
}

pub(super) fn unknown_manifest(reference: &Reference) -> Refusal {
    Refusal::not_found(Code::ManifestUnknown, format!("manifest unknown to registry, reference={reference}"))
}
