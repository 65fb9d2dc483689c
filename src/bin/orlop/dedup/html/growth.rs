//! How unique bytes grow as images are added.

use std::fmt::{self, Write as _};

use orlop::dedup::{GrowthCurve, GrowthPoint, Ratio};

use super::svg::{self, Scale, number};
use super::text::{Bytes, Text};

const WIDTH: f64 = 655.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 225.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 360.0;
/// Labels at the ends of lines stand at least this far from one another.
const APART: f64 = 13.0;

/// A plot for each order, with a line for each granularity.
pub(super) fn plots(out: &mut String, curves: &[GrowthCurve]) -> fmt::Result {
    if curves.is_empty() {
        return out.write_str("<p>There are no curves.</p>\n");
    }
    out.write_str("<div class=\"plots\">\n")?;
    for (order, title) in [
        ("given", "Images in the order given"),
        ("date", "Images by their date"),
        ("shuffled", "Shuffled orders: their mean, and a band from the least to the most"),
    ] {
        let curves: Vec<_> =
            curves.iter().filter(|curve| curve.order == order && !curve.points.is_empty()).collect();
        if !curves.is_empty() {
            plot(out, order, title, &curves)?;
        }
        if order == "given" {
            ratios(out, &curves)?;
        }
    }
    out.write_str("</div>\n")
}

fn plot(out: &mut String, order: &str, title: &str, curves: &[&GrowthCurve]) -> fmt::Result {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most =
        points().map(|point| number(point.logical_bytes.max(point.most_unique_bytes))).fold(0.0, f64::max);
    let images = points().map(|point| number(point.images)).fold(1.0, f64::max);
    let (x, y) = (Scale::new(images, LEFT, WIDTH - RIGHT), Scale::new(most, BOTTOM, TOP));
    svg::begin(out, &format!("growth-{order}"), title, WIDTH, HEIGHT)?;
    axes(out, &x, &y, svg::axis_bytes)?;
    let mut labels = Vec::new();
    if let Some(first) = curves.first() {
        let logical = line(&first.points, &x, &y, |point| number(point.logical_bytes));
        writeln!(out, "<path class=\"logical\" d=\"{logical}\"/>")?;
        labels.extend(label(
            first,
            "all bytes",
            "#777777",
            &y,
            |point| number(point.logical_bytes),
            in_bytes,
        ));
    }
    for (at, curve) in curves.iter().enumerate() {
        draw(out, at, curve, &x, &y)?;
        let unique = |point: &GrowthPoint| number(point.unique_bytes);
        labels.extend(label(curve, &curve.granularity, svg::colour(at), &y, unique, in_bytes));
    }
    draw_labels(out, labels)?;
    svg::end(out)
}

/// The same as ratios, which part where the bytes lie close together.
fn ratios(out: &mut String, curves: &[&GrowthCurve]) -> fmt::Result {
    let ratio = |point: &GrowthPoint| point.ratio.map_or(0.0, Ratio::value);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let images = points().map(|point| number(point.images)).fold(1.0, f64::max);
    let most = points().map(ratio).fold(1.0, f64::max);
    let (x, y) = (Scale::new(images, LEFT, WIDTH - RIGHT), Scale::new(most, BOTTOM, TOP));
    svg::begin(out, "growth-ratio", "Plain bytes for each unique byte, in the order given", WIDTH, HEIGHT)?;
    axes(out, &x, &y, |tick| format!("{tick}x"))?;
    let mut labels = Vec::new();
    for (at, curve) in curves.iter().enumerate() {
        writeln!(
            out,
            "<path class=\"ratio\" stroke=\"{}\" stroke-dasharray=\"{}\" d=\"{}\"/>",
            svg::colour(at),
            svg::dashes(at),
            line(&curve.points, &x, &y, ratio)
        )?;
        labels.extend(label(curve, &curve.granularity, svg::colour(at), &y, ratio, |value| {
            format!("{value:.2}x")
        }));
    }
    draw_labels(out, labels)?;
    svg::end(out)
}

fn in_bytes(value: f64) -> String {
    Bytes(svg::whole(value)).to_string()
}

fn axes(out: &mut String, x: &Scale, y: &Scale, shown: impl Fn(f64) -> String) -> fmt::Result {
    for tick in y.ticks(6.0) {
        let at = y.at(tick);
        write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"end\" x=\"{:.1}\" \
             y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            shown(tick)
        )?;
    }
    for tick in x.ticks(10.0).into_iter().filter(|tick| tick.fract() == 0.0) {
        let at = x.at(tick);
        write!(out, "<text class=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{tick}</text>", BOTTOM + 16.0)?;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    writeln!(out, "<text class=\"middle\" x=\"{middle:.1}\" y=\"{:.1}\">images</text>", BOTTOM + 34.0)
}

fn draw(out: &mut String, at: usize, curve: &GrowthCurve, x: &Scale, y: &Scale) -> fmt::Result {
    let (colour, dashes) = (svg::colour(at), svg::dashes(at));
    if curve.order == "shuffled" {
        let upper = line(&curve.points, x, y, |point| number(point.most_unique_bytes));
        let back: Vec<GrowthPoint> = curve.points.iter().rev().cloned().collect();
        let lower = line(&back, x, y, |point| number(point.least_unique_bytes)).replacen('M', "L", 1);
        writeln!(
            out,
            "<path class=\"band\" data-granularity=\"{}\" fill=\"{colour}\" d=\"{upper}{lower}Z\"/>",
            Text(&curve.granularity)
        )?;
    }
    writeln!(
        out,
        "<path class=\"curve\" data-granularity=\"{}\" data-values=\"{}\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" \
         d=\"{}\"/>",
        Text(&curve.granularity),
        curve.points.iter().map(|point| point.unique_bytes.to_string()).collect::<Vec<_>>().join(" "),
        line(&curve.points, x, y, |point| number(point.unique_bytes))
    )?;
    // Beyond this they would be a stripe.
    if curve.points.len() <= 60 {
        for point in &curve.points {
            write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"><title>{} images, {}: {} of {}</title></circle>",
                x.at(number(point.images)),
                y.at(number(point.unique_bytes)),
                point.images,
                Text(&curve.granularity),
                Bytes(point.unique_bytes),
                Bytes(point.logical_bytes)
            )?;
        }
    }
    out.write_str("\n")
}

fn line(points: &[GrowthPoint], x: &Scale, y: &Scale, figure: impl Fn(&GrowthPoint) -> f64) -> String {
    let mut path = String::new();
    for (at, point) in points.iter().enumerate() {
        let command = if at == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", x.at(number(point.images)), y.at(figure(point)));
    }
    path
}

/// A name at the end of a line: where, in which colour, what.
struct Label {
    y: f64,
    colour: &'static str,
    text: String,
}

fn label(
    curve: &GrowthCurve,
    name: &str,
    colour: &'static str,
    y: &Scale,
    figure: impl Fn(&GrowthPoint) -> f64,
    shown: impl Fn(f64) -> String,
) -> Option<Label> {
    let value = figure(curve.points.last()?);
    let text = format!("{} {}", shown(value), svg::shortened(&svg::plain_name(name), 30));
    Some(Label { y: y.at(value) + 4.0, colour, text })
}

/// Pushes labels apart that would stand on one another.
fn draw_labels(out: &mut String, mut labels: Vec<Label>) -> fmt::Result {
    labels.sort_by(|one, other| one.y.total_cmp(&other.y));
    let mut above = f64::MIN;
    for label in &mut labels {
        label.y = label.y.max(above + APART);
        above = label.y;
    }
    let mut below = HEIGHT - 4.0;
    for label in labels.iter_mut().rev() {
        label.y = label.y.min(below);
        below = label.y - APART;
    }
    for Label { y, colour, text } in labels {
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>",
            WIDTH - RIGHT + 8.0,
            Text(&text)
        )?;
    }
    Ok(())
}
