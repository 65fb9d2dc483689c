//! A layer of any bytes: it is measured without a panic, in bounded memory, and every plain byte is in every granularity. The first byte of
//! the input says how deep archives are opened, and whether the rest is compressed first.
#![no_main]

use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use orlop::Digest;
use orlop::dedup::{Contents, Corpus, Granularity, Measure};
use orlop::oci::{Descriptor, media_type};

struct Bytes(Vec<u8>);

impl Contents for Bytes {
    fn open(&self, _: &Descriptor) -> io::Result<Option<Box<dyn Read + Send + '_>>> {
        Ok(Some(Box::new(Cursor::new(&self.0))))
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    // A tar whose header is not guessed: the checksum of the first block is put right.
    let mut bytes = bytes.to_vec();
    if first & 4 != 0 && bytes.len() >= 512 {
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    let layer = Descriptor::new(media_type::LAYER_TAR, Digest::of(&bytes), bytes.len() as u64);
    let stored = bytes.len() as u64;
    let mut corpus = Corpus::new();
    corpus.add_blob("layer", &layer, Arc::new(Bytes(bytes)));
    let granularities = ["file", "fixed:64", "mincdc:64-128@file", "fastcdc:64-256-1024"];
    let measure = Measure::new()
        .granularities(granularities.map(|name| name.parse::<Granularity>().unwrap()))
        .nested(u32::from(first & 3))
        .max_plain_bytes(1 << 20)
        .memory(if first & 8 == 0 { 1 << 20 } else { 4000 })
        .pack_one_in(u32::from(first >> 4 & 1))
        .threads(1);
    let report = measure.run(&corpus, &mut |_| ControlFlow::Continue(())).unwrap().report();
    assert_eq!(report.corpus.stored_bytes, stored);
    for found in &report.granularities {
        assert_eq!(found.bytes, report.corpus.plain_logical_bytes, "{}", found.name);
        if found.exact {
            assert_eq!(found.bytes, found.unique_bytes + found.intra_image_bytes + found.inter_image_bytes);
        }
    }
    let plain = report.corpus.plain_logical_bytes;
    let is_told = report.findings.iter().any(|finding| finding.incomplete);
    assert!(report.inputs[0].encoding != Some("none") || plain == stored || is_told);
    serde_json::to_string(&report).unwrap();
});
