//! What all plots have in common: scales, axes, colours.

use std::fmt::{self, Write as _};

use super::text::{Bytes, Text};

/// Colours that people with any kind of sight tell apart (after Okabe and Ito); then the same with dashes.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333"];

/// The colour of the series of this number.
pub(super) fn colour(number: usize) -> &'static str {
    COLOURS.get(number % COLOURS.len()).copied().unwrap_or("#333333")
}

/// The dashes of the series of this number: none for the first ones.
pub(super) fn dashes(number: usize) -> &'static str {
    match number / COLOURS.len() {
        0 => "none",
        1 => "6 3",
        _ => "2 2",
    }
}

/// From values to places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale from zero to `most` (at least), drawn from one coordinate to another.
    pub(super) fn new(most: f64, from: f64, to: f64) -> Self {
        Self { most: most.max(f64::MIN_POSITIVE), from, to }
    }

    /// Where a value is drawn.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.most)
    }

    /// Round values along it: about `count`.
    pub(super) fn ticks(&self, count: f64) -> Vec<f64> {
        let rough = self.most / count;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|factor| factor * magnitude).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let mut ticks = vec![0.0];
        while let Some(next) =
            ticks.last().map(|last| last + step).filter(|next| *next <= self.most * 1.000_001)
        {
            ticks.push(next);
            if ticks.len() > 50 {
                break;
            }
        }
        ticks
    }
}

/// A count as a number of a plot.
#[expect(clippy::cast_precision_loss, reason = "pixels are coarser")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// A value of a plot as a count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "plots show counts from zero on")]
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

/// A value of an axis of bytes.
pub(super) fn axis_bytes(value: f64) -> String {
    Bytes(whole(value)).to_string().replace(".00 ", " ").replace(".0 ", " ")
}

/// Begins a plot with a heading of its own; `id` is how a test finds it.
pub(super) fn begin(out: &mut String, id: &str, title: &str, width: f64, height: f64) -> fmt::Result {
    writeln!(
        out,
        "<figure id=\"plot-{}\"><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">",
        Text(id),
        Text(title),
        Text(title)
    )
}

/// Ends it.
pub(super) fn end(out: &mut String) -> fmt::Result {
    out.write_str("</svg></figure>\n")
}

/// What the colours of a plot mean.
pub(super) fn legend(out: &mut String, x: f64, y: f64, entries: &[(&str, &str)]) -> fmt::Result {
    let mut x = x;
    for (colour, name) in entries {
        write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 9.0,
            x + 14.0,
            Text(name)
        )?;
        x += 30.0 + 6.2 * number(name.chars().count() as u64);
    }
    out.write_str("\n")
}

/// A granularity as a plot calls it, as `fastcdc/4Ki-16Ki-64Ki@file`: the tables have its version and constants too.
pub(super) fn plain_name(granularity: &str) -> String {
    let (rule, in_files) =
        granularity.strip_suffix("@file").map_or((granularity, ""), |rule| (rule, "@file"));
    let mut parts = rule.split('/');
    let name = parts.next().unwrap_or_default();
    let name = name.strip_suffix("-2020").or_else(|| name.strip_suffix("-hash4")).unwrap_or(name);
    let sizes: Vec<String> =
        parts.next().map(|sizes| sizes.split('-').map(binary).collect()).unwrap_or_default();
    let slash = if sizes.is_empty() { "" } else { "/" };
    format!("{name}{slash}{}{in_files}", sizes.join("-"))
}

fn binary(size: &str) -> String {
    match size.parse::<u64>() {
        Ok(bytes) if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{}Mi", bytes >> 20),
        Ok(bytes) if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{}Ki", bytes >> 10),
        _ => size.to_owned(),
    }
}

/// As much of a name as there is room for.
pub(super) fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    let kept: String = name.chars().take(most.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_granularities_are_told_apart() {
        for (name, shown) in [
            ("blob", "blob"),
            ("fixed/4096@file", "fixed/4Ki@file"),
            ("fixed/1000", "fixed/1000"),
            ("fastcdc-2020/4096-16384-1048576@file", "fastcdc/4Ki-16Ki-1Mi@file"),
            ("mincdc-hash4/8192-24576/915f77f5-34636463", "mincdc/8Ki-24Ki"),
            ("mincdc-hash4/8192-24576/915f77f5-34636463@file", "mincdc/8Ki-24Ki@file"),
        ] {
            assert_eq!(plain_name(name), shown);
        }
    }

    #[test]
    fn ticks_are_round_and_within() {
        for (most, expected) in [
            (10.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
            (3.2, vec![0.0, 1.0, 2.0, 3.0]),
            (1_299.0, vec![0.0, 500.0, 1000.0]),
        ] {
            assert_eq!(Scale::new(most, 0.0, 1.0).ticks(5.0), expected, "{most}");
        }
        assert!(Scale::new(0.0, 0.0, 1.0).ticks(5.0).len() < 60);
        assert!(Scale::new(0.0, 0.0, 1.0).at(0.0).is_finite());
    }
}
