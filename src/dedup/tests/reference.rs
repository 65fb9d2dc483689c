//! The same figures, found in the most simple-minded way: all units in memory, compared byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::Digest;
use crate::dedup::granularity::{Granularity, Kind};
use crate::dedup::{GranularityFigures, HistogramRow};

/// A blob of an image: its stored bytes, and whether it is a layer.
pub(super) type Reference<'a> = (&'a [u8], bool);

/// Each image with its blobs.
pub(super) fn check(granularity: &Granularity, images: &[Vec<Reference<'_>>], found: &GranularityFigures) {
    let mut units: BTreeMap<Vec<u8>, BTreeMap<usize, u64>> = BTreeMap::new();
    let (mut plain_logical, mut plain_stored, mut stored, mut recipe_entries) = (0, 0, 0, 0);
    let mut seen = BTreeSet::new();
    for (at, image) in images.iter().enumerate() {
        for (blob, opens) in image {
            let plain = if *opens { plain(blob) } else { blob.to_vec() };
            let of_blob = divide(granularity, blob, &plain, *opens);
            plain_logical += plain.len() as u64;
            if seen.insert(Digest::of(blob)) {
                stored += blob.len() as u64;
                plain_stored += plain.len() as u64;
                recipe_entries += of_blob.len() as u64;
            }
            for unit in of_blob {
                *units.entry(unit).or_default().entry(at).or_default() += 1;
            }
        }
    }
    let name = granularity.name();
    type Each<'a> = &'a dyn Fn(&[u8], &BTreeMap<usize, u64>) -> u64;
    let sum = |each: Each<'_>| -> u64 { units.iter().map(|(unit, images)| each(unit, images)).sum() };
    let len = |unit: &[u8]| if granularity.is_blob() { length_of_blob(unit) } else { unit.len() as u64 - 1 };
    let refs = |images: &BTreeMap<usize, u64>| images.values().sum::<u64>();
    assert_eq!(found.units, sum(&|_, images| refs(images)), "{name}");
    assert_eq!(found.bytes, plain_logical, "{name}");
    assert_eq!(found.bytes, sum(&|unit, images| len(unit) * refs(images)), "{name}");
    assert_eq!(found.unique_units, units.len() as u64, "{name}");
    let unique_bytes = sum(&|unit, _| len(unit));
    assert_eq!(found.unique_bytes, unique_bytes, "{name}");
    assert_eq!(found.recipe_entries, recipe_entries, "{name}");
    assert_eq!(found.index_bytes, 56 * found.unique_units + 36 * recipe_entries, "{name}");
    let intra = sum(&|unit, images| len(unit) * images.values().map(|times| times - 1).sum::<u64>());
    assert_eq!(found.intra_image_bytes, intra, "{name}");
    let inter = sum(&|unit, images| len(unit) * (images.len() as u64 - 1));
    assert_eq!(found.inter_image_bytes, inter, "{name}");
    assert_eq!(found.bytes, unique_bytes + intra + inter, "{name}");
    let is_zeros = |unit: &[u8]| unit[0] == CONTENT && unit[1..].iter().all(|byte| *byte == 0);
    if !granularity.is_blob() {
        let zeros = sum(&|unit, images| if is_zeros(unit) { len(unit) * refs(images) } else { 0 });
        assert_eq!(found.zero_bytes, zeros, "{name}");
    }
    let ratio = |over: u64, under: u64| (under > 0).then(|| over as f64 / under as f64);
    assert_eq!(found.ratio_logical.map(crate::dedup::Ratio::value), ratio(plain_logical, unique_bytes));
    assert_eq!(found.ratio_beyond_blobs.map(crate::dedup::Ratio::value), ratio(plain_stored, unique_bytes));
    assert_eq!(found.average_unit.map(crate::dedup::Ratio::value), ratio(plain_logical, found.units));
    assert_eq!(found.count_ratio.map(crate::dedup::Ratio::value), ratio(found.units, found.unique_units));
    let mut rows: BTreeMap<u64, HistogramRow> = BTreeMap::new();
    for (unit, images) in &units {
        let references = refs(images);
        let mut power = 1;
        while power * 2 <= references {
            power *= 2;
        }
        let row = rows.entry(power).or_default();
        row.references = power;
        row.unique_units += 1;
        row.unique_bytes += len(unit);
        row.referenced_bytes += len(unit) * references;
    }
    assert_eq!(found.histogram, rows.into_values().collect::<Vec<_>>(), "{name}");
    if let Some(packed) = found.packed_bytes
        && matches!(granularity.0, Kind::Chunks { in_files: false, .. })
    {
        let alone =
            |unit: &[u8]| zstd::bulk::compress(&unit[1..], 3).unwrap().len().min(unit.len() - 1) as u64;
        assert_eq!(packed, sum(&|unit, _| alone(unit)), "{name}");
        assert_eq!(found.packed_error95, Some(0), "{name}");
        let effective = ratio(stored, packed + found.index_bytes);
        assert_eq!(found.effective.map(crate::dedup::Ratio::value), effective, "{name}");
    }
}

/// Structure never is the same unit as a content.
const CONTENT: u8 = 0;
const STRUCTURE: u8 = 1;

fn length_of_blob(unit: &[u8]) -> u64 {
    u64::from_be_bytes(unit[..8].try_into().unwrap())
}

fn plain(blob: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if blob.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut plain).unwrap();
    } else if blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        plain = zstd::decode_all(blob).unwrap();
    } else {
        plain = blob.to_vec();
    }
    plain
}

fn content(bytes: &[u8]) -> Vec<u8> {
    [&[CONTENT], bytes].concat()
}

fn divide(granularity: &Granularity, blob: &[u8], plain: &[u8], opens: bool) -> Vec<Vec<u8>> {
    match &granularity.0 {
        Kind::Blob => vec![[&(plain.len() as u64).to_be_bytes(), Digest::of(blob).as_bytes()].concat()],
        Kind::File => {
            let (contents, structure) = contents(plain, opens);
            contents.iter().map(|bytes| content(bytes)).chain(structure).collect()
        }
        Kind::Chunks { chunker, in_files } => {
            let cut = |mut bytes: &[u8]| {
                let mut chunks = Vec::new();
                while !bytes.is_empty() {
                    let (chunk, rest) = bytes.split_at(chunker.cut(bytes));
                    chunks.push(content(chunk));
                    bytes = rest;
                }
                chunks
            };
            if !in_files {
                return cut(plain);
            }
            let (contents, structure) = contents(plain, opens);
            contents.iter().flat_map(|bytes| cut(bytes)).chain(structure).collect()
        }
    }
}

/// The contents of files, and everything else, if there is any.
fn contents(plain: &[u8], opens: bool) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
    let mut archive = tar::Archive::new(plain);
    let mut ranges = Vec::new();
    let is_tar = opens && plain.get(257..262) == Some(b"ustar");
    if is_tar {
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let start = usize::try_from(entry.raw_file_position()).unwrap();
            ranges.push(start..start + usize::try_from(entry.size()).unwrap());
        }
    } else {
        ranges.push(0..plain.len());
    }
    ranges.retain(|range| !range.is_empty());
    let mut structure = vec![STRUCTURE];
    let mut at = 0;
    for range in &ranges {
        structure.extend_from_slice(&plain[at..range.start]);
        at = range.end;
    }
    structure.extend_from_slice(&plain[at..]);
    let contents = ranges.into_iter().map(|range| plain[range].to_vec()).collect();
    (contents, (structure.len() > 1).then_some(structure))
}
