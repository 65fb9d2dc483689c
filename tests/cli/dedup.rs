//! `orlop dedup`: figures, views and files, over layouts, files and directories.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use serde_json::{Map, Value};

use crate::support::{Place, text};

/// Bytes that do not repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn code(output: &std::process::Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Two layers with a file in common, one of them compressed.
fn place() -> Place {
    let place = Place::new();
    let (shared, own) = (noise(1, 40_000), noise(2, 10_000));
    place.write("set/one.tar", tar(&[("usr/shared", &shared)]));
    place.write("set/two.tar.gz", gzip(&tar(&[("opt/shared", &shared), ("own", &own)])));
    place
}

pub(crate) fn without_times(text: &str) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap();
    assert!(value.as_object_mut().unwrap().remove("times").is_some());
    serde_json::to_string(&value).unwrap()
}

#[test]
fn files_and_directories_are_measured() {
    let place = place();
    let report = place.json(&["dedup", "set", "--by", "file"]);
    let names: Vec<&str> =
        report["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["set/one.tar", "set/two.tar.gz"]);
    let file = &report["granularities"][1];
    assert_eq!((&file["name"], &file["units"], &file["uniqueUnits"]), (&"file".into(), &5.into(), &4.into()));
    assert_eq!(file["interImageBytes"], 40_000);
    assert_eq!(report["wastedFiles"][0]["paths"], serde_json::json!(["opt/shared", "usr/shared"]));
    assert_eq!(report["inputs"][1]["encoding"], "gzip");
    // The order of sources is that of images.
    let report = place.json(&["dedup", "set/two.tar.gz", "set/one.tar"]);
    assert_eq!(report["images"][0]["name"], "set/two.tar.gz");
    assert_eq!(report["granularities"].as_array().unwrap().len(), 5);
    let shown = place.ok(&["dedup", "set"]);
    for part in [
        "2 images, 2 references to 2 distinct blobs",
        "GRANULARITY",
        "usr/shared",
        "fastcdc-2020/4096-16384-65536",
    ] {
        let part = if part == "usr/shared" { "opt/shared and 1 more" } else { part };
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn layouts_are_measured_and_stay_as_they_are() {
    let place = Place::new();
    place.write("a", noise(1, 50_000));
    place.write("b", noise(2, 50_000));
    place.ok(&["push", "--plain", "oci:mirror:app:v1", "a"]);
    place.ok(&["push", "--plain", "oci:mirror:app:v2", "a", "b"]);
    place.ok(&["push", "--plain", "oci:mirror:v3", "b"]);
    let before = place.ok(&["dedup", "mirror", "--by", "fixed:4Ki", "--format", "json"]);
    let report: Value = serde_json::from_str(&before).unwrap();
    let names: Vec<&str> =
        report["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["oci:mirror:v3", "oci:mirror:app:v1", "oci:mirror:app:v2"]);
    let layers =
        report["byMediaType"].as_array().unwrap().iter().find(|row| row["storedBytes"] == 100_000).unwrap();
    assert_eq!(layers["logicalBytes"], 200_000);
    let files: BTreeSet<String> = fs::read_dir(place.path("mirror"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    // One repository, one image; and a directory with a layout in it.
    for (source, images) in [("oci:mirror:app", 2), ("oci:mirror:app:v2", 1), (".", 5)] {
        let report = place.json(&["dedup", source, "--by", "file"]);
        assert_eq!(report["corpus"]["images"], images, "{source}");
    }
    // Another run, on other threads, has every byte the same but for the times.
    let after = place.ok(&["dedup", "mirror", "--by", "fixed:4Ki", "--format", "json", "--threads", "7"]);
    assert_eq!(without_times(&before), without_times(&after));
}

/// Every key of a report is in the schema, and every key of the schema is in a report.
#[test]
fn the_schema_describes_every_key() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/dedup.schema.json")).unwrap();
    let place = place();
    place.write("set/three.gz", &gzip(&noise(3, 30_000))[..20_000]);
    // Little enough memory for a sample.
    let args = ["dedup", "set", "--by", "file", "--by", "fixed:64", "--memory", "40000", "--format", "json"];
    let output = place.run(&args);
    assert_eq!(code(&output), 8);
    let report = text(&output.stdout);
    let mut used = BTreeSet::new();
    conforms("report", &serde_json::from_str(&report).unwrap(), &schema, &schema, &mut used);
    let mut described = BTreeSet::new();
    describes("report", &schema, &mut described);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        describes(name, definition, &mut described);
    }
    assert_eq!(used, described);
    // Keys come sorted.
    let keys = [
        "\"byClass\"",
        "\"byMediaType\"",
        "\"corpus\"",
        "\"findings\"",
        "\"tool\"",
        "\"version\"",
        "\"wastedFiles\"",
    ];
    let places: Vec<usize> = keys.iter().map(|key| report.find(&format!("\n  {key}")).unwrap()).collect();
    assert!(places.is_sorted());
}

fn describes(name: &str, schema: &Value, keys: &mut BTreeSet<String>) {
    let properties = schema["properties"].as_object().unwrap();
    let sorted: Vec<&String> = properties.keys().collect();
    assert!(sorted.is_sorted(), "{name}");
    for (key, property) in properties {
        assert!(property["description"].as_str().is_some_and(|text| text.len() > 5), "{name}.{key}");
        keys.insert(format!("{name}.{key}"));
    }
}

fn conforms(name: &str, value: &Value, schema: &Value, root: &Value, used: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        return conforms(name, value, &root["$defs"][name], root, used);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let of = usize::from(value.is_null());
        return conforms(name, value, &any[of], root, used);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    let fits = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    assert!(
        types.as_array().map_or_else(|| fits(types), |list| list.iter().any(fits)),
        "{name}: {value} {types}"
    );
    if let Some(names) = schema["enum"].as_array() {
        assert!(names.contains(value), "{name}: {value}");
    }
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| conforms(name, item, &schema["items"], root, used))
        }
        Value::Object(members) => {
            let properties: &Map<String, Value> = schema["properties"].as_object().unwrap();
            let required: BTreeSet<&str> =
                schema["required"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
            assert_eq!(required, members.keys().map(String::as_str).collect(), "{name}");
            for (key, member) in members {
                used.insert(format!("{name}.{key}"));
                conforms(&format!("{name}.{key}"), member, &properties[key], root, used);
            }
        }
        _ => {}
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let place = place();
    let whole = fs::read(place.path("set/two.tar.gz")).unwrap();
    place.write("set/cut.gz", &whole[..whole.len() / 2]);
    let output = place.run(&["dedup", "set", "--format", "json"]);
    assert_eq!(code(&output), 8, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("blobs=1"), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(report["corpus"]["incompleteBlobs"], 1);
    let findings = report["findings"].as_array().unwrap();
    let kinds = |incomplete: bool| -> Vec<&str> {
        let found = findings.iter().filter(|finding| finding["incomplete"] == incomplete);
        found.map(|finding| finding["kind"].as_str().unwrap()).collect()
    };
    assert_eq!((kinds(true), kinds(false)), (vec!["truncated"], vec!["truncated-tar"]));
    let shown = text(&place.run(&["dedup", "set"]).stdout);
    assert!(shown.contains("incomplete: the compressed stream ends early"), "{shown}");
}

#[test]
fn tables_and_units_are_written_whole() {
    let place = place();
    let args = ["dedup", "set", "--by", "file", "--by", "fixed:4Ki@file", "--csv", "tables", "--units"];
    place.ok(&[&args[..], &["units.csv"]].concat());
    place.ok(&[&args[..], &["units.jsonl"]].concat());
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    let names: BTreeSet<String> = fs::read_dir(place.path("tables"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert!(read("tables/granularities.csv").contains("\nfile,5,4,"));
    assert!(read("tables/matrix.csv").contains("\nfile,set/one.tar,set/two.tar.gz,40000,"));
    assert!(read("tables/wasted-files.csv").contains(",opt/shared,set/one.tar set/two.tar.gz\n"));
    let csv = read("units.csv");
    assert!(csv.starts_with("granularity,hash,image,layer,length,offset,path\n"));
    assert!(
        csv.lines().any(|line| line.starts_with("file,") && line.ends_with(",40000,512,usr/shared")),
        "{csv}"
    );
    let lines = read("units.jsonl");
    assert_eq!(lines.lines().count() + 1, csv.lines().count());
    let sum: u64 = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|unit| unit["granularity"] == "fixed/4096@file")
        .map(|unit| unit["length"].as_u64().unwrap())
        .sum();
    let report = place.json(&["dedup", "set", "--by", "file"]);
    assert_eq!(report["corpus"]["plainStoredBytes"], sum);
    // Nothing half-written stays where a file cannot be.
    let output = place.run(&["dedup", "set", "--units", "nowhere/units.csv"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("path=nowhere/units.csv"), "{}", text(&output.stderr));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let place = place();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["dedup"], 2, "SOURCE"),
        (&["dedup", "set", "--by", "rabin:4096"], 2, "granularity=rabin:4096"),
        (&["dedup", "set", "--by", "fastcdc:64-257-1024"], 2, "size=257"),
        (&["dedup", "set", "--memory", "much"], 2, "--memory"),
        (&["dedup", "nothing"], 2, "reference=nothing"),
        (&["dedup", "oci:nothing"], 3, "path=nothing"),
    ];
    for (args, exit, needle) in cases {
        let output = place.run(args);
        assert_eq!(code(&output), exit, "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(needle), "{args:?}: {}", text(&output.stderr));
    }
    fs::create_dir(place.path("empty")).unwrap();
    assert_eq!(code(&place.run(&["dedup", "empty"])), 3);
}
