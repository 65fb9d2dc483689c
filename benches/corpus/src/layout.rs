//! Writing an OCI image layout: blobs as they come, `index.json` last, so that what is half made never looks whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::tree::{Tree, What};

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image's configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Compression {
    /// As most registries hold them.
    Gzip,
    /// Level 3.
    Zstd,
    /// Plain tar.
    None,
}

impl Compression {
    /// The media type of a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// What a manifest says of content.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// `sha256:` and the digest.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Annotations, in the order of their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A layer that was written.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What was stored.
    pub descriptor: Descriptor,
    /// Digest of the plain archive.
    pub diff_id: String,
    /// Bytes of the plain archive.
    pub plain: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    config: Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// A layout that is being written.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Begins a layout in a directory that is not there, or empty.
    pub fn create(root: &Path) -> Result<Self> {
        let said = || format!("path={}", root.display());
        fs::create_dir_all(root.join("blobs/sha256")).with_context(said)?;
        let others =
            fs::read_dir(root).with_context(said)?.count() + fs::read_dir(root.join("blobs/sha256"))?.count();
        if others != 1 {
            bail!("there is something in the directory already, {}", said());
        }
        fs::write(root.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
        Ok(Self { root: root.to_owned() })
    }

    /// Stores bytes.
    pub fn put(&self, media_type: &str, content: &[u8]) -> Result<Descriptor> {
        Ok(self.write(media_type, |file| Ok(file.write_all(content)?))?.1)
    }

    /// Stores what `fill` writes, under the name of its digest.
    pub fn write<T>(
        &self,
        media_type: &str,
        fill: impl FnOnce(&mut Counted<&mut dyn Write>) -> Result<T>,
    ) -> Result<(T, Descriptor)> {
        let file = tempfile::Builder::new().prefix("unfinished-").tempfile_in(&self.root)?;
        let mut buffered = BufWriter::with_capacity(1 << 18, file.as_file());
        let mut counted = Counted::new(&mut buffered as &mut dyn Write);
        let value = fill(&mut counted)?;
        let (digest, size) = counted.finish();
        buffered.flush()?;
        drop(buffered);
        let encoded = digest.trim_start_matches("sha256:");
        make_readable(file.as_file())?;
        file.persist(self.root.join("blobs/sha256").join(encoded))?;
        Ok((value, Descriptor { media_type: media_type.to_owned(), digest, size, annotations: None }))
    }

    /// Stores a layer.
    pub fn layer(&self, tree: &Tree, compression: Compression, shift: u64) -> Result<Layer> {
        let ((diff_id, plain), descriptor) =
            self.write(compression.media_type(), |file| match compression {
                Compression::None => archive(tree, shift, file),
                Compression::Gzip => {
                    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
                    let written = archive(tree, shift, &mut encoder)?;
                    encoder.finish()?;
                    Ok(written)
                }
                Compression::Zstd => {
                    let mut encoder = zstd::Encoder::new(file, 3)?;
                    let written = archive(tree, shift, &mut encoder)?;
                    encoder.finish()?;
                    Ok(written)
                }
            })?;
        Ok(Layer { descriptor, diff_id, plain })
    }

    /// Stores a manifest; what comes back has its name in the index.
    pub fn manifest(
        &self,
        name: &str,
        artifact_type: Option<&str>,
        config: Option<Descriptor>,
        layers: &[Descriptor],
        created: Option<&str>,
    ) -> Result<Descriptor> {
        let config = match config {
            Some(config) => config,
            None => self.put(EMPTY, b"{}")?,
        };
        let created = created.map(|created| ("org.opencontainers.image.created", created.to_owned()));
        let annotations = created.into_iter().collect();
        let manifest =
            Manifest { schema_version: 2, media_type: MANIFEST, artifact_type, config, layers, annotations };
        let mut descriptor = self.put(MANIFEST, &serde_json::to_vec(&manifest)?)?;
        let name = ("org.opencontainers.image.ref.name".to_owned(), name.to_owned());
        descriptor.annotations = Some([name].into_iter().collect());
        Ok(descriptor)
    }

    /// Makes the layout whole. The order of the manifests is kept.
    pub fn finish(self, manifests: Vec<Descriptor>) -> Result<()> {
        let index = Index { schema_version: 2, media_type: INDEX, manifests };
        let file = tempfile::Builder::new().prefix("unfinished-").tempfile_in(&self.root)?;
        serde_json::to_writer(BufWriter::new(file.as_file()), &index)?;
        make_readable(file.as_file())?;
        file.persist(self.root.join("index.json"))?;
        Ok(())
    }
}

/// Temporary files are private; a layout is for everybody.
fn make_readable(file: &File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.set_permissions(fs::Permissions::from_mode(0o644))?)
}

/// Writes a tree as an archive, its times later by `shift` seconds; gives the digest and the bytes.
fn archive(tree: &Tree, shift: u64, into: &mut dyn Write) -> Result<(String, u64)> {
    use std::os::unix::ffi::OsStrExt;
    let as_path = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned();
    let mut builder = tar::Builder::new(Counted::new(into));
    let mut written = BTreeMap::new();
    for (path, node) in tree.nodes() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(node.mode);
        header.set_uid(node.user);
        header.set_gid(node.group);
        header.set_mtime(node.modified.saturating_add(shift));
        header.set_size(0);
        let path = as_path(path);
        match &node.what {
            What::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path.join(""), std::io::empty())?;
            }
            What::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, as_path(target))?;
            }
            What::File(content) => {
                // The first path of a file has its bytes, the others are hard links to it.
                if let Some(first) = content.identity().and_then(|identity| written.get(&identity)) {
                    header.set_entry_type(tar::EntryType::Link);
                    builder.append_link(&mut header, path, first)?;
                    continue;
                }
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.bytes().len() as u64);
                builder.append_data(&mut header, &path, content.bytes())?;
                if let Some(identity) = content.identity() {
                    written.insert(identity, path);
                }
            }
        }
    }
    Ok(builder.into_inner()?.finish())
}

/// Counts and hashes what goes through.
#[derive(Debug)]
pub struct Counted<W> {
    into: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Counted<W> {
    fn new(into: W) -> Self {
        Self { into, hash: Sha256::new(), bytes: 0 }
    }

    fn finish(self) -> (String, u64) {
        (format!("sha256:{}", hexadecimal(&self.hash.finalize())), self.bytes)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.into.flush()
    }
}

/// Digits of a digest.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
