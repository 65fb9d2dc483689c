//! Names: tags, repositories, and what either a tag or a digest can be written as (distribution-spec, `spec.md`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::digest::{Digest, excerpt};
use crate::error::{Error, Result};

/// A name that a repository gives to one of its manifests: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Ordered by bytes; cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The longest tag, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fits(value: &str) -> bool {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        value.len() <= Self::MAX_LEN
            && value.bytes().next().is_some_and(word)
            && value.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self> {
        if Self::fits(value) {
            return Ok(Self(value.into()));
        }
        Err(Error::invalid(format!(
            "tag breaks the rule [a-zA-Z0-9_][a-zA-Z0-9._-]{{0,127}}, tag={}",
            excerpt(value)
        )))
    }
}

/// The name of a repository, or the empty name of the default one. Ordered by bytes; cheap to clone.
///
/// A name is of at most 255 bytes, in components between slashes; a component is lower-case letters and digits with
/// single separators `.`, `_`, `__` or dashes inside. The unnamed repository cannot be parsed, only asked for;
/// serde, where a name must be written down, takes the empty string for it.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name of the default repository, which is empty.
    #[must_use]
    pub fn unnamed() -> Self {
        Self("".into())
    }

    /// Whether this is the default repository.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.0.is_empty()
    }

    /// The name as text, empty for the default repository.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fits(value: &str) -> bool {
        value.len() <= Self::MAX_LEN && value.split('/').all(component_fits)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn component_fits(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    // Splitting at the words leaves the separators, with an empty one at either end if a word stands there.
    let (Some(first), Some(last)) = (component.chars().next(), component.chars().next_back()) else {
        return false;
    };
    let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    word(first) && word(last) && component.split(word).all(separator)
}

impl Default for RepositoryName {
    fn default() -> Self {
        Self::unnamed()
    }
}

impl FromStr for RepositoryName {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self> {
        if Self::fits(value) {
            return Ok(Self(value.into()));
        }
        Err(Error::invalid(format!(
            "repository name breaks the rule of at most 255 bytes in components \
             [a-z0-9]+((.|_|__|-+)[a-z0-9]+)* between slashes, repository={}",
            excerpt(value)
        )))
    }
}

/// Names one manifest of a repository: by a tag, which can move, or by a digest, which cannot.
#[expect(clippy::exhaustive_enums, reason = "the distribution-spec knows no third")]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reference {
    /// By name.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = Error;

    /// With a colon it is a digest, since no tag has one; otherwise a tag.
    fn from_str(value: &str) -> Result<Self> {
        if value.contains(':') { Ok(Self::Digest(value.parse()?)) } else { Ok(Self::Tag(value.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// What both kinds of name share: they are texts that were checked once.
macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

text!(Tag);
text!(RepositoryName);

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = String::deserialize(deserializer)?;
        if value.is_empty() { Ok(Self::unnamed()) } else { value.parse().map_err(de::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn refused<T: FromStr<Err = Error> + fmt::Debug>(value: &str) {
        let error = value.parse::<T>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{value}");
        assert!(error.to_string().ends_with(&excerpt(value).to_string()), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
    }

    #[test]
    fn tags() {
        for good in ["a", "_", "9", "V1.0", "latest", "a..b", "a-", "_-.", &"x".repeat(128)] {
            assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
        }
        for bad in
            ["", ".", "-", ".a", "-a", "a b", "a/b", "a:b", "a@b", "a\n", "\u{e9}", "..", &"x".repeat(129)]
        {
            refused::<Tag>(bad);
        }
    }

    #[test]
    fn repositories() {
        let slashes = ["a"; 128].join("/");
        assert_eq!(slashes.len(), 255);
        for good in [
            "a",
            "0",
            "a/b",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "docker.io/library/busybox",
            "a/blobs/c",
            &slashes,
        ] {
            let name = good.parse::<RepositoryName>().unwrap();
            assert_eq!(name.as_str(), good);
            assert!(!name.is_unnamed());
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a..b",
            "a/..",
            "a/../b",
            "a.",
            ".a",
            "_",
            "a_",
            "_a",
            "a___b",
            "-a",
            "a-",
            "a._b",
            "a-_b",
            "a.-b",
            "A",
            "a/B",
            "a:b",
            "a@b",
            "a b",
            "a\0b",
            "\u{e9}",
            &"a".repeat(256),
        ] {
            refused::<RepositoryName>(bad);
        }
    }

    #[test]
    fn unnamed() {
        let unnamed = RepositoryName::default();
        assert!(unnamed.is_unnamed());
        assert_eq!(unnamed.to_string(), "");
        assert!(unnamed < "0".parse().unwrap());
        assert_eq!(serde_json::to_string(&unnamed).unwrap(), "\"\"");
        assert_eq!(serde_json::from_str::<RepositoryName>("\"\"").unwrap(), unnamed);
        assert!(serde_json::from_str::<RepositoryName>("\"A\"").is_err());
        assert!(serde_json::from_str::<Tag>("\"\"").is_err());
    }

    #[test]
    fn references() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse::<Reference>().unwrap(), digest.into());
        assert_eq!("v1".parse::<Reference>().unwrap(), "v1".parse::<Tag>().unwrap().into());
        for value in [digest.to_string(), "v1".into()] {
            assert_eq!(value.parse::<Reference>().unwrap().to_string(), value);
        }
        for bad in ["", ":", "a:b", "sha256:", "-", "a/b"] {
            refused::<Reference>(bad);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_back(value in "\\PC{0,40}") {
            if let Ok(tag) = value.parse::<Tag>() {
                prop_assert_eq!(tag.to_string(), value.clone());
            }
            if let Ok(name) = value.parse::<RepositoryName>() {
                prop_assert_eq!(name.to_string(), value.clone());
            }
            if let Ok(reference) = value.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), value);
            }
        }

        #[test]
        fn the_grammar_is_taken(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", name in GRAMMAR) {
            prop_assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag);
            prop_assume!(name.len() <= RepositoryName::MAX_LEN);
            let parsed = name.parse::<RepositoryName>().unwrap();
            let json = serde_json::to_string(&parsed).unwrap();
            prop_assert_eq!(serde_json::from_str::<RepositoryName>(&json).unwrap(), parsed);
        }
    }

    const GRAMMAR: &str = r"[a-z0-9]{1,9}((\.|_|__|-{1,5})[a-z0-9]{1,9}){0,2}(/[a-z0-9]{1,9}((\.|_|__|-{1,3})[a-z0-9]{1,9}){0,2}){0,3}";
}
