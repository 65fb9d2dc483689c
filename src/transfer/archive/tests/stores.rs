//! Stores with something in them.

use tempfile::TempDir;

use super::support::MANIFEST;
use crate::blobs::Expected;
use crate::digest::{Algorithm, Digest};
use crate::oci::RepositoryName;
use crate::store::{Options, Store};

/// A store in a directory of its own.
pub(super) struct Place {
    pub(super) store: Store,
    root: TempDir,
}

/// What [`Place::fill`] put into it.
pub(super) struct Known {
    pub(super) image: Digest,
    pub(super) sbom: Digest,
}

/// Bytes that no compression makes small, named by a seed.
pub(super) fn content(algorithm: Algorithm, seed: u64, size: usize) -> (Digest, Vec<u8>) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    (algorithm.digest(&bytes), bytes)
}

impl Place {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Options::new().create(root.path().join("s")).unwrap();
        Self { store, root }
    }

    /// An artifact with layers of (algorithm, seed, size), under tags of a repository.
    pub(super) fn artifact(&self, name: &str, tags: &[&str], layers: &[(Algorithm, u64, usize)]) -> Digest {
        self.attached(name, tags, layers, None)
    }

    fn attached(
        &self,
        name: &str,
        tags: &[&str],
        layers: &[(Algorithm, u64, usize)],
        subject: Option<Digest>,
    ) -> Digest {
        let name = if name.is_empty() { RepositoryName::unnamed() } else { name.parse().unwrap() };
        let repository = self.store.repository(&name);
        let config = repository.push_bytes("{}").unwrap().digest;
        let mut listed = Vec::new();
        for (algorithm, seed, size) in layers {
            let (digest, bytes) = content(*algorithm, *seed, *size);
            repository.push_reader(bytes.as_slice(), &Expected::from(digest)).unwrap();
            listed.push(format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size}}}"#));
        }
        let subject = subject.map_or_else(String::new, |subject| {
            let size = repository.stat(&subject).unwrap().unwrap().size;
            format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":{size}}}"#)
        });
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/x","digest":"{config}","size":2}},"layers":[{}]{subject}}}"#,
            listed.join(",")
        );
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        repository.push_manifest(MANIFEST, manifest, &tags).unwrap().digest
    }

    /// An image in two repositories, an SBOM attached to it in one of them, an index, and content of another algorithm.
    pub(super) fn fill(&self) -> Known {
        let layers = [(Algorithm::Sha256, 1, 100_000), (Algorithm::Sha256, 2, 50_000)];
        let image = self.artifact("", &["v1"], &layers);
        self.artifact("team/app", &["v1"], &layers);
        let sbom = self.attached("team/app", &[], &[(Algorithm::Sha256, 3, 40_000)], Some(image));
        self.artifact("team/app", &["long"], &[(Algorithm::Sha512, 4, 70_000)]);
        let size = self.store.default_repository().stat(&image).unwrap().unwrap().size;
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{image}","size":{size}}}]}}"#
        );
        let media_type = "application/vnd.oci.image.index.v1+json";
        let tags = ["latest".parse().unwrap()];
        self.store.default_repository().push_manifest(media_type, index, &tags).unwrap();
        Known { image, sbom }
    }

    /// Every repository with its tags, manifests and contents.
    pub(super) fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.store.repositories(None, 1000).unwrap().items {
            let repository = self.store.repository(&name);
            for tag in repository.tags(None, 1000).unwrap().items {
                lines.push(format!("{name} tag {} {}", tag.tag, tag.digest));
            }
            for found in repository.manifests(None, 1000).unwrap().items {
                lines.push(format!("{name} manifest {}", found.digest));
            }
            let contents = repository.contents(None, 1000).unwrap().items;
            // What was pushed and belongs to nothing stays behind an interruption.
            if lines.iter().any(|line| line.starts_with(&format!("{name} "))) {
                lines.extend(
                    contents.iter().map(|stat| format!("{name} content {} {}", stat.digest, stat.size)),
                );
            }
        }
        lines
    }

    pub(super) fn blob_file(&self, digest: &Digest) -> std::path::PathBuf {
        self.store.flush().unwrap();
        self.root.path().join("s/blobs").join(digest.algorithm().as_str()).join(digest.encoded().to_string())
    }
}
