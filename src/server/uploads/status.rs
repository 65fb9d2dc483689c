//! `GET`: what a session has; `DELETE`: its end.

use http::StatusCode;

use super::super::error::{Code, Outcome};
use super::super::policy::Policy;
use super::super::registry::Exchange;
use super::super::respond::empty;
use super::{parse, refuse, session, unknown};

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/blobs/uploads/<id>`
    pub(in crate::server) async fn upload_status(&self, id: &str) -> Outcome {
        let id = parse(id)?;
        let ask = move |repository: &crate::Repository| repository.upload_status(&id);
        let status = self.look(Code::BlobUploadUnknown, ask).await?;
        let status = status.ok_or_else(|| unknown(&id.to_string()))?;
        Ok(session(StatusCode::NO_CONTENT, self.name, &id, status.offset))
    }

    /// `DELETE /v2/<name>/blobs/uploads/<id>`
    pub(in crate::server) async fn cancel_upload(&self, id: &str) -> Outcome {
        let id = parse(id)?;
        let repository = self.repository.clone();
        let cancelled = self.inner.writers.run(move || match repository.upload(&id)? {
            Some(upload) => upload.cancel().map(Some),
            None => Ok(None),
        });
        let cancelled = cancelled.await?.map_err(|error| refuse(error, self.name, Some(&id)))?;
        cancelled.map(|()| empty(StatusCode::NO_CONTENT)).ok_or_else(|| unknown(&id.to_string()))
    }
}
