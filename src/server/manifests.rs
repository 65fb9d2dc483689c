//! Adding manifests.

use bytes::Bytes;
use http::{StatusCode, header};
use serde::Deserialize;

use super::error::{Code, Outcome, Refusal};
use super::incoming::{End, Incoming};
use super::part::Part;
use super::policy::Policy;
use super::pull::parse_reference;
use super::query::Query;
use super::quota;
use super::registry::Exchange;
use super::respond::{SUBJECT, TAG, empty, set, set_digest};
use crate::oci::{MAX_MANIFEST_SIZE, Manifest, Reference, Tag, media_type};
use crate::{Algorithm, Digest, Expect, Repository};

/// Tags of one request.
const MAX_TAGS: usize = 64;

/// A manifest on its way into a repository.
struct Push {
    media_type: String,
    bytes: Bytes,
    /// By which it was pushed, if it was by digest.
    digest: Option<Digest>,
    tags: Vec<Tag>,
    sparse: bool,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

impl<P: Policy> Exchange<'_, P> {
    /// `PUT /v2/<name>/manifests/<reference>`
    pub(super) async fn put_manifest(&self, reference: &str, body: Incoming) -> Outcome {
        let reference = parse_reference(reference)?;
        let asked = self.asked_tags()?;
        let declared = self.content_type()?;
        let bytes = read(body).await?;
        let media_type = match declared {
            Some(media_type) => media_type,
            None => own_media_type(&bytes)?,
        };
        let (digest, tag) = match reference {
            Reference::Digest(digest) => (Some(digest), None),
            Reference::Tag(tag) => (None, Some(tag)),
        };
        let tags = tag.into_iter().chain(asked.iter().cloned()).collect();
        let push = Push { media_type, bytes, digest, tags, sparse: self.inner.sparse };
        let (repository, granted) = (self.repository.clone(), self.grant.quota);
        let pushed = self.inner.writers.run(move || {
            quota::apply(&repository, granted).map_err(refuse)?;
            push.commit(&repository)
        });
        let (digest, subject) = pushed.await??;
        let mut response = empty(StatusCode::CREATED);
        set(&mut response, header::LOCATION, format!("/v2/{}/manifests/{digest}", self.name));
        set_digest(&mut response, &digest);
        if let Some(subject) = subject {
            set(&mut response, SUBJECT, subject);
        }
        for tag in asked {
            if let Ok(tag) = http::HeaderValue::from_str(tag.as_str()) {
                response.headers_mut().append(TAG, tag);
            }
        }
        Ok(response)
    }

    /// The tags of the query, each once.
    fn asked_tags(&self) -> Outcome<Vec<Tag>> {
        let mut tags: Vec<Tag> = Vec::new();
        for text in Query::of(&self.parts.uri).all("tag") {
            let tag = text.parse().map_err(|error: crate::Error| {
                Refusal::bad_request(Code::ManifestInvalid, error.to_string())
            })?;
            if tags.contains(&tag) {
                continue;
            }
            if tags.len() == MAX_TAGS {
                let message = format!("too many tags for one manifest, limit={MAX_TAGS}");
                return Err(Refusal::new(StatusCode::URI_TOO_LONG, Code::Unsupported, message));
            }
            tags.push(tag);
        }
        Ok(tags)
    }

    /// The media type without its parameters; none when the request has none.
    fn content_type(&self) -> Outcome<Option<String>> {
        let Some(value) = self.parts.headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        let text = value
            .to_str()
            .map_err(|_| Refusal::bad_request(Code::ManifestInvalid, "Content-Type is not a media type"))?;
        Ok(Some(media_type::essence(text).to_owned()).filter(|text| !text.is_empty()))
    }
}

/// All of a body, which fits into memory.
async fn read(mut body: Incoming) -> Outcome<Bytes> {
    let too_large = || {
        let message = format!("manifest is too large, limit={MAX_MANIFEST_SIZE}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)
    };
    if body.announced().is_some_and(|size| size > MAX_MANIFEST_SIZE as u64) {
        return Err(too_large());
    }
    let mut bytes = Part::default();
    match body.fill(&mut bytes, MAX_MANIFEST_SIZE + 1).await {
        Some(End::Complete) => Ok(bytes.into_bytes()),
        Some(End::Broken(failure)) => {
            Err(Refusal::bad_request(Code::ManifestInvalid, format!("the body broke off: {failure}")))
        }
        None => Err(too_large()),
    }
}

/// What a manifest calls itself, or what its members make it, for requests that say nothing.
fn own_media_type(bytes: &[u8]) -> Outcome<String> {
    let named = serde_json::from_slice::<Named>(bytes).ok().and_then(|named| named.media_type);
    let named = named.or_else(|| Manifest::sniff(bytes).map(str::to_owned));
    named.ok_or_else(|| {
        Refusal::bad_request(
            Code::ManifestInvalid,
            "the request has no Content-Type, and the manifest no mediaType",
        )
    })
}

fn refuse(error: crate::Error) -> Refusal {
    Refusal::of(error, Code::ManifestBlobUnknown, Code::ManifestInvalid)
}

impl Push {
    /// Commits it with all its tags as one; answers its digest and that of its subject.
    fn commit(self, repository: &Repository) -> Outcome<(Digest, Option<Digest>)> {
        let Self { media_type, bytes, digest: expected, tags, sparse } = self;
        let algorithm = expected.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let found = algorithm.digest(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let message =
                format!("manifest has another digest than announced, expected={expected}, found={found}");
            return Err(Refusal::bad_request(Code::DigestInvalid, message));
        }
        let subject =
            Manifest::parse(&media_type, &bytes).map_err(refuse)?.subject().map(|subject| subject.digest);
        let mut batch = repository.store().batch();
        let added = if sparse {
            batch.push_sparse_manifest(repository, &media_type, bytes, algorithm)
        } else {
            batch.push_manifest_as(repository, &media_type, bytes, algorithm)
        };
        let digest = added.map_err(refuse)?;
        for tag in &tags {
            batch.tag(repository, tag, digest, Expect::Any);
        }
        batch.commit().map_err(refuse)?;
        Ok((digest, subject))
    }
}
