//! Patterns of tags: `*` for any text, `?` for one character, everything else for itself.

use std::fmt;
use std::str::FromStr;

use crate::digest::excerpt;
use crate::error::{Error, Result};

/// A pattern that a whole tag matches or not: `*` stands for any text, an empty one too, `?` for one character, and
/// everything else for itself.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// let releases: orlop::oci::TagPattern = "v*.?".parse()?;
/// assert!(releases.matches("v1.0") && releases.matches("v.x") && !releases.matches("v1.10"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TagPattern(String);

/// No tag is longer.
const MAX_LEN: usize = 128;

impl TagPattern {
    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all of `tag` matches.
    #[must_use]
    pub fn matches(&self, tag: &str) -> bool {
        let (mut pattern, mut text) = (self.0.as_bytes(), tag.as_bytes());
        // Behind the last `*`, and what of the text it does not cover yet: only the last one ever needs to cover more.
        let mut star: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern, text) {
                ([b'*', rest @ ..], _) => {
                    star = Some((rest, text));
                    pattern = rest;
                }
                ([wanted, rest @ ..], [found, more @ ..]) if *wanted == b'?' || wanted == found => {
                    (pattern, text) = (rest, more);
                }
                ([], []) => return true,
                _ => match star {
                    Some((rest, [_, more @ ..])) => {
                        star = Some((rest, more));
                        (pattern, text) = (rest, more);
                    }
                    _ => return false,
                },
            }
        }
    }
}

impl FromStr for TagPattern {
    type Err = Error;

    /// Reads a pattern. `Invalid` for one that no tag could match because of its characters, and for one of more than 128.
    fn from_str(text: &str) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-*?".contains(&b);
        if text.is_empty() || text.len() > MAX_LEN || !text.bytes().all(fits) {
            return Err(Error::invalid(format!(
                "not a pattern of tags: up to {MAX_LEN} letters, digits, _ . - * and ?, pattern={}",
                excerpt(text)
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_covers_the_whole_tag() {
        let table = [
            ("v1", "v1", true),
            ("v1", "v10", false),
            ("v1", "xv1", false),
            ("v1", "V1", false),
            ("*", "", true),
            ("*", "latest", true),
            ("v*", "v", true),
            ("v*", "av", false),
            ("*-rc?", "1.0-rc1", true),
            ("*-rc?", "1.0-rc10", false),
            ("*-rc*", "1.0-rc10", true),
            ("?", "", false),
            ("??", "ab", true),
            ("a.c", "abc", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*ab", "aab", true),
            ("**", "x", true),
            ("*?", "", false),
        ];
        for (pattern, tag, expected) in table {
            assert_eq!(pattern.parse::<TagPattern>().unwrap().matches(tag), expected, "{pattern} {tag}");
        }
    }

    #[test]
    fn what_no_tag_could_match_is_refused() {
        for text in ["", "a b", "a/b", "team:v*", "[ab]", "v\u{e9}", &"x".repeat(MAX_LEN + 1)] {
            let error = text.parse::<TagPattern>().unwrap_err();
            assert!(error.to_string().contains("pattern="), "{error}");
        }
        assert!("x".repeat(MAX_LEN).parse::<TagPattern>().is_ok());
    }

    #[test]
    fn many_stars_cost_no_more_than_pattern_times_tag() {
        // With backtracking into every star this would not end.
        let pattern: TagPattern = "*a".repeat(64).parse().unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(127))));
    }

    /// The same by trying everything.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                slowly(rest, text) || text.split_first().is_some_and(|(_, more)| slowly(pattern, more))
            }
            (Some((wanted, rest)), Some((found, more))) => {
                (*wanted == b'?' || wanted == found) && slowly(rest, more)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_plain_definition_does(pattern in "[ab*?]{1,8}", tag in "[ab]{0,10}") {
            let parsed: TagPattern = pattern.parse().unwrap();
            prop_assert_eq!(parsed.matches(&tag), slowly(pattern.as_bytes(), tag.as_bytes()));
        }
    }
}
