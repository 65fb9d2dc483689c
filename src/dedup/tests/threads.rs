//! Several threads on one blob: what they find is what one of them finds.

use std::ops::ControlFlow;

use super::support::{files, gzip, is_lent, measure, noise, run, tar, text, zstd};
use crate::dedup::{Chunker, Granularity, Measure};

const GRANULARITIES: [&str; 7] = [
    "file",
    "fixed:1000",
    "fixed:4Ki@file",
    "fastcdc:4Ki",
    "fastcdc:64-4096-1048576",
    "mincdc:16Ki",
    "mincdc:4Ki@file",
];

/// More than a window of several threads, in which chunks of every kind meet soon, late, or never.
fn layer() -> Vec<u8> {
    let text: Vec<u8> = b"line after line\n".iter().copied().cycle().take(3_000_001).collect();
    let zeros = vec![0; 7_000_003];
    let (one, two) = (noise(1, 9_000_000), noise(2, 2_000_000));
    let small: Vec<(String, Vec<u8>)> =
        (0..400).map(|seed| (format!("d/{seed}"), noise(seed % 300, 3000))).collect();
    let mut files: Vec<(&str, &[u8])> =
        vec![("one", &one), ("zeros", &zeros), ("text", &text), ("two", &two)];
    files.extend(small.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
    tar(&files)
}

#[test]
fn one_blob_is_the_same_on_many_threads() {
    let layer = layer();
    // Read and lent: of each kind of blob one is lent by its digest.
    let changed = (0..).map(|byte| [&layer[..], &[byte]].concat());
    let lent = changed.clone().find(|bytes| is_lent(bytes)).unwrap();
    let read = changed.clone().find(|bytes| !is_lent(bytes)).unwrap();
    for stored in [lent, read, gzip(&layer), zstd(&layer)] {
        let corpus = files(&[&stored]);
        let measure = measure(&GRANULARITIES).pack_one_in(7);
        let alone = text(run(&measure.clone().threads(1), &corpus).report());
        assert!(!alone.contains("\"incomplete\": true"), "not all of it was measured");
        for threads in [2, 3, 8, usize::MAX] {
            let together = text(run(&measure.clone().threads(threads), &corpus).report());
            assert!(alone == together, "{threads} threads find something else");
        }
    }
}

/// Chunks of 3,000 bytes that begin with a one; anywhere else it cuts where it must not.
#[derive(Debug)]
struct Odd;

impl Chunker for Odd {
    fn name(&self) -> String {
        "odd".into()
    }

    fn max_size(&self) -> usize {
        5000
    }

    fn cut(&self, bytes: &[u8]) -> usize {
        if bytes.first() == Some(&1) { bytes.len().min(3000) } else { 0 }
    }
}

/// Who begins in the middle is there by a guess: what he finds wrong is nothing until the chunks before lead there.
#[test]
fn a_guess_is_never_an_error() {
    let mut bytes = vec![0; 12 << 20];
    bytes.iter_mut().step_by(3000).for_each(|byte| *byte = 1);
    let measure = Measure::new().granularities([Granularity::chunks(Odd)]);
    let measured = |bytes: &[u8], threads| {
        measure.clone().threads(threads).run(&files(&[bytes]), &mut |_| ControlFlow::Continue(()))
    };
    let alone = measured(&bytes, 1).unwrap().report();
    assert_eq!(alone.granularities[1].units, (12_u64 << 20).div_ceil(3000));
    assert_eq!(text(alone), text(measured(&bytes, 6).unwrap().report()));
    // One that is met is one on any number of threads.
    bytes[3000 * 2000] = 0;
    let message = measured(&bytes, 1).unwrap_err().to_string();
    assert!(message.contains("chunker=odd, length=0"), "{message}");
    assert!(measured(&bytes, 6).unwrap_err().to_string().contains("chunker=odd, length=0"));
}
