//! Media types: those the specifications name, and their grammar.

use crate::digest::excerpt;
use crate::error::{Error, Result};

/// OCI image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, an uncompressed tar.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, a tar compressed with gzip.
pub const LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, a tar compressed with zstd.
pub const LAYER_TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The empty JSON object, `{}`, for a descriptor that has to be there without meaning anything.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// ORAS artifact manifest.
pub const ORAS_ARTIFACT: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
/// OCI artifact manifest, of image-spec 1.1.0-rc1 and -rc2 only.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// OCI layer that must not be pushed to a registry, an uncompressed tar. Deprecated by image-spec 1.1.
pub const NON_DISTRIBUTABLE_TAR: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// As [`NON_DISTRIBUTABLE_TAR`], compressed with gzip.
pub const NON_DISTRIBUTABLE_TAR_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// As [`NON_DISTRIBUTABLE_TAR`], compressed with zstd.
pub const NON_DISTRIBUTABLE_TAR_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// Docker layer that must not be pushed to a registry.
pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// The longest media type taken, in bytes: two names of 127 and the slash.
pub const MAX_LEN: usize = 255;

/// The longest name on either side of the slash, in bytes (RFC 6838, section 4.2).
const MAX_NAME: usize = 127;

/// The documents that point to other content. Anything else is opaque.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ManifestKind {
    /// [`IMAGE_MANIFEST`]
    ImageManifest,
    /// [`IMAGE_INDEX`]
    ImageIndex,
    /// [`DOCKER_MANIFEST`]
    DockerManifest,
    /// [`DOCKER_LIST`]
    DockerList,
    /// [`ORAS_ARTIFACT`]
    OrasArtifact,
    /// [`OCI_ARTIFACT`]
    OciArtifact,
}

impl ManifestKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::ImageManifest,
        Self::ImageIndex,
        Self::DockerManifest,
        Self::DockerList,
        Self::OrasArtifact,
        Self::OciArtifact,
    ];

    /// The kind that `media_type` names, parameters and case aside; None for opaque content.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        let name = essence(media_type);
        Self::ALL.into_iter().find(|kind| kind.media_type().eq_ignore_ascii_case(name))
    }

    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::ImageManifest => IMAGE_MANIFEST,
            Self::ImageIndex => IMAGE_INDEX,
            Self::DockerManifest => DOCKER_MANIFEST,
            Self::DockerList => DOCKER_LIST,
            Self::OrasArtifact => ORAS_ARTIFACT,
            Self::OciArtifact => OCI_ARTIFACT,
        }
    }

    /// Whether its documents have the same members as those of another: OCI took Docker's over.
    #[must_use]
    pub(crate) const fn is_shaped_as(self, other: Self) -> bool {
        const fn shape(kind: ManifestKind) -> u8 {
            match kind {
                ManifestKind::ImageManifest | ManifestKind::DockerManifest => 1,
                ManifestKind::ImageIndex | ManifestKind::DockerList => 2,
                ManifestKind::OrasArtifact => 3,
                ManifestKind::OciArtifact => 4,
            }
        }
        shape(self) == shape(other)
    }

    /// Whether it lists manifests: an OCI index or a Docker list.
    #[must_use]
    pub const fn is_index(self) -> bool {
        matches!(self, Self::ImageIndex | Self::DockerList)
    }
}

/// The media type without its parameters.
#[must_use]
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim_ascii()
}

/// Checks `type/subtype`, without parameters, against RFC 6838 section 4.2.
///
/// # Errors
///
/// `Invalid`, naming the value.
pub fn validate(media_type: &str) -> Result<()> {
    let name = |name: &str| {
        name.len() <= MAX_NAME
            && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match media_type.split_once('/') {
        Some((kind, subtype)) if name(kind) && name(subtype) => Ok(()),
        _ => Err(Error::invalid(format!(
            "media type is not type/subtype of RFC 6838, media_type={}",
            excerpt(media_type)
        ))),
    }
}

/// Whether content of this type is not meant to be pushed to a registry, and so may be missing.
#[must_use]
pub fn is_non_distributable(media_type: &str) -> bool {
    const TYPES: [&str; 4] =
        [NON_DISTRIBUTABLE_TAR, NON_DISTRIBUTABLE_TAR_GZIP, NON_DISTRIBUTABLE_TAR_ZSTD, DOCKER_FOREIGN_LAYER];
    TYPES.into_iter().any(|name| name.eq_ignore_ascii_case(essence(media_type)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn kinds_by_name() {
        for kind in ManifestKind::ALL {
            let name = kind.media_type();
            validate(name).unwrap();
            assert_eq!(ManifestKind::of(name), Some(kind));
            assert_eq!(ManifestKind::of(&name.to_uppercase()), Some(kind));
            assert_eq!(ManifestKind::of(&format!("{name} ; charset=utf-8")), Some(kind));
            assert_eq!(kind.is_index(), matches!(name, IMAGE_INDEX | DOCKER_LIST), "{name}");
        }
        for name in ["", ";", IMAGE_CONFIG, "application/json", "application/vnd.oci.image.manifest.v1"] {
            assert_eq!(ManifestKind::of(name), None, "{name}");
        }
    }

    #[test]
    fn grammar() {
        let long = format!("{}/{}", "a".repeat(127), "b".repeat(127));
        for good in ["a/b", "application/vnd.x-y_z.v1+json", "9/0", "a/b!#$&-^_.+", &long] {
            validate(good).unwrap();
        }
        let long = format!("a/{}", "b".repeat(128));
        for bad in [
            "", "/", "a", "a/", "/b", "a/b/c", "a/b c", "a/b;c=d", " a/b", "a/.b", "a/b\n", "a/\u{e9}", &long,
        ] {
            let error = validate(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(error.to_string().contains(&excerpt(bad).to_string()), "{error}");
        }
    }

    #[test]
    fn non_distributable() {
        for name in [
            NON_DISTRIBUTABLE_TAR,
            NON_DISTRIBUTABLE_TAR_GZIP,
            NON_DISTRIBUTABLE_TAR_ZSTD,
            DOCKER_FOREIGN_LAYER,
        ] {
            assert!(is_non_distributable(name), "{name}");
            assert!(is_non_distributable(&format!("{};a=b", name.to_uppercase())), "{name}");
        }
        for name in ["", LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD] {
            assert!(!is_non_distributable(name), "{name}");
        }
    }
}
