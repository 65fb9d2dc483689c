//! The only place that prints: results go to stdout, everything else to stderr.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::error::Failure;
use crate::progress::Mode;

/// How results are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one JSON document.
    Json,
    /// For programs: one JSON object a line.
    Jsonl,
    /// Columns with a heading (verbs that list; the same as text there).
    Table,
    /// A tree (discover only; the same as text there).
    Tree,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "jsonl" => Ok(Self::Jsonl),
            "tree" => Ok(Self::Tree),
            "table" => Ok(Self::Table),
            _ => Err("use text, json, jsonl, tree or table"),
        }
    }
}

/// Where a command's results and remarks go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    progress: Mode,
}

impl Output {
    pub(crate) fn new(format: Format, quiet: bool, progress: Mode) -> Self {
        Self { format, quiet, progress }
    }

    /// How progress is shown.
    pub(crate) fn progress(&self) -> Mode {
        self.progress
    }

    /// The result of a verb that lists, as [`Output::result`]; with `--format jsonl` each row is a line.
    pub(crate) fn list<T: Serialize, R: Serialize>(
        &self,
        digests: impl IntoIterator<Item = impl Display>,
        json: &T,
        rows: impl IntoIterator<Item = R>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.format != Format::Jsonl || self.quiet {
            return self.result(digests, json, text);
        }
        let lines: String = rows.into_iter().map(|row| line(&row)).collect::<Result<_, _>>()?;
        stdout(&lines)
    }

    /// Whether results are one JSON document.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether digests are all that is wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The result of a command, in the form that was asked for. With `--quiet` the digests alone, whatever the format.
    pub(crate) fn result<T: Serialize>(
        &self,
        digests: impl IntoIterator<Item = impl Display>,
        json: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.quiet {
            let lines: String = digests.into_iter().map(|digest| format!("{digest}\n")).collect();
            return stdout(&lines);
        }
        if self.format == Format::Json {
            let mut document = serde_json::to_string_pretty(json).map_err(unwritable)?;
            document.push('\n');
            return stdout(&harmless(document));
        }
        if self.format == Format::Jsonl {
            return stdout(&harmless(line(json)?));
        }
        stdout(&text().lines().map(|line| format!("{}\n", plain(line))).collect::<String>())
    }

    /// A remark that is no result.
    pub(crate) fn note(&self, text: impl Display) {
        stderr(&format!("note: {}\n", plain(&text.to_string())));
    }

    /// How much was done. Not wanted with `--quiet`.
    pub(crate) fn summary(&self, text: impl Display) {
        if !self.quiet {
            stderr(&format!("{}\n", plain(&text.to_string())));
        }
    }
}

/// JSON on one line.
fn line<T: Serialize>(json: &T) -> Result<String, Failure> {
    Ok(serde_json::to_string(json).map_err(unwritable)? + "\n")
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::io("write the result as JSON", Path::new("stdout"), &io::Error::from(error))
}

/// Text that was made elsewhere and belongs on stdout, such as the help.
pub(crate) fn stdout(text: &str) -> Result<(), Failure> {
    raw(text.as_bytes()).map(|_| ())
}

/// Bytes that were asked for as they are. Answers whether anybody still reads.
pub(crate) fn raw(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // The reader has what it wanted, as in `orlop ls oci:DIR | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io("write the result", Path::new("stdout"), &error)),
        Ok(()) => Ok(true),
    }
}

/// Text that was made elsewhere and belongs on stderr, such as a complaint about an argument.
pub(crate) fn stderr(text: &str) {
    // Nobody is left to be told.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints why the command failed.
pub(crate) fn failure(failure: &Failure) {
    let mut text = format!("error: {}\n", plain(&failure.chain()));
    if let Some(hint) = failure.hint() {
        text.push_str(&format!("hint: {}\n", plain(hint)));
    }
    stderr(&text);
}

/// The text on one line, without what could steer a terminal: what stands in a layout may have been written by anyone.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// So many files and directories, for people.
pub(crate) fn count(files: usize, directories: usize) -> String {
    let files_shown = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let directories_shown =
        if directories == 1 { "1 directory".to_owned() } else { format!("{directories} directories") };
    match (files, directories) {
        (_, 0) => files_shown,
        (0, _) => directories_shown,
        _ => format!("{files_shown}, {directories_shown}"),
    }
}

/// Control characters, and those that reorder or hide the text around them.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The same document without what could steer a terminal: inside a text of JSON an escape means the same, and outside of
/// one there is none of it but the ends of lines.
fn harmless(document: String) -> String {
    let odd = |c: char| steers(c) && c != '\n';
    if !document.contains(odd) {
        return document;
    }
    let mut shown = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if odd(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Rows below a heading, in columns as wide as their widest cell; those that are named are flush right.
pub(crate) fn columns<const N: usize>(
    heading: [&'static str; N],
    rows: &[[String; N]],
    numbers: &[&str],
) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut text = String::new();
        for ((cell, width), name) in cells.into_iter().zip(widths).zip(heading) {
            let cell = if numbers.contains(&name) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:width$}  ")
            };
            text.push_str(&cell);
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(heading);
    text.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    text
}

/// A size for people: exact below a kilobyte, then decimal units with one digit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, factor) in UNITS {
        if bytes >= factor {
            return format!("{}.{} {unit}", bytes / factor, bytes % factor / (factor / 10));
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("v1 \u{e9}"), "v1 \u{e9}");
        assert_eq!(plain("a\u{1b}[2Jb\nc\rd\te"), "a\\u{1b}[2Jb\\nc\\rd\\te");
        assert_eq!(plain("txt.\u{202e}exe"), "txt.\\u{202e}exe");
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_949, "1.9 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (23_450_000_000, "23.4 GB"),
            (u64::MAX, "18446744.0 TB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(size(bytes), shown);
        }
    }
}
