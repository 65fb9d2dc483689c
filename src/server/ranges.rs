//! Which part of a content a request wants (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` header comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// The whole: nothing was asked for, or nothing that is answered by parts.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that there are not: 416.
    Nothing,
}

impl Wanted {
    /// What a header asks for of a content of `size` bytes.
    ///
    /// A unit other than bytes is ignored, and so are several ranges, which may be answered with the whole. One range of bytes
    /// that cannot be read as one is refused instead: whoever asks for a part has no use for all of it. Of an empty content
    /// there is no part that could be told, so that is sent whole.
    pub(super) fn of(header: &str, size: u64) -> Self {
        let Some((unit, ranges)) = header.split_once('=') else { return Self::Whole };
        if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
            return Self::Whole;
        }
        let Some((first, last)) = ranges.trim().split_once('-') else { return Self::Nothing };
        let (start, end) = match (first, last) {
            // The last bytes, or all if there are not so many.
            ("", count) => match position(count) {
                Some(count) => (size.saturating_sub(count), size),
                None => return Self::Nothing,
            },
            (first, "") => match position(first) {
                Some(first) => (first, size),
                None => return Self::Nothing,
            },
            (first, last) => match (position(first), position(last)) {
                (Some(first), Some(last)) if first <= last => (first, size.min(last.saturating_add(1))),
                _ => return Self::Nothing,
            },
        };
        match size {
            0 => Self::Whole,
            _ if start < end => Self::Part(start..end),
            _ => Self::Nothing,
        }
    }
}

/// A number of bytes; one beyond what can be counted is beyond every content.
fn position(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clipped_refused_or_ignored() {
        for (header, expected) in [
            ("bytes=500-1499", Wanted::Part(500..1500)),
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2047-2047", Wanted::Part(2047..2048)),
            ("bytes=500-", Wanted::Part(500..2048)),
            ("bytes=-500", Wanted::Part(1548..2048)),
            ("bytes=-5000", Wanted::Part(0..2048)),
            ("bytes=2000-5000", Wanted::Part(2000..2048)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..2048)),
            ("bytes=-99999999999999999999999", Wanted::Part(0..2048)),
            ("Bytes = 1-2 ", Wanted::Part(1..3)),
            ("bytes=500-0", Wanted::Nothing),
            ("bytes=2048-", Wanted::Nothing),
            ("bytes=5000-10000", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=18446744073709551615-18446744073709551615", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=-", Wanted::Nothing),
            ("bytes=", Wanted::Nothing),
            ("bytes=5", Wanted::Nothing),
            ("bytes=a-b", Wanted::Nothing),
            ("bytes=+1-2", Wanted::Nothing),
            ("bytes=1-2-3", Wanted::Nothing),
            ("bytes=1 - 2", Wanted::Nothing),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes 0-1", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(Wanted::of(header, 2048), expected, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-10", "bytes=-5"] {
            assert_eq!(Wanted::of(header, 0), Wanted::Whole, "{header} of nothing");
        }
        assert_eq!(Wanted::of("bytes=5-1", 0), Wanted::Nothing);
        assert_eq!(
            Wanted::of("bytes=0-18446744073709551615", u64::MAX),
            Wanted::Part(0..u64::MAX),
            "the end does not overflow"
        );
    }
}
