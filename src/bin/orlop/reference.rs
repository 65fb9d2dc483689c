//! What the arguments name: `oci:DIR[:REF]`, `oci:DIR[:REPOSITORY]@DIGEST`, or an existing directory without `oci:`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use orlop::oci::names::Meaning;
use orlop::oci::{Descriptor, LayoutName, Reference, RepositoryName, Tag};
use orlop::{Algorithm, Digest, ErrorKind, NamedManifest, Repository, Store};

use crate::error::{Exit, Failure};
use crate::near;
use crate::output::plain;
use crate::prefix::Prefix;

const ARCHIVE: &str = "archive";
const A_REGISTRY: &str = "registry";

/// What to do with a registry where a verb takes none.
const REGISTRY: &str = "`orlop cp` carries artifacts between a layout, oci:DIR:TAG, and a registry";

/// What to do with an archive where only directories can be read.
pub(crate) const UNPACK: &str =
    "`orlop import FILE oci:DIR` takes an archive of a layout or of docker into a layout";

const FORMS: &str = "write oci:DIR, oci:DIR:TAG, oci:DIR:REPOSITORY:TAG or oci:DIR@DIGEST";

/// A layout and what of it is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    directory: String,
    pub(crate) selector: Selector,
}

/// What of a layout is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Selector {
    /// The layout itself.
    Layout,
    /// The text behind the directory: a tag, `repository:tag`, a repository, or any name that another tool has given.
    Name(String),
    /// One manifest by its content.
    Digest(RepositoryName, Digest),
    /// The same by the beginning of its digest.
    Prefix(RepositoryName, Prefix),
}

/// A manifest and the repository that it was found in.
pub(crate) struct Found {
    pub(crate) repository: Repository,
    pub(crate) descriptor: Descriptor,
}

impl Found {
    /// The name of the repository and the manifest, without a handle on the store: the last handle closes it.
    pub(crate) fn into_parts(self) -> (RepositoryName, Descriptor) {
        (self.repository.name().clone(), self.descriptor)
    }
}

impl Target {
    /// The directory of the layout.
    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.directory)
    }

    /// The layout as an argument.
    pub(crate) fn layout(&self) -> String {
        format!("oci:{}", self.directory)
    }

    /// What was named, as an argument.
    pub(crate) fn shown(&self) -> String {
        match &self.selector {
            Selector::Layout => self.layout(),
            Selector::Name(name) => format!("{}:{name}", self.layout()),
            Selector::Digest(repository, digest) => self.by_digest(repository, digest),
            Selector::Prefix(repository, prefix) if repository.is_unnamed() => {
                format!("{}@{}", self.layout(), prefix.shown())
            }
            Selector::Prefix(repository, prefix) => {
                format!("{}:{repository}@{}", self.layout(), prefix.shown())
            }
        }
    }

    /// The same with the whole digest where its beginning was given.
    pub(crate) fn expanded(&self, store: &Store) -> Result<Self, Failure> {
        let Selector::Prefix(repository, prefix) = &self.selector else { return Ok(self.clone()) };
        let digest = prefix.expand(store, repository)?;
        let digest = digest.map_or_else(|| Err(self.not_found(store, None)?), Ok)?;
        let selector = Selector::Digest(repository.clone(), digest);
        Ok(Self { directory: self.directory.clone(), selector })
    }

    /// A manifest of this layout as an argument.
    pub(crate) fn by_digest(&self, repository: &RepositoryName, digest: &Digest) -> String {
        if repository.is_unnamed() {
            format!("{}@{digest}", self.layout())
        } else {
            format!("{}:{repository}@{digest}", self.layout())
        }
    }

    /// A tag of this layout as an argument.
    pub(crate) fn by_tag(&self, repository: &RepositoryName, tag: &Tag) -> String {
        format!("{}:{}", self.layout(), LayoutName::of(repository, tag))
    }

    /// Refuses a name behind the directory, for the verbs that work on a whole layout.
    pub(crate) fn whole(&self) -> Result<&Path, Failure> {
        match self.selector {
            Selector::Layout => Ok(self.path()),
            _ => Err(Failure::usage(format!("this verb takes a whole layout, reference={}", self.shown()))
                .with_hint(format!("leave out the name: {}", self.layout()))),
        }
    }

    /// Finds the manifest that is meant. Names that are no `[repository:]tag` are looked up as they stand.
    pub(crate) fn find(&self, store: &Store) -> Result<Found, Failure> {
        match &self.selector {
            Selector::Layout => {
                Err(Failure::usage(format!("no tag or digest was given, reference={}", self.layout()))
                    .with_hint(format!("`orlop ls {}` lists what there is", self.layout())))
            }
            Selector::Digest(name, digest) => {
                let repository = store.repository(name);
                match repository.resolve_reference(&Reference::Digest(*digest))? {
                    Some(descriptor) => Ok(Found { repository, descriptor }),
                    None => Err(self.not_found(store, Some(digest))?),
                }
            }
            Selector::Prefix(..) => self.expanded(store)?.find(store),
            Selector::Name(name) => self.find_name(store, name),
        }
    }

    fn find_name(&self, store: &Store, name: &str) -> Result<Found, Failure> {
        match store.unscoped().find_name(name)? {
            Meaning::One(one) => {
                let repository = store.repository(&one.repository);
                Ok(Found { repository, descriptor: one.descriptor })
            }
            Meaning::None => match store.unscoped().unusable(name)? {
                Some(error) => Err(self.unusable(&error)),
                None => Err(self.not_found(store, None)?),
            },
            Meaning::Ambiguous(several) => Err(self.ambiguous(&several)),
        }
    }

    /// The name is there, but what it names is not, or cannot be trusted.
    fn unusable(&self, error: &orlop::Error) -> Failure {
        let (exit, hint) = match error.kind() {
            ErrorKind::NotFound => {
                (Exit::Incomplete, "take the missing content from where the layout came from")
            }
            ErrorKind::Corrupt => {
                (Exit::Integrity, "copy it again from where it came from; nothing of it was used")
            }
            _ => (Exit::Other, "nothing of it was used; `orlop ls` lists what else there is"),
        };
        let shown = self.shown();
        Failure::new(exit, format!("what index.json names cannot be used, reference={shown}: {error}"))
            .with_hint(hint)
    }

    /// Names everything that could be meant, by digest and by name.
    fn ambiguous(&self, several: &[NamedManifest]) -> Failure {
        let candidates: Vec<String> = several
            .iter()
            .map(|one| {
                format!("{} ({})", self.by_digest(&one.repository, &one.descriptor.digest), plain(&one.name))
            })
            .collect();
        Failure::new(
            Exit::NotFound,
            format!("the name stands for more than one manifest, reference={}", self.shown()),
        )
        .with_hint(format!("give one of them: {}", candidates.join(", ")))
    }

    /// Says where else the digest could be found, since repositories do not show each other's content.
    fn not_found(&self, store: &Store, digest: Option<&Digest>) -> Result<Failure, Failure> {
        let failure = Failure::new(Exit::NotFound, format!("no such reference, reference={}", self.shown()));
        if let Some(digest) = digest
            && let Some(holder) = store.unscoped().holders(digest)?.first()
        {
            return Ok(failure.with_hint(format!("it is in {}", self.by_digest(holder, digest))));
        }
        let near = near::did_you_mean(&near::near(store, self));
        Ok(failure.with_hint(format!("{near}`orlop ls {}` lists what there is", self.layout())))
    }
}

impl FromStr for Target {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        for (scheme, what) in &OTHER_SCHEMES {
            if text.starts_with(*scheme) && !Path::new(text).is_dir() {
                return Err(Failure::usage(format!("this verb takes no {what}, reference={text}"))
                    .with_hint(match *what {
                        ARCHIVE => UNPACK,
                        A_REGISTRY => REGISTRY,
                        _ => FORMS,
                    }));
            }
        }
        if let Some(rest) = text.strip_prefix("oci:").or_else(|| text.strip_prefix("ocidir://")) {
            return split(rest, text);
        }
        if Path::new(text).is_dir() {
            return Ok(Self { directory: text.into(), selector: Selector::Layout });
        }
        let target = split(text, text)?;
        if target.path().is_dir() {
            return Ok(target);
        }
        if is_registry(text) {
            let message = format!("this verb takes no {A_REGISTRY}, reference={text}");
            return Err(Failure::usage(message).with_hint(REGISTRY));
        }
        let failure = Failure::usage(format!("neither oci:DIR nor an existing directory, reference={text}"));
        Err(if is_archive(text) || is_archive(&target.directory) {
            failure.with_hint(UNPACK)
        } else {
            failure.with_hint(format!(
                "a layout in the directory {} is written oci:{text}; it is not there yet",
                target.directory
            ))
        })
    }
}

const OTHER_SCHEMES: [(&str, &str); 9] = [
    ("tar:", ARCHIVE),
    ("oci-archive:", ARCHIVE),
    ("docker-archive:", ARCHIVE),
    ("dir:", "directory of skopeo"),
    ("docker-daemon:", "daemon"),
    ("containers-storage:", "store of containers"),
    ("docker://", A_REGISTRY),
    ("https://", A_REGISTRY),
    ("http://", A_REGISTRY),
];

/// Whether a path is a file, which as a layout can only be an archive.
pub(crate) fn is_archive(path: impl AsRef<Path>) -> bool {
    path.as_ref().is_file()
}

/// Whether a text that names no directory begins with the name of a host, as `localhost:5000/a:v1` does.
fn is_registry(text: &str) -> bool {
    let Some((host, path)) = text.split_once('/') else { return false };
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_host = name == "localhost" || name.trim_start_matches('.').contains('.') || port.is_some();
    is_host && port.is_none_or(is_port) && !path.is_empty() && !Path::new(host).exists()
}

/// Splits `DIR`, `DIR:REF`, `DIR@DIGEST` or `DIR:REPOSITORY@DIGEST`.
pub(crate) fn split(rest: &str, text: &str) -> Result<Target, Failure> {
    let (before, digest) = split_digest(rest)?;
    let (directory, name) = match before.split_once(':') {
        Some((directory, name)) => (directory, Some(name)),
        None => (before, None),
    };
    if directory.is_empty() || name == Some("") {
        let what = if directory.is_empty() { "directory" } else { "name" };
        return Err(
            Failure::usage(format!("reference has an empty {what}, reference={text}")).with_hint(FORMS)
        );
    }
    let unnamed = RepositoryName::unnamed;
    let repository = |name: &str| -> Result<RepositoryName, Failure> {
        if name.contains(':') {
            return Err(Failure::usage(format!("reference has a tag and a digest, reference={text}"))
                .with_hint("give one of them"));
        }
        name.parse().map_err(|error| Failure::usage(format!("{error}")).with_hint(FORMS))
    };
    let selector = match (digest, name) {
        (Ending::None, None) => Selector::Layout,
        (Ending::None, Some(name)) => Selector::Name(name.into()),
        (Ending::Whole(digest), name) => {
            Selector::Digest(name.map_or_else(|| Ok(unnamed()), repository)?, digest)
        }
        (Ending::Prefix(prefix), name) => {
            Selector::Prefix(name.map_or_else(|| Ok(unnamed()), repository)?, prefix)
        }
    };
    Ok(Target { directory: directory.into(), selector })
}

/// What stands behind an `@`.
enum Ending {
    None,
    Whole(Digest),
    Prefix(Prefix),
}

/// Takes the digest off the end. An `@` before anything but a known algorithm belongs to the directory.
fn split_digest(rest: &str) -> Result<(&str, Ending), Failure> {
    if let Some((before, text)) = rest.rsplit_once('@')
        && let Some((algorithm, digits)) = text.split_once(':')
        && let Ok(algorithm) = algorithm.parse::<Algorithm>()
    {
        if let Some(prefix) = Prefix::parse(algorithm, digits) {
            return Ok((before, Ending::Prefix(prefix)));
        }
        let digest = text.parse::<Digest>().map_err(|error| {
            Failure::usage(error.to_string()).with_hint(
                "a digest is its algorithm, a colon and lower-case hexadecimal digits, or the first of them",
            )
        })?;
        return Ok((before, Ending::Whole(digest)));
    }
    Ok((rest, Ending::None))
}

/// Splits what a push writes to, `[REPOSITORY:]TAG[,TAG...]`, into repository and tags.
pub(crate) fn repository_and_tags(target: &Target) -> Result<(RepositoryName, Vec<Tag>), Failure> {
    let name = match &target.selector {
        Selector::Layout => return Ok((RepositoryName::unnamed(), Vec::new())),
        Selector::Name(name) => name,
        Selector::Digest(..) | Selector::Prefix(..) => {
            return Err(Failure::usage(format!(
                "a digest stands where a tag belongs, reference={}",
                target.shown()
            ))
            .with_hint(format!("write {0}:TAG or {0}:REPOSITORY:TAG", target.layout())));
        }
    };
    let (repository, tags) = match name.rsplit_once(':') {
        Some((repository, tags)) => (repository.parse().map_err(|error| usage(&error))?, tags),
        None => (RepositoryName::unnamed(), name.as_str()),
    };
    let mut parsed: Vec<Tag> = Vec::new();
    for tag in tags.split(',') {
        let tag = tag.parse().map_err(|error| {
            let failure = usage(&error);
            match name.parse::<RepositoryName>() {
                Ok(_) => {
                    failure.with_hint(format!("a repository needs a tag as well: {}:TAG", target.shown()))
                }
                Err(_) => failure.with_hint(FORMS),
            }
        })?;
        if !parsed.contains(&tag) {
            parsed.push(tag);
        }
    }
    Ok((repository, parsed))
}

/// An argument that breaks the grammar of tags or repositories.
pub(crate) fn usage(error: &orlop::Error) -> Failure {
    Failure::usage(error.to_string())
}

/// The directory to create: `oci:DIR`, or a path that has no colon.
pub(crate) fn new_directory(text: &str) -> Result<Target, Failure> {
    if !text.contains(':') && !text.is_empty() && !PathBuf::from(text).is_dir() {
        return Ok(Target { directory: text.into(), selector: Selector::Layout });
    }
    text.parse()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn parse(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        let failure = text.parse::<Target>().unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage, "{text}");
        failure.chain()
    }

    #[test]
    fn the_first_colon_ends_the_directory() {
        let digest = format!("sha256:{HEX}");
        let name = |name: &str| Selector::Name(name.into());
        let by_digest = |repository: &str| {
            let name = repository.parse().unwrap_or_else(|_| RepositoryName::unnamed());
            Selector::Digest(name, digest.parse().unwrap())
        };
        let cases = [
            ("oci:dir".into(), "dir", Selector::Layout),
            ("oci:/a/b.c".into(), "/a/b.c", Selector::Layout),
            ("oci:dir:v1".into(), "dir", name("v1")),
            ("ocidir://dir:v1".into(), "dir", name("v1")),
            ("oci:dir:a/b:v1".into(), "dir", name("a/b:v1")),
            ("oci:dir:host:5000/a:v1".into(), "dir", name("host:5000/a:v1")),
            (format!("oci:dir@{digest}"), "dir", by_digest("")),
            (format!("oci:dir:a/b@{digest}"), "dir", by_digest("a/b")),
            ("oci:my@dir:v1".into(), "my@dir", name("v1")),
            ("oci:my@dir".into(), "my@dir", Selector::Layout),
            (format!("oci:my@dir@{digest}"), "my@dir", by_digest("")),
        ];
        for (text, directory, selector) in cases {
            let target = parse(&text);
            assert_eq!(target, Target { directory: directory.into(), selector }, "{text}");
            assert_eq!(target.shown(), text.replace("ocidir://", "oci:"));
        }
    }

    #[test]
    fn an_existing_directory_needs_no_scheme() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().to_str().unwrap();
        assert_eq!(parse(path), Target { directory: path.into(), selector: Selector::Layout });
        let selector = Selector::Name("v1".into());
        assert_eq!(parse(&format!("{path}:v1")), Target { directory: path.into(), selector });
        assert!(refused(&format!("{path}/none:v1")).ends_with(&format!("reference={path}/none:v1")));
        assert_eq!(new_directory(&format!("{path}/none")).unwrap().directory, format!("{path}/none"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for text in ["", ":", "oci:", "oci::v1", "oci:dir:", "nowhere", "tar:a.tar", "docker://host/a:v1"] {
            assert!(refused(text).contains(&format!("reference={text}")), "{text}");
        }
        assert!(refused("oci:dir@sha256:bee").contains("bee"));
        assert!(
            refused(&format!("oci:dir@sha256:{}", HEX.to_uppercase())).contains(&HEX.to_uppercase()[..40])
        );
        assert!(refused(&format!("oci:dir:a:v1@sha256:{HEX}")).contains("a tag and a digest"));
        assert!(refused(&format!("oci:dir:UPPER@sha256:{HEX}")).contains("UPPER"));
    }

    #[test]
    fn tags_of_a_push() {
        let split = |text: &str| {
            let (repository, tags) = repository_and_tags(&parse(text))?;
            Ok::<_, Failure>((repository.to_string(), tags.iter().map(Tag::to_string).collect::<Vec<_>>()))
        };
        assert_eq!(split("oci:d").unwrap(), (String::new(), vec![]));
        assert_eq!(split("oci:d:v1").unwrap(), (String::new(), vec!["v1".into()]));
        assert_eq!(split("oci:d:a/b:v1,v2,v1").unwrap(), ("a/b".into(), vec!["v1".into(), "v2".into()]));
        assert!(split("oci:d:a/b").unwrap_err().hint().unwrap().contains("oci:d:a/b:TAG"));
        for (text, value) in [("oci:d:.v", "tag=.v"), ("oci:d:v1,", "tag="), ("oci:d:A:v1", "repository=A")] {
            let failure = split(text).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.chain().contains(value), "{}", failure.chain());
        }
        assert!(split(&format!("oci:d@sha256:{HEX}")).is_err());
    }
}
