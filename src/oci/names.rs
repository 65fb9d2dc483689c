//! Which entry of a layout a text means. Tools write names in many ways: a tag, `repository:tag` with or without the
//! host, a full reference, or a name in an annotation of their own.

use super::layout::REF_NAME;
use super::{Annotations, Tag};
use crate::digest::Digest;

/// The full name of an image, as containerd, docker and hauler annotate it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// The reference that hauler got an artifact by.
pub const ORIGINAL_REF: &str = "hauler.dev/original-ref";

/// The name of the image that this one was built from; old tools put an image's own name there.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// An entry with the names that it goes by.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// The name as it stands in the layout; empty if it has none.
    pub name: String,
    /// Further names, from annotations.
    pub others: Vec<String>,
    /// What is named.
    pub digest: Digest,
}

impl Named {
    /// An entry that goes by one name.
    #[must_use]
    pub fn new(name: impl Into<String>, digest: Digest) -> Self {
        Self { name: name.into(), others: Vec::new(), digest }
    }

    /// The same with the names that annotations give it.
    #[must_use]
    pub fn with_annotations(mut self, annotations: &Annotations) -> Self {
        self.others = other_names(&self.name, annotations).map(ToOwned::to_owned).collect();
        self
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [self.name.as_str()].into_iter().chain(self.others.iter().map(String::as_str))
    }
}

/// What a text means among some entries.
#[expect(clippy::exhaustive_enums, reason = "none, one or several; there is no fourth case")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Meaning<T> {
    /// Nothing.
    None,
    /// This one.
    One(T),
    /// Several, equally well.
    Ambiguous(Vec<T>),
}

/// How a text fits a name, best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fit {
    Exact,
    Annotated,
    Familiar,
    Suffix,
}

/// Finds the entry that a text means: the one of that very name; else the one that an annotation gives that name; else
/// the one whose name means the same to docker (`x:1` is `docker.io/library/x:1`); else the one with that tag in any
/// repository. The first of these rules that fits anything decides, and only among entries of one digest.
pub fn meaning<'a>(text: &str, entries: &'a [Named]) -> Meaning<&'a Named> {
    let mut best: Option<Fit> = None;
    let mut found: Vec<&Named> = Vec::new();
    for entry in entries {
        let Some(fit) = fit(text, entry) else { continue };
        if best.is_none_or(|best| fit < best) {
            best = Some(fit);
            found.clear();
        }
        if best == Some(fit) && found.iter().all(|other| other.digest != entry.digest) {
            found.push(entry);
        }
    }
    match (found.pop(), found.is_empty()) {
        (None, _) => Meaning::None,
        (Some(one), true) => Meaning::One(one),
        (Some(last), false) => {
            found.push(last);
            Meaning::Ambiguous(found)
        }
    }
}

/// Whether a text may mean an entry.
pub(crate) fn fits(text: &str, entry: &Named) -> bool {
    fit(text, entry).is_some()
}

fn fit(text: &str, entry: &Named) -> Option<Fit> {
    if text.is_empty() {
        return None;
    }
    if entry.name == text {
        return Some(Fit::Exact);
    }
    if entry.others.iter().any(|name| name == text) {
        return Some(Fit::Annotated);
    }
    let wanted = canonical(text);
    if wanted.is_some() && entry.names().any(|name| canonical(name) == wanted) {
        return Some(Fit::Familiar);
    }
    let ends = |name: &str| name.strip_suffix(text).is_some_and(|rest| rest.ends_with(':'));
    (text.parse::<Tag>().is_ok() && entry.names().any(ends)).then_some(Fit::Suffix)
}

/// The names that annotations give an entry, other than `name`. The name of the base image is one only where there is no
/// other at all: everywhere else it is that of another image.
pub fn other_names<'a>(name: &str, annotations: &'a Annotations) -> impl Iterator<Item = &'a str> + use<'a> {
    let get = |key| annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
    let mut names: Vec<&str> = [get(IMAGE_NAME), get(ORIGINAL_REF)].into_iter().flatten().collect();
    if names.is_empty() && name.is_empty() && get(REF_NAME).is_none() {
        names.extend(get(BASE_NAME));
    }
    names.retain(|other| *other != name);
    names.dedup();
    names.into_iter()
}

const HUB: &str = "docker.io";
/// What docker wrote instead of [`HUB`] once.
const OLD_HUB: &str = "index.docker.io";
/// Where the images of [`HUB`] are that have one component only.
const LIBRARY: &str = "library";

/// The full form of a reference with a tag or a digest; None for a bare tag, a path, or anything else without either.
fn canonical(name: &str) -> Option<String> {
    let (path, version) = split_version(name)?;
    let (host, path) = match path.split_once('/') {
        Some((host, rest)) if is_host(host) => (host, rest),
        _ => (HUB, path),
    };
    if path.is_empty() {
        return None;
    }
    let host = if host == OLD_HUB { HUB } else { host };
    let library = if host == HUB && !path.contains('/') { "library/" } else { "" };
    Some(format!("{host}/{library}{path}{version}"))
}

/// Every text that means the same to docker as `name`, itself first; only itself if it has neither tag nor digest.
#[must_use]
pub fn spellings(name: &str) -> Vec<String> {
    let mut spellings = vec![name.to_owned()];
    let Some(canonical) = canonical(name) else { return spellings };
    let short = canonical.strip_prefix(HUB).and_then(|rest| rest.strip_prefix('/'));
    let mut paths: Vec<&str> = short.into_iter().collect();
    paths.extend(
        short
            .and_then(|short| short.strip_prefix(LIBRARY)?.strip_prefix('/'))
            .filter(|rest| split_version(rest).is_some_and(|(path, _)| !path.contains('/'))),
    );
    spellings.push(canonical.clone());
    for path in paths {
        spellings.extend([path.to_owned(), format!("{HUB}/{path}"), format!("{OLD_HUB}/{path}")]);
    }
    // What is cut off may leave a first component that is itself taken for a host.
    spellings.retain(|spelling| self::canonical(spelling).as_ref() == Some(&canonical));
    let mut seen = std::collections::BTreeSet::new();
    spellings.retain(|spelling| seen.insert(spelling.clone()));
    spellings
}

/// The path, and the tag or digest with the sign before it.
fn split_version(name: &str) -> Option<(&str, &str)> {
    let at = match name.find('@') {
        Some(at) => at,
        None => name.rfind(':').filter(|at| !name.get(*at..).unwrap_or_default().contains('/'))?,
    };
    let (path, version) = name.split_at_checked(at)?;
    (!path.is_empty() && version.len() > 1).then_some((path, version))
}

/// What docker takes the first component for: a host has a dot or a port, or is `localhost`.
fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn named(names: &[(&str, u8)]) -> Vec<Named> {
        names.iter().map(|(name, n)| Named::new(*name, digest(*n))).collect()
    }

    fn names<'a>(meaning: &Meaning<&'a Named>) -> Vec<&'a str> {
        match meaning {
            Meaning::None => Vec::new(),
            Meaning::One(one) => vec![one.name.as_str()],
            Meaning::Ambiguous(several) => several.iter().map(|entry| entry.name.as_str()).collect(),
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let mut entries = named(&[
            ("v1", 1),
            ("docker.io/library/x:1", 2),
            ("host:5000/app:v1", 3),
            ("host:5000/app:v2", 4),
            ("", 5),
            ("other/app:v3", 6),
            ("app:v3", 7),
            ("/tmp/image", 8),
        ]);
        for (at, annotation) in [(4, "docker.io/library/y:1"), (5, "docker.io/library/z:1")] {
            let annotations = Annotations::from([(IMAGE_NAME.to_owned(), annotation.to_owned())]);
            let entry: &mut Named = entries.get_mut(at).unwrap();
            *entry = entry.clone().with_annotations(&annotations);
        }
        for (text, expected) in [
            ("v1", &["v1"][..]),
            ("x:1", &["docker.io/library/x:1"]),
            ("library/x:1", &["docker.io/library/x:1"]),
            ("index.docker.io/library/x:1", &["docker.io/library/x:1"]),
            ("host:5000/app:v1", &["host:5000/app:v1"]),
            ("v2", &["host:5000/app:v2"]),
            ("docker.io/library/y:1", &[""]),
            ("y:1", &[""]),
            ("docker.io/library/z:1", &["other/app:v3"]),
            ("v3", &["other/app:v3", "app:v3"]),
            ("app:v3", &["app:v3"]),
            ("/tmp/image", &["/tmp/image"]),
            ("", &[]),
            ("x", &[]),
            ("p:v2", &[]),
            ("library:v1", &[]),
            ("host/app:v1", &[]),
            (":v1", &[]),
        ] {
            assert_eq!(names(&meaning(text, &entries)), expected, "{text}");
        }
    }

    #[test]
    fn an_annotation_comes_before_a_spelling() {
        let annotations = Annotations::from([(IMAGE_NAME.to_owned(), "x:1".to_owned())]);
        let annotated = Named::new("other", digest(1)).with_annotations(&annotations);
        let entries = [Named::new("docker.io/library/x:1", digest(2)), annotated];
        assert_eq!(names(&meaning("x:1", &entries)), ["other"]);
        assert_eq!(names(&meaning("library/x:1", &entries)), ["docker.io/library/x:1", "other"]);
    }

    #[test]
    fn one_digest_is_one_meaning() {
        let entries = named(&[("a:v1", 1), ("b:v1", 1), ("v2", 1), ("v2", 1), ("v3", 1), ("v3", 2)]);
        assert_eq!(names(&meaning("v1", &entries)), ["a:v1"]);
        assert_eq!(names(&meaning("v2", &entries)), ["v2"]);
        assert_eq!(names(&meaning("v3", &entries)), ["v3", "v3"]);
    }

    #[test]
    fn the_base_image_is_another_one() {
        let base = (BASE_NAME.to_owned(), "docker.io/library/alpine:3".to_owned());
        let only_base = Annotations::from([base.clone()]);
        assert_eq!(other_names("", &only_base).collect::<Vec<_>>(), ["docker.io/library/alpine:3"]);
        assert_eq!(other_names("v1", &only_base).count(), 0);
        let both = Annotations::from([base, (ORIGINAL_REF.to_owned(), "app:1".to_owned())]);
        assert_eq!(other_names("", &both).collect::<Vec<_>>(), ["app:1"]);
    }

    #[test]
    fn spelled_in_every_way() {
        let mut found = spellings("x:1");
        found.sort();
        assert_eq!(
            found,
            [
                "docker.io/library/x:1",
                "docker.io/x:1",
                "index.docker.io/library/x:1",
                "index.docker.io/x:1",
                "library/x:1",
                "x:1"
            ]
        );
        for (a, b) in [("a/b:1", "docker.io/a/b:1"), ("x@sha256:aa", "docker.io/library/x@sha256:aa")] {
            assert!(spellings(a).contains(&b.to_owned()) && spellings(b).contains(&a.to_owned()), "{a}");
        }
        for alone in ["v1", "host:5000/x", "/tmp/a", "quay.io/a:1", "localhost/a:1", ":", "a:", "@", ""] {
            assert_eq!(spellings(alone), [alone], "{alone}");
        }
        // Without the host its first component would be one.
        assert!(!spellings("docker.io/a.b/c:1").contains(&"a.b/c:1".to_owned()));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,30}", name in "\\PC{0,30}") {
            let _ = meaning(&text, &named(&[(&name, 1)]));
            let all = spellings(&text);
            prop_assert_eq!(all.first(), Some(&text));
        }

        #[test]
        fn spellings_are_those_of_equal_meaning(
            a in "((index\\.)?docker\\.io/|quay\\.io/|localhost/)?(library/)?[ab]{1,2}(/[ab])?:[12]",
            b in "((index\\.)?docker\\.io/|quay\\.io/|localhost/)?(library/)?[ab]{1,2}(/[ab])?:[12]",
        ) {
            let same = canonical(&a) == canonical(&b);
            prop_assert_eq!(spellings(&a).contains(&b), same);
            prop_assert_eq!(spellings(&b).contains(&a), same);
            let entries = [Named::new(b.clone(), digest(1))];
            prop_assert_eq!(meaning(&a, &entries) != Meaning::None, same);
        }
    }
}
