//! Sets whose figures are known because they were made so.

use super::support::{files, gzip, measure, noise, run, tar};

const KIB: usize = 1024;

/// Distinct blocks, each repeated; no other unit may come out.
#[test]
fn repeated_blocks_are_found_at_their_size() {
    let blocks: Vec<Vec<u8>> = (0..10).map(|seed| noise(seed, 4 * KIB)).collect();
    // Block n stands n + 1 times in the first file; the second file has each once.
    let one: Vec<u8> = (0..10).flat_map(|n| blocks[n].repeat(n + 1)).collect();
    let two = blocks.concat();
    let report = run(&measure(&["fixed:4Ki"]), &files(&[&one, &two])).report();
    let fixed = &report.granularities[1];
    assert_eq!((fixed.units, fixed.unique_units), (65, 10));
    assert_eq!((fixed.bytes, fixed.unique_bytes), (65 * 4096, 10 * 4096));
    assert_eq!(fixed.intra_image_bytes, 45 * 4096);
    assert_eq!(fixed.inter_image_bytes, 10 * 4096);
    assert_eq!(fixed.saved_percent, Some(84.62));
    let rows: Vec<(u64, u64)> =
        fixed.histogram.iter().map(|row| (row.references, row.unique_units)).collect();
    assert_eq!(rows, [(2, 2), (4, 4), (8, 4)]);
    // Noise cannot be packed, and zstd alone would make it larger.
    assert_eq!(fixed.packed_bytes, Some(10 * 4096));
    assert_eq!(fixed.index_bytes, 10 * 56 + 65 * 36);
    let blob = &report.granularities[0];
    assert_eq!((blob.unique_bytes, blob.intra_image_bytes, blob.inter_image_bytes), (65 * 4096, 0, 0));
}

/// One byte in front moves every block, and no content-defined chunk but the first few.
#[test]
fn shifts_hide_from_fixed_blocks_alone() {
    let base = noise(1, 1024 * KIB);
    let shifted = [b"x".as_slice(), &base].concat();
    let granularities = ["fixed:4Ki", "fastcdc:1024-4096-16384", "mincdc:4Ki"];
    let report = run(&measure(&granularities), &files(&[&base, &shifted])).report();
    let unique: Vec<u64> = report.granularities.iter().map(|found| found.unique_bytes).collect();
    assert_eq!(unique[1], 2 * 1_048_576 + 1, "nothing is shared");
    for unique in &unique[2..] {
        assert!(*unique < 1_048_577 + 4 * 16_384, "{unique}");
    }
}

#[test]
fn zeros_are_told() {
    let mut bytes = noise(1, 8 * KIB);
    bytes.extend(vec![0; 40 * KIB]);
    let report = run(&measure(&["file", "fixed:4Ki"]), &files(&[&bytes])).report();
    assert_eq!(report.granularities[2].zero_bytes, 40 * 1024);
    assert_eq!(report.granularities[2].unique_units, 3);
    assert_eq!(report.granularities[1].zero_bytes, 0);
    let report = run(&measure(&["file"]), &files(&[&vec![0; 9 << 20]])).report();
    assert_eq!(report.granularities[0].zero_bytes, 9 << 20);
    assert_eq!(report.granularities[1].zero_bytes, 9 << 20);
    assert_eq!(report.by_class[0].class, "zeros");
}

/// Files that are the same under different names, in layers that are compressed differently.
#[test]
fn files_are_found_through_compression() {
    let (big, small) = (noise(1, 100 * KIB), noise(2, 10 * KIB));
    let one = tar(&[("usr/bin/big", &big), ("etc/small", &small), ("empty", b"")]);
    let two = gzip(&tar(&[("opt/copy", &big), ("./usr/bin/big", &big)]));
    let report = run(&measure(&["file"]), &files(&[&one, &two])).report();
    let file = &report.granularities[1];
    // Each layer has its structure as one unit.
    assert_eq!((file.units, file.unique_units), (4 + 2, 2 + 2));
    let structures: u64 = report.inputs.iter().map(|input| input.structure_bytes).sum();
    assert_eq!(file.unique_bytes, 110 * 1024 + structures);
    assert_eq!(report.inputs[0].structure_bytes, one.len() as u64 - 110 * 1024);
    assert_eq!(report.inputs[0].files, Some(2));
    assert_eq!(report.inputs[1].encoding, Some("gzip"));
    assert_eq!(report.wasted_files.len(), 1);
    let wasted = &report.wasted_files[0];
    assert_eq!(wasted.paths, ["opt/copy", "usr/bin/big"]);
    assert_eq!((wasted.references, wasted.wasted_bytes), (3, 200 * 1024));
    assert_eq!((wasted.image_count, wasted.images.as_slice()), (2, [0, 1].as_slice()));
}

#[test]
fn views_of_images_are_exact() {
    let [a, b, c] = [1, 2, 3].map(|seed| noise(seed, 4 * KIB));
    let contents = [a.clone(), [a.clone(), b.clone()].concat(), [b, c.clone(), c].concat()];
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let report = run(&measure(&["fixed:4Ki"]).shuffles(50, 7), &files(&contents)).report();
    let matrix = &report.matrices[1];
    assert_eq!(matrix.shared_bytes, [[4096, 4096, 0], [4096, 8192, 4096], [0, 4096, 8192]]);
    let value = |cell: &Option<crate::dedup::Ratio>| cell.unwrap().value();
    assert!((value(&matrix.jaccard[1][2]) - 1.0 / 3.0).abs() < 1e-9);
    assert!((value(&matrix.containment[0][1]) - 1.0).abs() < 1e-9);
    assert!((value(&matrix.containment[1][0]) - 0.5).abs() < 1e-9);
    assert_eq!(matrix.order, [0, 1, 2]);
    let curve =
        report.growth.iter().find(|curve| curve.granularity == "fixed/4096" && curve.order == "given");
    let points: Vec<(u64, u64)> =
        curve.unwrap().points.iter().map(|point| (point.logical_bytes, point.unique_bytes)).collect();
    assert_eq!(points, [(4096, 4096), (3 * 4096, 2 * 4096), (6 * 4096, 3 * 4096)]);
    let shuffled =
        report.growth.iter().find(|curve| curve.granularity == "fixed/4096" && curve.order == "shuffled");
    let points = &shuffled.unwrap().points;
    assert_eq!((points[0].least_unique_bytes, points[0].most_unique_bytes), (4096, 8192));
    assert_eq!((points[1].least_unique_bytes, points[1].most_unique_bytes), (8192, 3 * 4096));
    assert_eq!((points[2].least_unique_bytes, points[2].most_unique_bytes), (3 * 4096, 3 * 4096));
    assert_eq!(points[0].image, None);
}
