//! Corpora in memory.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::Digest;
use crate::dedup::random::Random;
use crate::dedup::{Contents, Corpus, Granularity, Measure, Measurement, Report};
use crate::oci::{Descriptor, media_type};

/// Blobs by their digests.
#[derive(Clone, Default)]
pub(super) struct Blobs(pub(super) BTreeMap<Digest, Vec<u8>>);

impl Contents for Blobs {
    fn open(&self, descriptor: &Descriptor) -> std::io::Result<Option<Box<dyn Read + Send + '_>>> {
        Ok(self.0.get(&descriptor.digest).map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn Read + Send>))
    }

    /// Half of them are lent as they are: figures must not tell which.
    fn bytes(&self, descriptor: &Descriptor) -> std::io::Result<Option<Bytes>> {
        let bytes = self.0.get(&descriptor.digest).filter(|bytes| is_lent(bytes));
        Ok(bytes.map(|bytes| Bytes::copy_from_slice(bytes)))
    }
}

pub(super) fn is_lent(blob: &[u8]) -> bool {
    Digest::of(blob).as_bytes()[0].is_multiple_of(2)
}

/// A manifest of these layers, with the blobs added; `created` is a year.
pub(super) fn image(blobs: &mut Blobs, layers: &[&[u8]], created: Option<u16>) -> (Descriptor, Vec<u8>) {
    let mut add = |media_type: &str, bytes: &[u8]| {
        let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        blobs.0.insert(descriptor.digest, bytes.to_vec());
        serde_json::to_string(&descriptor).unwrap()
    };
    let config =
        created.map_or_else(|| "{}".to_owned(), |year| format!(r#"{{"created":"{year}-01-02T03:04:05Z"}}"#));
    let config = add(media_type::IMAGE_CONFIG, config.as_bytes());
    let layers: Vec<String> = layers.iter().map(|layer| add(media_type::LAYER_TAR, layer)).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}]}}"#,
        media_type::IMAGE_MANIFEST,
        layers.join(",")
    )
    .into_bytes();
    let descriptor =
        Descriptor::new(media_type::IMAGE_MANIFEST, Digest::of(&manifest), manifest.len() as u64);
    blobs.0.insert(descriptor.digest, manifest.clone());
    (descriptor, manifest)
}

/// A corpus of plain files: each an image of one layer.
pub(super) fn files(contents: &[&[u8]]) -> Corpus {
    let mut blobs = Blobs::default();
    let layer = |bytes: &&[u8]| Descriptor::new("a/b", Digest::of(bytes), bytes.len() as u64);
    let layers: Vec<Descriptor> = contents.iter().map(layer).collect();
    for (layer, bytes) in layers.iter().zip(contents) {
        blobs.0.insert(layer.digest, bytes.to_vec());
    }
    let blobs = Arc::new(blobs);
    let mut corpus = Corpus::new();
    for (at, layer) in layers.iter().enumerate() {
        corpus.add_blob(format!("file {at}"), layer, Arc::clone(&blobs) as Arc<dyn Contents>);
    }
    corpus
}

pub(super) fn measure(granularities: &[&str]) -> Measure {
    let granularities = granularities.iter().map(|text| text.parse::<Granularity>().unwrap());
    Measure::new().granularities(granularities).threads(2)
}

pub(super) fn run(measure: &Measure, corpus: &Corpus) -> Measurement {
    measure.run(corpus, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// The report as text, without its times.
pub(super) fn text(mut report: Report) -> String {
    report.times = None;
    serde_json::to_string_pretty(&report).unwrap()
}

/// A tar of files.
pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Bytes that nothing compresses.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Random::new(seed).fill(&mut bytes);
    bytes
}
