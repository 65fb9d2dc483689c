//! Bars: figures side by side, and the histogram of references.

use std::fmt::{self, Write as _};

use orlop::dedup::{GranularityFigures, Ratio};

use super::svg::{self, Scale, number};
use super::text::{Bytes, Grouped, Text};

/// The bars of one label.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) label: &'a str,
    pub(super) parts: Vec<Part>,
}

/// One bar.
#[derive(Debug)]
pub(super) struct Part {
    /// What it shows, for the legend.
    name: &'static str,
    /// The same for who reads the page with a program.
    key: &'static str,
    value: Option<f64>,
    shown: String,
    exact: String,
    /// It goes on where the one before ends.
    stacked: bool,
}

impl Part {
    pub(super) fn ratio(name: &'static str, key: &'static str, ratio: Option<Ratio>) -> Self {
        let value = ratio.map(Ratio::value);
        let exact = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        Self { name, key, value, shown: super::ratio(ratio), exact, stacked: false }
    }

    pub(super) fn bytes(name: &'static str, key: &'static str, bytes: u64) -> Self {
        let (value, shown, exact) = (Some(number(bytes)), Bytes(bytes).to_string(), bytes.to_string());
        Self { name, key, value, shown, exact, stacked: false }
    }

    pub(super) fn stacked(self) -> Self {
        Self { stacked: true, ..self }
    }
}

const LABELS: f64 = 205.0;
const WIDTH: f64 = 655.0;
const RIGHT: f64 = 70.0;

/// Horizontal bars, with a line across all of them at what they are compared with.
pub(super) fn plot(
    out: &mut String,
    id: &str,
    title: &str,
    rows: &[Row<'_>],
    compared: Option<(u64, &str)>,
) -> fmt::Result {
    let lanes = rows.first().map_or(1, |row| row.parts.iter().filter(|part| !part.stacked).count().max(1));
    let thick = if lanes > 1 { 12.0 } else { 14.0 };
    let pitch = thick * number(lanes as u64) + 9.0;
    // What is compared with has a line of its own below the legend.
    let top = if compared.is_some() { 46.0 } else { 30.0 };
    let bottom = top + pitch * number(rows.len() as u64);
    let length = |row: &Row<'_>| {
        let mut lane = 0.0;
        let mut longest = 0.0_f64;
        for part in &row.parts {
            let value = part.value.unwrap_or(0.0);
            lane = if part.stacked { lane + value } else { value };
            longest = longest.max(lane);
        }
        longest
    };
    let most = rows.iter().map(length).chain(compared.map(|(bytes, _)| number(bytes))).fold(0.0, f64::max);
    let scale = Scale::new(most, LABELS, WIDTH - RIGHT);
    svg::begin(out, id, title, WIDTH, bottom + 24.0)?;
    let legend: Vec<_> =
        rows.first().map(|row| row.parts.as_slice()).unwrap_or_default().iter().enumerate().collect();
    let legend: Vec<_> = legend.iter().map(|(at, part)| (svg::colour(*at), part.name)).collect();
    svg::legend(out, LABELS, 14.0, &legend)?;
    let in_bytes =
        compared.is_some() || rows.iter().flat_map(|row| &row.parts).any(|part| part.shown.ends_with('B'));
    for tick in scale.ticks(5.0) {
        let (x, label) = (scale.at(tick), if in_bytes { svg::axis_bytes(tick) } else { format!("{tick}x") });
        write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
            top - 4.0,
            bottom + 16.0
        )?;
    }
    for (at, row) in rows.iter().enumerate() {
        draw_row(out, row, top + pitch * number(at as u64), thick, &scale)?;
    }
    if let Some((bytes, name)) = compared {
        let x = scale.at(number(bytes));
        writeln!(
            out,
            "<line class=\"compared\" data-bytes=\"{bytes}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"end\" x=\"{x:.1}\" y=\"{:.1}\">{} {}</text>",
            top - 6.0,
            top - 10.0,
            Text(name),
            Bytes(bytes)
        )?;
    }
    svg::end(out)
}

fn draw_row(out: &mut String, row: &Row<'_>, top: f64, thick: f64, scale: &Scale) -> fmt::Result {
    let lanes = row.parts.iter().filter(|part| !part.stacked).count().max(1);
    writeln!(
        out,
        "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}<title>{}</title></text>",
        LABELS - 8.0,
        top + thick * number(lanes as u64) / 2.0 + 4.0,
        Text(&svg::shortened(&svg::plain_name(row.label), 30)),
        Text(row.label)
    )?;
    let (mut lane, mut reached) = (0.0, 0.0);
    for (at, part) in row.parts.iter().enumerate() {
        let Some(value) = part.value else { continue };
        if !part.stacked {
            (lane, reached) = (if at == 0 { 0.0 } else { lane + 1.0 }, 0.0);
        }
        let (x, end) = (scale.at(reached), scale.at(reached + value));
        reached += value;
        let y = top + lane * thick;
        write!(
            out,
            "<rect class=\"bar\" data-label=\"{}\" data-figure=\"{}\" data-value=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" \
             height=\"{:.1}\" fill=\"{}\"><title>{}: {} {}</title></rect>",
            Text(row.label),
            part.key,
            part.exact,
            end - x,
            thick - 1.0,
            svg::colour(at),
            Text(row.label),
            Text(part.name),
            part.shown
        )?;
        if row.parts.get(at + 1).is_none_or(|next| !next.stacked) {
            let shown = if part.stacked { String::new() } else { part.shown.clone() };
            let shown = if shown.is_empty() { svg::axis_bytes(reached) } else { shown };
            write!(
                out,
                "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{shown}</text>",
                end + 4.0,
                y + thick - 2.0
            )?;
        }
    }
    out.write_str("\n")
}

/// Unique units by how often they are referred to.
pub(super) fn histogram(out: &mut String, row: &GranularityFigures) -> fmt::Result {
    const WIDTH: f64 = 330.0;
    const BOTTOM: f64 = 170.0;
    const LEFT: f64 = 58.0;
    let most = row.histogram.iter().map(|bar| number(bar.referenced_bytes)).fold(0.0, f64::max);
    let scale = Scale::new(most, BOTTOM, 34.0);
    let room = (WIDTH - LEFT - 6.0) / number(row.histogram.len().max(1) as u64);
    svg::begin(out, &format!("histogram-{}", row.name), &svg::plain_name(&row.name), WIDTH, BOTTOM + 36.0)?;
    svg::legend(out, LEFT, 14.0, &[(svg::colour(0), "counted once"), (svg::colour(5), "each reference")])?;
    for tick in scale.ticks(4.0) {
        let y = scale.at(tick);
        write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 4.0,
            y + 4.0,
            svg::axis_bytes(tick)
        )?;
    }
    for (at, bar) in row.histogram.iter().enumerate() {
        let x = LEFT + room * number(at as u64) + room * 0.12;
        let last = bar.references.saturating_mul(2).saturating_sub(1);
        let label = if last > bar.references {
            format!("{}-{last}", bar.references)
        } else {
            bar.references.to_string()
        };
        for (side, bytes, figure) in
            [(0, bar.unique_bytes, "unique-bytes"), (1, bar.referenced_bytes, "referenced-bytes")]
        {
            let y = scale.at(number(bytes));
            write!(
                out,
                "<rect class=\"bar\" data-label=\"{}\" data-figure=\"{figure}\" data-value=\"{bytes}\" x=\"{:.1}\" y=\"{y:.1}\" \
                 width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{label} references: {} units of {}, {} with each \
                 reference</title></rect>",
                bar.references,
                x + room * 0.38 * number(side),
                room * 0.36,
                BOTTOM - y,
                svg::colour(if side == 0 { 0 } else { 5 }),
                Grouped(bar.unique_units),
                Bytes(bar.unique_bytes),
                Bytes(bar.referenced_bytes)
            )?;
        }
        let middle = x + room * 0.37;
        // Narrow columns have room for where they begin.
        let label = if room < 44.0 { bar.references.to_string() } else { label };
        // Still narrower ones have it for every other.
        if room >= 30.0 || at % 2 == 0 {
            writeln!(
                out,
                "<text class=\"middle\" x=\"{middle:.1}\" y=\"{:.1}\">{label}</text>",
                BOTTOM + 14.0
            )?;
        }
    }
    write!(
        out,
        "<text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">references</text>",
        (LEFT + WIDTH) / 2.0,
        BOTTOM + 30.0
    )?;
    svg::end(out)
}
