//! Layouts to make archives of, and archives made block by block.

use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;

use crate::digest::Digest;
use crate::transfer::Source;
use crate::transfer::archive::Archive;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Files of a layout, by their paths.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// A layout with an image under `v1` and `team/app:v2`, an SBOM that is attached to it, and its digests.
pub(super) struct Sample {
    pub(super) files: Files,
    pub(super) image: Digest,
    pub(super) sbom: Digest,
}

pub(super) fn sample() -> Sample {
    let mut files = Files::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        files.push((format!("blobs/sha256/{}", digest.encoded()), bytes.clone()));
        (digest, bytes.len())
    };
    let (config, _) = blob(b"{}".to_vec());
    let (layer, size) = blob((0..70_000u32).map(|n| (n % 251) as u8).collect());
    let config = format!(r#"{{"mediaType":"application/x","digest":"{config}","size":2}}"#);
    let image = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{{"mediaType":"a/b","digest":"{layer}","size":{size}}}]}}"#
    );
    let (image, image_size) = blob(image.into_bytes());
    let sbom = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/spdx+json","config":{config},"layers":[],"subject":{{"mediaType":"{MANIFEST}","digest":"{image}","size":{image_size}}},"annotations":{{"k":"v"}}}}"#
    );
    let (sbom, sbom_size) = blob(sbom.into_bytes());
    let name = |name: &str| format!(r#""annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
    let entry = |digest: &Digest, size: usize, rest: &str| {
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size}{rest}}}"#)
    };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{},{}]}}"#,
        entry(&image, image_size, &format!(",{}", name("v1"))),
        entry(&image, image_size, &format!(",{}", name("team/app:v2"))),
        entry(&sbom, sbom_size, ""),
    );
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files.push(("index.json".into(), index.into_bytes()));
    Sample { files, image, sbom }
}

impl Sample {
    /// What an archive of it must answer.
    pub(super) fn check(&self, archive: &Archive) {
        let names: Vec<_> = archive.names().iter().map(|name| name.name.as_str()).collect();
        assert_eq!(names, ["v1", "team/app:v2"]);
        let unnamed = archive.repository(&crate::oci::RepositoryName::unnamed());
        let team = archive.repository(&"team/app".parse().unwrap());
        assert_eq!(unnamed.resolve(&"v1".parse().unwrap()).unwrap().unwrap().digest, self.image);
        assert_eq!(team.resolve(&"v2".parse().unwrap()).unwrap().unwrap().digest, self.image);
        assert_eq!(team.resolve(&"v1".parse().unwrap()).unwrap(), None);
        let found = unnamed.referrers(&self.image).unwrap().referrers;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].digest, self.sbom);
        assert_eq!(found[0].artifact_type.as_deref(), Some("application/spdx+json"));
        assert_eq!(found[0].annotations.get("k").unwrap(), "v");
        // What is attached is listed for the unnamed repository only.
        assert!(team.referrers(&self.image).unwrap().referrers.is_empty());
        assert!(unnamed.manifest(&self.sbom).unwrap().is_some());
        assert!(team.manifest(&self.sbom).unwrap().is_none());
        for (path, bytes) in &self.files {
            let Some(digest) = super::super::entries::blob_digest(path) else { continue };
            for offset in [0, 1, bytes.len() as u64 / 2, bytes.len() as u64] {
                let mut read = Vec::new();
                archive.content(&digest, offset).unwrap().unwrap().read_to_end(&mut read).unwrap();
                assert_eq!(read, bytes[offset as usize..], "{path} {offset}");
            }
        }
    }
}

/// A header block of ustar, or of GNU.
pub(super) fn header(path: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
    block[257..265].copy_from_slice(b"ustar\x0000");
    finish(block)
}

/// Puts the checksum into a header block.
pub(super) fn finish(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// An entry with its content, and what fills its last block.
pub(super) fn entry(path: &str, kind: u8, content: &[u8], link: &str) -> Vec<u8> {
    let mut bytes = header(path.as_bytes(), kind, content.len() as u64, link.as_bytes());
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A record of pax.
pub(super) fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    format!("{length} {key}={value}\n").into_bytes()
}

/// An archive of files, with the blocks that end it.
pub(super) fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        files.iter().flat_map(|(path, content)| entry(path, b'0', content, "")).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn open(bytes: Vec<u8>) -> crate::error::Result<Archive> {
    Archive::from_bytes(Bytes::from(bytes))
}

/// Every file below a directory, as a tool would pack it: links stay links.
pub(super) fn pack(root: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", root).unwrap();
    builder.into_inner().unwrap()
}

pub(super) fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layouts").join(name)
}
