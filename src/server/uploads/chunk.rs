//! Which bytes of a content a chunk says that it has.

use http::header;
use http::request::Parts;

use super::super::error::{Code, Outcome, Refusal};

/// The bytes of a chunk by its `Content-Range`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Chunk {
    /// Where it begins.
    pub(super) start: u64,
    /// How many bytes it has.
    pub(super) length: u64,
}

impl Chunk {
    /// The chunk of a request; none where nothing is said. A body whose length is known must have what was said.
    pub(super) fn of(parts: &Parts, announced: Option<u64>) -> Outcome<Option<Self>> {
        let Some(value) = parts.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
        let chunk = value.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            Refusal::bad_request(
                Code::BlobUploadInvalid,
                "Content-Range is not first-last, counted in bytes from zero",
            )
        })?;
        match announced {
            Some(length) if length != chunk.length => Err(chunk.differs(length)),
            _ => Ok(Some(chunk)),
        }
    }

    /// The distribution-spec has `first-last`, RFC 9110 puts the unit before it and the whole size behind.
    fn parse(value: &str) -> Option<Self> {
        let value = value.trim_ascii();
        let value = value.strip_prefix("bytes").map_or(value, str::trim_ascii_start);
        let value = value.split_once('/').map_or(value, |(range, _)| range);
        let (first, last) = value.split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse::<u64>().ok() } else { None }
        };
        let (start, last) = (number(first)?, number(last)?);
        let length = last.checked_sub(start)?.checked_add(1)?;
        Some(Self { start, length })
    }

    #[cold]
    pub(super) fn differs(self, found: u64) -> Refusal {
        let message = format!(
            "the chunk has another length than its Content-Range, expected={}, found={found}",
            self.length
        );
        Refusal::bad_request(Code::SizeInvalid, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_a_unit() {
        let chunk = |start, length| Some(Chunk { start, length });
        for (value, expected) in [
            ("0-0", chunk(0, 1)),
            ("1024-2047", chunk(1024, 1024)),
            ("bytes 0-9", chunk(0, 10)),
            ("bytes 0-9/100", chunk(0, 10)),
            ("bytes 5-9/*", chunk(5, 5)),
            ("0-18446744073709551614", chunk(0, u64::MAX)),
            ("0-18446744073709551615", None),
            ("0-18446744073709551616", None),
            ("2-1", None),
            ("+0-1", None),
            ("0-", None),
            ("-5", None),
            ("0--1", None),
            ("bytes */100", None),
            ("", None),
        ] {
            assert_eq!(Chunk::parse(value), expected, "{value}");
        }
    }
}
