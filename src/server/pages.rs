//! Listings by pages: how much of one, and where the next begins.

use http::Response;
use http::header;
use http::request::Parts;

use super::body::Body;
use super::error::{Code, Refusal};
use super::query::{Query, encode};
use super::respond::set;

/// How many entries a request wants on a page; none for none at all. Cut to what the registry gives at most.
pub(super) fn limit(query: Query<'_>, most: usize) -> Result<usize, Refusal> {
    let most = most.max(1);
    let Some(n) = query.first("n") else { return Ok(most) };
    if n.is_empty() || !n.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("the number of entries on a page is not a number, n={}", n.escape_debug());
        return Err(Refusal::bad_request(Code::Unsupported, message));
    }
    Ok(n.parse().map_or(most, |n: usize| n.min(most)))
}

/// Says where the next page is: a relative URL, with the namespace that the request was for.
pub(super) fn set_next(
    response: &mut Response<Body>,
    parts: &Parts,
    path: impl std::fmt::Display,
    parameters: &[(&str, &str)],
) {
    let mut url = path.to_string();
    let namespace = Query::of(&parts.uri).first("ns");
    let namespace = namespace.as_deref().map(|namespace| ("ns", namespace));
    for (at, (name, value)) in parameters.iter().copied().chain(namespace).enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        url.push_str(&encode(value));
    }
    set(response, header::LINK, format_args!("<{url}>; rel=\"next\""));
}
