//! Requests that want an answer only if they have not got it yet, or only as long as it stays the same (RFC 9110, section 13).
//!
//! The entity tag of a content is its digest: equal tags are equal bytes, so every one is strong.

use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response};

use super::body::Body;
use super::ranges::Wanted;
use super::respond::{set, set_digest};
use crate::Digest;

/// What a request makes its answer depend on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Conditions {
    only_if: Option<String>,
    unless: Option<String>,
    range: Option<String>,
    range_if: Option<String>,
}

/// How a request is to be answered, once the content is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// As asked for.
    Send(Wanted),
    /// The client has it: 304.
    NotModified,
    /// It is not what the client thinks: 412.
    Failed,
}

impl Conditions {
    /// Reads the headers of a request. A range counts for GET alone.
    pub(super) fn of(parts: &Parts) -> Self {
        let get = parts.method == Method::GET;
        Self {
            only_if: header(parts, &header::IF_MATCH),
            unless: header(parts, &header::IF_NONE_MATCH),
            range: header(parts, &header::RANGE).filter(|_| get),
            range_if: header(parts, &header::IF_RANGE),
        }
    }

    /// The same without a range, for what is only sent whole.
    pub(super) fn whole(self) -> Self {
        Self { range: None, ..self }
    }

    /// In the order of RFC 9110, section 13.2.2. Dates never match, since content has none.
    pub(super) fn verdict(&self, digest: &Digest, size: u64) -> Verdict {
        if self.only_if.as_ref().is_some_and(|tags| !names(tags, digest, false)) {
            return Verdict::Failed;
        }
        if self.unless.as_ref().is_some_and(|tags| names(tags, digest, true)) {
            return Verdict::NotModified;
        }
        let same = self.range_if.as_ref().is_none_or(|tag| tag != "*" && names(tag, digest, false));
        Verdict::Send(match &self.range {
            Some(range) if same => Wanted::of(range, size),
            _ => Wanted::Whole,
        })
    }
}

/// Says what the client may ask for again, and how long it may keep it.
///
/// Never for others: who may see it is asked of each. What a digest names never changes; what a tag names is to be asked again.
pub(super) fn set_validators(response: &mut Response<Body>, digest: &Digest, immutable: bool) {
    set_digest(response, digest);
    set(response, header::ETAG, format_args!("\"{digest}\""));
    let lasting = if immutable { "private, max-age=31536000, immutable" } else { "private, no-cache" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(lasting));
}

/// A header that may come in several lines, as one.
fn header(parts: &Parts, name: &HeaderName) -> Option<String> {
    let mut lines = parts.headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let first = lines.next()?;
    Some(lines.fold(first, |all, line| Cow::Owned(format!("{all},{line}"))).into_owned())
}

/// Whether a list of entity tags names a digest, or is the star that stands for whatever is there. A digest without the quotes
/// counts as well: clients of the first registries send it so.
fn names(list: &str, digest: &Digest, weak_too: bool) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let digest = digest.to_string();
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return false;
        }
        let (weak, behind) = rest.strip_prefix("W/").map_or((false, rest), |behind| (true, behind));
        let (tag, behind) = match behind.strip_prefix('"') {
            // A tag in quotes may have commas.
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        if tag.trim_end() == digest && (weak_too || !weak) {
            return true;
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_entity_tags_name_a_digest_or_not() {
        let digest = Digest::of(b"x");
        for (list, strong, weak) in [
            ("*".to_owned(), true, true),
            (format!("\"{digest}\""), true, true),
            (format!("{digest}"), true, true),
            (format!(" \"other\" , \"{digest}\""), true, true),
            (format!("\"a,b\",\t\"{digest}\""), true, true),
            (format!("other, {digest} ,"), true, true),
            (format!("W/\"{digest}\""), false, true),
            (format!("W/\"{digest}\", \"{digest}\""), true, true),
            (format!("\"{digest}"), true, true),
            (format!("\"x{digest}\""), false, false),
            (format!("\"a, {digest}, b\""), false, false),
            (format!("\"{}\"", Digest::of(b"y")), false, false),
            ("\"*\"".to_owned(), false, false),
            (String::new(), false, false),
            (",,".to_owned(), false, false),
            ("W/".to_owned(), false, false),
            ("\"".to_owned(), false, false),
        ] {
            assert_eq!(names(&list, &digest, false), strong, "{list}");
            assert_eq!(names(&list, &digest, true), weak, "{list} weakly");
        }
    }
}
