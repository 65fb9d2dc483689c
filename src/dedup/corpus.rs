//! What is measured: images in an order, and the blobs that they refer to.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::finding::{Finding, FindingKind};
use crate::Digest;
use crate::oci::{Descriptor, Manifest, ManifestKind, Role};

/// The largest config that is read for the time of its creation, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// Where the bytes of blobs come from.
pub trait Contents: Send + Sync {
    /// The bytes of a blob from its beginning, or None where there is no such blob. Called by many threads, once for each blob.
    ///
    /// # Errors
    ///
    /// As the place. It is reported as a finding, and the measurement goes on.
    fn open(&self, descriptor: &Descriptor) -> io::Result<Option<Box<dyn Read + Send + '_>>>;

    /// The bytes of a blob where they are in memory or mapped: what is not compressed is then measured without being copied. None, as for all others, where
    /// they have to be read.
    ///
    /// # Errors
    ///
    /// As [`Contents::open`].
    fn bytes(&self, _descriptor: &Descriptor) -> io::Result<Option<Bytes>> {
        Ok(None)
    }

    /// Where a blob stands in a place that is best read in its order, from its beginning to its end; None, as for all others, where any order does.
    fn position(&self, _descriptor: &Descriptor) -> Option<(u32, u64)> {
        None
    }
}

/// What a blob is to images.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Manifest,
    Config,
    Layer,
}

impl Part {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
        }
    }
}

/// A distinct blob.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) descriptor: Descriptor,
    pub(super) part: Part,
    /// Where it may be had; the first that has it is taken.
    pub(super) places: Vec<Arc<dyn Contents>>,
}

/// An image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) digest: Digest,
    /// Nanoseconds since 1970.
    pub(super) created: Option<i64>,
    /// Indices of blobs, one for each reference.
    pub(super) blobs: Vec<usize>,
}

/// An ordered list of images with the blobs that they refer to.
///
/// An image is a manifest that lists no other manifests, with its config and its layers; an index counts with each of its images.
/// A plain file is an image of one layer. The same image may be added twice: then it is counted twice, and stored once.
#[derive(Clone, Default)]
pub struct Corpus {
    pub(super) images: Vec<Image>,
    pub(super) blobs: Vec<Blob>,
    pub(super) findings: Vec<Finding>,
    known: HashMap<Digest, usize>,
}

impl Corpus {
    /// One without images.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Adds a blob as an image of one layer: what a plain file is.
    pub fn add_blob(
        &mut self,
        name: impl Into<String>,
        descriptor: &Descriptor,
        contents: Arc<dyn Contents>,
    ) {
        let blob = self.blob(descriptor, Part::Layer, &contents);
        self.images.push(Image {
            name: name.into(),
            digest: descriptor.digest,
            created: None,
            blobs: vec![blob],
        });
    }

    /// Adds an image by the bytes of its manifest, and the indexes through which it was found. Its config is read for the time at which
    /// it was made. What refers to no blobs, such as an index, is an image of its document alone.
    pub fn add_image(
        &mut self,
        name: impl Into<String>,
        manifest: &Descriptor,
        bytes: &[u8],
        indexes: &[Descriptor],
        contents: Arc<dyn Contents>,
    ) {
        let mut blobs: Vec<usize> =
            indexes.iter().map(|index| self.blob(index, Part::Manifest, &contents)).collect();
        blobs.push(self.blob(manifest, Part::Manifest, &contents));
        let mut created = None;
        match Manifest::read(&manifest.media_type, bytes) {
            Ok(parsed) => {
                created = parsed.created();
                for to in parsed.successors() {
                    let part = match to.role {
                        Role::Config => Part::Config,
                        Role::Layer | Role::Blob => Part::Layer,
                        _ => continue,
                    };
                    blobs.push(self.blob(&to.descriptor, part, &contents));
                }
                if let Some(config) = parsed.config().filter(|_| created.is_none()) {
                    created = created_of(config, &*contents);
                }
                for digest in parsed.foreign() {
                    let message = format!("of an algorithm that is not known here, found={digest}");
                    self.find(&manifest.digest, FindingKind::Missing, message);
                }
            }
            Err(error) => self.find(&manifest.digest, FindingKind::BrokenManifest, error.to_string()),
        }
        self.images.push(Image { name: name.into(), digest: manifest.digest, created, blobs });
    }

    /// Takes down that a manifest, known from its descriptor, is not there: a document that counts as an image and cannot be read.
    pub fn add_missing(
        &mut self,
        name: impl Into<String>,
        manifest: &Descriptor,
        contents: Arc<dyn Contents>,
    ) {
        let blob = self.blob(manifest, Part::Manifest, &contents);
        let is_index = ManifestKind::of(&manifest.media_type).is_some_and(ManifestKind::is_index);
        let what = if is_index { "index" } else { "manifest" };
        self.find(&manifest.digest, FindingKind::BrokenManifest, format!("the {what} is not there"));
        self.images.push(Image {
            name: name.into(),
            digest: manifest.digest,
            created: None,
            blobs: vec![blob],
        });
    }

    /// Takes down that a manifest which an index lists is not here: it is no image, and nothing of it counts.
    pub fn note_absent(&mut self, manifest: &Descriptor) {
        let message = "a manifest that an index lists is not here".into();
        let digest = manifest.digest.to_string();
        let finding = Finding { digest, incomplete: false, kind: FindingKind::Absent, message };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Takes down that something of an archive cannot be used.
    pub(super) fn note_unusable(&mut self, name: &str, why: &str) {
        let message = format!("cannot be used: {why}");
        let kind = FindingKind::BrokenManifest;
        self.findings.push(Finding { digest: name.into(), incomplete: true, kind, message });
    }

    fn find(&mut self, digest: &Digest, kind: FindingKind, message: String) {
        let finding = Finding { digest: digest.to_string(), incomplete: true, kind, message };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// The index of a blob, which is added if it is new.
    fn blob(&mut self, descriptor: &Descriptor, part: Part, contents: &Arc<dyn Contents>) -> usize {
        if let Some(at) = self.known.get(&descriptor.digest) {
            if let Some(blob) = self.blobs.get_mut(*at) {
                if !blob.places.iter().any(|place| Arc::ptr_eq(place, contents)) {
                    blob.places.push(Arc::clone(contents));
                }
                if part == Part::Layer && blob.part != Part::Layer {
                    // It may have to be opened, which nothing else ever is.
                    blob.part = Part::Layer;
                }
            }
            return *at;
        }
        let at = self.blobs.len();
        // Annotations and the like are of no use here, and there may be many.
        let plain = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
        let descriptor = Descriptor { data: descriptor.data.clone(), ..plain };
        self.known.insert(descriptor.digest, at);
        self.blobs.push(Blob { descriptor, part, places: vec![Arc::clone(contents)] });
        at
    }
}

impl fmt::Debug for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Corpus")
            .field("images", &self.images.len())
            .field("blobs", &self.blobs.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("digest", &self.descriptor.digest).finish_non_exhaustive()
    }
}

/// When an image was made, as its config says. Nothing of what may be wrong with it matters here: it is measured later.
fn created_of(config: &Descriptor, contents: &dyn Contents) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Config {
        created: Option<String>,
    }
    if config.size > MAX_CONFIG {
        return None;
    }
    let mut bytes = Vec::new();
    contents.open(config).ok()??.take(MAX_CONFIG).read_to_end(&mut bytes).ok()?;
    let config: Config = serde_json::from_slice(&bytes).ok()?;
    let time: jiff::Timestamp = config.created?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}
