//! Layouts of pseudo-random bytes of which it is known what is there twice: the figures that a measurement must give stand
//! beside each of them.
//!
//! Content that is new is random, so that no two pieces of it are equal by chance; a duplicate is a copy on purpose. The
//! expected figures are counted while the content is made, not by looking at it afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::layout::{Compression, Layer, Layout};
use crate::parallel;
use crate::random::Random;
use crate::report::Report;
use crate::tree::Tree;

/// The size of a block, at which duplicates of the set `blocks` stand.
pub const BLOCK: u64 = 4096;
const OCTETS: &str = "application/octet-stream";

/// What is made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Options {
    /// Seed of everything.
    pub seed: u64,
    /// Images of the set `files`; blobs of the others.
    pub images: u64,
    /// Bytes of each image or blob, about.
    pub size: u64,
    /// How many files or blocks of a hundred are copies of earlier ones.
    pub duplicates: u64,
    /// How many files or blocks of a hundred are zeros.
    pub zeros: u64,
    /// Bytes in front of the content of each further blob of the set `shifts`, times its number.
    pub shift: u64,
}

/// Units of one granularity.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Units {
    /// How many there are.
    pub units: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many there are when equal ones count once.
    pub unique_units: u64,
    /// Their bytes.
    pub unique_bytes: u64,
    /// Bytes of units, equal ones too, that are zeros from end to end.
    pub zero_bytes: u64,
    /// For each unit and image its bytes, times its occurrences but one.
    pub intra_image_bytes: u64,
    /// For each unit its bytes, times the images that have it but one.
    pub inter_image_bytes: u64,
    /// How many unique units are there once, twice and so on.
    pub references: BTreeMap<u64, u64>,
}

/// Counts units by what they are known by: their bytes, and how often each image has them.
#[derive(Debug, Default)]
struct Tally(BTreeMap<Known, (u64, BTreeMap<u64, u64>)>);

/// What a unit is known by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Known {
    /// So many zeros.
    Zeros(u64),
    /// The content of this number.
    Content(u64),
    /// The headers and padding of the layer of this number.
    Structure(u64),
    /// What stands here in the content of the set `shifts`.
    Place(u64),
    /// What stands here in front of it, or across its beginning, in the blob of this number.
    Front(u64, u64),
}

impl Tally {
    /// Counts a unit of an image; one without bytes is none.
    fn add(&mut self, image: u64, known: Known, bytes: u64) {
        if bytes > 0 {
            let (_, images) = self.0.entry(known).or_insert_with(|| (bytes, BTreeMap::new()));
            *images.entry(image).or_default() += 1;
        }
    }

    fn units(&self) -> Units {
        let mut units = Units::default();
        for (known, (bytes, images)) in &self.0 {
            let (count, held) = (images.values().sum::<u64>(), images.len() as u64);
            units.units += count;
            units.bytes += count * bytes;
            units.unique_units += 1;
            units.unique_bytes += bytes;
            units.zero_bytes += if matches!(known, Known::Zeros(_)) { count * bytes } else { 0 };
            units.intra_image_bytes += (count - held) * bytes;
            units.inter_image_bytes += (held - 1) * bytes;
            *units.references.entry(count).or_default() += 1;
        }
        units
    }
}

/// Makes the sets `files`, `blocks` and `shifts` below a directory; gives the names of their layouts.
pub fn build(
    output: &Path,
    options: Options,
    compression: Compression,
    jobs: usize,
) -> Result<Vec<&'static str>> {
    ensure!(
        options.duplicates + options.zeros <= 100,
        "more than a hundred of a hundred are copies or zeros"
    );
    ensure!(
        options.images > 0 && options.size >= BLOCK,
        "nothing to make: at least one image of {BLOCK} bytes"
    );
    std::fs::create_dir_all(output).with_context(|| format!("path={}", output.display()))?;
    files(&output.join("files"), options, compression, jobs)?;
    blocks(&output.join("blocks"), options, jobs)?;
    shifts(&output.join("shifts"), options, jobs)?;
    Ok(vec!["files", "blocks", "shifts"])
}

/// What the set `files` says beside what every report says.
#[derive(Serialize)]
struct FilesExpected {
    set: &'static str,
    options: Options,
    compression: &'static str,
    /// Layers, each reference of an image counted, and their plain bytes.
    layer_references: u64,
    plain_layer_bytes_of_references: u64,
    /// Contents of files that are not empty, in all layers of all images.
    files: Units,
    /// The same, and the headers and padding of each layer as one unit.
    files_and_structure: Units,
    /// As `files`, with each layer counted once, as if it were an image.
    files_of_distinct_layers: Units,
    /// Files without content: no units.
    empty_files: u64,
}

/// A file of the set `files`.
#[derive(Clone, Copy)]
struct Made {
    known: Known,
    bytes: u64,
}

impl Made {
    fn content(self, seed: u64) -> Result<Vec<u8>> {
        let length = usize::try_from(self.bytes)?;
        Ok(match self.known {
            Known::Content(number) => Random::part(seed, number).bytes(length),
            _ => vec![0; length],
        })
    }
}

/// Images of files: one layer that all have, one of their own.
fn files(output: &Path, options: Options, compression: Compression, jobs: usize) -> Result<()> {
    let mut draw = Random::part(options.seed, u64::MAX);
    let mut contents: Vec<Made> = Vec::new();
    let mut empty = 0;
    let layers: Vec<Vec<Made>> = (0..=options.images)
        .map(|_| {
            let (mut files, mut bytes) = (Vec::new(), 0);
            while bytes < options.size / 2 {
                let file = next_file(&mut draw, &mut contents, options);
                bytes += file.bytes;
                files.push(file);
            }
            // Files without content, and files with the very same content in one layer.
            files.push(Made { known: Known::Zeros(0), bytes: 0 });
            empty += 1;
            files.extend(files.first().copied());
            files
        })
        .collect();
    let layout = Layout::create(output)?;
    let numbered: Vec<_> = layers.iter().enumerate().collect();
    let made = parallel::map(jobs, &numbered, |(number, files)| {
        let mut tree = Tree::default();
        for (at, file) in files.iter().enumerate() {
            tree.put(&format!("layer{number:03}/file{at:05}"), file.content(options.seed)?, 0o644, 0);
        }
        layout.layer(&tree, compression, 0)
    })?;
    let (common, own) = made.split_first().context("no layers")?;
    let mut manifests = Vec::new();
    for (at, layer) in own.iter().enumerate() {
        let descriptors = [common.descriptor.clone(), layer.descriptor.clone()];
        let artifact = Some("application/vnd.orlop.corpus.synthetic");
        manifests.push(layout.manifest(&format!("files:{at:03}"), artifact, None, &descriptors, None)?);
    }
    let (mut all, mut structured, mut distinct) = (Tally::default(), Tally::default(), Tally::default());
    let mut plain = 0;
    for ((number, files), layer) in numbered.iter().zip(&made) {
        let number = *number as u64;
        files.iter().for_each(|file| distinct.add(number, file.known, file.bytes));
        let content: u64 = files.iter().map(|file| file.bytes).sum();
        // The first layer is in all images, each other one in its own.
        for image in if number == 0 { 1..options.images + 1 } else { number..number + 1 } {
            plain += layer.plain;
            for file in *files {
                all.add(image, file.known, file.bytes);
                structured.add(image, file.known, file.bytes);
            }
            structured.add(image, Known::Structure(number), layer.plain - content);
        }
    }
    let expected = FilesExpected {
        set: "files",
        options,
        compression: compression.media_type(),
        layer_references: 2 * options.images,
        plain_layer_bytes_of_references: plain,
        files: all.units(),
        files_and_structure: structured.units(),
        files_of_distinct_layers: distinct.units(),
        empty_files: empty,
    };
    let report = Report::new(expected, &manifests, &made);
    layout.finish(manifests)?;
    report.write(output)?;
    Ok(())
}

fn next_file(draw: &mut Random, contents: &mut Vec<Made>, options: Options) -> Made {
    let chance = draw.below(100);
    if chance < options.zeros {
        let bytes = BLOCK * (1 + draw.below(16));
        return Made { known: Known::Zeros(bytes), bytes };
    }
    if chance < options.zeros + options.duplicates {
        let at = usize::try_from(draw.below(contents.len().max(1) as u64)).unwrap_or(0);
        if let Some(earlier) = contents.get(at) {
            return *earlier;
        }
    }
    // Most files are small, and most bytes are in large ones.
    let magnitude = 6 + draw.below(12);
    let bytes = 1 + draw.below(1 << magnitude);
    let made = Made { known: Known::Content(contents.len() as u64), bytes };
    contents.push(made);
    made
}

#[derive(Serialize)]
struct BlocksExpected {
    set: &'static str,
    options: Options,
    /// Blobs cut into blocks of a fixed size of 4096 bytes.
    fixed_4096: Units,
}

/// Blobs, no archives, of whole blocks.
fn blocks(output: &Path, options: Options, jobs: usize) -> Result<()> {
    let mut draw = Random::part(options.seed, u64::MAX - 1);
    let (mut tally, mut count) = (Tally::default(), 0);
    let plans: Vec<Vec<Known>> = (0..options.images)
        .map(|image| {
            let one = |_| {
                let chance = draw.below(100);
                let known = if chance < options.zeros {
                    Known::Zeros(BLOCK)
                } else if chance < options.zeros + options.duplicates && count > 0 {
                    Known::Content(draw.below(count))
                } else {
                    count += 1;
                    Known::Content(count - 1)
                };
                tally.add(image, known, BLOCK);
                known
            };
            (0..options.size / BLOCK).map(one).collect()
        })
        .collect();
    let expected = BlocksExpected { set: "blocks", options, fixed_4096: tally.units() };
    let blobs = |at: usize| {
        let mut blob = Vec::new();
        for &known in plans.get(at).into_iter().flatten() {
            // Another seed than that of the files, or their contents would be here again.
            blob.extend(Made { known, bytes: BLOCK }.content(!options.seed)?);
        }
        Ok(blob)
    };
    store(output, "blocks", plans.len(), blobs, expected, jobs)
}

#[derive(Serialize)]
struct ShiftsExpected {
    set: &'static str,
    options: Options,
    /// Blobs cut into blocks of a fixed size of 4096 bytes: what is moved by anything but whole blocks is not found.
    fixed_4096: Units,
    /// Bytes that are there once: no granularity can find fewer.
    unique_bytes_at_least: u64,
    /// How often chunks by content come from new bytes to known ones: each time costs a chunk or a few beyond the bytes above.
    returns_to_known_content: u64,
}

/// Blobs of one content, with ever more in front of it.
fn shifts(output: &Path, options: Options, jobs: usize) -> Result<()> {
    let content = Random::part(options.seed, u64::MAX - 2).bytes(usize::try_from(options.size)?);
    let front = |at: u64| -> Result<Vec<u8>> {
        let length = usize::try_from(at.checked_mul(options.shift).context("shifts are too large")?)?;
        Ok(Random::part(options.seed, u64::MAX - 3 - at).bytes(length))
    };
    let blob = |at: usize| Ok([front(at as u64)?, content.clone()].concat());
    let (mut tally, mut fronts) = (Tally::default(), 0);
    for at in 0..options.images {
        let before = at * options.shift;
        fronts += before;
        for begin in (0..before + options.size).step_by(usize::try_from(BLOCK)?) {
            let known = if begin >= before { Known::Place(begin - before) } else { Known::Front(at, begin) };
            tally.add(at, known, BLOCK.min(before + options.size - begin));
        }
    }
    let expected = ShiftsExpected {
        set: "shifts",
        options,
        fixed_4096: tally.units(),
        unique_bytes_at_least: options.size + fronts,
        returns_to_known_content: options.images - 1,
    };
    store(output, "shifts", usize::try_from(options.images)?, blob, expected, jobs)
}

/// Stores blobs that are no archives, one for each artifact.
fn store(
    output: &Path,
    set: &str,
    count: usize,
    blob: impl Fn(usize) -> Result<Vec<u8>> + Sync,
    expected: impl Serialize,
    jobs: usize,
) -> Result<()> {
    let layout = Layout::create(output)?;
    let numbers: Vec<usize> = (0..count).collect();
    let layers = parallel::map(jobs, &numbers, |&at| {
        let descriptor = layout.put(OCTETS, &blob(at)?)?;
        Ok(Layer { diff_id: descriptor.digest.clone(), plain: descriptor.size, descriptor })
    })?;
    let mut manifests = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let artifact = Some("application/vnd.orlop.corpus.synthetic");
        let descriptors = std::slice::from_ref(&layer.descriptor);
        manifests.push(layout.manifest(&format!("{set}:{at:03}"), artifact, None, descriptors, None)?);
    }
    let report = Report::new(expected, &manifests, &layers);
    layout.finish(manifests)?;
    report.write(output)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use serde_json::Value;

    use super::*;

    const OPTIONS: Options =
        Options { seed: 3, images: 4, size: 200_000, duplicates: 40, zeros: 10, shift: 2048 };

    /// The layers of every image of a layout, decompressed.
    fn images(layout: &Path) -> Vec<Vec<Vec<u8>>> {
        let read = |digest: &Value| {
            let encoded = digest.as_str().expect("digest").trim_start_matches("sha256:");
            fs::read(layout.join("blobs/sha256").join(encoded)).expect("blob")
        };
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index")).expect("json");
        let manifests = index["manifests"].as_array().expect("manifests");
        manifests
            .iter()
            .map(|manifest| {
                let manifest: Value = serde_json::from_slice(&read(&manifest["digest"])).expect("json");
                let layers = manifest["layers"].as_array().expect("layers");
                layers
                    .iter()
                    .map(|layer| {
                        let blob = read(&layer["digest"]);
                        let zstd = layer["mediaType"]
                            .as_str()
                            .is_some_and(|media_type| media_type.ends_with("zstd"));
                        if zstd { zstd::decode_all(blob.as_slice()).expect("zstd") } else { blob }
                    })
                    .collect()
            })
            .collect()
    }

    /// Counts in another way than the program does: by the bytes of the units.
    fn count(images: &[Vec<Vec<u8>>]) -> Value {
        let mut seen: HashMap<&[u8], BTreeMap<usize, u64>> = HashMap::new();
        for (at, units) in images.iter().enumerate() {
            for unit in units.iter().filter(|unit| !unit.is_empty()) {
                *seen.entry(unit).or_default().entry(at).or_default() += 1;
            }
        }
        let mut units = Units::default();
        for (unit, images) in &seen {
            let (bytes, count, held) = (unit.len() as u64, images.values().sum::<u64>(), images.len() as u64);
            units.units += count;
            units.bytes += bytes * count;
            units.unique_units += 1;
            units.unique_bytes += bytes;
            units.intra_image_bytes += bytes * (count - held);
            units.inter_image_bytes += bytes * (held - 1);
            units.zero_bytes += if unit.iter().all(|byte| *byte == 0) { bytes * count } else { 0 };
            *units.references.entry(count).or_default() += 1;
        }
        serde_json::to_value(units).expect("units")
    }

    fn expected(layout: &Path) -> Value {
        let text = fs::read(layout.with_extension("json")).expect("expected");
        serde_json::from_slice::<Value>(&text).expect("json")["parameters"].clone()
    }

    #[test]
    fn what_is_expected_is_what_is_there() {
        let directory = tempfile::tempdir().expect("directory");
        build(directory.path(), OPTIONS, Compression::Zstd, 2).expect("built");
        for set in ["blocks", "shifts"] {
            let layout = directory.path().join(set);
            let blocks: Vec<Vec<Vec<u8>>> = images(&layout)
                .iter()
                .map(|layers| layers.iter().flat_map(|blob| blob.chunks(4096)).map(<[u8]>::to_vec).collect())
                .collect();
            let counted = count(&blocks);
            assert_eq!(expected(&layout)["fixed_4096"], counted, "{set}");
            assert!(counted["inter_image_bytes"].as_u64() > Some(0), "{set}");
        }
        let layout = directory.path().join("files");
        let contents = |layer: &Vec<u8>| {
            let mut contents = Vec::new();
            for entry in tar::Archive::new(layer.as_slice()).entries().expect("tar") {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry.expect("entry"), &mut content).expect("content");
                contents.push(content);
            }
            contents
        };
        let files: Vec<Vec<Vec<u8>>> =
            images(&layout).iter().map(|layers| layers.iter().flat_map(contents).collect()).collect();
        let counted = count(&files);
        assert_eq!(expected(&layout)["files"], counted);
        for figure in ["intra_image_bytes", "inter_image_bytes", "zero_bytes"] {
            assert!(counted[figure].as_u64() > Some(0), "{figure}");
        }
        let plain: usize = images(&layout).iter().flatten().map(Vec::len).sum();
        assert_eq!(expected(&layout)["files_and_structure"]["bytes"], plain);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
        let directory = tempfile::tempdir().expect("directory");
        let made = |name: &str, options: Options, jobs| {
            let output = directory.path().join(name);
            build(&output, options, Compression::Gzip, jobs).expect("built");
            ["files", "blocks", "shifts"]
                .map(|set| fs::read(output.join(set).join("index.json")).expect("index"))
        };
        let first = made("first", OPTIONS, 1);
        assert_eq!(first, made("second", OPTIONS, 3));
        let other = made("other", Options { seed: 4, ..OPTIONS }, 1);
        assert!(first.iter().zip(&other).all(|(first, other)| first != other));
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        for options in [
            Options { duplicates: 60, zeros: 41, ..OPTIONS },
            Options { images: 0, ..OPTIONS },
            Options { size: 1, ..OPTIONS },
        ] {
            build(directory.path(), options, Compression::None, 1).expect_err("refused");
        }
        build(directory.path(), OPTIONS, Compression::None, 1).expect("built");
        build(directory.path(), OPTIONS, Compression::None, 1)
            .expect_err("a layout is never mixed with another");
    }
}
