//! Upload sessions: content that comes in one piece or in many.

use http::StatusCode;

use super::error::{Code, Outcome, Refusal};
use super::incoming::Incoming;
use super::policy::Policy;
use super::registry::Exchange;

impl<P: Policy> Exchange<'_, P> {
    /// `POST /v2/<name>/blobs/uploads/`
    pub(super) async fn start_upload(&self, _body: Incoming) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `PATCH /v2/<name>/blobs/uploads/<id>`
    pub(super) async fn append(&self, _id: &str, _body: Incoming) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `PUT /v2/<name>/blobs/uploads/<id>`
    pub(super) async fn finish_upload(&self, _id: &str, _body: Incoming) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `DELETE /v2/<name>/blobs/uploads/<id>`
    pub(super) async fn cancel_upload(&self, _id: &str) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }

    /// `GET /v2/<name>/blobs/uploads/<id>`
    pub(super) async fn upload_status(&self, _id: &str) -> Outcome {
        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, "not yet"))
    }
}
