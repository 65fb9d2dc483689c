//! Tables: every figure of a report that is no plot.

use std::fmt::{self, Write as _};

use orlop::dedup::{Ratio, Report};

use super::svg;
use super::text::{Bytes, Grouped, Text};

/// What stands in a table.
enum Cell {
    Words(String),
    /// What is shown, and what it is sorted by.
    Figure(String, String),
}

fn words(text: &str) -> Cell {
    Cell::Words(text.to_owned())
}

fn bytes(count: u64) -> Cell {
    Cell::Figure(Bytes(count).to_string(), count.to_string())
}

fn count(count: u64) -> Cell {
    Cell::Figure(Grouped(count).to_string(), count.to_string())
}

fn ratio(ratio: Option<Ratio>) -> Cell {
    Cell::Figure(super::ratio(ratio), ratio.map_or_else(String::new, |ratio| format!("{:.4}", ratio.value())))
}

fn percent(value: Option<f64>) -> Cell {
    Cell::Figure(
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} %")),
        value.unwrap_or_default().to_string(),
    )
}

/// A table that can be sorted by each of its columns. An exact count is shown when a size is pointed at.
fn table(
    out: &mut String,
    id: &str,
    caption: &str,
    head: &[&str],
    rows: impl IntoIterator<Item = Vec<Cell>>,
) -> fmt::Result {
    write!(out, "<div class=\"wide\"><table id=\"{id}\"><caption>{}</caption><thead><tr>", Text(caption))?;
    for name in head {
        write!(out, "<th scope=\"col\"><button type=\"button\">{}</button></th>", Text(name))?;
    }
    out.write_str("</tr></thead><tbody>\n")?;
    for row in rows {
        out.write_str("<tr>")?;
        for cell in row {
            match cell {
                // What is long is broken anywhere, rather than making its column wide.
                Cell::Words(text) if text.len() > 30 => {
                    write!(out, "<td class=\"long\">{}</td>", Text(&text))?
                }
                Cell::Words(text) => write!(out, "<td>{}</td>", Text(&text))?,
                Cell::Figure(shown, exact) => {
                    write!(
                        out,
                        "<td class=\"figure\" data-value=\"{0}\" title=\"{0}\">{1}</td>",
                        Text(&exact),
                        Text(&shown)
                    )?;
                }
            }
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody></table></div>\n")
}

pub(super) fn granularities(out: &mut String, report: &Report) -> fmt::Result {
    let head = [
        "granularity",
        "units",
        "unique",
        "mean",
        "unique bytes",
        "ratio",
        "saved",
        "beyond blobs",
        "count ratio",
        "within images",
        "between images",
        "zeros",
        "packed",
        "index",
        "effective",
    ];
    let rows = report.granularities.iter().map(|row| {
        let sampled = if row.exact { "" } else { " (sampled)" };
        vec![
            Cell::Words(format!("{}{sampled}", row.name)),
            count(row.units),
            count(row.unique_units),
            row.average_unit.map_or_else(|| words("-"), |mean| bytes(svg::whole(mean.value()))),
            bytes(row.unique_bytes),
            ratio(row.ratio_logical),
            percent(row.saved_percent),
            ratio(row.ratio_beyond_blobs),
            ratio(row.count_ratio),
            bytes(row.intra_image_bytes),
            bytes(row.inter_image_bytes),
            bytes(row.zero_bytes),
            row.packed_bytes.map_or_else(|| words("-"), bytes),
            bytes(row.index_bytes),
            ratio(row.effective),
        ]
    });
    table(out, "table-granularities", "All figures by granularity", &head, rows)?;
    for row in &report.granularities {
        if let Some(sample) = &row.sample {
            writeln!(
                out,
                "<p class=\"warning\">{} was sampled: of its units those whose hash begins with {} zero bits. With 95 % certainty \
                 the unique bytes are within {}, the unique units within {}.</p>",
                Text(&row.name),
                sample.bits,
                Bytes(sample.unique_bytes_error95),
                Grouped(sample.unique_units_error95)
            )?;
        }
    }
    Ok(())
}

pub(super) fn wasted_files(out: &mut String, report: &Report) -> fmt::Result {
    let rows = report.wasted_files.iter().map(|file| {
        let names = file.images.iter().filter_map(|image| report.images.get(usize::try_from(*image).ok()?));
        let mut names: Vec<&str> = names.map(|image| image.name.as_str()).take(3).collect();
        if file.image_count > names.len() as u64 {
            names.push("...");
        }
        vec![
            bytes(file.wasted_bytes),
            bytes(file.length),
            count(file.references),
            count(file.image_count),
            words(file.class),
            Cell::Words(file.paths.join(", ")),
            Cell::Words(names.join(", ")),
        ]
    });
    let head = ["wasted", "size", "references", "images", "kind", "paths", "some of the images"];
    table(out, "table-wasted", "Files whose copies take the most", &head, rows)
}

pub(super) fn classes(out: &mut String, report: &Report) -> fmt::Result {
    let rows = report.by_class.iter().map(|row| {
        vec![
            words(row.class),
            count(row.units),
            bytes(row.bytes),
            count(row.unique_units),
            bytes(row.unique_bytes),
            ratio(row.ratio),
        ]
    });
    let head = ["kind", "files", "bytes", "unique", "unique bytes", "ratio"];
    table(out, "table-classes", "Contents of files by what they are", &head, rows)
}

pub(super) fn media_types(out: &mut String, report: &Report) -> fmt::Result {
    let rows = report.by_media_type.iter().map(|row| {
        vec![
            words(&row.media_type),
            count(row.references),
            count(row.blobs),
            bytes(row.logical_bytes),
            bytes(row.stored_bytes),
            bytes(row.plain_logical_bytes),
            bytes(row.plain_stored_bytes),
        ]
    });
    let head = ["media type", "references", "blobs", "logical", "stored", "plain logical", "plain stored"];
    table(out, "table-media-types", "Blobs by media type", &head, rows)
}

pub(super) fn images(out: &mut String, report: &Report) -> fmt::Result {
    let rows = report.images.iter().map(|image| {
        vec![
            words(&image.name),
            words(image.created.as_deref().unwrap_or("-")),
            count(image.blobs),
            bytes(image.logical_bytes),
            bytes(image.plain_bytes),
            words(&image.digest),
        ]
    });
    table(
        out,
        "table-images",
        "Images in the order given",
        &["image", "created", "blobs", "logical", "plain", "digest"],
        rows,
    )
}

pub(super) fn findings(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<h3 id=\"findings\">What was found</h3>\n")?;
    if report.findings.is_empty() {
        return out.write_str("<p>Everything was read, and nothing was odd about it.</p>\n");
    }
    let rows = report.findings.iter().map(|finding| {
        let counted = if finding.incomplete { "not all of it" } else { "yes" };
        vec![words(&finding.message), words(counted), words(&finding.digest)]
    });
    table(out, "table-findings", "What was odd", &["what", "in the figures", "blob"], rows)
}

pub(super) fn times(out: &mut String, report: &Report) -> fmt::Result {
    let Some(times) = &report.times else { return Ok(()) };
    let each = |value: f64| Cell::Figure(per_second(value), format!("{value:.0}"));
    let rows = times.stages.iter().map(|stage| {
        let seconds = Cell::Figure(format!("{:.2} s", stage.seconds), stage.seconds.to_string());
        vec![words(&stage.stage), seconds, bytes(stage.bytes), each(stage.bytes_per_second)]
    });
    let caption = format!(
        "{:.1} s on {} threads, {} of plain bytes; seconds of all threads together",
        times.seconds,
        times.threads,
        per_second(times.bytes_per_second)
    );
    table(out, "table-times", &caption, &["stage", "seconds", "bytes", "of a thread"], rows)
}

fn per_second(value: f64) -> String {
    format!("{}/s", Bytes(svg::whole(value)))
}

pub(super) fn inputs(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<details><summary>All blobs that were read</summary>\n")?;
    let rows = report.inputs.iter().map(|input| {
        vec![
            words(&input.digest),
            words(input.role),
            words(&input.media_type),
            words(input.encoding.unwrap_or("-")),
            count(input.references),
            bytes(input.size),
            bytes(input.plain_bytes),
            input.files.map_or_else(|| words("-"), count),
        ]
    });
    let head = ["digest", "role", "media type", "compression", "references", "size", "plain", "files"];
    table(out, "table-inputs", "Blobs in the order in which images first refer to them", &head, rows)?;
    out.write_str("</details>\n")
}
