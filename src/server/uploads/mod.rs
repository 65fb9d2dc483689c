//! Upload sessions: content that comes in one piece or in many.
//!
//! Only sessions of the store count, so they outlive a restart once they have bytes, and are bound to their repository. What a `PATCH` is told to have
//! been taken is durable; a `PUT` that is refused leaves the session as it was before it.

mod append;
mod chunk;
mod finish;
mod receive;
mod start;
mod status;
mod work;

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use self::work::Work;
use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::incoming::Incoming;
use super::policy::Policy;
use super::registry::Exchange;
use super::respond::{UPLOAD_UUID, empty, set, set_digest};
use crate::oci::RepositoryName;
use crate::{Algorithm, Digest, Error, ErrorKind, Pushed, UploadId, UploadOptions};

/// How long a session waits for its first bytes. It is not durable before them: a client that comes with them after a restart is
/// told that there is no such session, and has lost nothing.
const FIRST_BYTES: Duration = Duration::from_secs(60 * 60);

/// How a session begins that is likely to be hashed with this.
fn beginning(algorithm: Algorithm) -> UploadOptions {
    UploadOptions::new().algorithm(algorithm).deferred(FIRST_BYTES)
}

/// Where the chunk of a request begins and how long it says that it is. For the fuzz target.
#[cfg(fuzzing)]
pub(super) fn chunk_of(parts: &http::request::Parts) -> Option<(u64, u64)> {
    chunk::Chunk::of(parts, None).ok().flatten().map(|chunk| (chunk.start, chunk.length))
}

/// Where a session goes on.
fn location(name: &RepositoryName, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// What a client has to know of a session to go on with it. The range of an empty one, which has no last byte, is `0-0`, as
/// everybody else has it.
fn session(status: StatusCode, name: &RepositoryName, id: &UploadId, offset: u64) -> Response<Body> {
    let mut response = empty(status);
    set(&mut response, header::LOCATION, location(name, id));
    set(&mut response, header::RANGE, range(offset));
    set(&mut response, UPLOAD_UUID, id);
    response
}

fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// What was asked for is in the repository.
pub(super) fn created(name: &RepositoryName, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, format!("/v2/{name}/blobs/{digest}"));
    set_digest(&mut response, digest);
    response
}

/// What the client is told of an error of the store. One that began elsewhere than at the end learns where that is.
fn refuse(error: Error, name: &RepositoryName, id: Option<&UploadId>) -> Refusal {
    let kind = error.kind();
    let mut refusal = Refusal::of(error, Code::BlobUploadUnknown, Code::SizeInvalid);
    match (kind, id) {
        // An upload that can never be taken is one that is too large.
        (ErrorKind::Invalid, _) => {
            refusal.status = StatusCode::PAYLOAD_TOO_LARGE;
            refusal
        }
        (ErrorKind::OffsetMismatch { current }, Some(id)) => {
            let headers = [
                (header::LOCATION, location(name, id)),
                (header::RANGE, range(current)),
                (UPLOAD_UUID, id.to_string()),
            ];
            headers.into_iter().fold(refusal, |refusal, (name, value)| match HeaderValue::try_from(value) {
                Ok(value) => refusal.with_header(name, value),
                Err(_) => refusal,
            })
        }
        _ => refusal,
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(
        Code::BlobUploadUnknown,
        format!("upload session unknown to registry, id={}", id.chars().take(64).collect::<String>()),
    )
}

/// The session that a path names. What no session can be called is unknown as any other.
fn parse(id: &str) -> Outcome<UploadId> {
    id.parse().map_err(|_| unknown(id))
}

/// What a session has when a request is done with it.
enum Done {
    /// So many bytes, durably.
    Saved(UploadId, u64),
    /// Nothing more: it has become content.
    Pushed(Pushed),
}

impl<P: Policy> Exchange<'_, P> {
    /// Does the work with what the body brings.
    async fn transfer(&self, work: Work, body: Incoming) -> Outcome {
        let name = self.name;
        Ok(match receive::run(self.inner.writers.clone(), work, body).await? {
            Done::Saved(id, offset) => session(StatusCode::ACCEPTED, name, &id, offset),
            Done::Pushed(pushed) => created(name, &pushed.digest),
        })
    }

    fn work(&self, target: work::Target, then: work::Then) -> Work {
        Work {
            repository: self.repository.clone(),
            name: self.name.clone(),
            quota: self.grant.quota,
            target,
            chunk: None,
            then,
        }
    }
}
