//! Which images share what, as squares whose darkness says how much.

use std::fmt::{self, Write as _};

use orlop::dedup::{Matrix, Ratio, Report};

use super::svg::{self, number};
use super::text::{Bytes, Text};

/// The sides of a matrix are about so long.
const SIDE: f64 = 450.0;
const LABELS: f64 = 192.0;
/// With more images squares say nothing when they are pointed at: the page would be larger than what it tells.
const TITLES: usize = 64;

/// A plot for each granularity.
pub(super) fn plots(out: &mut String, report: &Report) -> fmt::Result {
    if report.matrices.is_empty() {
        let limit = report.parameters.matrix_limit;
        return writeln!(out, "<p>There is no matrix: one is made of up to {limit} images.</p>");
    }
    out.write_str(
        "<p>For two images, the bytes that both have of all that either has (Jaccard); images that share much stand next to each \
         other.</p>\n<div class=\"plots\">\n",
    )?;
    let names: Vec<&str> = report.images.iter().map(|image| image.name.as_str()).collect();
    for matrix in &report.matrices {
        plot(out, matrix, &names)?;
    }
    out.write_str("</div>\n")
}

fn plot(out: &mut String, matrix: &Matrix, names: &[&str]) -> fmt::Result {
    let order: Vec<usize> = matrix.order.iter().filter_map(|image| usize::try_from(*image).ok()).collect();
    let cell = (SIDE / number(order.len().max(1) as u64)).clamp(3.0, 40.0);
    let side = cell * number(order.len() as u64);
    svg::begin(
        out,
        &format!("matrix-{}", matrix.granularity),
        &svg::plain_name(&matrix.granularity),
        LABELS + side + 10.0,
        LABELS + side,
    )?;
    for (row, image) in order.iter().enumerate() {
        let at = number(row as u64) * cell;
        if cell >= 9.0 {
            let name = Text(&svg::shortened(names.get(*image).copied().unwrap_or_default(), 26)).to_string();
            write!(
                out,
                "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{name}</text><text class=\"end\" transform=\"translate({:.1} {:.1}) \
                 rotate(90)\">{name}</text>",
                LABELS - 5.0,
                at + cell / 2.0 + 4.0,
                LABELS + at + cell / 2.0 - 4.0,
                side + LABELS - 5.0,
            )?;
        }
        for (column, other) in order.iter().enumerate() {
            let place = (LABELS + number(column as u64) * cell, at);
            square(out, matrix, names, (*image, *other), place, cell)?;
        }
        out.write_str("\n")?;
    }
    svg::end(out)
}

fn square(
    out: &mut String,
    matrix: &Matrix,
    names: &[&str],
    (row, column): (usize, usize),
    (x, y): (f64, f64),
    cell: f64,
) -> fmt::Result {
    let of = |rows: &[Vec<Option<Ratio>>]| rows.get(row)?.get(column).copied()?.map(Ratio::value);
    let Some(value) = of(&matrix.jaccard) else { return Ok(()) };
    write!(
        out,
        "<rect data-row=\"{row}\" data-column=\"{column}\" data-jaccard=\"{value:.4}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{0:.1}\" \
         height=\"{0:.1}\" fill=\"{1}\">",
        cell - 0.5,
        shade(value)
    )?;
    if names.len() <= TITLES {
        let name = |image: usize| Text(names.get(image).copied().unwrap_or_default());
        let shared =
            matrix.shared_bytes.get(row).and_then(|shared| shared.get(column)).copied().unwrap_or_default();
        write!(
            out,
            "<title>{} and {}: {} shared, Jaccard {value:.2}, {:.0} % of the first</title>",
            name(row),
            name(column),
            Bytes(shared),
            100.0 * of(&matrix.containment).unwrap_or_default()
        )?;
    }
    out.write_str("</rect>")?;
    if cell >= 20.0 {
        let ink = if value > 0.5 { "#ffffff" } else { "#222222" };
        write!(
            out,
            "<text class=\"cell\" x=\"{:.1}\" y=\"{:.1}\" fill=\"{ink}\">{:.0}</text>",
            x + cell / 2.0,
            y + cell / 2.0 + 3.5,
            100.0 * value
        )?;
    }
    Ok(())
}

/// From nearly white to dark blue.
fn shade(value: f64) -> String {
    let value = value.clamp(0.0, 1.0);
    let mixed = |light: f64, dark: f64| light + (dark - light) * value;
    format!("rgb({:.0},{:.0},{:.0})", mixed(240.0, 8.0), mixed(246.0, 64.0), mixed(252.0, 129.0))
}
