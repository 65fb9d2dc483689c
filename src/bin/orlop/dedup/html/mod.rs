//! A report as one page of HTML: tables, plots that are drawn here, nothing that comes from elsewhere.
//!
//! Names come from images, and nobody knows who made those: every one is escaped by [`Text`], and the page's own policy lets a
//! browser neither load nor send anything.

mod bars;
mod growth;
mod matrix;
mod svg;
mod table;
mod text;

use std::fmt::{self, Write as _};

use orlop::dedup::{GranularityFigures, Ratio, Report};

use self::text::{Bytes, Grouped, Text};

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing into a string does not fail.
    let _ = write_page(&mut page, report);
    page
}

/// Parts of the page: what the address of each ends with, and its heading.
const PARTS: [(&str, &str); 8] = [
    ("granularities", "By granularity"),
    ("growth", "Growth"),
    ("references", "References"),
    ("sharing", "Which images share what"),
    ("wasted", "Files with copies"),
    ("kinds", "By kind"),
    ("images", "Images"),
    ("run", "How it was measured"),
];

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let title = format!("Deduplication of {} images", report.corpus.images);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n",
        include_str!("style.css")
    )?;
    summary(out, report)?;
    out.write_str("<nav>")?;
    for (id, heading) in PARTS {
        write!(out, "<a href=\"#{id}\">{heading}</a> ")?;
    }
    out.write_str("</nav>\n")?;
    for (id, heading) in PARTS {
        write!(out, "<section id=\"{id}\">\n<h2>{heading}</h2>\n")?;
        match id {
            "granularities" => granularities(out, report)?,
            "growth" => growth::plots(out, &report.growth)?,
            "references" => references(out, report)?,
            "sharing" => matrix::plots(out, report)?,
            "wasted" => table::wasted_files(out, report)?,
            "kinds" => kinds(out, report)?,
            "images" => table::images(out, report)?,
            _ => run(out, report)?,
        }
        out.write_str("</section>\n")?;
    }
    write!(out, "<script>\n{}</script>\n</body>\n</html>\n", include_str!("sort.js"))
}

/// What somebody wants to know who reads nothing else.
fn summary(out: &mut String, report: &Report) -> fmt::Result {
    let corpus = &report.corpus;
    out.write_str("<dl class=\"summary\">\n")?;
    let mut fact = |name: &str, value: String, more: String| {
        writeln!(out, "<div><dt>{name}</dt><dd><b>{value}</b><small>{}</small></dd></div>", Text(&more))
    };
    fact(
        "Logical",
        Bytes(corpus.logical_bytes).to_string(),
        format!("{} references to blobs", Grouped(corpus.references)),
    )?;
    let shared = format!("{} blobs: {} by sharing them", Grouped(corpus.blobs), ratio(corpus.blob_ratio));
    fact("Stored", Bytes(corpus.stored_bytes).to_string(), shared)?;
    let compressed = format!("the same decompressed: {}", ratio(corpus.compression_ratio));
    fact("Plain", Bytes(corpus.plain_stored_bytes).to_string(), compressed)?;
    if let Some(best) = best(report, |row| row.ratio_logical) {
        fact(
            "Most found",
            ratio(best.ratio_logical),
            format!("of the plain bytes, by {}", svg::plain_name(&best.name)),
        )?;
    }
    if let Some(best) = best(report, |row| row.effective) {
        fact(
            "Most saved",
            ratio(best.effective),
            format!("of the disk, by {}", svg::plain_name(&best.name)),
        )?;
    }
    out.write_str("</dl>\n")?;
    if corpus.incomplete_blobs > 0 {
        writeln!(
            out,
            "<p class=\"warning\">Of {} blobs something is not in the figures: see <a href=\"#findings\">what was found</a>.</p>",
            Grouped(corpus.incomplete_blobs)
        )?;
    }
    Ok(())
}

fn best(
    report: &Report,
    figure: impl Fn(&GranularityFigures) -> Option<Ratio>,
) -> Option<&GranularityFigures> {
    let rows = report.granularities.iter().filter_map(|row| Some((row, figure(row)?.value())));
    rows.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, _)| row)
}

fn granularities(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<div class=\"plots\">\n")?;
    let ratios = report.granularities.iter().map(|row| bars::Row {
        label: &row.name,
        parts: vec![
            bars::Part::ratio("against the logical bytes", "ratio-logical", row.ratio_logical),
            bars::Part::ratio("beyond blobs", "ratio-beyond-blobs", row.ratio_beyond_blobs),
        ],
    });
    bars::plot(out, "ratios", "Plain bytes for each unique byte", &ratios.collect::<Vec<_>>(), None)?;
    let packed: Vec<_> = report.granularities.iter().filter(|row| row.packed_bytes.is_some()).collect();
    if !packed.is_empty() {
        let rows = packed.iter().map(|row| bars::Row {
            label: &row.name,
            parts: vec![
                bars::Part::bytes(
                    "unique units, each compressed",
                    "packed-bytes",
                    row.packed_bytes.unwrap_or_default(),
                ),
                bars::Part::bytes("their index", "index-bytes", row.index_bytes).stacked(),
            ],
        });
        let now = Some((report.corpus.stored_bytes, "stored now"));
        bars::plot(out, "disk", "What the disk would hold", &rows.collect::<Vec<_>>(), now)?;
    }
    out.write_str("</div>\n")?;
    table::granularities(out, report)?;
    writeln!(
        out,
        "<details><summary>What the figures mean</summary>\n{}</details>",
        include_str!("definitions.html")
    )
}

fn references(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<p>Unique units by how often they are referred to: their bytes counted once, and for each reference.</p>\n")?;
    out.write_str("<div class=\"plots\">\n")?;
    for row in &report.granularities {
        bars::histogram(out, row)?;
    }
    out.write_str("</div>\n")
}

fn kinds(out: &mut String, report: &Report) -> fmt::Result {
    if !report.by_class.is_empty() {
        let rows = report.by_class.iter().map(|row| bars::Row {
            label: row.class,
            parts: vec![
                bars::Part::bytes("in files", "bytes", row.bytes),
                bars::Part::bytes("unique", "unique-bytes", row.unique_bytes),
            ],
        });
        out.write_str("<div class=\"plots\">\n")?;
        bars::plot(out, "classes", "Contents of files by what they are", &rows.collect::<Vec<_>>(), None)?;
        out.write_str("</div>\n")?;
        table::classes(out, report)?;
    }
    table::media_types(out, report)
}

fn run(out: &mut String, report: &Report) -> fmt::Result {
    let parameters = &report.parameters;
    writeln!(
        out,
        "<p>{} {}; units are told apart by {}, and packed with {}. Orders are shuffled {} times from seed {}.</p>",
        Text(report.tool.name),
        Text(report.tool.version),
        Text(parameters.hash),
        Text(parameters.packer),
        Grouped(u64::from(parameters.shuffles)),
        parameters.seed,
    )?;
    table::findings(out, report)?;
    table::times(out, report)?;
    table::inputs(out, report)
}

/// As people write a factor.
fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}x", ratio.value()))
}
