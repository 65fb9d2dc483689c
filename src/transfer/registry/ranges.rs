//! Where bytes begin and end: `Content-Range` of a part that came, `Range` of an upload session.

/// What a part of content says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Of the whole content, if it is said.
    pub(super) total: Option<u64>,
}

/// Reads `bytes FIRST-LAST/TOTAL`, where the total may be `*`; None for anything else, and for what contradicts itself.
pub(super) fn content_range(value: &str) -> Option<ContentRange> {
    let rest = value.trim_ascii().strip_prefix("bytes")?.strip_prefix([' ', '='])?;
    let (range, total) = rest.trim_ascii_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some(ContentRange { first, last, total })
}

/// How many bytes an upload session has: `0-LAST`, with `bytes=` before it or not. `0-0` of a session that nothing came to yet
/// cannot be told from that of one byte, so it is both: whoever asks knows what it sent.
pub(super) fn uploaded(value: &str) -> Option<u64> {
    let value = value.trim_ascii();
    let value = value.strip_prefix("bytes=").or_else(|| value.strip_prefix("bytes ")).unwrap_or(value);
    let (first, last) = value.split_once('-')?;
    let last = number(last)?;
    (number(first)? == 0).then(|| last.checked_add(1))?
}

/// Decimal digits and nothing else.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        for (text, expected) in [
            ("bytes 0-0/1", range(0, 0, Some(1))),
            ("bytes 5-9/10", range(5, 9, Some(10))),
            ("bytes 5-9/*", range(5, 9, None)),
            (" bytes 5-9/10 ", range(5, 9, Some(10))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes -5-9/10", None),
            ("bytes +5-9/10", None),
            ("5-9/10", None),
            ("bytes 0-18446744073709551616/*", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }

    #[test]
    fn sessions() {
        for (text, expected) in [
            ("0-0", Some(1)),
            ("0-1023", Some(1024)),
            ("bytes=0-9", Some(10)),
            ("0--1", None),
            ("1-9", None),
            ("9", None),
            ("", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(uploaded(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,30}|(bytes )?[0-9*/=-]{0,30}") {
            uploaded(&text);
            if let Some(range) = content_range(&text) {
                prop_assert!(range.first <= range.last);
            }
        }
    }
}
