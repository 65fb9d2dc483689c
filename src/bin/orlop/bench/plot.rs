//! Growth as a picture: times over the number of manifests, both on logarithmic axes.

use super::growth::Row;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Around the plot; names of the lines stand to its right.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 90.0;
const EDGE: f64 = 40.0;
/// Microseconds, as powers of ten.
const LOW: i32 = 0;
const HIGH: i32 = 6;

type Line = (&'static str, &'static str, fn(&Row) -> f64);

const LINES: [Line; 4] = [
    ("open", "#1b6ca8", |row| row.open_us),
    ("commit", "#b8432f", |row| row.commit_us),
    ("resolve", "#5a8f29", |row| row.resolve_us),
    ("look-up", "#7a4fa3", |row| row.lookup_us),
];

/// The picture, as SVG.
pub(super) fn svg(rows: &[Row]) -> String {
    let counts = || rows.iter().map(|row| (row.manifests.max(1) as f64).log10());
    let first = counts().fold(f64::INFINITY, f64::min);
    let last = counts().fold(f64::NEG_INFINITY, f64::max).max(first + 1.0);
    let across = |count: f64| LEFT + (count - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let up = |micros: f64| {
        let power = micros.max(1.0).log10().clamp(f64::from(LOW), f64::from(HIGH));
        HEIGHT - EDGE - (power - f64::from(LOW)) / f64::from(HIGH - LOW) * (HEIGHT - 2.0 * EDGE)
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for power in LOW..=HIGH {
        let (y, name) = (up(10_f64.powi(power)), micros(power));
        text.push_str(&format!(
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
        ));
    }
    for row in rows {
        let x = across((row.manifests.max(1) as f64).log10());
        text.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            HEIGHT - EDGE + 18.0,
            row.manifests
        ));
    }
    for (name, color, value) in LINES {
        let points: Vec<(f64, f64)> =
            counts().zip(rows).map(|(count, row)| (across(count), up(value(row)))).collect();
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        text.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n",
            list.join(" ")
        ));
        if let Some((x, y)) = points.last() {
            text.push_str(&format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>\n",
                x + 8.0,
                y + 4.0
            ));
        }
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text.push_str(&format!(
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">manifests</text>\n</svg>\n",
        HEIGHT - 6.0
    ));
    text
}

/// A power of ten of microseconds, with its unit.
fn micros(power: i32) -> String {
    let (power, unit) = match power {
        0..=2 => (power, "us"),
        3..=5 => (power - 3, "ms"),
        _ => (power - 6, "s"),
    };
    format!("{:.0} {unit}", 10_f64.powi(power))
}
