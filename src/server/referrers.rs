//! What is attached to a manifest.

use http::StatusCode;

use super::error::{Code, Outcome, Refusal};
use super::policy::Policy;
use super::registry::Exchange;

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/referrers/<digest>`
    pub(super) async fn referrers(&self, _digest: &str) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `GET /v2/<name>/_oras/artifacts/referrers`
    pub(super) async fn artifact_referrers(&self) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }
}
