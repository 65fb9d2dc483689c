//! What every store is fed: the same bytes in every run. The peers in Rust compile this very file, so it uses nothing but
//! the standard library.

use std::io::{self, Read};
use std::sync::Arc;

/// Of one block of a [`Stream`].
pub(crate) const BLOCK: usize = 1 << 20;
/// What makes a block one of its stream: the seed, and where it stands.
const MARK: usize = 16;
/// Of what is called small content.
pub(crate) const SMALL: usize = 4096;
/// Large contents of a workload, and what each has at a scale of 1.
pub(crate) const LARGE_COUNT: usize = 8;
const LARGE_SIZE: usize = 256 << 20;
/// The content of an empty descriptor.
pub(crate) const EMPTY: &str = "{}";
pub(crate) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// xorshift64*: the same numbers in every run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }
}

/// A count of operations at this scale, in millionths.
pub(crate) fn scaled(full: usize, scale: u64) -> usize {
    let scaled = (full as u64).saturating_mul(scale) / 1_000_000;
    usize::try_from(scaled).unwrap_or(usize::MAX).max(1)
}

/// The size of a large content at this scale: whole pages.
pub(crate) fn large_size(scale: u64) -> u64 {
    (scaled(LARGE_SIZE, scale) as u64).next_multiple_of(4096)
}

/// Content that no other seed gives and that does not compress.
pub(crate) fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&random.next().to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Large content as it comes from a network: one block of noise in memory, over and over, each time with another mark at
/// its beginning. Giving it costs a copy, and making it nothing.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    block: Arc<Vec<u8>>,
    seed: u64,
    at: u64,
    size: u64,
}

impl Stream {
    /// The block that streams share.
    pub(crate) fn block() -> Arc<Vec<u8>> {
        Arc::new(content(u64::MAX, BLOCK))
    }

    pub(crate) fn new(block: &Arc<Vec<u8>>, seed: u64, size: u64) -> Self {
        Self { block: Arc::clone(block), seed, at: 0, size }
    }

    fn mark(&self) -> [u8; MARK] {
        let mut mark = [0; MARK];
        let (seed, index) = mark.split_at_mut(MARK / 2);
        seed.copy_from_slice(&self.seed.to_be_bytes());
        index.copy_from_slice(&(self.at / BLOCK as u64).to_be_bytes());
        mark
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..) {
            let within = usize::try_from(self.at % BLOCK as u64).unwrap_or(0);
            let mark = self.mark();
            let source = if within < MARK { mark.get(within..) } else { self.block.get(within..) };
            let source = source.unwrap_or_default();
            let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            let count = source.len().min(rest.len()).min(left);
            let (Some(to), Some(from)) = (rest.get_mut(..count), source.get(..count)) else { break };
            if count == 0 {
                break;
            }
            to.copy_from_slice(from);
            done += count;
            self.at += count as u64;
        }
        Ok(done)
    }
}

/// A descriptor in JSON.
pub(crate) fn descriptor(media_type: &str, digest: &str, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

/// The config of an image.
pub(crate) fn config(image: usize) -> String {
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"n":"{image}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    )
}

/// The layer of an image.
pub(crate) fn layer(image: usize) -> Vec<u8> {
    content(image as u64, 300)
}

/// The manifest of an image, of the descriptors of its config and its layer.
pub(crate) fn manifest(config: &str, layer: &str) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{config},"layers":[{layer}]}}"#)
}

/// A referrer as attaching a signature or an SBOM makes, its payload in annotations; of the digest of the empty content and
/// the descriptor of its subject.
pub(crate) fn referrer(empty: &str, subject: &str, number: usize) -> String {
    let kind = if number.is_multiple_of(2) {
        "application/spdx+json"
    } else {
        "application/vnd.dev.cosign.signature.v1+json"
    };
    let empty = descriptor(EMPTY_TYPE, empty, EMPTY.len());
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","artifactType":"{kind}","config":{empty},"layers":[{empty}],"subject":{subject},"annotations":{{"org.opencontainers.image.created":"2026-01-01T00:00:00Z","example.number":"{number}"}}}}"#
    )
}

/// The tag of an image or of a turn.
pub(crate) fn tag(number: usize) -> String {
    format!("v{number:07}")
}
