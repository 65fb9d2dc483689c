//! What other tools write, as a table: one row for each quirk and for each way to say what something is attached to, in
//! the numbers of docs/interop.md. Every row is run on a frozen view of the layout, on the store that a push makes of it,
//! on that store after its metadata were lost and rebuilt, and on a layout that a push leaves plain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use orlop::Digest;
use serde_json::Value;

use crate::support::*;

pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";

/// One row: a quirk, the fixture that has it, and what must be seen.
pub(crate) struct Row {
    name: &'static str,
    fixture: &'static str,
    forms: &'static [Form],
    prepare: fn(&Path),
    check: fn(&Case),
}

/// What has become of the layout before it is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// Nothing: only reading verbs are run, which must not change it.
    View,
    /// A push made a store of it.
    Pushed,
    /// And its metadata were lost and made anew.
    Rebuilt,
    /// A push left it a plain layout.
    Plain,
}

const ALL: &[Form] = &[Form::View, Form::Pushed, Form::Rebuilt, Form::Plain];
const VIEW: &[Form] = &[Form::View];

pub(crate) const fn row(name: &'static str, fixture: &'static str, check: fn(&Case)) -> Row {
    Row { name, fixture, forms: ALL, prepare: |_| (), check }
}

impl Row {
    /// With a change to the fixture that cannot be kept in it.
    pub(crate) const fn with(mut self, prepare: fn(&Path)) -> Self {
        self.prepare = prepare;
        self
    }

    /// Where a push is refused as well, so that there is nothing to look at after one.
    pub(crate) const fn only_viewed(mut self) -> Self {
        self.forms = VIEW;
        self
    }
}

/// A layout to look at, as `l` in a place of its own.
pub(crate) struct Case {
    pub(crate) place: Place,
    pub(crate) form: Form,
    /// What its index.json lists, before anything was done.
    pub(crate) entries: Vec<Value>,
    blobs: BTreeMap<PathBuf, Vec<u8>>,
}

impl Case {
    fn new(row: &Row, form: Form) -> Self {
        let place = Place::new();
        let root = place.path("l");
        copy(&fixtures().join(row.fixture), &root);
        (row.prepare)(&root);
        let index = fs::read(root.join("index.json")).unwrap_or_default();
        let index = index.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&index);
        let index: Value = serde_json::from_slice(index).unwrap_or_default();
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        let blobs = if form == Form::View || !root.join("blobs").exists() {
            BTreeMap::new()
        } else {
            tree(&root.join("blobs"))
        };
        let case = Self { place, form, entries, blobs };
        case.place.write("note.txt", "pushed\n");
        match form {
            Form::View => {}
            Form::Pushed => drop(case.place.push(&["oci:l:pushed", "note.txt"])),
            Form::Plain => drop(case.place.push(&["--plain", "oci:l:pushed", "note.txt"])),
            Form::Rebuilt => {
                case.place.push(&["oci:l:pushed", "note.txt"]);
                fs::remove_dir_all(root.join(".orlop/metadata")).unwrap();
                case.place.ok(&["rebuild", "oci:l"]);
            }
        }
        case
    }

    /// What an independent reader sees after a push: everything that was there, and what was pushed.
    fn whole(&self) {
        let root = self.place.path("l");
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
        let listed = index["manifests"].as_array().unwrap();
        let named = |entry: &Value| (entry["annotations"][NAME].clone(), entry["digest"].clone());
        for entry in &self.entries {
            let (name, digest) = named(entry);
            let (empty, names) = (name.as_str().is_none_or(str::is_empty), listed.iter().map(named));
            let is_there = names.into_iter().any(|found| found.1 == digest && (empty || found.0 == name));
            assert!(is_there, "index.json lost {name} {digest}");
        }
        for (path, content) in &self.blobs {
            let name = path.to_str().unwrap();
            if name.starts_with("sha256/") && !name.ends_with(&Digest::of(content).encoded().to_string()) {
                continue; // It was not what its name says.
            }
            assert_eq!(fs::read(root.join("blobs").join(path)).unwrap(), *content, "{}", path.display());
        }
        let pushed = listed.iter().find(|entry| entry["annotations"][NAME] == "pushed").unwrap();
        let manifest = self.json(pushed["digest"].as_str().unwrap());
        let layer = self.blob(manifest["layers"][0]["digest"].as_str().unwrap());
        assert_eq!(layer, b"pushed\n");
        assert_eq!(self.form == Form::Plain, !root.join(".orlop").exists());
    }

    /// The bytes of a content, read without the program and checked.
    pub(crate) fn blob(&self, digest: &str) -> Vec<u8> {
        let bytes = fs::read(self.place.path("l/blobs").join(digest.replace(':', "/"))).unwrap();
        if digest.starts_with("sha256:") {
            assert_eq!(Digest::of(&bytes).to_string(), digest);
        }
        bytes
    }

    pub(crate) fn json(&self, digest: &str) -> Value {
        serde_json::from_slice(&self.blob(digest)).unwrap()
    }

    /// The digest that the first entry of a name had at the beginning.
    pub(crate) fn entry(&self, name: &str) -> String {
        let found = self.entries.iter().find(|entry| entry["annotations"][NAME] == name);
        found.unwrap_or_else(|| panic!("no entry {name}"))["digest"].as_str().unwrap().to_owned()
    }

    /// The manifest whose first layer has a title.
    pub(crate) fn of(&self, label: &str) -> String {
        let title = format!("{label}.txt");
        for (path, content) in tree(&self.place.path("l/blobs")) {
            let document: Value = serde_json::from_slice(&content).unwrap_or_default();
            if document["layers"][0]["annotations"][TITLE] == title.as_str() {
                return path.to_str().unwrap().replace('/', ":");
            }
        }
        panic!("no manifest of {label}");
    }

    pub(crate) fn resolves(&self, name: &str, digest: &str) {
        assert_eq!(self.place.ok(&["resolve", &format!("oci:l{name}")]).trim(), digest, "resolve {name}");
    }

    /// What a reading verb refuses: with this code, and each of these words on stderr.
    pub(crate) fn refuses(&self, code: i32, verb: &str, name: &str, words: &[&str]) {
        let said = self.place.fails(code, &[verb, &format!("oci:l{name}")]);
        for word in words {
            assert!(said.contains(word), "{verb} {name}: {said} lacks {word}");
        }
    }

    /// What is said on stderr about the layout as a whole. Only a frozen view says it each time.
    pub(crate) fn notes(&self, words: &[&str]) {
        if self.form == Form::View {
            let said = text(&self.place.run(&["ls", "oci:l"]).stderr);
            for word in words {
                assert!(said.contains(word), "{said} lacks {word}");
            }
        }
    }

    /// The names and digests that `ls` shows, without what was pushed here.
    pub(crate) fn listed(&self, args: &[&str]) -> BTreeSet<(String, String)> {
        let listing = self.place.json(&[&["ls", "oci:l"], args].concat());
        let rows =
            ["tags", "untagged"].into_iter().flat_map(|key| listing[key].as_array().into_iter().flatten());
        rows.map(|row| {
            let name = row["name"].as_str().unwrap_or_default();
            (name.to_owned(), row["digest"].as_str().unwrap().to_owned())
        })
        .filter(|(name, _)| name != "pushed")
        .collect()
    }

    /// `ls` shows exactly these names.
    pub(crate) fn names(&self, names: &[&str]) {
        let listed = self.listed(&[]);
        let found: BTreeSet<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, names.iter().copied().collect::<BTreeSet<_>>());
    }

    /// The files that a pull writes.
    pub(crate) fn pulled(&self, name: &str) -> BTreeMap<String, String> {
        let out = self.place.path("out");
        let _ = fs::remove_dir_all(&out);
        self.place.ok(&["pull", &format!("oci:l{name}"), "-o", "out"]);
        let files = tree(&out).into_iter();
        files.map(|(path, content)| (path.to_str().unwrap().to_owned(), text(&content))).collect()
    }

    pub(crate) fn pulls(&self, name: &str, file: &str, content: &str) {
        assert_eq!(self.pulled(name), BTreeMap::from([(file.to_owned(), content.to_owned())]));
    }

    /// `discover` shows exactly these referrers and, with how they are attached, these hints.
    pub(crate) fn attached(&self, name: &str, referrers: &[&str], hints: &[(&str, &str)]) {
        let tree = self.place.json(&["discover", &format!("oci:l{name}")]);
        let digests = |key: &str| -> BTreeSet<String> {
            let found = tree[key].as_array().into_iter().flatten();
            found.map(|node| node["digest"].as_str().unwrap().to_owned()).collect()
        };
        let expected: BTreeSet<String> = referrers.iter().map(|digest| (*digest).to_owned()).collect();
        assert_eq!(digests("referrers"), expected, "referrers of {name}");
        let expected: BTreeSet<String> = hints.iter().map(|(digest, _)| (*digest).to_owned()).collect();
        assert_eq!(digests("attached"), expected, "hints about {name}");
        assert_eq!(tree.get("attached").is_some(), !hints.is_empty(), "the key is there only for hints");
        let drawn = self.place.ok(&["discover", &format!("oci:l{name}")]);
        for (digest, how) in hints {
            let node = tree["attached"].as_array().unwrap().iter().find(|node| node["digest"] == *digest);
            assert_eq!(node.unwrap()["attachedBy"], *how, "{digest}");
            assert!(drawn.contains(&format!("[{how}]")) && drawn.contains(digest), "{drawn}");
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layouts")
}

/// Copies a directory with its links as they are.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Runs a row in one form; what went wrong.
fn run(row: &Row, form: Form) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let case = Case::new(row, form);
        if form == Form::View {
            let before = listing(&case.place.path("l"));
            (row.check)(&case);
            assert_eq!(listing(&case.place.path("l")), before, "a reading verb changed the layout");
        } else {
            case.whole();
            (row.check)(&case);
        }
    }));
    let panic = outcome.err()?;
    let said = panic.downcast_ref::<String>().cloned();
    Some(said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

/// Runs a part of the table and names the rows that fail.
pub(crate) fn run_all(rows: &[Row]) {
    let mut failures = Vec::new();
    for row in rows {
        for form in row.forms {
            if let Some(said) = run(row, *form) {
                failures.push(format!("{} ({}, {form:?}): {said}", row.name, row.fixture));
            }
        }
    }
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}

/// Every part of the table.
const TABLE: &[&[Row]] = &[
    crate::quirks_names::ROWS,
    crate::quirks_content::ROWS,
    crate::quirks_documents::ROWS,
    crate::quirks_attached::ROWS,
];

#[test]
fn every_quirk_and_every_encoding_has_a_row() {
    let have: BTreeSet<&str> =
        TABLE.iter().flat_map(|rows| rows.iter()).map(|row| row.name.split(' ').next().unwrap()).collect();
    let quirks = (1..=26).map(|n| format!("Q{n}"));
    let wanted: Vec<String> = quirks.chain((1..=6).map(|n| format!("E{n}"))).collect();
    let missing: Vec<&String> = wanted.iter().filter(|name| !have.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert_eq!(have.len(), wanted.len(), "a row of no quirk: {have:?}");
}

#[test]
fn every_fixture_has_a_row_and_a_writer() {
    let writers = fs::read_to_string(fixtures().join("WRITERS")).unwrap();
    let used: BTreeSet<&str> =
        TABLE.iter().flat_map(|rows| rows.iter()).map(|row| row.fixture.split('/').next().unwrap()).collect();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "WRITERS" {
            assert!(used.contains(name.as_str()), "no row uses {name}");
            assert!(writers.contains(&format!("\n{name}: ")), "nobody wrote {name}");
        }
    }
}

#[test]
fn names_rows_hold() {
    run_all(crate::quirks_names::ROWS);
}

#[test]
fn content_rows_hold() {
    run_all(crate::quirks_content::ROWS);
}

#[test]
fn document_rows_hold() {
    run_all(crate::quirks_documents::ROWS);
}

#[test]
fn attached_rows_hold() {
    run_all(crate::quirks_attached::ROWS);
}

/// A table that cannot fail says nothing.
#[test]
fn a_failing_row_names_its_quirk() {
    let rows = [row("Q0 never true", "names", |case| case.resolves(":v1", "sha256:other")).only_viewed()];
    let said = catch_unwind(|| run_all(&rows)).unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("Q0 never true (names, View): ") && said.contains("sha256:other"), "{said}");
    let rows = [row("Q0 writes", "names", |case| case.place.write("l/more", "x")).only_viewed()];
    let said = catch_unwind(|| run_all(&rows)).unwrap_err();
    assert!(said.downcast_ref::<String>().unwrap().contains("a reading verb changed the layout"));
}
