//! Every figure against a naive implementation, over corpora of all shapes.

use std::sync::Arc;

use proptest::prelude::*;

use super::reference::{Reference, check};
use super::support::{Blobs, gzip, image, measure, noise, run, tar, text, zstd};
use crate::dedup::Corpus;

const GRANULARITIES: [&str; 7] = [
    "file",
    "fixed:512",
    "fixed:100@file",
    "fastcdc:64-256-1024",
    "fastcdc:256-1024-4096@file",
    "mincdc:64-200",
    "mincdc:1000@file",
];

/// Files as their content (which of a few) and size; how the layer is compressed.
type Layer = (Vec<(u8, usize)>, u8);

fn bytes_of((files, compression): &Layer) -> Vec<u8> {
    let content = |(what, size): &(u8, usize)| match what {
        0 => vec![0; *size],
        1 => b"the same line\n".iter().copied().cycle().take(*size).collect(),
        what => noise(u64::from(*what), *size),
    };
    let contents: Vec<(String, Vec<u8>)> =
        files.iter().enumerate().map(|(at, file)| (format!("dir/file{at}"), content(file))).collect();
    let listed: Vec<(&str, &[u8])> =
        contents.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    match compression {
        0 => tar(&listed),
        1 => gzip(&tar(&listed)),
        2 => zstd(&tar(&listed)),
        3 => {
            // Two members.
            let whole = tar(&listed);
            let (one, other) = whole.split_at(whole.len() / 2);
            [gzip(one), gzip(other)].concat()
        }
        // No tar.
        _ => contents.into_iter().flat_map(|(_, content)| content).collect(),
    }
}

fn compare(layers: &[Layer], images: &[Vec<usize>]) {
    let layers: Vec<Vec<u8>> = layers.iter().map(bytes_of).collect();
    let mut blobs = Blobs::default();
    let mut corpus = Corpus::new();
    let mut documents = Vec::new();
    for (at, image_layers) in images.iter().enumerate() {
        let of_image: Vec<&[u8]> = image_layers.iter().map(|at| layers[*at].as_slice()).collect();
        let year = u16::try_from(at % 3).unwrap() + 2020;
        documents.push((image(&mut blobs, &of_image, Some(year)), year));
    }
    let contents = Arc::new(blobs);
    for (at, ((descriptor, manifest), _)) in documents.iter().enumerate() {
        corpus.add_image(format!("image {at}"), descriptor, manifest, &[], contents.clone());
    }
    let configs: Vec<String> =
        documents.iter().map(|(_, year)| format!(r#"{{"created":"{year}-01-02T03:04:05Z"}}"#)).collect();
    let mut all: Vec<Vec<Reference<'_>>> = Vec::new();
    for (at, image_layers) in images.iter().enumerate() {
        let mut of_image: Vec<Reference<'_>> =
            vec![(documents[at].0.1.as_slice(), false), (configs[at].as_bytes(), false)];
        of_image.extend(image_layers.iter().map(|at| (layers[*at].as_slice(), true)));
        all.push(of_image);
    }
    let measure = measure(&GRANULARITIES);
    let measurement = run(&measure, &corpus);
    let report = measurement.report();
    assert!(!measurement.is_incomplete(), "{:?}", report.findings);
    let logical: u64 = all.iter().flatten().map(|(blob, _)| blob.len() as u64).sum();
    assert_eq!(report.corpus.logical_bytes, logical);
    assert_eq!(report.corpus.stored_bytes, contents.0.values().map(|blob| blob.len() as u64).sum::<u64>());
    assert_eq!(report.corpus.images, images.len() as u64);
    for (granularity, found) in measurement.settings.rules.granularities.iter().zip(&report.granularities) {
        check(granularity, &all, found);
        assert_eq!(found.bytes, report.corpus.plain_logical_bytes);
    }
    // Neither the number of threads nor another run changes a byte.
    assert_eq!(text(run(&measure.clone().threads(1), &corpus).report()), text(report));
}

fn a_layer() -> impl Strategy<Value = Layer> {
    (proptest::collection::vec((0_u8..6, 0_usize..3000), 0..6), 0_u8..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn figures_are_those_of_the_naive_implementation(
        layers in proptest::collection::vec(a_layer(), 1..5),
        images in proptest::collection::vec(proptest::collection::vec(0_usize..100, 0..4), 0..5),
    ) {
        let images: Vec<Vec<usize>> =
            images.into_iter().map(|of| of.into_iter().map(|at| at % layers.len()).collect()).collect();
        compare(&layers, &images);
    }
}

/// Contents that are larger than what is in memory at once.
#[test]
fn large_files_are_exact_too() {
    let layers = [
        (vec![(2, 9 << 20), (3, 100), (2, 9 << 20), (0, 5 << 20)], 0),
        (vec![(4, 3 << 20), (2, 9 << 20)], 2),
    ];
    compare(&layers, &[vec![0, 1], vec![1]]);
}
