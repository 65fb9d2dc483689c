//! Arguments: how they are declared and read.
//!
//! Without clap's derive, whose macro crates change the features of RocksDB's build dependencies: RocksDB would be
//! compiled once for the library and once more for the command line.

use std::any::Any;

use clap::{Arg, ArgAction, ArgMatches, Command};

/// A verb: its name, what it does in a line and in more words, and an example.
pub(crate) fn verb(
    name: &'static str,
    about: &'static str,
    more: &'static str,
    example: &'static str,
) -> Command {
    let verb = Command::new(name).about(about).after_help(format!("Example:\n  {example}"));
    if more.is_empty() { verb } else { verb.long_about(format!("{about}\n\n{more}")) }
}

/// The argument that names a layout or something in it.
pub(crate) fn target(form: &'static str, help: &'static str) -> Arg {
    Arg::new("target").value_name(form).help(help).required(true)
}

/// An argument behind it, that can be repeated.
pub(crate) fn rest(name: &'static str, form: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(form).help(help).action(ArgAction::Append)
}

/// An option with a value.
pub(crate) fn option(name: &'static str, form: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(form).help(help)
}

/// An option without one.
pub(crate) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

/// The value of an argument, if it was given or has a default.
pub(crate) fn value<T: Any + Clone + Send + Sync>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.get_one::<T>(name).cloned()
}

/// All values of an argument that can be repeated.
pub(crate) fn values(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

/// The text that names a layout or something in it, with what the flags of oras add to it.
pub(crate) fn target_of(matches: &ArgMatches) -> String {
    let target: String = value(matches, "target").unwrap_or_default();
    match value::<String>(matches, "oci-layout-path") {
        Some(layout) => in_layout(&layout, &target),
        None if matches.get_flag("oci-layout") && !target.starts_with("oci:") => format!("oci:{target}"),
        None => target,
    }
}

/// An option with the path of a layout. One with a colon could not be told from a layout and a name in it.
pub(crate) fn layout_path(name: &'static str, help: &'static str) -> Arg {
    option(name, "DIR", help).value_parser(|path: &str| {
        if path.contains(':') {
            return Err("a layout whose path has a colon cannot be named: use another path to it");
        }
        Ok(path.to_owned())
    })
}

/// A name in a layout, or a digest, as one reference.
pub(crate) fn in_layout(layout: &str, name: &str) -> String {
    let is_digest = name.split_once(':').is_some_and(|(name, _)| name.parse::<orlop::Algorithm>().is_ok());
    let end = if is_digest { '@' } else { ':' };
    format!("oci:{layout}{end}{name}")
}

/// A number of bytes, with a unit behind it or not: k, M, G and T are powers of 1000, Ki to Ti powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "not a number with k, M, G or T behind it".to_owned())?;
    let factor = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 1,
        "k" | "K" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        "Ti" | "TiB" => 1 << 40,
        unit => return Err(format!("unknown unit {unit}: use k, M, G or T")),
    };
    number.checked_mul(factor).ok_or_else(|| "too many bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, count) in [
            ("0", 0),
            ("500M", 500_000_000),
            ("20G", 20_000_000_000),
            ("1KiB", 1024),
            ("7B", 7),
            ("5MB", 5_000_000),
        ] {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1X", "18446744073709551615T"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
