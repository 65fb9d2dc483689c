//! The referrers API of ORAS (oras-project/artifacts-spec, "Manifest Referrers API"): newest first, under a key of its own.

use http::header::HeaderValue;
use serde::Serialize;

use super::error::{Code, Outcome, Refusal};
use super::pages::{limit, set_next};
use super::policy::Policy;
use super::query::Query;
use super::referrers::{Listing, TOKEN, set_filtered, subject};
use super::registry::Exchange;
use super::respond::{ORAS_VERSION, json};
use crate::Order;
use crate::oci::Descriptor;

#[derive(Serialize)]
struct Artifacts<'a> {
    referrers: &'a [Descriptor],
}

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/_oras/artifacts/referrers?digest=<digest>`
    pub(super) async fn artifact_referrers(&self) -> Outcome {
        let query = Query::of(&self.parts.uri);
        let Some(digest) = query.first("digest") else {
            return Err(Refusal::bad_request(
                Code::DigestInvalid,
                "the digest of a subject is missing, parameter=digest",
            ));
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
        let mut response = json("application/json", &Artifacts { referrers: &page.descriptors });
        response.headers_mut().insert(ORAS_VERSION, HeaderValue::from_static("oras/1.0"));
        set_filtered(&mut response, filter.as_ref());
        if let Some(next) = page.next {
            let (n, next) = (limit.to_string(), next.to_string());
            let mut parameters = vec![("digest", &*digest), ("n", &*n)];
            parameters.extend(filter.as_deref().map(|wanted| ("artifactType", wanted)));
            parameters.push((TOKEN, &*next));
            let path = format_args!("/v2/{}/_oras/artifacts/referrers", self.name);
            set_next(&mut response, self.parts, path, &parameters);
        }
        Ok(response)
    }
}
