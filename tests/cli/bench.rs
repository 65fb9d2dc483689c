//! `orlop bench`: every cell of the table is there with figures, peers by their protocol stand in it, and nothing stays behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Place, text};

/// A peer as the protocol has it: it does one workload at once, and says of another one why it cannot.
const PEER: &str = r#"#!/bin/sh
case "$2" in
describe) echo '{"store":"shell","version":"1.2","workloads":["tags-batch","small-batch"],"cannot":{"list-tags":"it lists nothing"}}' ;;
prepare) test -d "$4" && echo "$1" >"$4/prepared" ;;
run) test "$(cat "$4/prepared")" = word || exit 1
    test "$3" = tags-batch || { echo 'it broke' >&2; exit 1; }
    echo begin
    echo '{"n":5,"of":10,"bytes":0,"seconds":0.5,"durable":false}' ;;
esac
"#;

fn place_with_peer() -> Place {
    let place = Place::new();
    place.write("peer", PEER);
    fs::set_permissions(place.path("peer"), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn row<'r>(rows: &'r [Value], workload: &str, store: &str) -> &'r Value {
    let found = rows.iter().find(|row| row["workload"] == workload && row["store"] == store);
    found.unwrap_or_else(|| panic!("no row, workload={workload}, store={store}"))
}

#[test]
fn every_cell_is_there_with_figures() {
    let place = Place::new();
    let document =
        place.json(&["bench", "--dir", "disk", "--scale", "0.0005", "--rounds", "1", "--seconds", "5"]);
    let rows = document["rows"].as_array().unwrap();
    let help = place.ok(&["bench", "--help"]);
    let listed = help.split("Workloads:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.trim_start().split("  ").next())
        .filter(|name| !name.is_empty())
        .collect();
    let found: BTreeSet<&str> = rows.iter().map(|row| row["workload"].as_str().unwrap()).collect();
    assert_eq!(found.len(), 27);
    assert_eq!(found, listed);
    for row in rows {
        for key in ["seconds", "seconds_min", "rate", "rate_max"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key}: {row}");
        }
        assert!(row["n"].as_u64().unwrap() > 0 && row["n"] == row["of"], "{row}");
        assert!(row["rss_anon_peak_kb"].as_u64().unwrap() > 0, "{row}");
        let ratios = row["ratios"].as_array().map_or(0, Vec::len);
        let others = rows.iter().filter(|other| other["workload"] == row["workload"]).count() - 1;
        assert_eq!(ratios, if row["kind"] == "store" { others } else { 0 }, "{row}");
    }
    for (workload, store, durable) in [
        ("large-stream", "orlop", Value::Bool(true)),
        ("large-stream", "orlop-unsynced", Value::Bool(false)),
        ("large-stream", "write", Value::Bool(false)),
        ("large-stream", "write-fsync", Value::Bool(true)),
        ("large-stream", "hash", Value::Null),
        ("tags-single", "rocksdb-put", Value::Bool(true)),
    ] {
        assert_eq!(row(rows, workload, store)["durable"], durable, "{workload} {store}");
    }
    let ours = row(rows, "large-stream", "orlop");
    let same = |to: &str| {
        let ratios = ours["ratios"].as_array().unwrap();
        ratios.iter().find(|ratio| ratio["to"] == to).unwrap()["same_durability"].as_bool().unwrap()
    };
    assert!(same("hash") && same("write-fsync") && !same("write") && !same("orlop-unsynced"));
    assert_eq!(ours["goals"][0]["of"], "hash");
    assert_eq!(fs::read_dir(place.path("disk")).unwrap().count(), 0);
}

#[test]
fn a_peer_stands_beside_it() {
    let place = place_with_peer();
    let with = format!("{} word", place.path("peer").display());
    let args = [
        "bench",
        "--only",
        "tags-batch,list-tags,small-batch",
        "--scale",
        "0.001",
        "--rounds",
        "2",
        "--with",
        &with,
    ];
    let document = place.json(&[&args[..], &["--markdown", "table.md"]].concat());
    let rows = document["rows"].as_array().unwrap();
    let did = row(rows, "tags-batch", "shell");
    assert_eq!((&did["kind"], &did["version"], &did["rate"]), (&"peer".into(), &"1.2".into(), &10.0.into()));
    assert_eq!((&did["n"], &did["of"], &did["durable"]), (&5.into(), &10.into(), &false.into()));
    assert_eq!(row(rows, "list-tags", "shell")["cannot"], "it lists nothing");
    // What fails is said, and the others go on.
    let failed = row(rows, "small-batch", "shell")["cannot"].as_str().unwrap();
    assert!(failed.starts_with("failed: "), "{failed}");
    assert_eq!(row(rows, "small-batch", "orlop")["rounds"], 2);
    let ratio = &row(rows, "tags-batch", "orlop")["ratios"][0];
    assert_eq!((&ratio["to"], &ratio["same_durability"]), (&"shell".into(), &false.into()));
    let table = fs::read_to_string(place.path("table.md")).unwrap();
    let line = table.lines().find(|line| line.starts_with("| tags-batch | shell 1.2 |")).unwrap();
    assert!(line.contains("| no | 10.00/s |") && line.contains("stopped after 5 of 10"), "{line}");
}

#[test]
fn a_store_grows() {
    let place = Place::new();
    let document =
        place.json(&["bench", "--growth", "1..2", "--plot", "growth.svg", "--markdown", "growth.md"]);
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["manifests"].as_u64().unwrap()).collect::<Vec<_>>(), [10, 100]);
    for row in rows {
        for key in ["open_us", "lookup_us", "resolve_us", "commit_us", "rss_anon_kb", "metadata_bytes"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key}: {row}");
        }
    }
    assert_eq!(fs::read_to_string(place.path("growth.md")).unwrap().lines().count(), 4);
    let plot = fs::read_to_string(place.path("growth.svg")).unwrap();
    assert_eq!(plot.matches("<polyline").count(), 4);
    assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = place_with_peer();
    for args in
        [["--only", "nothing"], ["--scale", "0"], ["--rounds", "0"], ["--growth", "3"], ["--growth", "4..3"]]
    {
        place.fails(2, &[&["bench"], &args[..]].concat());
    }
    let error = place.fails(1, &["bench", "--only", "tags-batch", "--with", "no-such-program"]);
    assert!(error.contains("program=no-such-program"), "{error}");
    // It says nothing when it is asked for something else than it knows.
    let error =
        place.fails(1, &["bench", "--only", "tags-batch", "--with", place.path("peer").to_str().unwrap()]);
    assert!(error.contains("does not describe itself"), "{error}");
    let output = place.run(&["bench-cell", "orlop", "run", "nothing", "dir", "1", "0", "1"]);
    assert!(!output.status.success() && text(&output.stderr).contains("workload=nothing"));
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 1, "something stayed behind");
}
