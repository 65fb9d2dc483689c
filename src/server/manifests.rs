//! Adding and removing manifests, and removing blobs.

use http::StatusCode;

use super::error::{Code, Outcome, Refusal};
use super::incoming::Incoming;
use super::policy::Policy;
use super::registry::Exchange;

impl<P: Policy> Exchange<'_, P> {
    /// `PUT /v2/<name>/manifests/<reference>`
    pub(super) async fn put_manifest(&self, _reference: &str, _body: Incoming) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `DELETE /v2/<name>/manifests/<reference>`
    pub(super) async fn delete_manifest(&self, _reference: &str) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `DELETE /v2/<name>/blobs/<digest>`
    pub(super) async fn delete_blob(&self, _digest: &str) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }
}
