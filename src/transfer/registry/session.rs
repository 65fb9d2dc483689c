//! A request and its answer: who asks is said where it may be, redirects are followed, what passes is waited for.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::Url;
use reqwest::blocking::Response;
use std::sync::Arc;

use super::address::follow;
use super::auth::Auth;
use super::challenge;
use super::host::{Host, text};
use super::refusal::About;
use super::retry::{Attempts, is_passing, retry_after};
use crate::error::{Error, Result};
use crate::oci::RepositoryName;
use crate::sys;

/// How many redirects of one request are followed.
const MAX_REDIRECTS: usize = 10;
/// How often in a row a registry may ask who asks: for a first token, and for another when that one was not good any more.
const MAX_CHALLENGES: usize = 2;

/// Asks one registry for one repository, or for itself.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) host: Arc<Host>,
    auth: Auth,
    /// What messages call it.
    pub(super) place: String,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) scopes: &'a [String],
    /// What fails if it does.
    pub(super) what: &'a str,
    /// Whether it is sent again when it could not be answered.
    pub(super) again: bool,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: Url, scopes: &'a [String], what: &'a str) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, scopes, what, again: true }
    }

    pub(super) fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        // What is no header comes from a name that was checked before, and nothing is sent for it.
        if let Ok(value) = value.parse() {
            self.headers.append(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// The same, sent once.
    pub(super) fn once(mut self) -> Self {
        self.again = false;
        self
    }
}

impl Session {
    pub(super) fn new(host: Arc<Host>, repository: Option<&RepositoryName>) -> Self {
        let place = match repository {
            Some(repository) => format!("{}/{repository}", host.registry),
            None => host.registry.to_string(),
        };
        Self { host, auth: Auth::new(repository), place }
    }

    pub(super) fn about<'a>(&'a self, what: &'a str) -> About<'a> {
        About { what, place: &self.place }
    }

    /// Sends a request. The answer may be a refusal, but none for not knowing who asks, and no redirect of a read.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `Unavailable`, `Interrupted`.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Response> {
        let about = self.about(request.what);
        let mut attempts = Attempts::new(&self.host.options);
        loop {
            let (failure, after) = match self.try_once(request)? {
                Ok(response) if request.again && is_passing(response.status()) => {
                    let mut response = response;
                    let after = after(&response);
                    (about.refused(response.status(), &mut response), after)
                }
                Ok(response) => return Ok(response),
                Err(error) => {
                    let failure = about.unreached(error);
                    if !request.again {
                        return Err(failure);
                    }
                    (failure, None)
                }
            };
            attempts.again(failure, after)?;
        }
    }

    /// Sends a request and answers what it is answered with if that is one of `expected`; None for 404.
    pub(super) fn expect(&self, request: &Request<'_>, expected: &[StatusCode]) -> Result<Option<Response>> {
        let mut response = self.send(request)?;
        let status = response.status();
        if expected.contains(&status) {
            return Ok(Some(response));
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Err(self.about(request.what).refused(status, &mut response))
    }

    /// The body of an answer, of at most `limit` bytes.
    pub(super) fn read(&self, response: Response, limit: usize, what: &str) -> Result<Bytes> {
        let mut bytes = Vec::new();
        let about = self.about(what);
        let mut limited = response.take(limit as u64 + 1);
        limited
            .read_to_end(&mut bytes)
            .map_err(|error| about.broken("the answer broke off").with_source(error))?;
        if bytes.len() > limit {
            return Err(about.broken(&format!("the answer is larger than {limit} bytes")));
        }
        Ok(bytes.into())
    }

    /// One attempt. The inner error is that nothing came back.
    fn try_once(&self, request: &Request<'_>) -> Result<Result<Response, reqwest::Error>> {
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let mut url = request.url.clone();
        let mut redirects = 0;
        let mut challenges = 0;
        // What the registry asked for last.
        let mut answered = None;
        loop {
            let is_own = self.host.is_own(&url);
            let mut builder = self.host.request(request.method.clone(), &url, request.body.clone())?;
            builder = builder.headers(request.headers.clone());
            let mut used = None;
            if is_own {
                used = match answered.take() {
                    Some(header) => Some(header),
                    None => self.auth.header(&self.host, request.scopes)?,
                };
                if let Some(header) = &used {
                    builder = builder.header(header::AUTHORIZATION, header.clone());
                }
            }
            let mut response = match builder.send() {
                Ok(response) => response,
                Err(error) => return Ok(Err(error)),
            };
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED {
                let failure = |response: &mut Response| self.about(request.what).refused(status, response);
                if !is_own || challenges == MAX_CHALLENGES {
                    return Err(failure(&mut response));
                }
                challenges += 1;
                let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
                let found = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
                let header = self.auth.challenged(&self.host, request.scopes, &found, used.as_ref());
                // What the registry says of it is more than what is known here.
                answered = Some(header.map_err(|error| explained(error, failure(&mut response)))?);
                continue;
            }
            if !is_read || !is_redirect(status) {
                return Ok(Ok(response));
            }
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(self.about(request.what).broken("too many redirects"));
            }
            let location = text(&response, header::LOCATION).unwrap_or_default();
            url = follow(&url, location)?;
        }
    }
}

fn explained(error: Error, answer: Error) -> Error {
    use std::error::Error as _;
    if error.source().is_some() { error } else { error.with_source(answer) }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// When a registry wants to be asked again.
pub(super) fn after(response: &Response) -> Option<Duration> {
    retry_after(text(response, header::RETRY_AFTER)?, sys::now())
}
