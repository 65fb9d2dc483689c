//! Archives that are served where they lie: nothing is unpacked, and nothing can be changed.

mod shelf;
mod view;

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;

pub(super) use self::shelf::Shelf;
use self::view::{Stored, View};
use super::artifacts;
use super::conditional::{Conditions, Verdict};
use super::error::{Code, Outcome, Refusal};
use super::pages::limit;
use super::policy::{Action, Policy, Verb};
use super::pull::{
    Found, Payload, is_unstorable, parse_digest, parse_reference, unknown_blob, unknown_manifest,
};
use super::query::Query;
use super::ranges::Wanted;
use super::referrers::{self, MAX_BYTES, TOKEN};
use super::registry::Inner;
use super::respond::{NAMESPACE, set};
use super::route::Route;
use crate::oci::{Descriptor, Reference, RepositoryName};
use crate::{Digest, Page};

/// One request for what an archive has, granted.
struct Exchange<'a, P> {
    inner: &'a Inner<P>,
    parts: &'a Parts,
    /// The repository by the name in the request.
    name: &'a RepositoryName,
    view: View,
}

impl<P: Policy> Inner<P> {
    /// Answers a request that reads and was granted.
    pub(super) async fn answer_shelved(
        &self,
        shelf: &Shelf,
        parts: &Parts,
        name: &RepositoryName,
        route: Route<'_>,
    ) -> Outcome {
        let namespace = Query::of(&parts.uri).first("ns");
        let found = shelf.find(name, namespace.as_deref());
        let (view, origin) = found.ok_or_else(|| unknown_name(name))?;
        if let Some(name) = origin.as_ref().and_then(|origin| origin.name.as_ref()) {
            // Who may not read it under its own name may not under this one.
            self.policy.decide(parts, &Action::new(Verb::Pull, Some(name))).await?;
        }
        let exchange = Exchange { inner: self, parts, name, view };
        let mut response = exchange.dispatch(route).await?;
        if let Some(namespace) = namespace.filter(|_| origin.is_some()) {
            set(&mut response, NAMESPACE, namespace);
        }
        Ok(response)
    }
}

impl<P: Policy> Exchange<'_, P> {
    async fn dispatch(self, route: Route<'_>) -> Outcome {
        match route {
            Route::Blob { digest, .. } => self.blob(digest).await,
            Route::Manifest { reference, .. } => self.manifest(reference).await,
            Route::Tags { .. } => self.tags().await,
            Route::Referrers { digest, .. } => self.referrers(digest).await,
            Route::ArtifactReferrers { .. } => self.artifact_referrers().await,
            Route::Extensions { .. } => Ok(self.inner.extensions()),
            // Everything else writes, and was refused before.
            _ => Err(Refusal::not_found(Code::Unsupported, "no such endpoint")),
        }
    }

    /// Asks the archive something, on a thread that may wait for a disk.
    async fn look<T: Send + 'static>(
        &self,
        missing: Code,
        ask: impl FnOnce(&View) -> crate::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let view = self.view.clone();
        let found = self.inner.readers.run(move || ask(&view)).await?;
        found.map_err(|error| Refusal::of(error, missing, Code::Unsupported))
    }

    /// `GET` and `HEAD /v2/<name>/blobs/<digest>`
    async fn blob(&self, text: &str) -> Outcome {
        let digest = match parse_digest(text) {
            Err(_) if is_unstorable(text) => return Err(unknown_blob(text)),
            parsed => parsed?,
        };
        let stored = self.look(Code::BlobUnknown, move |view| view.content(&digest)).await?;
        let stored = stored.ok_or_else(|| unknown_blob(digest))?;
        let size = stored.size();
        let verdict = Conditions::of(self.parts).verdict(&digest, size);
        let range = match &verdict {
            Verdict::Send(Wanted::Whole) => 0..size,
            Verdict::Send(Wanted::Part(part)) => part.clone(),
            _ => 0..0,
        };
        let payload = match stored {
            Stored::Placed(placed) => Payload::Reader(Arc::new(placed), range),
            Stored::Inlined(bytes) => Payload::Bytes(part(&bytes, range)),
        };
        let found = Found { digest, size, media_type: None, verdict, payload };
        let mut response = self.inner.content(found, true)?;
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        Ok(response)
    }

    /// `GET` and `HEAD /v2/<name>/manifests/<reference>`
    async fn manifest(&self, reference: &str) -> Outcome {
        let parsed = match parse_reference(reference) {
            Err(_) if is_unstorable(reference) => return Err(unknown_manifest(reference)),
            parsed => parsed?,
        };
        let immutable = matches!(parsed, Reference::Digest(_));
        let wanted = parsed.clone();
        let found = self.look(Code::ManifestUnknown, move |view| view.manifest(&wanted)).await?;
        let found = found.ok_or_else(|| unknown_manifest(&parsed))?;
        let Descriptor { digest, size, media_type, .. } = found.descriptor;
        let verdict = Conditions::of(self.parts).whole().verdict(&digest, size);
        let payload = match &verdict {
            Verdict::Send(_) => Payload::Bytes(found.bytes),
            _ => Payload::Nothing,
        };
        let found = Found { digest, size, media_type: Some(media_type), verdict, payload };
        self.inner.content(found, immutable)
    }

    /// `GET /v2/<name>/tags/list`
    async fn tags(&self) -> Outcome {
        let query = Query::of(&self.parts.uri);
        let limit = limit(query, self.inner.limits.page)?;
        let last = query.first("last").unwrap_or_default().into_owned();
        let page =
            move |view: &View| if view.exists() { view.tags(&last, limit).map(Some) } else { Ok(None) };
        let found = self.look(Code::NameUnknown, page).await?;
        let Page { items, more, .. } = found.ok_or_else(|| unknown_name(self.name))?;
        Ok(super::lists::tags_page(self.parts, self.name, items, more, limit))
    }

    /// `GET /v2/<name>/referrers/<digest>`
    async fn referrers(&self, digest: &str) -> Outcome {
        let filter = Query::of(&self.parts.uri).first("artifactType").map(|wanted| wanted.into_owned());
        let limit = self.inner.limits.page.max(1);
        let (page, next) =
            self.referrers_page(referrers::subject(digest)?, filter.clone(), false, limit).await?;
        let path = format!("/v2/{}/referrers/{digest}", self.name);
        let next = next.map(|next| next.to_string());
        Ok(referrers::index(self.parts, &path, &page, filter.as_deref(), next.as_deref()))
    }

    /// `GET /v2/<name>/_oras/artifacts/referrers?digest=<digest>`
    async fn artifact_referrers(&self) -> Outcome {
        let query = Query::of(&self.parts.uri);
        let Some(digest) = query.first("digest") else {
            return Err(artifacts::no_subject());
        };
        let limit = limit(query, self.inner.limits.page)?;
        let filter = query.first("artifactType").map(|wanted| wanted.into_owned());
        let subject = referrers::subject(&digest)?.filter(|_| limit > 0);
        let (page, next) = self.referrers_page(subject, filter.clone(), true, limit).await?;
        let next = next.map(|next| next.to_string());
        let page = (&page[..], next.as_deref());
        Ok(artifacts::list(self.parts, self.name, &digest, filter.as_deref(), limit, page))
    }

    /// The page of what refers to a manifest that the request is for, and behind which of them the next begins.
    async fn referrers_page(
        &self,
        subject: Option<Digest>,
        filter: Option<String>,
        newest_first: bool,
        limit: usize,
    ) -> Result<(Vec<Descriptor>, Option<Digest>), Refusal> {
        let after = match Query::of(&self.parts.uri).first(TOKEN) {
            None => None,
            Some(token) => Some(parse_digest(&token)?),
        };
        self.look(Code::NameUnknown, move |view| {
            let Some(subject) = subject else { return Ok((Vec::new(), None)) };
            let mut found = view.referrers(&subject)?;
            found.retain(|(descriptor, _)| {
                filter.as_ref().is_none_or(|wanted| descriptor.artifact_type.as_ref() == Some(wanted))
            });
            if newest_first {
                // What does not say when it was made comes last.
                found.sort_by_key(|(_, created)| Reverse(*created));
            }
            let passed = found.iter().position(|(descriptor, _)| Some(descriptor.digest) == after);
            let rest =
                found.into_iter().map(|(descriptor, _)| descriptor).skip(passed.map_or(0, |at| at + 1));
            Ok(cut(rest, limit))
        })
        .await
    }
}

/// A part of what is in memory.
fn part(bytes: &Bytes, range: Range<u64>) -> Bytes {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
    let (start, end) = (at(range.start), at(range.end));
    bytes.slice(start.min(end)..end)
}

/// As much as a page may have, and what it ends with if there is more.
fn cut(found: impl Iterator<Item = Descriptor>, limit: usize) -> (Vec<Descriptor>, Option<Digest>) {
    let (mut page, mut bytes): (Vec<Descriptor>, usize) = (Vec::new(), 0);
    for descriptor in found {
        let length = serde_json::to_vec(&descriptor).map_or(0, |json| json.len() + 1);
        if let Some(last) = page.last()
            && (page.len() >= limit || bytes + length > MAX_BYTES)
        {
            let last = last.digest;
            return (page, Some(last));
        }
        bytes += length;
        page.push(descriptor);
    }
    (page, None)
}

fn unknown_name(name: &RepositoryName) -> Refusal {
    let message = format!("repository name not known to registry, repository={name}");
    Refusal::not_found(Code::NameUnknown, message)
}
