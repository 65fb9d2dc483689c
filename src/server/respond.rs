//! Answers, and the headers that they share.

use std::fmt::Display;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;

use super::body::Body;
use crate::Digest;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
pub(super) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub(super) const ORAS_VERSION: HeaderName = HeaderName::from_static("oras-api-version");

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// An answer of JSON, under its media type.
pub(super) fn json(media_type: &'static str, document: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::to_vec(document).unwrap_or_default()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Sets a header to what is known to be plain text: a digest, a number, a name by the grammar of the spec.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: impl Display) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        response.headers_mut().insert(name, value);
    }
}

/// Says which content the answer is about.
pub(super) fn set_digest(response: &mut Response<Body>, digest: &Digest) {
    set(response, CONTENT_DIGEST, digest);
}

/// What every answer has: how long its body is, where it may have one; and of that body nothing if only the headers were
/// asked for.
pub(super) fn finish(response: &mut Response<Body>, method: &Method) {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if !bodiless && !response.headers().contains_key(header::CONTENT_LENGTH) {
        let length = response.body().size_hint().exact().unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::default();
    }
}
