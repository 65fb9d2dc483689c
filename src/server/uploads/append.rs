//! `PATCH`: more bytes for a session.

use super::super::error::Outcome;
use super::super::incoming::Incoming;
use super::super::policy::Policy;
use super::super::registry::Exchange;
use super::chunk::Chunk;
use super::parse;
use super::work::{Target, Then, Work};

impl<P: Policy> Exchange<'_, P> {
    /// `PATCH /v2/<name>/blobs/uploads/<id>`
    pub(in crate::server) async fn append(&self, id: &str, body: Incoming) -> Outcome {
        let id = parse(id)?;
        let chunk = Chunk::of(self.parts, body.announced())?;
        let work = Work { chunk, ..self.work(Target::Session(id), Then::Save) };
        self.transfer(work, body).await
    }
}
