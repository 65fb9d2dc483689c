//! Rules of the source tree that no compiler checks: which floor may use which, where the operating system and the metadata
//! engine may be named, how long a file may grow, what text has no place in it.
//!
//! The rules are functions over `(path, text)` pairs; every rule is shown to fail by a case that breaks it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]
#![expect(clippy::disallowed_methods, reason = "this program reads the source tree")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

/// Top-level modules and their floors: a file uses lower floors and its own folder, nothing else.
const FLOORS: &[(&str, u8)] = &[
    ("error", 0),
    ("digest", 1),
    ("oci", 2),
    ("sys", 3),
    ("blobs", 4),
    ("metadata", 4),
    ("store", 5),
    ("transfer", 6),
    ("dedup", 6),
    ("server", 7),
];

/// Floors that use the public API alone, by its names in the crate root: what an embedding program could use as well.
const PUBLIC_ONLY: &[&str] = &["dedup", "server"];

/// Modules of the crate root that are public.
const PUBLIC: &[&str] = &["digest", "oci", "transfer"];

/// Words of code that only some places may name. A place is a prefix of the path below the package.
const CONFINED: &[(&str, &[&str])] = &[
    // By itself it is one of the limits that a benchmark compares with.
    ("rocksdb", &["src/metadata/", "src/bin/orlop/bench/engine.rs"]),
    ("memmap2", &["src/sys/map.rs"]),
    ("unsafe", &["src/sys/map.rs"]),
    ("oci_spec", &[]),
    ("rustix", &["src/sys/", "src/bin/"]),
    ("tempfile", &["src/sys/", "src/bin/"]),
    ("clap", &["src/bin/"]),
    ("todo", &[]),
    ("unimplemented", &[]),
    ("dbg", &[]),
];

/// The confined words that tests may use.
const TEST_TOOLS: &[&str] = &["tempfile", "rustix"];

/// Files that may use `std::fs` beside the command line: the floor that calls the operating system.
const FILE_CALLERS: &[&str] = &["src/sys/", "src/bin/"];

/// What of `std::fs` is a plain type, and does nothing by being named.
const FILE_TYPES: &[&str] = &["File", "Metadata", "Permissions"];

/// Exceptions: (rule, path, why). An exception that no longer excuses anything is a finding itself.
const EXCEPTIONS: &[(Rule, &str, &str)] = &[];

/// Lines of a file beyond which it is named, and beyond which the test fails; tests do not count.
const LONG: usize = 500;
const TOO_LONG: usize = 600;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rule {
    Floor,
    Confined,
    Files,
    TooLong,
    Long,
    Ascii,
    Marker,
    MachinePath,
    Exception,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Finding {
    rule: Rule,
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {:?}: {}", self.path, self.line, self.rule, self.what)
    }
}

/// Every rule over one file.
fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find =
        |rule, line, what: String| findings.push(Finding { rule, path: path.to_owned(), line, what });
    check_text(path, text, &mut find);
    if path.starts_with("src/") && path.ends_with(".rs") {
        let tokens = tokens(&code(text));
        let product = without_tests(path, &tokens);
        check_floors(path, &tokens, &mut find);
        check_words(path, &tokens, &product, &mut find);
        check_length(path, text, &tokens, &product, &mut find);
    }
    findings
}

fn check_text(path: &str, text: &str, find: &mut impl FnMut(Rule, usize, String)) {
    // Tests stand at the end of a file, or in one of their own.
    let mut tests = is_test_file(path);
    for (index, line) in text.lines().enumerate() {
        tests |= line.trim() == "#[cfg(test)]";
        if let Some(odd) = line.chars().find(|c| !c.is_ascii()) {
            find(Rule::Ascii, index + 1, format!("not ASCII, character={}", odd.escape_unicode()));
        }
        if !path.starts_with("src/") {
            continue;
        }
        for marker in [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")] {
            if words(line).any(|word| word == marker) {
                find(Rule::Marker, index + 1, format!("unfinished, marker={marker}"));
            }
        }
        for place in ["/work", "/root", "/tmp", "/home"] {
            if names_place(line, place) && !(tests && place == "/tmp") {
                find(Rule::MachinePath, index + 1, format!("a path of one machine, path={place}"));
            }
        }
    }
}

/// Whether an absolute path in `line` begins with `place`.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        // `<root>/work`, `a/tmp` and `/workload` are other things.
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/<>{}*".contains(c))
            && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn check_floors(path: &str, tokens: &[Token], find: &mut impl FnMut(Rule, usize, String)) {
    // The binary and the root are above every floor; `crate::` in the binary is the binary itself.
    if path.starts_with("src/bin/") || path == "src/lib.rs" {
        return;
    }
    let module = module_of(path);
    let own = module[0].as_str();
    let Some(floor) = floor_of(own) else {
        find(Rule::Floor, 1, format!("a module that no floor is named for, module={own}"));
        return;
    };
    for (line, target) in crate_paths(&module, tokens) {
        match floor_of(&target) {
            _ if target == own => {}
            // Fault points are in the crate's own test binary only, so tests that need them stand beside what they test.
            Some(_) if PUBLIC_ONLY.contains(&own) && is_test_file(path) && target == "sys" => {}
            found if PUBLIC_ONLY.contains(&own) => {
                if found.is_some() && !PUBLIC.contains(&&*target) {
                    find(Rule::Floor, line, format!("{own} uses {target}, which is not public"));
                }
            }
            Some(other) if other < floor => {}
            Some(_) => find(Rule::Floor, line, format!("{own} uses {target}, which is no lower floor")),
            None => find(Rule::Floor, line, format!("{own} uses the crate root, name={target}")),
        }
    }
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn check_words(path: &str, all: &[Token], product: &[Token], find: &mut impl FnMut(Rule, usize, String)) {
    for (word, places) in CONFINED {
        // A test may make a scratch directory; it may not reach round the floors.
        let scope = if TEST_TOOLS.contains(word) { product } else { all };
        for token in scope.iter().filter(|token| token.text == *word) {
            if !places.iter().any(|place| path.starts_with(place)) {
                find(Rule::Confined, token.line, format!("has no place here, word={word}"));
            }
        }
    }
    if FILE_CALLERS.iter().any(|place| path.starts_with(place)) {
        return;
    }
    for (line, segments) in paths_from("std", product) {
        if segments.get(1).is_some_and(|name| name == "fs")
            && segments.get(2).is_none_or(|name| !FILE_TYPES.contains(&name.as_str()) || segments.len() > 3)
        {
            find(
                Rule::Files,
                line,
                format!("calls the file system beside sys, path={}", segments.join("::")),
            );
        }
    }
    for window in product.windows(3) {
        if window[0].text == "File"
            && window[1].text == "::"
            && ["open", "create", "options"].contains(&&*window[2].text)
        {
            find(
                Rule::Files,
                window[0].line,
                format!("calls the file system beside sys, path=File::{}", window[2].text),
            );
        }
    }
}

fn check_length(
    path: &str,
    text: &str,
    all: &[Token],
    product: &[Token],
    find: &mut impl FnMut(Rule, usize, String),
) {
    if is_test_file(path) {
        return;
    }
    let lines_of = |tokens: &[Token]| tokens.iter().map(|token| token.line).collect::<BTreeSet<_>>();
    let (all, product) = (lines_of(all), lines_of(product));
    // Comments and blank lines count; what belongs to tests alone does not.
    let first_test = all.difference(&product).next().copied();
    let lines = match (first_test, product.last()) {
        (Some(first), Some(last)) if first > *last => first,
        (Some(_), _) => text.lines().count() - all.difference(&product).count(),
        (None, _) => text.lines().count(),
    };
    if lines > TOO_LONG {
        find(Rule::TooLong, lines, format!("{lines} lines without tests"));
    } else if lines > LONG {
        find(Rule::Long, lines, format!("{lines} lines without tests"));
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The module that a file is: `src/store/batch.rs` is `[store, batch]`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Token {
    line: usize,
    text: String,
}

/// The text with comments, strings and characters blanked out; lines stay where they are.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(bytes, at);
        if end > at {
            for index in at..end {
                if bytes[index] == b'\n' {
                    out[index] = b'\n';
                }
            }
            at = end;
        } else {
            out[at] = bytes[at];
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment or literal that begins at `at`, or `at` when none does.
fn skipped(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment(rest);
    }
    if rest[0] == b'"' {
        return at + quoted(rest, 1);
    }
    if !word_before {
        let prefix = rest.iter().take_while(|b| b"bcr".contains(b)).count();
        let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
        if prefix > 0 && rest[..prefix].contains(&b'r') && rest.get(prefix + hashes) == Some(&b'"') {
            return at + raw(rest, prefix + hashes + 1, hashes);
        }
    }
    // A character, not a lifetime: an escape, or a quote right after one character.
    if rest[0] == b'\'' {
        if rest.get(1) == Some(&b'\\') {
            return at + rest.iter().skip(3).position(|b| *b == b'\'').map_or(rest.len(), |found| found + 4);
        }
        let text = String::from_utf8_lossy(&rest[..rest.len().min(8)]).into_owned();
        let mut characters = text.chars().skip(1);
        if let (Some(one), Some('\'')) = (characters.next(), characters.next()) {
            return at + 2 + one.len_utf8();
        }
    }
    at
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &[u8], mut at: usize) -> usize {
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw(rest: &[u8], from: usize, hashes: usize) -> usize {
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    rest[from..]
        .windows(end.len())
        .position(|window| window == end)
        .map_or(rest.len(), |found| from + found + end.len())
}

/// Words, `::` and single punctuation characters.
fn tokens(code: &str) -> Vec<Token> {
    let mut out = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            out.push(Token { line: index + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    out
}

/// The tokens outside `#[cfg(test)]` items, and none of a file of tests.
fn without_tests(path: &str, tokens: &[Token]) -> Vec<Token> {
    if is_test_file(path) {
        return Vec::new();
    }
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens.len() >= at + MARK.len()
            && tokens[at..at + MARK.len()].iter().zip(MARK).all(|(token, mark)| token.text == mark);
        if !marked {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // The item ends with its block, or with a semicolon outside any bracket.
        let mut depth = 0_usize;
        at += MARK.len();
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        at += 1;
    }
    out
}

/// Every path that begins with the word `first`, braces spread out.
fn paths_from(first: &str, tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut out = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let inside = at > 0 && tokens[at - 1].text == "::";
        if token.text == first && !inside {
            spread(tokens, at, &mut Vec::new(), &mut out);
        }
    }
    out
}

/// Reads one path or brace group at `at` below `prefix`; gives the position after it.
fn spread(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    out: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let depth = prefix.len();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token.text != "}") {
                let next = spread(tokens, at, prefix, out);
                at = next.max(at + 1);
                if tokens.get(at).is_some_and(|token| token.text == ",") {
                    at += 1;
                }
            }
            prefix.truncate(depth);
            return at + 1;
        }
        if !token.text.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '*') {
            break;
        }
        line = token.line;
        prefix.push(token.text.clone());
        at += 1;
        if tokens.get(at).is_some_and(|token| token.text == "::") {
            at += 1;
        } else {
            break;
        }
    }
    if prefix.len() > depth {
        out.push((line, prefix.clone()));
    }
    // `name as other`
    if tokens.get(at).is_some_and(|token| token.text == "as") {
        at += 2;
    }
    prefix.truncate(depth);
    at
}

/// The top-level module (or root item) of every path through `crate` or `super`, with its line.
fn crate_paths(module: &[String], tokens: &[Token]) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (line, segments) in paths_from("crate", tokens) {
        if let Some(first) = segments.get(1) {
            out.push((line, first.clone()));
        }
    }
    // `super` counts from the module it stands in, and modules nest inside a file.
    let (mut depth, mut inline): (usize, Vec<usize>) = (0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            "super" if at == 0 || tokens[at - 1].text != "::" => {
                let mut found = Vec::new();
                spread(tokens, at, &mut Vec::new(), &mut found);
                for (line, segments) in found {
                    let ups = segments.iter().take_while(|segment| *segment == "super").count();
                    let below = (module.len() + inline.len()).saturating_sub(ups);
                    let target =
                        if below == 0 { segments.get(ups).cloned() } else { Some(module[0].clone()) };
                    if let Some(target) = target {
                        out.push((line, target));
                    }
                }
            }
            _ => {}
        }
    }
    out
}

/// Takes the excused findings out, and names the exceptions that excuse nothing.
fn excuse(findings: Vec<Finding>, exceptions: &[(Rule, &str, &str)]) -> Vec<Finding> {
    let excused = |finding: &Finding, exception: &(Rule, &str, &str)| {
        finding.rule == exception.0 && finding.path == exception.1 && !exception.2.is_empty()
    };
    let mut out: Vec<Finding> = exceptions
        .iter()
        .filter(|exception| !findings.iter().any(|finding| excused(finding, exception)))
        .map(|(rule, path, _)| Finding {
            rule: Rule::Exception,
            path: (*path).to_owned(),
            line: 0,
            what: format!("excuses nothing any more, rule={rule:?}"),
        })
        .collect();
    out.extend(
        findings
            .into_iter()
            .filter(|finding| !exceptions.iter().any(|exception| excused(finding, exception))),
    );
    out
}

fn files_below(root: &Path, folder: &str, out: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            // A build directory of the benchmark package is no source.
            if !name.ends_with("/target") {
                files_below(root, &name, out);
            }
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            out.push((name, text));
        }
    }
}

#[test]
fn the_tree_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "scripts", ".ci"] {
        files_below(root, folder, &mut files);
    }
    files.retain(|(path, _)| !path.contains("proptest-regressions"));
    assert!(files.iter().any(|(path, _)| path == "src/lib.rs"), "the sources were not found");
    files.sort();
    let findings = files.iter().flat_map(|(path, text)| check(path, text)).collect();
    let (long, wrong): (Vec<_>, Vec<_>) =
        excuse(findings, EXCEPTIONS).into_iter().partition(|finding| finding.rule == Rule::Long);
    for finding in &long {
        println!("warning: {finding}");
    }
    let list: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
}

/// The rules that `text` at `path` breaks, each once.
fn broken(path: &str, text: &str) -> Vec<Rule> {
    let rules: BTreeSet<Rule> = check(path, text).into_iter().map(|finding| finding.rule).collect();
    rules.into_iter().collect()
}

#[test]
fn a_file_uses_lower_floors_and_its_own_folder() {
    let good = [
        ("src/store/batch.rs", "use crate::{blobs::Blob, metadata::{self, keys}, error::Result};"),
        ("src/store/batch.rs", "use super::options::Options; fn f() { crate::store::content::g(); }"),
        ("src/store/mod.rs", "mod a { use super::b::C; }"),
        ("src/oci/manifest.rs", "#[cfg(test)] mod tests { use super::*; use super::super::descriptor::D; }"),
        ("src/error.rs", "// crate::store is named in a comment\nconst A: &str = \"crate::store::x\";"),
        ("src/bin/orlop/main.rs", "use crate::output; use orlop::Store;"),
        ("src/lib.rs", "pub use crate::store::Store;"),
        ("src/store/a.rs", "pub(crate) fn f() {} pub(super) fn g() {}"),
        ("src/server/a.rs", "use crate::{Digest, oci::Tag}; use super::b::C; use crate::server::d::E;"),
        ("src/server/tests/a.rs", "use crate::sys::fault::{Call, Fault};"),
    ];
    for (path, text) in good {
        assert_eq!(broken(path, text), [], "{path}: {text}");
    }
    let bad = [
        ("src/blobs/ingest.rs", "use crate::metadata::keys;"),
        ("src/metadata/keys.rs", "use crate::blobs::Blob;"),
        ("src/digest.rs", "use crate::oci::Descriptor;"),
        ("src/error.rs", "fn f() -> crate::digest::Digest { g() }"),
        ("src/sys/dir.rs", "use crate::{error::Error, store::{self, Options}};"),
        ("src/oci/layout.rs", "fn f() { let a: Vec<crate::sys::Dir> = Vec::new(); }"),
        ("src/blobs/mod.rs", "use super::store::Options;"),
        ("src/blobs/blob.rs", "use super::super::store::Options;"),
        ("src/blobs/blob.rs", "mod tests { use super::super::super::store::Options; }"),
        ("src/blobs/blob.rs", "use super::{super::{store::Options}, ingest};"),
        ("src/store/a.rs", "use crate::Digest;"),
        ("src/store/a.rs", "use crate::error::{Error, Result}; use crate::server::Policy;"),
        ("src/transfer/a.rs", "use crate::dedup::units;"),
        ("src/server/a.rs", "use crate::store::Store;"),
        ("src/server/a.rs", "use crate::error::Error;"),
        ("src/server/a.rs", "use crate::sys::fault::Call;"),
        ("src/server/tests/a.rs", "use crate::store::Store;"),
        ("src/stray.rs", "fn f() {}"),
    ];
    for (path, text) in bad {
        assert_eq!(broken(path, text), [Rule::Floor], "{path}: {text}");
    }
}

#[test]
fn engines_and_system_calls_stay_in_their_places() {
    let good = [
        ("src/metadata/batch.rs", "use rocksdb::WriteBatch;"),
        ("src/sys/map.rs", "fn f() { unsafe { memmap2::Mmap::map(&file) } }"),
        (
            "src/store/a.rs",
            "/// Nothing of rocksdb shows here, `unsafe` neither.\nfn f() { g(\"rocksdb\", '\"', \"x\"); }",
        ),
        ("src/store/a.rs", "fn f<'a>(x: &'a str) -> char { '\\'' }"),
        ("src/sys/dir.rs", "use std::fs; use rustix::fs::openat;"),
        ("src/blobs/blob.rs", "use std::fs::File; use std::{fmt, fs::Metadata};"),
        (
            "src/store/a.rs",
            "#[cfg(test)]\nmod tests { use std::fs; fn f() { fs::write(a, b); tempfile::tempdir(); } }",
        ),
        ("src/store/tests.rs", "use std::fs;"),
    ];
    for (path, text) in good {
        assert_eq!(broken(path, text), [], "{path}: {text}");
    }
    let bad = [
        ("src/store/a.rs", "use rocksdb::WriteBatch;", Rule::Confined),
        ("src/store/a.rs", "fn f() -> r#try { rocksdb::DB::open() }", Rule::Confined),
        ("src/sys/dir.rs", "fn f() { unsafe { g() } }", Rule::Confined),
        ("src/store/tests.rs", "use rocksdb::DB;", Rule::Confined),
        ("src/blobs/blob.rs", "use memmap2::Mmap;", Rule::Confined),
        ("src/oci/mod.rs", "use oci_spec::image::Descriptor;", Rule::Confined),
        ("src/blobs/blob.rs", "use rustix::fs::openat;", Rule::Confined),
        ("src/store/a.rs", "fn f() { let s = \"a\\\"b\"; todo!() }", Rule::Confined),
        ("src/store/a.rs", "/* a /* nested */ comment */ use memmap2::Mmap;", Rule::Confined),
        ("src/store/a.rs", "const A: &str = r#\"a \" quote\"#; use memmap2::Mmap;", Rule::Confined),
        ("src/store/a.rs", "use std::fs;", Rule::Files),
        ("src/store/a.rs", "use std::{io, fs::{self, File}};", Rule::Files),
        ("src/store/a.rs", "fn f() { std::fs::write(a, b) }", Rule::Files),
        ("src/blobs/a.rs", "fn f() { std::fs::File::open(a) }", Rule::Files),
        ("src/blobs/a.rs", "#[cfg(test)] fn g() {} fn f() { File::create(a) }", Rule::Files),
    ];
    for (path, text, rule) in bad {
        let found = broken(path, text);
        assert!(!found.is_empty() && found.iter().all(|found| *found == rule), "{path}: {text}: {found:?}");
    }
}

#[test]
fn files_stay_short_and_plain() {
    let lines = |count: usize| "fn f() {}\n".repeat(count);
    assert_eq!(broken("src/store/a.rs", &lines(500)), []);
    assert_eq!(broken("src/store/a.rs", &lines(501)), [Rule::Long]);
    assert_eq!(broken("src/store/a.rs", &lines(601)), [Rule::TooLong]);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(400), lines(400));
    assert_eq!(broken("src/store/a.rs", &tests), []);
    let hidden = format!("#[cfg(test)]\nfn only_here() {{}}\n{}", lines(601));
    assert_eq!(broken("src/store/a.rs", &hidden), [Rule::TooLong]);
    assert_eq!(broken("src/store/tests.rs", &lines(2000)), []);

    assert_eq!(broken("tests/store/a.rs", "// caf\u{e9}"), [Rule::Ascii]);
    assert_eq!(broken("src/store/a.rs", concat!("// FIX", "ME later")), [Rule::Marker]);
    assert_eq!(broken("src/store/a.rs", concat!("// TO", "DO: later")), [Rule::Marker]);
    assert_eq!(broken("src/store/a.rs", "const A: &str = \"/work/main\";"), [Rule::MachinePath]);
    assert_eq!(broken("src/store/a.rs", "// see /root/notes"), [Rule::MachinePath]);
    assert_eq!(broken("src/store/a.rs", "const A: &str = \"/tmp/x\";"), [Rule::MachinePath]);
    assert_eq!(broken("src/store/a.rs", "// <root>/work, /workload, a/tmp/b"), []);
    assert_eq!(broken("tests/a.rs", "const A: &str = \"/tmp/x\";"), []);
    assert_eq!(broken("src/store/a/tests.rs", "const A: &str = \"/tmp/x\";"), []);
    assert_eq!(broken("src/store/a.rs", "#[cfg(test)]\nmod tests { const A: &str = \"/tmp/x\"; }"), []);
    assert_eq!(broken("src/store/tests.rs", "const A: &str = \"/work/x\";"), [Rule::MachinePath]);
}

#[test]
fn an_exception_needs_a_reason_and_a_use() {
    let findings = check("src/store/a.rs", "use std::fs;");
    assert_eq!(findings.len(), 1);
    assert_eq!(excuse(findings.clone(), &[(Rule::Files, "src/store/a.rs", "because")]), []);
    assert_eq!(excuse(findings.clone(), &[(Rule::Files, "src/store/a.rs", "")]).len(), 2);
    let unused = excuse(Vec::new(), &[(Rule::Files, "src/store/a.rs", "because")]);
    assert_eq!(unused.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Rule::Exception]);
}
