//! Content from a registry, which goes on in the middle when a connection breaks.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use http::{Method, StatusCode, header};
use reqwest::blocking::Response;

use super::host::text;
use super::ranges::{content_range, number};
use super::repository::{Inner, RemoteRepository};
use super::retry::Attempts;
use super::session::Request;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Descriptor;

const WHAT: &str = "cannot read the content";

/// After so many bytes in one go a connection counts as one that works.
const WORKS: u64 = 1 << 20;
/// How much is read at once of what is not wanted.
const SKIP: usize = 64 << 10;

impl RemoteRepository {
    /// How many bytes a content has. None if there is none.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `Denied`, `Unavailable`; the last also where the registry does not say it.
    pub fn content_size(&self, digest: &Digest) -> Result<Option<u64>> {
        const WHAT: &str = "cannot look for the content";
        let inner = &self.inner;
        let request = Request::new(Method::HEAD, inner.url(&format!("blobs/{digest}"))?, &inner.pull, WHAT);
        let Some(response) = inner.session.expect(&request, &[StatusCode::OK])? else { return Ok(None) };
        let size = text(&response, header::CONTENT_LENGTH).and_then(number);
        size.map(Some).ok_or_else(|| inner.session.about(WHAT).broken("the answer has no length"))
    }

    /// The bytes of content from `offset` on, as many as the descriptor says, not verified. None if there is none.
    ///
    /// When the connection breaks, or nothing comes for too long, it goes on where it was.
    ///
    /// # Errors
    ///
    /// `Invalid` for an offset behind the end; `Mismatch` when the registry has another size for it; `Unauthorized`, `Denied`,
    /// `Unavailable`; the same from the reader, within its errors.
    pub fn content(&self, descriptor: &Descriptor, offset: u64) -> Result<Option<RemoteContent>> {
        if offset > descriptor.size {
            let (digest, size) = (descriptor.digest, descriptor.size);
            return Err(Error::invalid(format!(
                "content ends before the offset, digest={digest}, size={size}, offset={offset}"
            )));
        }
        let mut content = RemoteContent {
            attempts: Attempts::new(&self.inner.session.host.options),
            repository: Arc::clone(&self.inner),
            digest: descriptor.digest,
            size: descriptor.size,
            position: offset,
            unbroken: 0,
            part: None,
        };
        if offset == descriptor.size {
            // Nothing is to come, but it matters whether it is there.
            return Ok(self.content_size(&descriptor.digest)?.map(|_| content));
        }
        Ok(content.connect()?.then_some(content))
    }
}

/// Content that comes from a registry.
pub struct RemoteContent {
    repository: Arc<Inner>,
    digest: Digest,
    size: u64,
    position: u64,
    /// Bytes since the last failure.
    unbroken: u64,
    attempts: Attempts,
    /// What comes, and where it ends.
    part: Option<(Response, u64)>,
}

impl RemoteContent {
    /// Asks for the rest; false if the content is not there.
    fn connect(&mut self) -> Result<bool> {
        let inner = &self.repository;
        let url = inner.url(&format!("blobs/{}", self.digest))?;
        let mut request = Request::new(Method::GET, url, &inner.pull, WHAT);
        if self.position > 0 {
            request = request.header(header::RANGE, &format!("bytes={}-", self.position));
        }
        let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let Some(response) = inner.session.expect(&request, &expected)? else { return Ok(false) };
        let end = self.check(&response)?;
        let from_start = response.status() == StatusCode::OK;
        self.part = Some((response, end));
        if from_start {
            self.skip()?;
        }
        Ok(true)
    }

    /// Where the part ends that came, if it is what was asked for.
    fn check(&self, response: &Response) -> Result<u64> {
        let about = self.repository.session.about(WHAT);
        let other_size = |found: u64| {
            let (place, digest, size) = (&self.repository.session.place, self.digest, self.size);
            Error::new(
                ErrorKind::Mismatch,
                format!("{WHAT}: other size, registry={place}, digest={digest}, size={size}, found={found}"),
            )
        };
        if response.status() == StatusCode::OK {
            let length = text(response, header::CONTENT_LENGTH).and_then(number);
            return match length.filter(|length| *length != self.size) {
                Some(length) => Err(other_size(length)),
                None => Ok(self.size),
            };
        }
        let value = text(response, header::CONTENT_RANGE).unwrap_or_default();
        let range = content_range(value).filter(|_| self.position > 0);
        let Some(range) = range.filter(|range| range.first == self.position) else {
            let value = crate::digest::excerpt(value);
            let why =
                format!("another part came than was asked for, offset={}, range={value}", self.position);
            return Err(about.broken(&why));
        };
        match range.total {
            Some(total) if total != self.size => Err(other_size(total)),
            _ if range.last >= self.size => Err(other_size(range.last + 1)),
            _ => Ok(range.last + 1),
        }
    }

    /// Reads over what was there before: some registries know no parts.
    fn skip(&mut self) -> Result<()> {
        let mut left = self.position;
        let mut buffer = vec![0; SKIP];
        while let Some((response, _)) = self.part.as_mut().filter(|_| left > 0) {
            let want = usize::try_from(left).unwrap_or(SKIP).min(SKIP);
            match response.read(buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => self.part = None,
                Ok(read) => left -= read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The next attempt begins again.
                Err(_) => self.part = None,
            }
        }
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() || self.position == self.size {
            return Ok(0);
        }
        loop {
            let Some((response, end)) = &mut self.part else {
                if !self.connect()? {
                    let about = self.repository.session.about(WHAT);
                    return Err(about.broken("it is gone").with_kind(ErrorKind::NotFound));
                }
                // Broken again while it was read over.
                if self.part.is_none() {
                    self.broke(None)?;
                }
                continue;
            };
            let left = usize::try_from(*end - self.position).unwrap_or(usize::MAX);
            let want = buffer.len().min(left);
            let failure = match response.read(buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) if want == 0 => {
                    // The part was shorter than what was asked for, which is allowed.
                    self.part = None;
                    continue;
                }
                Ok(0) => None,
                Ok(read) => {
                    self.position += read as u64;
                    self.unbroken += read as u64;
                    if self.unbroken >= WORKS {
                        self.attempts.went_on();
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(error),
            };
            self.broke(failure)?;
        }
    }

    /// Waits before the next connection, if there is to be one.
    fn broke(&mut self, failure: Option<io::Error>) -> Result<()> {
        self.part = None;
        self.unbroken = 0;
        let about = self.repository.session.about(WHAT);
        let why = format!("the connection broke, digest={}, offset={}", self.digest, self.position);
        let mut error = about.broken(&why);
        if let Some(failure) = failure {
            error = error.with_source(failure);
        }
        self.attempts.again(error, None)
    }
}

impl Read for RemoteContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(io::Error::other)
    }
}

impl fmt::Debug for RemoteContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteContent")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
