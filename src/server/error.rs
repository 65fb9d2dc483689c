//! What a client is told when something is refused (distribution-spec, "Error Codes").

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::policy::{Denial, Kind};
use crate::{Error, ErrorKind};

/// How long a client waits that was told to come again, unless somebody knows better.
const AGAIN: Duration = Duration::from_secs(1);

/// The codes of the spec.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// None of the spec: for what is the registry's fault.
    Unknown,
}

/// What went wrong in the registry, in the extensions of an answer that only says that something did: for the log of whoever
/// runs it, since it may name paths.
#[derive(Clone, Debug)]
pub struct Cause(Arc<Error>);

impl Cause {
    /// The failure.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.0
    }
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What went wrong here, which is for the log and not for the client.
    pub(super) cause: Option<Box<Error>>,
}

pub(super) type Outcome<T = Response<Body>> = Result<T, Refusal>;

#[derive(Serialize)]
struct Document<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: Code,
    message: &'a str,
}

impl Refusal {
    #[cold]
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), cause: None }
    }

    #[cold]
    pub(super) fn bad_request(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    #[cold]
    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What the client is told of an error of the store: `missing` where something is not there, `invalid` where what came is
    /// not acceptable.
    #[cold]
    pub(super) fn of(error: Error, missing: Code, invalid: Code) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, missing),
            ErrorKind::Mismatch => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, invalid),
            ErrorKind::BatchTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            ErrorKind::OffsetMismatch { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid),
            ErrorKind::Conflict => (StatusCode::CONFLICT, Code::Denied),
            ErrorKind::Busy => (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests),
            ErrorKind::QuotaExceeded => (StatusCode::FORBIDDEN, Code::Denied),
            ErrorKind::ReadOnly => (StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported),
            ErrorKind::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, Code::Unknown),
            ErrorKind::Poisoned | ErrorKind::Indeterminate => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::Unknown)
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown),
        };
        // What is the registry's own may name paths, which are nobody's business.
        let message = match error.kind() {
            ErrorKind::ReadOnly => "what has this name can only be read".to_owned(),
            _ if status.is_server_error() => "the registry could not do it; its log says why".to_owned(),
            _ => error.to_string(),
        };
        let refusal = Self { cause: Some(Box::new(error)), ..Self::new(status, code, message) };
        if status == StatusCode::TOO_MANY_REQUESTS { refusal.retry_after(AGAIN) } else { refusal }
    }

    pub(super) fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let document = Document { errors: [Entry { code: self.code, message: &self.message }] };
        let text = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        if let Some(cause) = self.cause.filter(|_| self.status.is_server_error()) {
            response.extensions_mut().insert(Cause(Arc::new(*cause)));
        }
        response
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        let status = denial.status();
        let Denial { kind, message } = denial;
        match kind {
            Kind::Unauthenticated { challenge } => {
                let refusal = Self::new(status, Code::Unauthorized, message);
                match HeaderValue::from_str(&challenge) {
                    Ok(challenge) => refusal.with_header(header::WWW_AUTHENTICATE, challenge),
                    Err(_) => refusal,
                }
            }
            Kind::Forbidden => Self::new(status, Code::Denied, message),
            Kind::Hidden => Self::new(status, Code::NameUnknown, message),
            Kind::Later { after } => Self::new(status, Code::TooManyRequests, message).retry_after(after),
        }
    }
}
