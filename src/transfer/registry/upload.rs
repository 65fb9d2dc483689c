//! Content into a registry: small content whole, large content in parts that go on where they broke off.

use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use reqwest::Url;
use reqwest::blocking::Response;

use super::address::{follow, with_parameter};
use super::host::text;
use super::parts::Parts;
use super::ranges::{number, uploaded};
use super::repository::{Inner, RemoteRepository, scope};
use super::retry::{Attempts, is_passing};
use super::session::{Request, Session, after};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, RepositoryName};
use crate::transfer::Incoming;

const WHAT: &str = "cannot push the content";

/// How small a part may be, but the last one.
const MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// The largest part that a registry may ask for, which is kept in memory.
const LARGEST: u64 = 256 << 20;

/// An upload session: where the next part goes, and how small it may be.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    url: Url,
    least: u64,
}

/// Why a session came to nothing.
enum Broken {
    /// Another would not do better.
    Stop(Error),
    /// Another may do better, after a while if the registry says so.
    Again(Error, Option<Duration>),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

impl RemoteRepository {
    /// Puts content into the repository that is in memory.
    ///
    /// # Errors
    ///
    /// `Mismatch` when the bytes are not what the descriptor says; `Invalid`, `Unauthorized`, `Denied`, `Unavailable`.
    pub fn push_bytes(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        self.push_content(descriptor, &Whole(bytes))
    }

    /// Puts content into the repository. It is hashed on the way, and nothing is there under its digest before all of it is.
    ///
    /// # Errors
    ///
    /// As [`push_bytes`](Self::push_bytes), as the content, and `Interrupted`.
    pub fn push_content(&self, descriptor: &Descriptor, content: &dyn Incoming) -> Result<()> {
        let inner = &self.inner;
        let mut attempts = Attempts::new(&inner.session.host.options);
        loop {
            let begun = inner.begun.lock().remove(&descriptor.digest);
            let begun = begun.map_or_else(|| inner.begin(&descriptor.digest), Ok)?;
            let mut sending = Sending { inner, descriptor, content, url: begun.url.clone() };
            let Err(broken) = sending.run(begun.least) else { return Ok(()) };
            cancel(&inner.session, sending.url, &inner.push);
            match broken {
                Broken::Stop(error) => return Err(error),
                Broken::Again(error, after) => attempts.again(error, after)?,
            }
            // Only the answer may have been lost.
            if self.content_size(&descriptor.digest)? == Some(descriptor.size) {
                return Ok(());
            }
        }
    }

    /// Takes content from another repository of the registry without moving bytes. False where that cannot be; then the content
    /// has to be pushed.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Interrupted`. Who may not read the other repository is answered false.
    pub fn mount(&self, digest: &Digest, from: &RepositoryName) -> Result<bool> {
        const WHAT: &str = "cannot mount the content";
        let inner = &self.inner;
        let [push] = &inner.push;
        let scopes = [push.clone(), scope(from, "pull")];
        let url = inner.url("blobs/uploads/")?;
        let url = with_parameter(with_parameter(url, "mount", &digest.to_string()), "from", from.as_str());
        let request = Request::new(Method::POST, url, &scopes, WHAT);
        let answer = match inner.session.send(&request) {
            Err(error) if error.kind() == ErrorKind::Unauthorized => return Ok(false),
            other => other?,
        };
        match answer.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                // A session began instead, which the push that follows goes on with.
                let begun = inner.begun(&request.url, &answer)?;
                if let Some(other) = inner.begun.lock().insert(*digest, begun) {
                    cancel(&inner.session, other.url, &inner.push);
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

impl Inner {
    fn begin(&self, digest: &Digest) -> Result<Begun> {
        let mut url = self.url("blobs/uploads/")?;
        if digest.algorithm() != Algorithm::Sha256 {
            url = with_parameter(url, "digest-algorithm", digest.algorithm().as_str());
        }
        let request = Request::new(Method::POST, url, &self.push, WHAT);
        let answer = self.session.expect(&request, &[StatusCode::ACCEPTED])?;
        let answer = answer.ok_or_else(|| {
            let place = &self.session.place;
            Error::not_found(format!("registry has no such repository, registry={place}"))
        })?;
        self.begun(&request.url, &answer)
    }

    fn begun(&self, from: &Url, answer: &Response) -> Result<Begun> {
        let about = self.session.about(WHAT);
        let location = text(answer, header::LOCATION);
        let location = location.ok_or_else(|| about.broken("the answer does not say where to send it"))?;
        let least = text(answer, MIN_LENGTH).and_then(number).unwrap_or_default();
        if least > LARGEST {
            return Err(about.broken(&format!("registry wants parts that are too large, least={least}")));
        }
        Ok(Begun { url: follow(from, location)?, least })
    }
}

/// Ends an upload session that nothing will come of. The registry does so itself in time, so it is asked once, and no more.
fn cancel(session: &Session, url: Url, scopes: &[String]) {
    let request = Request::new(Method::DELETE, url, scopes, "cannot cancel the upload").once();
    let _ = session.send(&request);
}

impl Begun {
    /// Ends the session.
    pub(super) fn cancel(self, session: &Session, scopes: &[String]) {
        cancel(session, self.url, scopes);
    }
}

/// One session on its way.
struct Sending<'a> {
    inner: &'a Inner,
    descriptor: &'a Descriptor,
    content: &'a dyn Incoming,
    /// Where the next part goes.
    url: Url,
}

impl Sending<'_> {
    fn run(&mut self, least: u64) -> Result<(), Broken> {
        let size = self.descriptor.size;
        let chunk = self.inner.session.host.options.chunk.max(least);
        let mut parts = Parts::new(self.content, self.descriptor, chunk);
        if let Some(bytes) = parts.only()? {
            parts.check()?;
            self.finish(bytes)?;
            return self.advance(size);
        }
        let mut attempts = Attempts::new(&self.inner.session.host.options);
        let (mut at, mut furthest) = (0, 0);
        while at < size {
            at = parts.each(at, |bytes, at| {
                let end = at + bytes.len() as u64;
                let reached = self.send_part(bytes, at, &mut attempts)?;
                if reached == end && end > furthest {
                    furthest = end;
                    attempts.went_on();
                }
                self.advance(reached)?;
                Ok::<_, Broken>(reached)
            })?;
        }
        parts.check()?;
        self.finish(Bytes::new())
    }

    fn advance(&self, done: u64) -> Result<(), Broken> {
        match self.content.advance(done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(Error::new(ErrorKind::Interrupted, "interrupted while content was pushed").into())
            }
        }
    }

    /// Sends a part that begins at `at`, or what is left of it; answers how far the registry has come then, which may be less
    /// than before.
    fn send_part(&mut self, mut bytes: Bytes, mut at: u64, attempts: &mut Attempts) -> Result<u64, Broken> {
        let about = self.inner.session.about(WHAT);
        let mut refused = None;
        loop {
            let end = at + bytes.len() as u64;
            let request = Request::new(Method::PATCH, self.url.clone(), &self.inner.push, WHAT)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_RANGE, &format!("{at}-{}", end - 1))
                .body(bytes.clone())
                .once();
            let (failure, wait) = match self.inner.session.send(&request) {
                // What it says of how far it has come is not looked at: some are behind.
                Ok(answer) if matches!(answer.status(), StatusCode::ACCEPTED | StatusCode::NO_CONTENT) => {
                    self.moved(&answer)?;
                    return Ok(end);
                }
                Ok(mut answer) => {
                    let (status, wait) = (answer.status(), after(&answer));
                    let failure = about.refused(status, &mut answer);
                    match status {
                        StatusCode::NOT_FOUND => return Err(Broken::Again(lost(failure), wait)),
                        // It had what came before, and what it told us was not true.
                        StatusCode::RANGE_NOT_SATISFIABLE if refused == Some(at) => {
                            return Err(Broken::Again(lost(failure), wait));
                        }
                        StatusCode::RANGE_NOT_SATISFIABLE => {
                            refused = Some(at);
                            (lost(failure), wait)
                        }
                        status if is_passing(status) => (failure, wait),
                        _ => return Err(Broken::Stop(failure)),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => (error, None),
                Err(error) => return Err(Broken::Stop(error)),
            };
            attempts.again(failure, wait)?;
            let reached = self.status()?;
            if reached < at {
                return Ok(reached);
            }
            let sent = usize::try_from(reached - at).unwrap_or(usize::MAX);
            if sent > bytes.len() {
                return Err(Broken::Again(about.broken("the registry has more than was sent"), None));
            }
            bytes = bytes.slice(sent..);
            at = reached;
            if bytes.is_empty() {
                return Ok(at);
            }
        }
    }

    /// Asks how far the session has come.
    fn status(&mut self) -> Result<u64, Broken> {
        let about = self.inner.session.about("cannot ask how far the upload has come");
        let request = Request::new(Method::GET, self.url.clone(), &self.inner.push, about.what);
        let expected = [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
        let answer = match self.inner.session.expect(&request, &expected) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Broken::Again(about.broken("the session is gone"), None)),
            // Not every registry answers that.
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(Broken::Again(error, None)),
            Err(error) => return Err(Broken::Stop(error)),
        };
        self.moved(&answer)?;
        let range = text(&answer, header::RANGE).and_then(uploaded);
        // `0-0` is what many say of an empty session; a session of one byte is as well begun again.
        match range {
            Some(1) | None => Ok(0),
            Some(reached) => Ok(reached),
        }
    }

    /// Follows the session to where it says that it is.
    fn moved(&mut self, answer: &Response) -> Result<()> {
        if let Some(location) = text(answer, header::LOCATION) {
            self.url = follow(&self.url, location)?;
        }
        Ok(())
    }

    /// Sends the end, and has the registry give the content its name.
    fn finish(&self, bytes: Bytes) -> Result<(), Broken> {
        let url = with_parameter(self.url.clone(), "digest", &self.descriptor.digest.to_string());
        let request = Request::new(Method::PUT, url, &self.inner.push, WHAT)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes)
            .once();
        let mut answer = match self.inner.session.send(&request) {
            Ok(answer) => answer,
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(Broken::Again(error, None)),
            Err(error) => return Err(Broken::Stop(error)),
        };
        let (status, wait) = (answer.status(), after(&answer));
        if matches!(status, StatusCode::CREATED | StatusCode::NO_CONTENT) {
            return Ok(());
        }
        let failure = self.inner.session.about(WHAT).refused(status, &mut answer);
        let is_lost = matches!(status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE);
        if is_lost {
            return Err(Broken::Again(lost(failure), wait));
        }
        if is_passing(status) { Err(Broken::Again(failure, wait)) } else { Err(Broken::Stop(failure)) }
    }
}

/// A session that the registry does not know, or not as it was: no fault of what is pushed.
#[cold]
fn lost(failure: Error) -> Error {
    failure.with_kind(ErrorKind::Unavailable)
}

/// Content that is in memory.
struct Whole<'a>(&'a [u8]);

impl Incoming for Whole<'_> {
    fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default()))
    }

    fn local(&self) -> Result<Option<crate::blobs::BlobReader>> {
        Ok(None)
    }

    fn advance(&self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
