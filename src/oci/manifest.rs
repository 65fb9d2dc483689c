//! Manifests: what a store has to know of them, and what they point to.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::descriptor::{Fields, Object, or_default};
use super::media_type::{self, ManifestKind};
use super::{Annotations, Descriptor, json};
use crate::digest::{Digest, excerpt};
use crate::error::{Error, Result};

/// The largest manifest, in bytes: what the distribution-spec asks every registry to take.
pub const MAX_MANIFEST_SIZE: usize = 4 * 1024 * 1024;

/// The most descriptors that the arrays of one manifest may hold together.
pub const MAX_SUCCESSORS: usize = 10_000;

/// The annotations that say when a manifest was made, first choice first.
const CREATED: [&str; 2] = ["org.opencontainers.image.created", "io.cncf.oras.artifact.created"];

/// What content is to the manifest that points to it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// `config`
    Config,
    /// One of `layers`.
    Layer,
    /// One of `blobs`.
    Blob,
    /// One of `manifests`.
    Manifest,
    /// `subject`
    Subject,
}

impl Role {
    /// The byte that stands for the role in metadata. Part of the stored format: never change one.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Config => 1,
            Self::Layer => 2,
            Self::Blob => 3,
            Self::Manifest => 4,
            Self::Subject => 5,
        }
    }
}

/// Content that a manifest points to.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Successor {
    /// What it is to the manifest.
    pub role: Role,
    /// What the manifest says about it.
    pub descriptor: Descriptor,
}

impl Successor {
    /// An edge.
    #[must_use]
    pub fn new(role: Role, descriptor: Descriptor) -> Self {
        Self { role, descriptor }
    }
}

/// What a store has to know of a manifest: its kind and its edges. The bytes themselves are kept as they came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    kind: Option<ManifestKind>,
    media_type: String,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    annotations: Annotations,
    successors: Vec<Successor>,
    foreign: Vec<String>,
}

impl Manifest {
    /// Reads a manifest that was pushed under a media type.
    ///
    /// A media type that names no [`ManifestKind`] gives an opaque manifest without edges, whatever the bytes are.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the value: above [`MAX_MANIFEST_SIZE`] or [`MAX_SUCCESSORS`]; no media type; and for the known
    /// kinds: not JSON, or JSON that readers understand differently (duplicate names, names that differ in case, members of
    /// two kinds of manifest: CVE-2021-41190), `mediaType` or `schemaVersion` of something else, descriptors without a
    /// size or with a digest that breaks the grammar. Digests of unknown algorithms are taken: see [`foreign`](Self::foreign).
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self> {
        Self::parse_with(media_type, bytes, Strictness::Pushed)
    }

    /// Reads a manifest that a layout lists under a media type: as [`parse`](Self::parse), but a manifest that calls itself
    /// something else of the same shape (Docker's and OCI's) is what it is listed as. No reader can take it for another.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn read(media_type: &str, bytes: &[u8]) -> Result<Self> {
        Self::parse_with(media_type, bytes, Strictness::Listed)
    }

    /// The media type of a manifest that is listed without any: what it calls itself, or what its members make it.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<&'static str> {
        if bytes.len() > MAX_MANIFEST_SIZE {
            return None;
        }
        let Object(document) = serde_json::from_slice::<Object<Document>>(bytes).ok()?;
        let named = document.media_type.as_deref().and_then(ManifestKind::of);
        let shape = || match (document.config.is_some(), document.manifests.is_some()) {
            (true, false) => Some(ManifestKind::ImageManifest),
            (false, true) => Some(ManifestKind::ImageIndex),
            _ => None,
        };
        let is_said = document.media_type.as_deref().is_some_and(|name| !name.is_empty());
        named.or_else(|| if is_said { None } else { shape() }).map(ManifestKind::media_type)
    }

    fn parse_with(media_type: &str, bytes: &[u8], strictness: Strictness) -> Result<Self> {
        if bytes.len() > MAX_MANIFEST_SIZE {
            let size = bytes.len();
            return Err(Error::invalid(format!(
                "manifest is too large, size={size}, limit={MAX_MANIFEST_SIZE}"
            )));
        }
        let media_type = media_type::essence(media_type);
        media_type::validate(media_type)?;
        let mut manifest = Self {
            kind: ManifestKind::of(media_type),
            media_type: media_type.into(),
            artifact_type: None,
            subject: None,
            annotations: Annotations::new(),
            successors: Vec::new(),
            foreign: Vec::new(),
        };
        if let Some(kind) = manifest.kind {
            json::check(bytes)?;
            let Object(document) =
                serde_json::from_slice(bytes).map_err(|error| json::unparsable("manifest", &error))?;
            manifest.fill(kind, document, strictness)?;
        }
        Ok(manifest)
    }

    fn fill(&mut self, kind: ManifestKind, document: Document, strictness: Strictness) -> Result<()> {
        document.check_kind(kind, &self.media_type, strictness)?;
        let Document { artifact_type, config, layers, blobs, manifests, subject, annotations, .. } = document;
        let config = config.flatten();
        let is_image = matches!(kind, ManifestKind::ImageManifest | ManifestKind::DockerManifest);
        if is_image && config.is_none() {
            return Err(Error::invalid(format!("manifest has no config, media_type={}", self.media_type)));
        }
        self.artifact_type = artifact_type.filter(|name| !name.is_empty());
        if self.artifact_type.is_none() && is_image {
            let fallback = config.as_ref().map(|Object(config)| config.media_type.clone());
            self.artifact_type = fallback.filter(|name| !name.is_empty());
        }
        if let Some(name) = &self.artifact_type
            && name.len() > media_type::MAX_LEN
        {
            let (name, found, limit) = (excerpt(name), name.len(), media_type::MAX_LEN);
            return Err(Error::invalid(format!(
                "artifact type is too long, artifact_type={name}, length={found}, limit={limit}"
            )));
        }
        self.annotations = annotations;

        let arrays = [
            ("layers", Role::Layer, layers),
            ("blobs", Role::Blob, blobs),
            ("manifests", Role::Manifest, manifests),
        ]
        .map(|(name, role, list)| (name, role, list.flatten().unwrap_or_default()));
        let total: usize = arrays.iter().map(|(_, _, list)| list.len()).sum();
        if total > MAX_SUCCESSORS {
            return Err(Error::invalid(format!(
                "manifest has too many descriptors, found={total}, limit={MAX_SUCCESSORS}"
            )));
        }
        if let Some(config) = config {
            self.point_to(Role::Config, config, || "config".into())?;
        }
        for (name, role, list) in arrays {
            for (at, descriptor) in list.into_iter().enumerate() {
                self.point_to(role, descriptor, || format!("{name}[{at}]"))?;
            }
        }
        if let Some(subject) = subject {
            self.point_to(Role::Subject, subject, || "subject".into())?;
        }
        Ok(())
    }

    /// Adds an edge, or a foreign digest.
    fn point_to(
        &mut self,
        role: Role,
        Object(raw): RawDescriptor,
        path: impl FnOnce() -> String,
    ) -> Result<()> {
        let digest: Digest = match raw.digest.parse() {
            Ok(digest) => digest,
            Err(error) if error.is_unsupported_algorithm() => {
                self.foreign.push(raw.digest);
                return Ok(());
            }
            Err(error) => {
                return Err(Error::invalid(format!("descriptor is invalid, path={}: {error}", path())));
            }
        };
        let descriptor = raw.with_digest(digest);
        if role == Role::Subject {
            self.subject = Some(descriptor);
        } else {
            self.successors.push(Successor { role, descriptor });
        }
        Ok(())
    }

    /// The kind of document, or None for opaque content.
    #[must_use]
    pub fn kind(&self) -> Option<ManifestKind> {
        self.kind
    }

    /// The media type that it was pushed under, without parameters.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// What a referrers answer gives as its artifact type: `artifactType`, or the media type of the config where there is
    /// one (distribution-spec, "Listing Referrers"). At most 255 bytes.
    #[must_use]
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }

    /// The manifest that this one is attached to. None also if its digest is [foreign](Self::foreign).
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// The annotations of the manifest itself.
    #[must_use]
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// What it points to, without the subject: the config, then the arrays in their order. The same content may come
    /// more than once.
    #[must_use]
    pub fn successors(&self) -> &[Successor] {
        &self.successors
    }

    /// The config of an image.
    #[must_use]
    pub fn config(&self) -> Option<&Descriptor> {
        self.successors.iter().find(|to| to.role == Role::Config).map(|to| &to.descriptor)
    }

    /// Digests that it refers to and that content cannot be stored under: valid by the grammar, of unknown algorithms.
    #[must_use]
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// When it was made, in nanoseconds since 1970, as its annotations say: `org.opencontainers.image.created`, else
    /// `io.cncf.oras.artifact.created`. Saturates outside of the years 1677 to 2262; None if it is not RFC 3339.
    #[must_use]
    pub fn created(&self) -> Option<i64> {
        let text = CREATED.into_iter().find_map(|name| self.annotations.get(name))?;
        let nanoseconds = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
        let limit = if nanoseconds < 0 { i64::MIN } else { i64::MAX };
        Some(i64::try_from(nanoseconds).unwrap_or(limit))
    }
}

/// What the media type that a manifest gives itself is held to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Strictness {
    /// The one that it is pushed under.
    Pushed,
    /// One of the same shape as the one that it is listed under.
    Listed,
}

/// A descriptor whose digest may be of an unknown algorithm.
type RawDescriptor = Object<Fields<String>>;

/// The members of every kind of manifest. What must tell "absent" from "null" is doubly optional.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    config: Option<Option<RawDescriptor>>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<Option<Vec<RawDescriptor>>>,
    #[serde(default, deserialize_with = "present")]
    blobs: Option<Option<Vec<RawDescriptor>>>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Vec<RawDescriptor>>>,
    #[serde(default, deserialize_with = "present")]
    fs_layers: Option<IgnoredAny>,
    subject: Option<RawDescriptor>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Annotations,
}

impl Document {
    /// Refuses what another reader could take for another kind of manifest (CVE-2021-41190).
    fn check_kind(&self, kind: ManifestKind, media_type: &str, strictness: Strictness) -> Result<()> {
        let own: &[&str] = match kind {
            ManifestKind::ImageManifest | ManifestKind::DockerManifest => &["config", "layers"],
            ManifestKind::ImageIndex | ManifestKind::DockerList => &["manifests"],
            ManifestKind::OrasArtifact | ManifestKind::OciArtifact => &["blobs"],
        };
        let members = [
            ("config", self.config.is_some()),
            ("layers", self.layers.is_some()),
            ("blobs", self.blobs.is_some()),
            ("manifests", self.manifests.is_some()),
            ("fsLayers", self.fs_layers.is_some()),
        ];
        if let Some((name, _)) = members.into_iter().find(|(name, present)| *present && !own.contains(name)) {
            return Err(Error::invalid(format!(
                "manifest has a member of another kind of manifest, key={name}, media_type={media_type}"
            )));
        }
        if let Some(found) = self.media_type.as_deref()
            && !found.is_empty()
            && !media_type::essence(found).eq_ignore_ascii_case(media_type)
            && (strictness == Strictness::Pushed
                || !ManifestKind::of(found).is_some_and(|it| it.is_shaped_as(kind)))
        {
            let found = excerpt(found);
            return Err(Error::invalid(format!(
                "media type in the manifest is not the one it was pushed under, expected={media_type}, found={found}"
            )));
        }
        match (kind, self.schema_version) {
            // Neither artifact manifest has a version.
            (ManifestKind::OrasArtifact | ManifestKind::OciArtifact, _) | (_, Some(2)) => Ok(()),
            (ManifestKind::ImageManifest | ManifestKind::ImageIndex, None) => Ok(()),
            (_, None) => Err(Error::invalid(format!("schemaVersion is missing, media_type={media_type}"))),
            (_, Some(found)) => {
                Err(Error::invalid(format!("schemaVersion is not 2, media_type={media_type}, found={found}")))
            }
        }
    }
}

/// Some for every member that is there, even if it is null.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
