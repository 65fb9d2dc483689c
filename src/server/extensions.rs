//! Which extensions of the distribution-spec there are (its `extensions/_oci.md`).

use http::Response;
use serde::Serialize;

use super::body::Body;
use super::policy::Policy;
use super::registry::Inner;
use super::respond::json;

#[derive(Serialize)]
struct Extensions {
    extensions: &'static [Extension],
}

#[derive(Serialize)]
struct Extension {
    name: &'static str,
    url: &'static str,
    description: &'static str,
    endpoints: &'static [&'static str],
}

const EXTENSIONS: &[Extension] = &[Extension {
    name: "_oras",
    url: "https://github.com/oras-project/artifacts-spec/blob/main/manifest-referrers-api.md",
    description: "Referrers of a manifest, newest first",
    endpoints: &["_oras/artifacts/referrers"],
}];

impl<P: Policy> Inner<P> {
    /// `GET /v2/_oci/ext/discover` and `GET /v2/<name>/_oci/ext/discover`: every repository has the same.
    pub(super) fn extensions(&self) -> Response<Body> {
        json("application/json", &Extensions { extensions: EXTENSIONS })
    }
}
