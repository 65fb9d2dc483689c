//! What the fuzz target asks of the heads of requests. Not part of any ordinary build.

use http::request::Parts;
use http::{HeaderValue, Request, header};

use super::conditional::Conditions;
use super::query::{decode, encode};
use super::ranges::Wanted;
use super::route::Route;
use super::uploads;
use crate::Digest;

/// Reads the lines of any text as path, value of a query, `Range`, `Content-Range` and conditions: whatever comes is taken for
/// what it says or for nothing, and a part lies within its whole.
pub(crate) fn request(text: &str) {
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    path(next());
    value(next());
    let (range, content_range, conditions) = (next(), next(), next());
    for size in [0, 1, 2048, u64::MAX] {
        if let Wanted::Part(part) = Wanted::of(range, size) {
            assert!(part.start < part.end && part.end <= size, "{range}: {part:?} of {size}");
        }
    }
    let Some(parts) = head(content_range, conditions) else { return };
    if let Some((start, length)) = uploads::chunk_of(&parts) {
        assert!(length > 0 && start.checked_add(length - 1).is_some(), "{content_range}");
    }
    let _ = Conditions::of(&parts).verdict(&Digest::of(b"content"), 7);
}

/// Every path is one endpoint at most, and says the same when it is put together again.
fn path(path: &str) {
    let Some(route) = Route::of(path) else { return };
    let again = match route {
        Route::Blob { name, digest } => format!("/v2/{name}/blobs/{digest}"),
        Route::Upload { name, id } => format!("/v2/{name}/blobs/uploads/{id}"),
        Route::Manifest { name, reference } => format!("/v2/{name}/manifests/{reference}"),
        Route::Referrers { name, digest } => format!("/v2/{name}/referrers/{digest}"),
        Route::Tags { name } => format!("/v2/{name}/tags/list"),
        Route::ArtifactReferrers { name } => format!("/v2/{name}/_oras/artifacts/referrers"),
        // With and without a slash at the end.
        Route::Base | Route::Catalog | Route::Uploads { .. } | Route::Extensions { .. } => return,
    };
    assert_eq!(again, path);
}

fn value(text: &str) {
    assert_eq!(decode(&encode(text), true).as_deref(), Some(text));
    let _ = decode(text, true);
}

fn head(content_range: &str, conditions: &str) -> Option<Parts> {
    let mut request = Request::new(());
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(content_range).ok()?);
    for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE] {
        headers.insert(name, HeaderValue::from_str(conditions).ok()?);
    }
    Some(request.into_parts().0)
}
