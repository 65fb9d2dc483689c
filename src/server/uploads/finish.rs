//! `PUT`: the last bytes of a session, if any, and what it has to be.

use super::super::error::{Code, Outcome, Refusal};
use super::super::incoming::Incoming;
use super::super::policy::Policy;
use super::super::pull::parse_digest;
use super::super::query::Query;
use super::super::registry::Exchange;
use super::chunk::Chunk;
use super::parse;
use super::work::{Target, Then, Work};

impl<P: Policy> Exchange<'_, P> {
    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=<digest>`
    pub(in crate::server) async fn finish_upload(&self, id: &str, body: Incoming) -> Outcome {
        let id = parse(id)?;
        let Some(digest) = Query::of(&self.parts.uri).first("digest") else {
            let message = "the digest of the content is missing: PUT it with ?digest=<digest>";
            return Err(Refusal::bad_request(Code::DigestInvalid, message));
        };
        let digest = parse_digest(&digest)?;
        let chunk = Chunk::of(self.parts, body.announced())?;
        let work = Work { chunk, ..self.work(Target::Session(id), Then::Finish(digest)) };
        self.transfer(work, body).await
    }
}
