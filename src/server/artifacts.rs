//! The referrers API of ORAS (oras-project/artifacts-spec, "Manifest Referrers API"): newest first, under a key of its own.

use http::Response;
use http::header::HeaderValue;
use http::request::Parts;
use serde::Serialize;

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::pages::{limit, set_next};
use super::policy::Policy;
use super::query::Query;
use super::referrers::{Listing, TOKEN, set_filtered, subject};
use super::registry::Exchange;
use super::respond::{ORAS_VERSION, json};
use crate::Order;
use crate::oci::{Descriptor, RepositoryName};

#[derive(Serialize)]
struct Artifacts<'a> {
    referrers: &'a [Descriptor],
}

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/_oras/artifacts/referrers?digest=<digest>`
    pub(super) async fn artifact_referrers(&self) -> Outcome {
        let query = Query::of(&self.parts.uri);
        let Some(digest) = query.first("digest") else {
            return Err(no_subject());
        };
        let limit = limit(query, self.inner.limits.page)?;
        let filter = query.first("artifactType").map(|wanted| wanted.into_owned());
        let listing = Listing {
            subject: subject(&digest)?.filter(|_| limit > 0),
            artifact_type: filter.clone(),
            order: Order::CreatedDescending,
            limit,
        };
        let page = self.referrers_page(listing).await?;
        let next = page.next.map(|next| next.to_string());
        let page = (&page.descriptors[..], next.as_deref());
        Ok(list(self.parts, self.name, &digest, filter.as_deref(), limit, page))
    }
}

/// A page of what is attached to a digest, and where the next one begins.
pub(super) fn list(
    parts: &Parts,
    name: &RepositoryName,
    digest: &str,
    filter: Option<&str>,
    limit: usize,
    (descriptors, next): (&[Descriptor], Option<&str>),
) -> Response<Body> {
    let mut response = json("application/json", &Artifacts { referrers: descriptors });
    response.headers_mut().insert(ORAS_VERSION, HeaderValue::from_static("oras/1.0"));
    set_filtered(&mut response, filter);
    if let Some(next) = next {
        let n = limit.to_string();
        let mut parameters = vec![("digest", digest), ("n", &*n)];
        parameters.extend(filter.map(|wanted| ("artifactType", wanted)));
        parameters.push((TOKEN, next));
        set_next(&mut response, parts, format_args!("/v2/{name}/_oras/artifacts/referrers"), &parameters);
    }
    response
}

#[cold]
pub(super) fn no_subject() -> Refusal {
    Refusal::bad_request(Code::DigestInvalid, "the digest of a subject is missing, parameter=digest")
}
