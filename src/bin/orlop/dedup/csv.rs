//! `--csv DIR`: each view as a table. Numbers are those of the JSON.

use std::path::Path;

use orlop::dedup::{Ratio, Report};

use super::out::{self, row};
use crate::error::Failure;

/// Writes all tables, each whole or not at all.
#[expect(clippy::disallowed_methods, reason = "a directory of the user, no part of a store")]
pub(super) fn write(directory: &Path, report: &Report) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::io("create the directory", directory, &error))?;
    for (name, table) in tables(report) {
        out::write(&directory.join(name), table.as_bytes())?;
    }
    Ok(())
}

fn tables(report: &Report) -> [(&'static str, String); 10] {
    [
        ("granularities.csv", granularities(report)),
        ("histogram.csv", histogram(report)),
        ("wasted-files.csv", wasted(report)),
        ("matrix.csv", matrix(report)),
        ("growth.csv", growth(report)),
        ("media-types.csv", media_types(report)),
        ("classes.csv", classes(report)),
        ("images.csv", images(report)),
        ("findings.csv", findings(report)),
        ("stages.csv", stages(report)),
    ]
}

fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{:.4}", ratio.value()))
}

fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn granularities(report: &Report) -> String {
    let mut text = row([
        "granularity",
        "units",
        "unique_units",
        "count_ratio",
        "average_unit",
        "bytes",
        "unique_bytes",
        "ratio_logical",
        "saved_percent",
        "ratio_beyond_blobs",
        "saved_beyond_blobs_percent",
        "intra_image_bytes",
        "inter_image_bytes",
        "zero_bytes",
        "packed_bytes",
        "packed_error95",
        "recipe_entries",
        "index_bytes",
        "effective",
        "exact",
        "sample_bits",
        "unique_bytes_error95",
    ]);
    for found in &report.granularities {
        text += &row([
            found.name.clone(),
            found.units.to_string(),
            found.unique_units.to_string(),
            ratio(found.count_ratio),
            ratio(found.average_unit),
            found.bytes.to_string(),
            found.unique_bytes.to_string(),
            ratio(found.ratio_logical),
            number(found.saved_percent),
            ratio(found.ratio_beyond_blobs),
            number(found.saved_beyond_blobs_percent),
            found.intra_image_bytes.to_string(),
            found.inter_image_bytes.to_string(),
            found.zero_bytes.to_string(),
            number(found.packed_bytes),
            number(found.packed_error95),
            found.recipe_entries.to_string(),
            found.index_bytes.to_string(),
            ratio(found.effective),
            found.exact.to_string(),
            number(found.sample.map(|sample| sample.bits)),
            number(found.sample.map(|sample| sample.unique_bytes_error95)),
        ]);
    }
    text
}

fn histogram(report: &Report) -> String {
    let mut text = row(["granularity", "references", "unique_units", "unique_bytes", "referenced_bytes"]);
    for found in &report.granularities {
        for line in &found.histogram {
            text += &row([
                found.name.clone(),
                line.references.to_string(),
                line.unique_units.to_string(),
                line.unique_bytes.to_string(),
                line.referenced_bytes.to_string(),
            ]);
        }
    }
    text
}

fn wasted(report: &Report) -> String {
    let mut text =
        row(["wasted_bytes", "length", "references", "image_count", "class", "hash", "path", "images"]);
    for file in &report.wasted_files {
        let name = |at: &u64| {
            let image = usize::try_from(*at).ok().and_then(|at| report.images.get(at));
            image.map(|image| image.name.clone())
        };
        let images: Vec<String> = file.images.iter().filter_map(name).collect();
        text += &row([
            file.wasted_bytes.to_string(),
            file.length.to_string(),
            file.references.to_string(),
            file.image_count.to_string(),
            file.class.to_owned(),
            file.hash.clone(),
            file.paths.first().cloned().unwrap_or_default(),
            images.join(" "),
        ]);
    }
    text
}

fn matrix(report: &Report) -> String {
    let mut text = row(["granularity", "row", "column", "shared_bytes", "jaccard", "containment"]);
    for matrix in &report.matrices {
        let rows = matrix.shared_bytes.iter().zip(&matrix.jaccard).zip(&matrix.containment);
        for (image, ((shared, jaccard), containment)) in report.images.iter().zip(rows) {
            let cells = shared.iter().zip(jaccard).zip(containment);
            for (other, ((shared, jaccard), containment)) in report.images.iter().zip(cells) {
                text += &row([
                    matrix.granularity.as_str(),
                    &image.name,
                    &other.name,
                    &shared.to_string(),
                    &ratio(*jaccard),
                    &ratio(*containment),
                ]);
            }
        }
    }
    text
}

fn growth(report: &Report) -> String {
    let mut text = row([
        "granularity",
        "order",
        "images",
        "image",
        "logical_bytes",
        "unique_bytes",
        "least_unique_bytes",
        "most_unique_bytes",
        "ratio",
    ]);
    for curve in &report.growth {
        for point in &curve.points {
            let image = point.image.and_then(|at| report.images.get(usize::try_from(at).ok()?));
            text += &row([
                curve.granularity.as_str(),
                curve.order,
                &point.images.to_string(),
                image.map_or("", |image| image.name.as_str()),
                &point.logical_bytes.to_string(),
                &point.unique_bytes.to_string(),
                &point.least_unique_bytes.to_string(),
                &point.most_unique_bytes.to_string(),
                &ratio(point.ratio),
            ]);
        }
    }
    text
}

fn media_types(report: &Report) -> String {
    let mut text = row([
        "media_type",
        "blobs",
        "references",
        "logical_bytes",
        "stored_bytes",
        "plain_logical_bytes",
        "plain_stored_bytes",
    ]);
    for line in &report.by_media_type {
        text += &row([
            line.media_type.clone(),
            line.blobs.to_string(),
            line.references.to_string(),
            line.logical_bytes.to_string(),
            line.stored_bytes.to_string(),
            line.plain_logical_bytes.to_string(),
            line.plain_stored_bytes.to_string(),
        ]);
    }
    text
}

fn classes(report: &Report) -> String {
    let mut text = row(["class", "units", "unique_units", "bytes", "unique_bytes", "ratio"]);
    for line in &report.by_class {
        text += &row([
            line.class.to_owned(),
            line.units.to_string(),
            line.unique_units.to_string(),
            line.bytes.to_string(),
            line.unique_bytes.to_string(),
            ratio(line.ratio),
        ]);
    }
    text
}

fn images(report: &Report) -> String {
    let mut text = row(["image", "digest", "created", "blobs", "logical_bytes", "plain_bytes"]);
    for image in &report.images {
        text += &row([
            image.name.clone(),
            image.digest.clone(),
            image.created.clone().unwrap_or_default(),
            image.blobs.to_string(),
            image.logical_bytes.to_string(),
            image.plain_bytes.to_string(),
        ]);
    }
    text
}

fn findings(report: &Report) -> String {
    let mut text = row(["digest", "incomplete", "message"]);
    for finding in &report.findings {
        text += &row([finding.digest.as_str(), &finding.incomplete.to_string(), &finding.message]);
    }
    text
}

fn stages(report: &Report) -> String {
    let mut text = row(["stage", "bytes", "seconds", "bytes_per_second"]);
    for stage in report.times.iter().flat_map(|times| &times.stages) {
        text += &row([
            stage.stage.clone(),
            stage.bytes.to_string(),
            format!("{:.6}", stage.seconds),
            format!("{:.0}", stage.bytes_per_second),
        ]);
    }
    text
}
