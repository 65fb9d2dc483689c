//! Content that is damaged, hostile or merely odd: bounded, reported, and never a wrong total in silence.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::support::{Blobs, files, gzip, image, measure, noise, run, tar, zstd};
use crate::Digest;
use crate::dedup::{Contents, Corpus, FindingKind, Report};
use crate::oci::Descriptor;

/// The report of one plain file, in which every granularity has the same bytes; the findings as (kind, incomplete).
fn report(bytes: &[u8]) -> (Report, Vec<(FindingKind, bool)>) {
    let measurement = run(&measure(&["file", "fixed:512", "fastcdc:64-256-1024@file"]), &files(&[bytes]));
    let report = measurement.report();
    for found in &report.granularities {
        assert_eq!(found.bytes, report.corpus.plain_logical_bytes, "{}", found.name);
    }
    let findings: Vec<_> = report.findings.iter().map(|found| (found.kind, found.incomplete)).collect();
    assert_eq!(measurement.is_incomplete(), findings.iter().any(|(_, incomplete)| *incomplete));
    (report, findings)
}

fn a_tar() -> Vec<u8> {
    tar(&[("one", &noise(1, 5000)), ("two", &noise(2, 700))])
}

#[test]
fn compressed_streams_that_are_broken_are_told() {
    let plain = a_tar();
    let (gz, zst) = (gzip(&plain), zstd(&plain));
    let cut = |bytes: &[u8], by: usize| bytes[..bytes.len() - by].to_vec();
    let mut flipped = gz.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    let cases: Vec<(&str, Vec<u8>, FindingKind, bool)> = vec![
        ("gzip cut in its trailer", cut(&gz, 3), FindingKind::Truncated, true),
        ("gzip cut in its middle", cut(&gz, gz.len() / 2), FindingKind::Truncated, true),
        ("zstd cut", cut(&zst, 3), FindingKind::Truncated, true),
        ("gzip with a bit flipped", flipped, FindingKind::BrokenCompression, true),
        ("gzip and zeros", [gz.clone(), vec![0; 700]].concat(), FindingKind::TrailingGarbage, false),
        ("gzip and garbage", [gz.clone(), b"garbage".to_vec()].concat(), FindingKind::TrailingGarbage, true),
        ("zstd and garbage", [zst, b"garbage".to_vec()].concat(), FindingKind::BrokenCompression, true),
        ("a second member cut", [gz.clone(), cut(&gz, 9)].concat(), FindingKind::Truncated, true),
        ("no end of empty members", gzip(b"").repeat(20_000), FindingKind::BrokenCompression, true),
        ("xz", b"\xfd7zXZ\0and so on".to_vec(), FindingKind::OtherCompression, false),
        ("zip", b"PK\x03\x04and so on".to_vec(), FindingKind::OtherCompression, false),
    ];
    for (name, bytes, kind, incomplete) in cases {
        let (report, findings) = report(&bytes);
        assert!(findings.contains(&(kind, incomplete)), "{name}: {:?}", report.findings);
        assert_eq!(report.corpus.incomplete_blobs, u64::from(incomplete), "{name}");
    }
    assert_eq!(report(&gz).1, []);
    let with_empty = [gzip(b"").repeat(500), gz].concat();
    let (found, findings) = report(&with_empty);
    assert_eq!((found.corpus.plain_stored_bytes, findings), (plain.len() as u64, vec![]));
}

#[test]
fn tars_that_are_broken_are_measured_whole() {
    let plain = a_tar();
    let mut no_header = plain.clone();
    no_header[512 + 5120 + 20] ^= 1;
    let cases: Vec<(&str, Vec<u8>, Vec<FindingKind>)> = vec![
        ("as it is", plain.clone(), vec![]),
        ("without its end", plain[..plain.len() - 1024].to_vec(), vec![]),
        ("cut in a content", plain[..3000].to_vec(), vec![FindingKind::TruncatedTar]),
        ("cut in a header", plain[..5700].to_vec(), vec![FindingKind::TruncatedTar]),
        ("cut in the padding", plain[..5550].to_vec(), vec![FindingKind::TruncatedTar]),
        ("a damaged header", no_header, vec![FindingKind::BrokenTar]),
        ("garbage behind it", [plain.clone(), b"garbage".to_vec()].concat(), vec![FindingKind::TrailingData]),
        ("zeros behind it", [plain.clone(), vec![0; 9999]].concat(), vec![]),
        ("two in one", [plain[..plain.len() - 512].to_vec(), plain.clone()].concat(), vec![]),
    ];
    for (name, bytes, expected) in cases {
        let (report, findings) = report(&bytes);
        let expected: Vec<_> = expected.into_iter().map(|kind| (kind, false)).collect();
        assert_eq!(findings, expected, "{name}");
        assert_eq!(report.corpus.plain_logical_bytes, bytes.len() as u64, "{name}");
    }
    let twice = [plain[..plain.len() - 512].to_vec(), plain].concat();
    assert_eq!(report(&twice).0.inputs[0].files, Some(4), "a gap of one block ends nothing");
}

#[test]
fn bombs_are_measured_up_to_a_bound() {
    let bomb = zstd(&vec![0; 200 << 20]);
    assert!(bomb.len() < 40_000);
    let measurement = run(&measure(&["file"]), &files(&[&bomb]));
    let report = measurement.report();
    assert_eq!(report.findings[0].kind, FindingKind::Bomb);
    assert!(report.findings[0].message.contains("limit_of_ratio=1100"), "{:?}", report.findings);
    assert!(
        report.corpus.plain_stored_bytes <= (64 << 20) + (1 << 20),
        "{}",
        report.corpus.plain_stored_bytes
    );
    assert!(measurement.is_incomplete());
    let report = run(&measure(&["file"]).max_plain_bytes(1000), &files(&[&gzip(&noise(1, 5000))])).report();
    assert!(report.findings[0].message.contains("limit_of_bytes=1000"), "{:?}", report.findings);
    // With the limits raised it is measured.
    let measurement = run(&measure(&["file"]).max_ratio(u64::MAX), &files(&[&bomb]));
    assert!(!measurement.is_incomplete());
    assert_eq!(measurement.report().corpus.plain_stored_bytes, 200 << 20);
}

#[test]
fn archives_within_are_opened_as_deep_as_was_asked() {
    let (one, two) = (noise(1, 5000), noise(2, 6000));
    let inner = tar(&[("one", &one), ("two", &two)]);
    let middle = tar(&[("inner.tar", &inner), ("again", &one)]);
    let outer = tar(&[("middle.tar", &middle), ("inner.tgz", &gzip(&inner)), ("one", &one)]);
    let files_at = |depth| {
        let measurement = run(&measure(&["file", "fixed:512@file"]).nested(depth), &files(&[&outer]));
        let report = measurement.report();
        assert_eq!(report.granularities[1].bytes, outer.len() as u64);
        assert_eq!(report.granularities[2].bytes, outer.len() as u64);
        let closed = report.findings.iter().find(|found| found.kind == FindingKind::NestedArchives).unwrap();
        (report.inputs[0].files.unwrap(), closed.message.clone())
    };
    let (files, closed) = files_at(0);
    assert_eq!(files, 3);
    assert!(closed.contains("count=2"), "{closed}");
    let (files, closed) = files_at(1);
    assert_eq!(files, 4);
    assert!(closed.contains("count=2"), "{closed}");
    let (files, closed) = files_at(5);
    assert_eq!(files, 5);
    assert!(closed.contains("count=1"), "{closed}");
    let cut = run(&measure(&["file"]).nested(2), &super::support::files(&[&outer[..4000]])).report();
    assert_eq!(cut.granularities[1].bytes, 4000);
}

#[test]
fn long_names_and_sparse_files_are_understood() {
    let long = "directory/".repeat(30) + "file";
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6000);
    builder.append_data(&mut header, &long, noise(1, 6000).as_slice()).unwrap();
    builder.append_pax_extensions([("path", "from/pax".as_bytes()), ("size", b"600")]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    // The entry that the extended header gives a size has it.
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(noise(2, 600));
    bytes.extend([0; 424]);
    // A sparse file with one more block of its map.
    let mut sparse = [0; 512];
    sparse[..6].copy_from_slice(b"sparse");
    sparse[124..135].copy_from_slice(b"00000001000");
    sparse[156] = b'S';
    sparse[257..265].copy_from_slice(b"ustar  \0");
    sparse[482] = 1;
    sparse[148..156].fill(b' ');
    let sum: u32 = sparse.iter().map(|byte| u32::from(*byte)).sum();
    write!(&mut sparse[148..155], "{sum:06o}\0").unwrap();
    bytes.extend(sparse);
    bytes.extend([0; 512]);
    bytes.extend([b'x'; 512]);
    bytes.extend([0; 1024]);
    let corpus = files(&[&bytes, &[b"-".as_slice(), &bytes].concat()]);
    let mut units = Vec::new();
    let mut sink = |unit: &crate::dedup::UnitRecord<'_>| {
        if unit.granularity == "file" && unit.image == "file 0" {
            units.push((unit.path.unwrap_or("-").to_owned(), unit.length));
        }
        Ok(())
    };
    let measurement =
        measure(&["file"]).units(&corpus, &mut sink, &mut |_| ControlFlow::Continue(())).unwrap();
    let kinds: Vec<_> = measurement.report().findings.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [FindingKind::SparseFiles]);
    let end = long[long.len() - 254..].to_owned();
    let structure = bytes.len() as u64 - 6000 - 600 - 512;
    let expected = [(end, 6000), ("from/pax".into(), 600), ("sparse".into(), 512), ("-".into(), structure)];
    assert_eq!(units, expected);
}

/// A place that fails, or has something else than it says.
struct Failing(u64);

impl Contents for Failing {
    fn open(&self, _: &Descriptor) -> std::io::Result<Option<Box<dyn std::io::Read + Send + '_>>> {
        struct Fails(u64);
        impl std::io::Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let count = buffer.len().min(usize::try_from(self.0).unwrap());
                self.0 -= count as u64;
                if count == 0 { Err(std::io::Error::other("the disk is gone")) } else { Ok(count) }
            }
        }
        Ok(Some(Box::new(Fails(self.0))))
    }
}

#[test]
fn places_that_fail_are_findings() {
    let layer = Descriptor::new("a/b", Digest::of(b"x"), 10_000);
    let mut corpus = Corpus::new();
    corpus.add_blob("x", &layer, Arc::new(Failing(3000)));
    let report = run(&measure(&["file"]), &corpus).report();
    assert_eq!(report.findings[0].kind, FindingKind::Unreadable);
    assert!(report.findings[0].message.contains("the disk is gone"));
    assert_eq!(report.corpus.plain_stored_bytes, 3000);

    let mut blobs = Blobs::default();
    blobs.0.insert(layer.digest, vec![1; 9999]);
    let mut corpus = Corpus::new();
    corpus.add_blob("x", &layer, Arc::new(blobs));
    let report = run(&measure(&["file"]), &corpus).report();
    assert_eq!(report.findings[0].kind, FindingKind::SizeDiffers);
    assert!(report.findings[0].incomplete);
}

#[test]
fn missing_content_and_broken_manifests_are_findings() {
    let mut blobs = Blobs::default();
    let (descriptor, manifest) = image(&mut blobs, &[b"layer"], None);
    blobs.0.remove(&Digest::of(b"layer"));
    let blobs = Arc::new(blobs);
    let mut corpus = Corpus::new();
    corpus.add_image("one", &descriptor, &manifest, &[], blobs.clone());
    corpus.add_image("two", &descriptor, b"no json", &[], blobs);
    let measurement = run(&measure(&["file"]), &corpus);
    let report = measurement.report();
    let mut kinds: Vec<_> = report.findings.iter().map(|found| found.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [FindingKind::Missing, FindingKind::BrokenManifest]);
    assert!(measurement.is_incomplete());
    assert_eq!((report.corpus.unmeasured_blobs, report.corpus.images), (1, 2));
    let layer = report.inputs.iter().find(|input| input.role == "layer").unwrap();
    assert_eq!((layer.encoding, layer.size, layer.plain_bytes), (None, 5, 0));
}

/// Large files have their size in base 256, which small ones may have too.
#[test]
fn sizes_in_base_256_are_read() {
    let content = noise(1, 3000);
    let mut bytes = tar(&[("f", &content)]);
    bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0xb8]);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let found = run(&measure(&["file"]), &files(&[&bytes, &content])).report();
    assert_eq!(found.findings, []);
    assert_eq!((found.inputs[0].files, found.granularities[1].inter_image_bytes), (Some(1), 3000));
}

/// An archive within another that is cut takes nothing of what follows it.
#[test]
fn an_inner_archive_ends_where_its_file_ends() {
    let (content, next) = (noise(1, 3000), noise(2, 2000));
    let inner = tar(&[("a", &content)]);
    let outer = tar(&[("inner.tar", &inner[..1512]), ("b", &next)]);
    let found = run(&measure(&["file"]).nested(1), &files(&[&outer, &next])).report();
    assert_eq!((found.inputs[0].files, found.granularities[1].inter_image_bytes), (Some(2), 2000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a layer, every byte that comes out of it is in every granularity.
    #[test]
    fn no_damage_loses_bytes(
        compression in 0_u8..3,
        flips in proptest::collection::vec((0_usize..1 << 20, 1_u8..), 0..8),
        cut in 0_usize..9000,
        nested in 0_u32..3,
    ) {
        let inner = tar(&[("in", &noise(3, 1500))]);
        let plain = tar(&[("one", &noise(1, 2500)), ("inner.tar", &inner), ("two", &noise(2, 700))]);
        let mut bytes = match compression { 0 => plain, 1 => gzip(&plain), _ => zstd(&plain) };
        for (at, flip) in flips {
            let at = at % bytes.len();
            bytes[at] ^= flip;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 2).max(1));
        let measure = measure(&["file", "fixed:512", "mincdc:64-200@file"]).nested(nested);
        let report = run(&measure, &files(&[&bytes])).report();
        for found in &report.granularities {
            prop_assert_eq!(found.bytes, report.corpus.plain_logical_bytes);
            prop_assert_eq!(found.bytes, found.unique_bytes + found.intra_image_bytes + found.inter_image_bytes);
        }
    }
}
