//! What a name or an annotation says about what an artifact is attached to. There are several encodings beside the
//! `subject` of a manifest, which alone makes an edge of the graph; everything here is a hint.

use std::fmt;

use super::Annotations;
use crate::digest::Digest;

/// The digest of the subject, on an entry that containerd wrote.
pub const CONTAINERD_SUBJECT: &str = "io.containerd.manifest.subject";

/// The digest of the subject, on an entry of an index that lists its referrers: image-spec pull request 1171 and
/// olareg, now and before.
pub const RESPONSE_SUBJECT: [&str; 2] =
    ["org.opencontainers.image.referrer.subject", "org.olareg.referrer.subject"];

/// What cosign and hauler say an entry is.
pub const KIND: &str = "kind";

/// The digest of the image that an attestation of `BuildKit` is about, within one index.
pub const BUILDKIT_SUBJECT: &str = "vnd.docker.reference.digest";

/// The longest encoded digest in a tag of the referrers tag schema (distribution-spec).
const MAX_ENCODED: usize = 64;

/// The prefixes of the kinds of hauler, now and as it had them from cosign.
const KINDS: [&str; 2] = ["dev.hauler/", "dev.cosignproject.cosign/"];

/// How something says what it is attached to.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Encoding {
    /// An index under the tag `<algorithm>-<encoded>` lists it (distribution-spec, referrers tag schema).
    FallbackTag,
    /// Its tag is `<algorithm>-<encoded>.sig`, `.att` or `.sbom`.
    CosignTag,
    /// The entry of an index that lists it has one of [`RESPONSE_SUBJECT`].
    ResponseAnnotation,
    /// Its entry has [`CONTAINERD_SUBJECT`].
    ContainerdAnnotation,
    /// Its entry has a [`KIND`] of an attachment, and the name of the subject.
    KindAnnotation,
    /// It is in one index with its subject and has [`BUILDKIT_SUBJECT`].
    BuildKit,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FallbackTag => "fallback tag",
            Self::CosignTag => "cosign tag",
            Self::ResponseAnnotation => "referrers annotation",
            Self::ContainerdAnnotation => "containerd annotation",
            Self::KindAnnotation => "kind annotation",
            Self::BuildKit => "buildkit annotation",
        })
    }
}

/// The subject of a hint.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The content of this digest.
    Digest(Digest),
    /// The content whose digest has this algorithm and begins with this encoded part: a tag cuts long ones.
    Prefix(String, String),
    /// The entry that goes by the same name.
    SameName,
}

/// A hint: what something says that it is attached to.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attached {
    /// What it is attached to.
    pub subject: Subject,
    /// How it says so.
    pub encoding: Encoding,
}

impl Attached {
    /// What a tag says.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        let (stem, encoding) = match tag.rsplit_once('.') {
            Some((stem, "sig" | "att" | "sbom")) => (stem, Encoding::CosignTag),
            Some(_) => return None,
            None => (tag, Encoding::FallbackTag),
        };
        let (algorithm, encoded) = stem.split_once('-')?;
        let hex = encoded.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let subject = match format!("{algorithm}:{encoded}").parse() {
            Ok(digest) => Subject::Digest(digest),
            Err(_) if hex && encoded.len() == MAX_ENCODED && algorithm == "sha512" => {
                Subject::Prefix(algorithm.into(), encoded.into())
            }
            Err(_) => return None,
        };
        Some(Self { subject, encoding })
    }

    /// What the annotations of an entry say.
    #[must_use]
    pub fn of_annotations(annotations: &Annotations) -> Option<Self> {
        let digest = |key: &str| annotations.get(key)?.parse().ok().map(Subject::Digest);
        if let Some(subject) = RESPONSE_SUBJECT.into_iter().find_map(digest) {
            return Some(Self { subject, encoding: Encoding::ResponseAnnotation });
        }
        if let Some(subject) = digest(CONTAINERD_SUBJECT) {
            return Some(Self { subject, encoding: Encoding::ContainerdAnnotation });
        }
        if let Some(subject) = digest(BUILDKIT_SUBJECT) {
            return Some(Self { subject, encoding: Encoding::BuildKit });
        }
        let kind = annotations.get(KIND)?;
        let kind = KINDS.into_iter().find_map(|prefix| kind.strip_prefix(prefix))?;
        // Behind the slash of the last is the digest of the artifact itself, so that each is a kind of its own.
        let attached =
            matches!(kind, "sigs" | "atts" | "sboms") || kind.split('/').next() == Some("referrers");
        attached.then_some(Self { subject: Subject::SameName, encoding: Encoding::KindAnnotation })
    }
}

/// The tags under which there may be something that is attached to a manifest, with the encoding that each is of.
#[must_use]
pub fn tags_for(subject: &Digest) -> Vec<(String, Encoding)> {
    let encoded = subject.encoded().to_string();
    let algorithm = subject.algorithm();
    let cut = encoded.get(..MAX_ENCODED).unwrap_or(&encoded);
    let mut tags = vec![(format!("{algorithm}-{cut}"), Encoding::FallbackTag)];
    tags.extend(
        ["sig", "att", "sbom"].map(|end| (format!("{algorithm}-{encoded}.{end}"), Encoding::CosignTag)),
    );
    tags.retain(|(tag, _)| tag.len() <= super::Tag::MAX_LEN);
    tags
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Algorithm;

    fn of(annotations: &[(&str, &str)]) -> Option<Attached> {
        let all = annotations.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        Attached::of_annotations(&all.collect())
    }

    #[test]
    fn tags() {
        let digest = Digest::of(b"x");
        let stem = digest.to_string().replace(':', "-");
        let of = |tag: &str| Attached::of_tag(tag);
        let expected = |encoding| Some(Attached { subject: Subject::Digest(digest), encoding });
        assert_eq!(of(&stem), expected(Encoding::FallbackTag));
        for end in ["sig", "att", "sbom"] {
            assert_eq!(of(&format!("{stem}.{end}")), expected(Encoding::CosignTag));
        }
        let short = stem.strip_suffix(|_: char| true).unwrap();
        for not in [
            "v1",
            "sha256-",
            "sha256-beef",
            short,
            &format!("{stem}.txt"),
            &format!("{stem}a"),
            &stem.to_uppercase(),
            &stem.replace('-', ":"),
            &format!("md5-{}", "0".repeat(32)),
        ] {
            assert_eq!(of(not), None, "{not}");
        }
    }

    #[test]
    fn long_digests_are_cut() {
        let digest = Algorithm::Sha512.digest(b"x");
        let encoded = digest.encoded().to_string();
        let tags = tags_for(&digest);
        let (tag, encoding) = tags.first().unwrap();
        assert_eq!((tag.len(), *encoding), (71, Encoding::FallbackTag));
        let subject = Subject::Prefix("sha512".into(), encoded.get(..64).unwrap().into());
        assert_eq!(Attached::of_tag(tag).unwrap().subject, subject);
        // 7 and 128 are more than a tag may have.
        assert_eq!(tags.len(), 1);
    }

    #[test]
    fn annotations() {
        let digest = Digest::of(b"x").to_string();
        let subject = Subject::Digest(Digest::of(b"x"));
        for (key, encoding) in [
            (RESPONSE_SUBJECT[0], Encoding::ResponseAnnotation),
            (RESPONSE_SUBJECT[1], Encoding::ResponseAnnotation),
            (CONTAINERD_SUBJECT, Encoding::ContainerdAnnotation),
            (BUILDKIT_SUBJECT, Encoding::BuildKit),
        ] {
            assert_eq!(of(&[(key, &digest)]), Some(Attached { subject: subject.clone(), encoding }), "{key}");
            assert_eq!(of(&[(key, "sha256:../..")]), None, "{key}");
        }
        for prefix in KINDS {
            for kind in ["sigs", "atts", "sboms", "referrers", "referrers/0123"] {
                let found = of(&[(KIND, &format!("{prefix}{kind}"))]).unwrap();
                assert_eq!(found.subject, Subject::SameName, "{kind}");
                assert_eq!(found.encoding, Encoding::KindAnnotation, "{kind}");
            }
            for kind in ["image", "imageIndex", "", "sigsx"] {
                assert_eq!(of(&[(KIND, &format!("{prefix}{kind}"))]), None, "{kind}");
            }
        }
        assert_eq!(of(&[(KIND, "sigs"), ("a", &digest)]), None);
    }

    proptest! {
        #[test]
        fn every_tag_for_a_subject_says_so(content in prop::collection::vec(any::<u8>(), 0..9), long in any::<bool>()) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let subject = algorithm.digest(&content);
            for (tag, encoding) in tags_for(&subject) {
                let found = Attached::of_tag(&tag).unwrap();
                prop_assert!(tag.parse::<super::super::Tag>().is_ok());
                prop_assert_eq!(found.encoding, encoding);
                match found.subject {
                    Subject::Digest(digest) => prop_assert_eq!(digest, subject),
                    Subject::Prefix(algorithm, start) => {
                        let prefix = format!("{algorithm}:{start}");
                        prop_assert!(subject.to_string().starts_with(&prefix));
                    }
                    Subject::SameName => prop_assert!(false),
                }
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,100}") {
            let _ = Attached::of_tag(&text);
            let _ = of(&[(KIND, &text), (CONTAINERD_SUBJECT, &text)]);
        }
    }
}
