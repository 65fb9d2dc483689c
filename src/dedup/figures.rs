//! Figures: sums over what was found, by the definitions of `docs/deduplication.md`.

use std::collections::BTreeMap;

use super::class::Class;
use super::granularity::Granularity;
use super::groups::{Group, Groups, References, weight};
use super::measurement::{Measurement, Took};
use super::report::{
    ClassFigures, CorpusFigures, GranularityFigures, HistogramRow, ImageFigures, Input, MediaTypeFigures,
    REPORT_VERSION, Ratio, Report, Sample, StageTime, Times, Tool, WastedFile,
};
use super::table::{LARGE, Table};
use super::views;

/// What a unique unit, and an entry of a recipe, take in an index, in bytes.
const UNIT_INDEX: u64 = 32 + 8 + 8 + 8;
const ENTRY_INDEX: u64 = 32 + 4;
/// Images that are named for one file.
const IMAGES: usize = 5;
/// The half width of a 95 % interval, in standard deviations.
const Z95: f64 = 1.96;

impl Report {
    pub(super) fn of(measurement: &Measurement) -> Self {
        let references = References::of(measurement);
        let corpus = corpus(measurement, &references);
        let mut report = Self {
            by_class: Vec::new(),
            by_media_type: media_types(measurement, &references),
            findings: Vec::new(),
            granularities: Vec::new(),
            growth: Vec::new(),
            images: images(measurement),
            inputs: inputs(measurement, &references),
            matrices: Vec::new(),
            parameters: measurement.settings.parameters(),
            times: measurement.took.as_ref().map(|took| times(measurement, took, &corpus)),
            tool: Tool { name: "orlop", version: env!("CARGO_PKG_VERSION") },
            version: REPORT_VERSION,
            wasted_files: Vec::new(),
            corpus,
        };
        report.findings.extend(measurement.findings.iter().cloned());
        report.findings.extend(measurement.blobs.iter().flat_map(|blob| blob.findings.iter().cloned()));
        report.findings.sort();
        let granularities = &measurement.settings.rules.granularities;
        for (granularity, table) in granularities.iter().zip(&measurement.tables) {
            let groups = Groups::of(table, &references);
            let name = granularity.name();
            report.granularities.push(figures(
                &name,
                measurement,
                table,
                &groups,
                &references,
                &report.corpus,
            ));
            report.growth.extend(views::growth(&name, measurement, &groups));
            if measurement.images.len() <= measurement.settings.matrix_limit {
                report.matrices.push(views::matrix(&name, measurement.images.len(), &groups));
            }
            if granularity.is_file() {
                report.by_class = classes(table, &groups);
                report.wasted_files = wasted(table, &groups, measurement.settings.wasted_files);
            }
        }
        report
    }
}

fn plain_of(measurement: &Measurement, blob: usize) -> u64 {
    let walked = measurement.blobs.get(blob).and_then(|blob| blob.walked.as_ref());
    walked.map_or(0, |walked| walked.plain)
}

fn corpus(measurement: &Measurement, references: &References) -> CorpusFigures {
    let mut found = CorpusFigures {
        blobs: measurement.blobs.len() as u64,
        images: measurement.images.len() as u64,
        ..CorpusFigures::default()
    };
    for (at, blob) in measurement.blobs.iter().enumerate() {
        let count = references.count(at);
        let (size, plain) = (blob.descriptor.size, plain_of(measurement, at));
        found.references += count;
        found.stored_bytes = found.stored_bytes.saturating_add(size);
        found.logical_bytes = found.logical_bytes.saturating_add(size.saturating_mul(count));
        found.plain_stored_bytes = found.plain_stored_bytes.saturating_add(plain);
        found.plain_logical_bytes = found.plain_logical_bytes.saturating_add(plain.saturating_mul(count));
        found.incomplete_blobs += u64::from(blob.incomplete);
        found.unmeasured_blobs += u64::from(blob.walked.is_none());
    }
    found.blob_ratio = Ratio::of(found.logical_bytes, found.stored_bytes);
    found.compression_ratio = Ratio::of(found.plain_stored_bytes, found.stored_bytes);
    found
}

fn images(measurement: &Measurement) -> Vec<ImageFigures> {
    let figures = |image: &super::corpus::Image| {
        let size = |at: &usize| measurement.blobs.get(*at).map_or(0, |blob| blob.descriptor.size);
        let time = image.created.and_then(|time| jiff::Timestamp::from_nanosecond(i128::from(time)).ok());
        ImageFigures {
            blobs: image.blobs.len() as u64,
            created: time.map(|time| time.to_string()),
            digest: image.digest.to_string(),
            logical_bytes: image.blobs.iter().map(size).fold(0, u64::saturating_add),
            name: image.name.clone(),
            plain_bytes: plain_bytes(measurement, image),
        }
    };
    measurement.images.iter().map(figures).collect()
}

/// The plain bytes of an image, each reference counted.
pub(super) fn plain_bytes(measurement: &Measurement, image: &super::corpus::Image) -> u64 {
    image.blobs.iter().map(|at| plain_of(measurement, *at)).fold(0, u64::saturating_add)
}

fn inputs(measurement: &Measurement, references: &References) -> Vec<Input> {
    let input = |(at, blob): (usize, &super::measurement::Measured)| {
        let walked = blob.walked.as_ref();
        Input {
            digest: blob.descriptor.digest.to_string(),
            encoding: walked.map(|walked| walked.encoding),
            files: walked.and_then(|walked| walked.files),
            media_type: blob.descriptor.media_type.clone(),
            plain_bytes: walked.map_or(0, |walked| walked.plain),
            references: references.count(at),
            role: blob.part.name(),
            size: blob.descriptor.size,
            structure_bytes: walked.map_or(0, |walked| walked.structure),
        }
    };
    measurement.blobs.iter().enumerate().map(input).collect()
}

fn media_types(measurement: &Measurement, references: &References) -> Vec<MediaTypeFigures> {
    let mut found: BTreeMap<&str, MediaTypeFigures> = BTreeMap::new();
    for (at, blob) in measurement.blobs.iter().enumerate() {
        let name = blob.descriptor.media_type.as_str();
        let row = found.entry(name).or_insert_with(|| MediaTypeFigures {
            blobs: 0,
            logical_bytes: 0,
            media_type: name.to_owned(),
            plain_logical_bytes: 0,
            plain_stored_bytes: 0,
            references: 0,
            stored_bytes: 0,
        });
        let (size, plain, count) = (blob.descriptor.size, plain_of(measurement, at), references.count(at));
        row.blobs += 1;
        row.references += count;
        row.stored_bytes = row.stored_bytes.saturating_add(size);
        row.logical_bytes = row.logical_bytes.saturating_add(size.saturating_mul(count));
        row.plain_stored_bytes = row.plain_stored_bytes.saturating_add(plain);
        row.plain_logical_bytes = row.plain_logical_bytes.saturating_add(plain.saturating_mul(count));
    }
    found.into_values().collect()
}

fn figures(
    name: &str,
    measurement: &Measurement,
    table: &Table,
    groups: &Groups,
    references: &References,
    corpus: &CorpusFigures,
) -> GranularityFigures {
    let (mut units, mut bytes, mut zero_bytes, mut recipe_entries) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (at, recipe) in table.recipes.iter().enumerate() {
        let count = references.count(at);
        units = units.saturating_add(recipe.units.saturating_mul(count));
        bytes = bytes.saturating_add(recipe.bytes.saturating_mul(count));
        zero_bytes = zero_bytes.saturating_add(recipe.zero_bytes.saturating_mul(count));
        recipe_entries = recipe_entries.saturating_add(recipe.units);
    }
    let sum = |of: &dyn Fn(&Group) -> u64| groups.groups.iter().map(of).fold(0, u64::saturating_add);
    let unique_units = sum(&|group| group.units);
    let unique_bytes = sum(&|group| group.bytes);
    let beyond_first = |times: u64| times.saturating_sub(1);
    let index_bytes =
        unique_units.saturating_mul(UNIT_INDEX).saturating_add(recipe_entries.saturating_mul(ENTRY_INDEX));
    let packed = (measurement.settings.pack_one_in > 0).then(|| packed(table, unique_bytes));
    let ratio_logical = Ratio::of(corpus.plain_logical_bytes, unique_bytes);
    let ratio_beyond_blobs = Ratio::of(corpus.plain_stored_bytes, unique_bytes);
    GranularityFigures {
        average_unit: Ratio::of(bytes, units),
        bytes,
        count_ratio: Ratio::of(units, unique_units),
        effective: packed
            .and_then(|(packed, _)| Ratio::of(corpus.stored_bytes, packed.saturating_add(index_bytes))),
        exact: table.bits() == 0,
        histogram: histogram(groups),
        index_bytes,
        inter_image_bytes: sum(&|group| group.bytes.saturating_mul(beyond_first(group.images.len() as u64))),
        intra_image_bytes: sum(&|group| {
            let again: u64 = group.images.iter().map(|(_, times)| beyond_first(*times)).sum();
            group.bytes.saturating_mul(again)
        }),
        name: name.to_owned(),
        packed_bytes: packed.map(|(packed, _)| packed),
        packed_error95: packed.map(|(_, error)| error),
        ratio_beyond_blobs,
        ratio_logical,
        recipe_entries,
        sample: (table.bits() > 0).then(|| sample(table)),
        saved_beyond_blobs_percent: saved(corpus.plain_stored_bytes, unique_bytes),
        saved_percent: saved(corpus.plain_logical_bytes, unique_bytes),
        unique_bytes,
        unique_units,
        units,
        zero_bytes,
    }
}

/// `100 * (1 - unique / all)`, with two digits.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn saved(all: u64, unique: u64) -> Option<f64> {
    let percent = 100.0 - 100.0 * (unique as f64 / all as f64);
    (all > 0 && unique > 0).then(|| (percent * 100.0).round() / 100.0)
}

fn histogram(groups: &Groups) -> Vec<HistogramRow> {
    let mut rows: BTreeMap<u32, HistogramRow> = BTreeMap::new();
    for group in &groups.groups {
        let references = group.references();
        let Some(power) = references.checked_ilog2() else { continue };
        let row = rows.entry(power).or_default();
        row.references = 1 << power;
        row.unique_units = row.unique_units.saturating_add(group.units);
        row.unique_bytes = row.unique_bytes.saturating_add(group.bytes);
        row.referenced_bytes = row.referenced_bytes.saturating_add(group.bytes.saturating_mul(references));
    }
    rows.into_values().collect()
}

/// How far estimates may be off. Units are summed up in the order of their keys, so that rounding is the same in every run.
#[expect(clippy::cast_precision_loss, reason = "an error is known to a few digits")]
fn sample(table: &Table) -> Sample {
    let stands_for = 1_u64.checked_shl(table.bits()).unwrap_or(u64::MAX) as f64;
    let factor = stands_for * (stands_for - 1.0);
    let small = table.units.iter().filter(|unit| unit.length <= LARGE);
    let (mut squares, mut count) = (0.0, 0.0);
    for unit in small {
        squares += (unit.length as f64).powi(2);
        count += 1.0;
    }
    Sample {
        bits: table.bits(),
        kept_units: table.units.len() as u64,
        unique_bytes_error95: whole(Z95 * (factor * squares).sqrt()),
        unique_units_error95: whole(Z95 * (factor * count).sqrt()),
    }
}

/// What all unique units come to packed, and half of the 95 % interval of that.
#[expect(clippy::cast_precision_loss, reason = "an error is known to a few digits")]
fn packed(table: &Table, unique_bytes: u64) -> (u64, u64) {
    let (mut large, mut large_packed) = (0_u64, 0_u64);
    let (mut chosen, mut chosen_bytes, mut chosen_packed, mut small) = (0_u64, 0_u64, 0_u64, 0_u64);
    for unit in &table.units {
        match unit.packed() {
            Some(packed) if unit.length > LARGE => {
                large = large.saturating_add(unit.length);
                large_packed = large_packed.saturating_add(packed);
            }
            found => {
                small = small.saturating_add(weight(table, unit));
                if let Some(packed) = found {
                    chosen += 1;
                    chosen_bytes = chosen_bytes.saturating_add(unit.length);
                    chosen_packed = chosen_packed.saturating_add(packed);
                }
            }
        }
    }
    let rest = unique_bytes.saturating_sub(large);
    if chosen_bytes == 0 {
        // Nothing to go by: as if nothing could be compressed.
        return (large_packed.saturating_add(rest), rest);
    }
    let estimate = u128::from(rest) * u128::from(chosen_packed) / u128::from(chosen_bytes);
    let estimate = large_packed.saturating_add(u64::try_from(estimate).unwrap_or(u64::MAX));
    if chosen == small {
        return (estimate, 0);
    }
    let ratio = chosen_packed as f64 / chosen_bytes as f64;
    let residuals = table.units.iter().filter(|unit| unit.length <= LARGE).filter_map(|unit| {
        let packed = unit.packed()? as f64;
        Some((packed - ratio * unit.length as f64).powi(2))
    });
    let deviation = residuals.sum::<f64>() / (chosen.saturating_sub(1)).max(1) as f64;
    let (chosen, small) = (chosen as f64, small as f64);
    let variance = small * small * (1.0 - chosen / small) / chosen * deviation;
    (estimate, whole(Z95 * variance.sqrt()))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

fn classes(table: &Table, groups: &Groups) -> Vec<ClassFigures> {
    let mut found: BTreeMap<Class, ClassFigures> = BTreeMap::new();
    for (_, unit, group) in groups.units(table) {
        let row = found.entry(unit.class).or_insert_with(|| ClassFigures {
            bytes: 0,
            class: unit.class.name(),
            ratio: None,
            unique_bytes: 0,
            unique_units: 0,
            units: 0,
        });
        let units = weight(table, unit);
        let (bytes, references) = (units.saturating_mul(unit.length), group.references());
        row.unique_units = row.unique_units.saturating_add(units);
        row.unique_bytes = row.unique_bytes.saturating_add(bytes);
        row.units = row.units.saturating_add(units.saturating_mul(references));
        row.bytes = row.bytes.saturating_add(bytes.saturating_mul(references));
    }
    let mut rows: Vec<ClassFigures> = found.into_values().collect();
    for row in &mut rows {
        row.ratio = Ratio::of(row.bytes, row.unique_bytes);
    }
    rows
}

fn wasted(table: &Table, groups: &Groups, most: usize) -> Vec<WastedFile> {
    let waste = |length: u64, references: u64| length.saturating_mul(references.saturating_sub(1));
    let mut copied: Vec<(u64, usize)> = groups
        .units(table)
        .filter(|(_, unit, _)| unit.class != Class::Structure)
        .map(|(at, unit, group)| (waste(unit.length, group.references()), at))
        .filter(|(waste, _)| *waste > 0)
        .collect();
    // Units are in the order of their keys, which decides among equals.
    copied.sort_unstable_by_key(|(waste, at)| (std::cmp::Reverse(*waste), *at));
    copied.truncate(most);
    let by_unit: BTreeMap<usize, (&super::table::Unit, &Group)> = {
        let wanted: std::collections::BTreeSet<usize> = copied.iter().map(|(_, at)| *at).collect();
        groups
            .units(table)
            .filter(|(at, ..)| wanted.contains(at))
            .map(|(at, unit, group)| (at, (unit, group)))
            .collect()
    };
    let row = |(wasted_bytes, at): (u64, usize)| {
        let (unit, group) = by_unit.get(&at)?;
        Some(WastedFile {
            class: unit.class.name(),
            hash: unit.key.iter().map(|byte| format!("{byte:02x}")).collect(),
            image_count: group.images.len() as u64,
            images: group.images.iter().take(IMAGES).map(|(image, _)| *image as u64).collect(),
            length: unit.length,
            paths: table.paths(at).iter().map(ToString::to_string).collect(),
            references: group.references(),
            wasted_bytes,
        })
    };
    copied.into_iter().filter_map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "times are known to a few digits")]
fn times(measurement: &Measurement, took: &Took, corpus: &CorpusFigures) -> Times {
    let rate = |bytes: u64, seconds: f64| if seconds > 0.0 { (bytes as f64 / seconds).round() } else { 0.0 };
    let stages = &took.stages;
    let fixed = [("read", stages.read), ("table", stages.table), ("pack", stages.pack)];
    let names = measurement.settings.rules.granularities.iter().map(Granularity::name);
    let rows = fixed.into_iter().map(|(name, stage)| (name.to_owned(), stage));
    let rows = rows.chain(names.zip(stages.granularities.iter().copied()));
    let row = |(stage, took): (String, super::stages::Stage)| {
        let seconds = took.time.as_secs_f64();
        StageTime { bytes: took.bytes, bytes_per_second: rate(took.bytes, seconds), seconds, stage }
    };
    let seconds = took.time.as_secs_f64();
    Times {
        bytes_per_second: rate(corpus.plain_stored_bytes, seconds),
        seconds,
        stages: rows.filter(|(name, _)| name != "blob").map(row).collect(),
        threads: took.threads as u64,
    }
}
