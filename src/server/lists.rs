//! Tags and repositories, by pages.

use http::StatusCode;

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::policy::Grant;
use super::policy::Policy;
use super::registry::Exchange;
use super::registry::Inner;
use crate::oci::RepositoryName;

impl<P: Policy> Inner<P> {
    /// `GET /v2/_catalog`
    pub(super) async fn catalog(&self, _parts: &http::request::Parts, _grant: &Grant) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `GET /v2/_oci/ext/discover`
    pub(super) fn extensions(&self, _name: Option<&RepositoryName>) -> http::Response<Body> {
        super::respond::empty(StatusCode::NOT_IMPLEMENTED)
    }
}

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/tags/list`
    pub(super) async fn tags(&self) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }
}
