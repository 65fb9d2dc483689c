//! What a registry that refuses something says, as an error of this crate (distribution-spec, "Error Codes").

use std::io::Read;

use http::StatusCode;
use serde::Deserialize;

use crate::digest::excerpt;
use crate::error::{Error, ErrorKind};

/// How much of an answer is read for what it says, in bytes.
const MAX_BODY: u64 = 64 << 10;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    code: Option<String>,
    message: Option<String>,
}

/// What a refused request was about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// What failed, as `cannot read the manifest`.
    pub(super) what: &'a str,
    /// The place: `registry.example/app`.
    pub(super) place: &'a str,
}

impl About<'_> {
    /// An error of an answer that is not what was asked for.
    #[cold]
    pub(super) fn refused(&self, status: StatusCode, body: &mut dyn Read) -> Error {
        let Self { what, place } = self;
        let mut bytes = Vec::new();
        // A body that breaks off says less, and that is all.
        let _ = body.take(MAX_BODY).read_to_end(&mut bytes);
        let said = said(&bytes);
        let kind = kind_of(status, said.as_ref().and_then(|entry| entry.code.as_deref()));
        let mut message = format!("{what}, registry={place}, status={}", status.as_u16());
        if let Some(Entry { code, message: text }) = said {
            for (name, value) in [("code", code), ("says", text)] {
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    message.push_str(&format!(", {name}={}", excerpt(&value)));
                }
            }
        }
        Error::new(kind, message)
    }

    /// An error of an answer that the protocol does not know.
    #[cold]
    pub(super) fn broken(&self, why: &str) -> Error {
        let Self { what, place } = self;
        Error::new(ErrorKind::Unavailable, format!("{what}: {why}, registry={place}"))
    }

    /// An error of a registry that was not reached, or did not answer.
    #[cold]
    pub(super) fn unreached(&self, error: reqwest::Error) -> Error {
        let Self { what, place } = self;
        // Its address may have a query with a signature of somebody.
        let error = error.without_url();
        Error::new(ErrorKind::Unavailable, format!("{what}, registry={place}")).with_source(error)
    }
}

fn said(bytes: &[u8]) -> Option<Entry> {
    let document: Document = serde_json::from_slice(bytes).ok()?;
    document.errors.into_iter().next()
}

fn kind_of(status: StatusCode, code: Option<&str>) -> ErrorKind {
    match (status.as_u16(), code) {
        (401, _) => ErrorKind::Unauthorized,
        (403, _) => ErrorKind::Denied,
        (404 | 410, _) => ErrorKind::NotFound,
        (400..=499, Some("DIGEST_INVALID" | "SIZE_INVALID")) => ErrorKind::Mismatch,
        (405 | 501, _) | (400..=499, Some("UNSUPPORTED")) => ErrorKind::Unsupported,
        (408 | 425 | 429, _) => ErrorKind::Unavailable,
        (400..=499, _) => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        About { what: "cannot do it", place: "h/a" }.refused(status, &mut body.as_bytes())
    }

    #[test]
    fn kinds_say_what_can_be_done() {
        for (status, body, kind) in [
            (401, "", ErrorKind::Unauthorized),
            (403, "", ErrorKind::Denied),
            (404, "<html>", ErrorKind::NotFound),
            (405, "", ErrorKind::Unsupported),
            (400, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#, ErrorKind::Unsupported),
            (400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#, ErrorKind::Mismatch),
            (400, r#"{"errors":[]}"#, ErrorKind::Invalid),
            (413, "", ErrorKind::Invalid),
            (429, "", ErrorKind::Unavailable),
            (500, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#, ErrorKind::Unavailable),
            (302, "", ErrorKind::Unavailable),
        ] {
            assert_eq!(refused(status, body).kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn what_it_says_is_told_and_bounded() {
        let error =
            refused(403, r#"{"errors":[{"code":"DENIED","message":"not you\u001b"},{"code":"X"}],"y":1}"#);
        let message = error.to_string();
        assert_eq!(message, "cannot do it, registry=h/a, status=403, code=DENIED, says=\"not you\\u{1b}\"");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(10_000));
        assert!(refused(400, &long).to_string().len() < 300);
        let more = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(100_000));
        assert_eq!(refused(400, &more).to_string(), "cannot do it, registry=h/a, status=400");
    }
}
