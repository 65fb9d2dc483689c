//! What is attached to a manifest, as an index of its referrers.

use http::Response;
use http::header::HeaderValue;
use http::request::Parts;
use serde::Serialize;

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::pages::set_next;
use super::policy::Policy;
use super::pull::{is_unstorable, parse_digest};
use super::query::Query;
use super::registry::Exchange;
use super::respond::{FILTERS_APPLIED, json};
use crate::oci::Descriptor;
use crate::{Digest, Order, PageToken, ReferrersPage};

/// What an index of referrers may be long: clients read 4 MiB of it, of which some is not for descriptors.
pub(super) const MAX_BYTES: usize = (4 << 20) - (1 << 10);

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

/// A listing of referrers, of which a request wants one page.
pub(super) struct Listing {
    /// None for a digest that nothing here can have for its subject.
    pub(super) subject: Option<Digest>,
    pub(super) artifact_type: Option<String>,
    pub(super) order: Order,
    pub(super) limit: usize,
}

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/referrers/<digest>`
    ///
    /// Never 404: of a repository or a subject that is not there the index is empty.
    pub(super) async fn referrers(&self, digest: &str) -> Outcome {
        let listing = Listing {
            subject: subject(digest)?,
            artifact_type: Query::of(&self.parts.uri).first("artifactType").map(|wanted| wanted.into_owned()),
            order: Order::Insertion,
            limit: self.inner.limits.page.max(1),
        };
        let filter = listing.artifact_type.clone();
        let page = self.referrers_page(listing).await?;
        let path = format!("/v2/{}/referrers/{digest}", self.name);
        let next = page.next.map(|next| next.to_string());
        Ok(index(self.parts, &path, &page.descriptors, filter.as_deref(), next.as_deref()))
    }

    /// The page of a listing that the request is for.
    pub(super) async fn referrers_page(&self, listing: Listing) -> Outcome<ReferrersPage> {
        let token = match Query::of(&self.parts.uri).first(TOKEN) {
            None => None,
            Some(token) => Some(
                token
                    .parse::<PageToken>()
                    .map_err(|error| Refusal::bad_request(Code::Unsupported, error.to_string()))?,
            ),
        };
        let shown = self.shown.clone();
        self.look(Code::NameUnknown, move |repository| {
            let Some(subject) = &listing.subject else { return Ok(ReferrersPage::default()) };
            let mut referrers =
                repository.referrers(subject).order(listing.order).limit(listing.limit).max_bytes(MAX_BYTES);
            if let Some(artifact_type) = &listing.artifact_type {
                referrers = referrers.artifact_type(artifact_type);
            }
            if let Some(token) = &token {
                referrers = referrers.after(token);
            }
            let mut page = referrers.page()?;
            if let Some(shown) = &shown {
                page.descriptors.retain(|descriptor| shown.contains(&descriptor.digest));
            }
            Ok(page)
        })
        .await
    }
}

/// A page of referrers as an index, and where the next one begins.
pub(super) fn index(
    parts: &Parts,
    path: &str,
    descriptors: &[Descriptor],
    filter: Option<&str>,
    next: Option<&str>,
) -> Response<Body> {
    let index = Index { schema_version: 2, media_type: INDEX, manifests: descriptors };
    let mut response = json(INDEX, &index);
    set_filtered(&mut response, filter);
    if let Some(next) = next {
        let mut parameters = Vec::with_capacity(2);
        parameters.extend(filter.map(|wanted| ("artifactType", wanted)));
        parameters.push((TOKEN, next));
        set_next(&mut response, parts, path, &parameters);
    }
    response
}

/// The parameter that says where a page begins.
pub(super) const TOKEN: &str = "nextToken";

/// The digest that referrers are asked for; none for one of an algorithm that is not known here.
pub(super) fn subject(digest: &str) -> Outcome<Option<Digest>> {
    if is_unstorable(digest) { Ok(None) } else { parse_digest(digest).map(Some) }
}

/// Says that there was a filter, if there was.
pub(super) fn set_filtered(response: &mut Response<Body>, filter: Option<&str>) {
    if filter.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
}
