//! Rows for people: columns on a terminal, a table in Markdown.

use super::machine::Machine;
use super::report::{Figures, Row};
use crate::output::columns;

const HEADING: [&str; 8] =
    ["WORKLOAD", "STORE", "DURABLE", "MEDIAN", "BEST", "SECONDS", "MEMORY", "COMPARED"];

/// For a terminal, with a heading.
pub(super) fn text(rows: &[Row]) -> String {
    let cells: Vec<[String; 8]> = rows.iter().map(cells).collect();
    columns(HEADING, &cells, &["MEDIAN", "BEST", "SECONDS", "MEMORY"])
}

/// For a document: where it ran, what the workloads are, and all rows.
pub(super) fn markdown(rows: &[Row], machine: &Machine, scale: f64) -> String {
    let mut text = format!(
        "{}, {} cores, {} MiB of memory, Linux {}, {}; scale {scale}.\n\n",
        machine.cpu,
        machine.cores,
        machine.memory_kb / 1024,
        machine.kernel,
        machine.filesystem,
    );
    text.push_str("| workload | store | durable | median | best | seconds | memory | compared |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        text.push_str(&format!("| {} |\n", cells(row).map(|cell| cell.replace('|', "\\|")).join(" | ")));
    }
    let mut before = "";
    text.push_str("\n| workload | what it is at a scale of 1 |\n| --- | --- |\n");
    for row in rows {
        if row.workload != before {
            text.push_str(&format!("| {} | {} |\n", row.workload, row.about));
            before = row.workload;
        }
    }
    text
}

fn cells(row: &Row) -> [String; 8] {
    let store = match row.kind {
        "limit" => format!("({})", row.store),
        "peer" => format!("{} {}", row.store, row.version),
        _ => row.store.clone(),
    };
    let workload = row.workload.to_owned();
    let Some(figures) = &row.figures else {
        let why = row.cannot.clone().unwrap_or_default();
        return [
            workload,
            store,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            why,
        ];
    };
    let durable = match figures.durable {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    [
        workload,
        store,
        durable.to_owned(),
        rate(figures, figures.rate),
        rate(figures, figures.rate_max),
        format!("{:.4}", figures.seconds),
        format!("{:.1} MiB", figures.rss_anon_peak_kb as f64 / 1024.0),
        compared(figures),
    ]
}

/// Ratios, goals, and whether all was done.
fn compared(figures: &Figures) -> String {
    let mut parts = Vec::new();
    if figures.n < figures.of {
        parts.push(format!("stopped after {} of {}", figures.n, figures.of));
    }
    for goal in &figures.goals {
        let word = if goal.met { "met" } else { "missed" };
        parts.push(format!("goal {:.2} of {}: {word}", goal.share, goal.of));
    }
    for ratio in &figures.ratios {
        let other = if ratio.same_durability { "" } else { " (other durability)" };
        parts.push(format!("{:.2} of {}{other}", ratio.ratio, ratio.to));
    }
    parts.join(", ")
}

fn rate(figures: &Figures, rate: f64) -> String {
    if figures.unit == "bytes/s" {
        return format!("{:.0} MiB/s", rate / f64::from(1 << 20));
    }
    if rate >= 100.0 { format!("{rate:.0}/s") } else { format!("{rate:.2}/s") }
}
