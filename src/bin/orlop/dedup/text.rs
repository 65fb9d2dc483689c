//! A report for people.

use orlop::dedup::{GranularityFigures, GrowthCurve, Matrix, Ratio, Report};

use crate::output::{columns, plain, size};
use crate::view::plural;

/// Images up to which the matrix is printed.
const MATRIX: usize = 12;
/// Points of a growth curve that are printed.
const POINTS: usize = 10;
/// Rows of other lists.
const ROWS: usize = 20;

pub(super) fn report(report: &Report) -> String {
    let mut text = summary(report);
    text.push_str(&format!("\nGranularities\n{}", granularities(report)));
    // People think of files first; without them, of what was asked for.
    let main = report
        .granularities
        .iter()
        .find(|found| found.name == "file")
        .or_else(|| report.granularities.last());
    if let Some(main) = main {
        text.push_str(&format!("\nReferences to unique units, {}\n{}", main.name, histogram(main)));
        let curve =
            report.growth.iter().find(|curve| curve.granularity == main.name && curve.order == "given");
        if let Some(curve) = curve.filter(|curve| curve.points.len() > 1) {
            text.push_str(&format!("\nGrowth as images are added, {}\n{}", main.name, growth(curve)));
        }
        let matrix = report.matrices.iter().find(|matrix| matrix.granularity == main.name);
        if let Some(matrix) = matrix.filter(|_| (2..=MATRIX).contains(&report.images.len())) {
            text.push_str(&format!(
                "\nShared of the image in the row, {}\n{}",
                main.name,
                shared(report, matrix)
            ));
        }
    }
    if !report.wasted_files.is_empty() {
        text.push_str(&format!("\nFiles whose copies take the most\n{}", wasted(report)));
    }
    text.push_str(&format!("\nMedia types\n{}", media_types(report)));
    if !report.by_class.is_empty() {
        text.push_str(&format!("\nContents of files\n{}", classes(report)));
    }
    text.push_str(&times(report));
    text.push_str(&findings(report));
    text
}

fn summary(report: &Report) -> String {
    let corpus = &report.corpus;
    let line = |name: &str, bytes: u64, more: String| {
        format!("{name:<14} {:>10}  {bytes:>16} B  {more}\n", size(bytes)).trim_end().to_owned() + "\n"
    };
    let mut text = format!(
        "{}, {} to {}\n",
        counted(corpus.images, "image"),
        counted(corpus.references, "reference"),
        counted(corpus.blobs, "distinct blob")
    );
    text += &line("logical", corpus.logical_bytes, String::new());
    text += &line("stored", corpus.stored_bytes, format!("sharing of blobs {}", factor(corpus.blob_ratio)));
    text += &line("plain logical", corpus.plain_logical_bytes, String::new());
    text += &line(
        "plain stored",
        corpus.plain_stored_bytes,
        format!("compressed {}", factor(corpus.compression_ratio)),
    );
    text
}

fn counted(count: u64, word: &str) -> String {
    format!("{count} {}", plural(usize::try_from(count).unwrap_or(usize::MAX), word))
}

fn factor(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{:.2}x", ratio.value()))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.1}%"))
}

/// An estimate is marked, as in `~1.2 MB`.
fn estimated(found: &GranularityFigures, bytes: u64) -> String {
    if found.exact { size(bytes) } else { format!("~{}", size(bytes)) }
}

fn granularities(report: &Report) -> String {
    let heading = [
        "GRANULARITY",
        "UNITS",
        "UNIQUE",
        "MEAN",
        "UNIQUE SIZE",
        "RATIO",
        "SAVED",
        "BEYOND BLOBS",
        "PACKED",
        "INDEX",
        "EFFECTIVE",
    ];
    let rows: Vec<[String; 11]> = report
        .granularities
        .iter()
        .map(|found| {
            [
                short(&found.name).to_owned(),
                found.units.to_string(),
                found.unique_units.to_string(),
                found.average_unit.map_or_else(|| "-".into(), |mean| format!("{:.0}", mean.value())),
                estimated(found, found.unique_bytes),
                factor(found.ratio_logical),
                percent(found.saved_percent),
                factor(found.ratio_beyond_blobs),
                found.packed_bytes.map_or_else(
                    || "-".into(),
                    |bytes| {
                        if found.packed_error95 == Some(0) {
                            estimated(found, bytes)
                        } else {
                            format!("~{}", size(bytes))
                        }
                    },
                ),
                size(found.index_bytes),
                factor(found.effective),
            ]
        })
        .collect();
    let mut text = columns(heading, &rows, &heading[1..]);
    for found in &report.granularities {
        if let Some(sample) = &found.sample {
            let (error, bits) = (size(sample.unique_bytes_error95), sample.bits);
            let name = short(&found.name);
            text.push_str(&format!(
                "{name}: estimated from {} units whose hash begins with {bits} zero bits; unique size within {error} with 95 %\n",
                sample.kept_units
            ));
        }
        if let Some(error) = found.packed_error95.filter(|error| *error > 0) {
            text.push_str(&format!("{}: packed within {} with 95 %\n", short(&found.name), size(error)));
        }
        let copies = (size(found.intra_image_bytes), size(found.inter_image_bytes), size(found.zero_bytes));
        text.push_str(&format!(
            "{}: copies within an image {}, of other images {}; zeros {}\n",
            short(&found.name),
            copies.0,
            copies.1,
            copies.2
        ));
    }
    text
}

/// A name without the constants of the hash, which never change.
fn short(name: &str) -> &str {
    match name.split_once("/915f77f5-34636463") {
        Some((short, "")) => short,
        _ => name,
    }
}

fn histogram(found: &GranularityFigures) -> String {
    let rows: Vec<[String; 4]> = found
        .histogram
        .iter()
        .map(|row| {
            let last = row.references.saturating_mul(2).saturating_sub(1);
            let range =
                if row.references == 1 { "1".to_owned() } else { format!("{}-{last}", row.references) };
            [range, row.unique_units.to_string(), size(row.unique_bytes), size(row.referenced_bytes)]
        })
        .collect();
    columns(
        ["REFERENCES", "UNIQUE", "UNIQUE SIZE", "REFERENCED"],
        &rows,
        &["UNIQUE", "UNIQUE SIZE", "REFERENCED"],
    )
}

fn growth(curve: &GrowthCurve) -> String {
    let count = curve.points.len();
    let step = count.div_ceil(POINTS);
    let rows: Vec<[String; 4]> = curve
        .points
        .iter()
        .enumerate()
        .filter(|(at, _)| (at + 1) % step == 0 || at + 1 == count)
        .map(|(_, point)| {
            [
                point.images.to_string(),
                size(point.logical_bytes),
                size(point.unique_bytes),
                factor(point.ratio),
            ]
        })
        .collect();
    let heading = ["IMAGES", "PLAIN", "UNIQUE SIZE", "RATIO"];
    columns(heading, &rows, &heading)
}

fn shared(report: &Report, matrix: &Matrix) -> String {
    let mut text = String::new();
    for (at, image) in report.images.iter().enumerate() {
        text.push_str(&format!("{:>3}  {}\n", at + 1, plain(&image.name)));
    }
    text.push_str("    ");
    text.extend((1..=report.images.len()).map(|at| format!("{at:>5}")));
    text.push('\n');
    for (at, row) in matrix.containment.iter().enumerate() {
        text.push_str(&format!("{:>3} ", at + 1));
        for cell in row {
            let cell = cell.map_or_else(|| "-".into(), |cell| format!("{:.0}%", cell.value() * 100.0));
            text.push_str(&format!("{cell:>5}"));
        }
        text.push('\n');
    }
    text
}

fn wasted(report: &Report) -> String {
    let rows: Vec<[String; 5]> = report
        .wasted_files
        .iter()
        .map(|file| {
            let path = file.paths.first().map_or("(a whole blob)", String::as_str);
            let more = file.paths.len().saturating_sub(1);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            [
                size(file.wasted_bytes),
                size(file.length),
                file.references.to_string(),
                file.image_count.to_string(),
                format!("{}{more}", plain(path)),
            ]
        })
        .collect();
    columns(
        ["WASTED", "SIZE", "REFERENCES", "IMAGES", "PATH"],
        &rows,
        &["WASTED", "SIZE", "REFERENCES", "IMAGES"],
    )
}

fn media_types(report: &Report) -> String {
    let rows: Vec<[String; 6]> = report
        .by_media_type
        .iter()
        .map(|row| {
            let name = if row.media_type.is_empty() { "-".into() } else { plain(&row.media_type) };
            [
                name.into_owned(),
                row.references.to_string(),
                row.blobs.to_string(),
                size(row.logical_bytes),
                size(row.stored_bytes),
                size(row.plain_stored_bytes),
            ]
        })
        .collect();
    let heading = ["MEDIA TYPE", "REFERENCES", "BLOBS", "LOGICAL", "STORED", "PLAIN"];
    columns(heading, &rows, &heading[1..])
}

fn classes(report: &Report) -> String {
    let rows: Vec<[String; 5]> = report
        .by_class
        .iter()
        .map(|row| {
            [
                row.class.to_owned(),
                row.units.to_string(),
                size(row.bytes),
                size(row.unique_bytes),
                factor(row.ratio),
            ]
        })
        .collect();
    let heading = ["CONTENT", "UNITS", "SIZE", "UNIQUE SIZE", "RATIO"];
    columns(heading, &rows, &heading[1..])
}

fn times(report: &Report) -> String {
    let Some(times) = &report.times else { return String::new() };
    let mut text = format!(
        "\nTook {:.1} s on {} threads, {}/s of plain bytes\n",
        times.seconds,
        times.threads,
        rate(times.bytes_per_second)
    );
    for stage in times.stages.iter().filter(|stage| stage.bytes > 0) {
        text.push_str(&format!(
            "  {:<32} {:>10}  {:>8.2} s  {}/s\n",
            short(&stage.stage),
            size(stage.bytes),
            stage.seconds,
            rate(stage.bytes_per_second)
        ));
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
fn rate(bytes_per_second: f64) -> String {
    size(bytes_per_second as u64)
}

fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut text = "\nFindings\n".to_owned();
    for finding in report.findings.iter().take(ROWS) {
        let mark = if finding.incomplete { "incomplete" } else { "note" };
        text.push_str(&format!("  {mark}: {}, digest={}\n", plain(&finding.message), finding.digest));
    }
    if report.findings.len() > ROWS {
        text.push_str(&format!("  and {} more: --format json has all\n", report.findings.len() - ROWS));
    }
    text
}
