//! Reading content and manifests.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

use super::body::Body;
use super::conditional::{Conditions, Verdict, set_validators};
use super::error::{Code, Outcome, Refusal};
use super::policy::Policy;
use super::ranges::Wanted;
use super::registry::{Exchange, Inner};
use super::respond::{empty, set};
use super::stream::{Content, Readable};
use crate::digest::Algorithm;
use crate::oci::Reference;
use crate::{Digest, Repository};

/// Content up to this size is one piece of an answer.
const SMALL: u64 = 64 << 10;

/// A tag may move, and what it named may go, between two looks; it is not gone for that.
const ROUNDS: usize = 3;

/// What a request found.
pub(super) struct Found {
    pub(super) digest: Digest,
    /// Of the whole.
    pub(super) size: u64,
    pub(super) media_type: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) payload: Payload,
}

/// As much of a content as the request wants.
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    Reader(Arc<dyn Readable>, Range<u64>),
}

impl<P: Policy> Exchange<'_, P> {
    /// `GET` and `HEAD /v2/<name>/blobs/<digest>`
    ///
    /// What the repository holds as a manifest alone is none of its blobs: a client that asks before it pushes a blob has to
    /// bring it, so that neither goes when the other is deleted; and containerd, which looks for a digest here first, finds
    /// the media type where that is known.
    pub(super) async fn blob(&self, digest: &str) -> Outcome {
        let digest = match parse_digest(digest) {
            Err(_) if is_unstorable(digest) => return Err(unknown_blob(digest)),
            parsed => parsed?,
        };
        let (conditions, get) = (Conditions::of(self.parts), self.parts.method == Method::GET);
        let found = self
            .look(Code::BlobUnknown, move |repository| match repository.stat(&digest)? {
                Some(stat) if stat.blob => Found::of(
                    repository,
                    &digest,
                    stat.size,
                    None,
                    conditions.verdict(&digest, stat.size),
                    get,
                ),
                _ => Ok(None),
            })
            .await?;
        let mut response = self.inner.content(found.ok_or_else(|| unknown_blob(digest))?, true)?;
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        Ok(response)
    }

    /// `GET` and `HEAD /v2/<name>/manifests/<reference>`
    ///
    /// Whatever `Accept` says: there is one form of a manifest, the one that was pushed, and what that is stands in the answer.
    /// A refusal would only keep clients out whose list is not as long as what they can read.
    pub(super) async fn manifest(&self, reference: &str) -> Outcome {
        let parsed = match parse_reference(reference) {
            Err(_) if is_unstorable(reference) => return Err(unknown_manifest(reference)),
            parsed => parsed?,
        };
        let by_digest = matches!(parsed, Reference::Digest(_));
        self.manifest_of(parsed, by_digest).await
    }

    /// The answer of a manifest; `immutable` if what was asked for never names another.
    pub(super) async fn manifest_of(&self, parsed: Reference, immutable: bool) -> Outcome {
        let conditions = Conditions::of(self.parts).whole();
        let get = self.parts.method == Method::GET;
        let wanted = parsed.clone();
        let found = self
            .look(Code::ManifestUnknown, move |repository| {
                for _ in 0..ROUNDS {
                    let Some(descriptor) = repository.resolve_reference(&wanted)? else { return Ok(None) };
                    let (digest, size) = (descriptor.digest, descriptor.size);
                    let verdict = conditions.verdict(&digest, size);
                    let found =
                        Found::of(repository, &digest, size, Some(descriptor.media_type), verdict, get)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(None)
            })
            .await?;
        self.inner.content(found.ok_or_else(|| unknown_manifest(&parsed))?, immutable)
    }
}

impl<P> Inner<P> {
    /// The answer of what was found.
    pub(super) fn content(&self, found: Found, immutable: bool) -> Outcome {
        let Found { digest, size, media_type, verdict, payload } = found;
        let mut response = match &verdict {
            Verdict::Failed => {
                let message = format!("the content is another than the request is for, digest={digest}");
                return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, Code::Unsupported, message));
            }
            Verdict::Send(Wanted::Nothing) => return Err(unsatisfiable(&digest, size)),
            Verdict::NotModified => {
                let mut response = empty(StatusCode::NOT_MODIFIED);
                set_validators(&mut response, &digest, immutable);
                return Ok(response);
            }
            Verdict::Send(Wanted::Whole) => empty(StatusCode::OK),
            Verdict::Send(Wanted::Part(_)) => empty(StatusCode::PARTIAL_CONTENT),
        };
        set_validators(&mut response, &digest, immutable);
        set(&mut response, header::CONTENT_TYPE, media_type.as_deref().unwrap_or("application/octet-stream"));
        let length = match &verdict {
            Verdict::Send(Wanted::Part(part)) => {
                let range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
                set(&mut response, header::CONTENT_RANGE, range);
                part.end - part.start
            }
            _ => size,
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = match payload {
            Payload::Nothing => Body::default(),
            Payload::Bytes(bytes) => Body::from(bytes),
            Payload::Reader(reader, range) => {
                Body::content(Content::new(self.readers.clone(), reader, range))
            }
        };
        Ok(response)
    }
}

impl Found {
    /// Reads of a content what the verdict leaves to be sent; nothing of it for a HEAD. None when it is no longer there.
    fn of(
        repository: &Repository,
        digest: &Digest,
        size: u64,
        media_type: Option<String>,
        verdict: Verdict,
        get: bool,
    ) -> crate::Result<Option<Self>> {
        let range = match &verdict {
            Verdict::Send(Wanted::Whole) if get => Some(0..size),
            Verdict::Send(Wanted::Part(part)) => Some(part.clone()),
            _ => None,
        };
        let payload = match range {
            None => Some(Payload::Nothing),
            Some(range) => Payload::of(repository, digest, range, size)?,
        };
        Ok(payload.map(|payload| Self { digest: *digest, size, media_type, verdict, payload }))
    }
}

impl Payload {
    fn of(
        repository: &Repository,
        digest: &Digest,
        range: Range<u64>,
        size: u64,
    ) -> crate::Result<Option<Self>> {
        if range.end - range.start > SMALL {
            let reader = repository.reader(digest)?;
            return Ok(reader.map(|reader| Self::Reader(Arc::new(reader), range)));
        }
        let bytes = if range == (0..size) {
            repository.get(digest)?.map(crate::Blob::into_bytes)
        } else {
            repository.range(digest, range)?
        };
        Ok(bytes.map(Self::Bytes))
    }
}

#[cold]
fn unsatisfiable(digest: &Digest, size: u64) -> Refusal {
    let message = format!("the range is not one of the content, digest={digest}, size={size}");
    let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, message);
    match HeaderValue::try_from(format!("bytes */{size}")) {
        Ok(size) => refusal.with_header(header::CONTENT_RANGE, size),
        Err(_) => refusal,
    }
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse::<Digest>().map_err(|error| Refusal::bad_request(Code::DigestInvalid, error.to_string()))
}

/// Whether a text is a digest by the grammar of the image-spec, of an algorithm under which nothing can be here.
pub(super) fn is_unstorable(text: &str) -> bool {
    let algorithm = text.split(':').next().unwrap_or_default();
    Digest::is_valid_grammar(text) && algorithm.parse::<Algorithm>().is_err()
}

pub(super) fn parse_reference(text: &str) -> Result<Reference, Refusal> {
    text.parse::<Reference>().map_err(|error| {
        let code = if text.contains(':') { Code::DigestInvalid } else { Code::ManifestInvalid };
        Refusal::bad_request(code, error.to_string())
    })
}

pub(super) fn unknown_blob(digest: impl std::fmt::Display) -> Refusal {
    Refusal::not_found(Code::BlobUnknown, format!("blob unknown to registry, digest={digest}"))
}

pub(super) fn unknown_manifest(reference: impl std::fmt::Display) -> Refusal {
    Refusal::not_found(Code::ManifestUnknown, format!("manifest unknown to registry, reference={reference}"))
}
