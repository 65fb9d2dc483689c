//! `POST`: a new session, or a whole content at once.

use http::StatusCode;

use super::super::error::{Code, Outcome, Refusal};
use super::super::incoming::Incoming;
use super::super::policy::Policy;
use super::super::pull::parse_digest;
use super::super::query::Query;
use super::super::quota;
use super::super::registry::Exchange;
use super::work::{Target, Then};
use super::{beginning, refuse, session};
use crate::Algorithm;

impl<P: Policy> Exchange<'_, P> {
    /// `POST /v2/<name>/blobs/uploads/`
    pub(in crate::server) async fn start_upload(&self, body: Incoming) -> Outcome {
        let query = Query::of(&self.parts.uri);
        if let Some(digest) = query.first("mount") {
            let digest = parse_digest(&digest)?;
            if let Some(mounted) = self.mount(digest, query.first("from").as_deref()).await? {
                return Ok(mounted);
            }
            return self.start_session(digest.algorithm()).await;
        }
        if let Some(digest) = query.first("digest") {
            let digest = parse_digest(&digest)?;
            let mut options = beginning(digest.algorithm());
            options.size = body.announced();
            return self.transfer(self.work(Target::New(options), Then::Finish(digest)), body).await;
        }
        let algorithm = match query.first("digest-algorithm") {
            Some(name) => name.parse().map_err(|error: crate::digest::ParseDigestError| {
                Refusal::bad_request(Code::DigestInvalid, error.to_string())
            })?,
            None => Algorithm::default(),
        };
        self.start_session(algorithm).await
    }

    async fn start_session(&self, algorithm: Algorithm) -> Outcome {
        let (repository, granted) = (self.repository.clone(), self.grant.quota);
        let started = self.inner.writers.run(move || {
            quota::apply(&repository, granted)?;
            repository.start_upload(&beginning(algorithm)).map(|upload| upload.id())
        });
        let id = started.await?.map_err(|error| refuse(error, self.name, None))?;
        Ok(session(StatusCode::ACCEPTED, self.name, &id, 0))
    }
}
