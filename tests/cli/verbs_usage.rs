//! `usage`: how much repositories hold, and quotas.

use serde_json::json;

use crate::support::*;

#[test]
fn what_repositories_hold_is_shown() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    place.push(&["oci:s:team/app:v1", "a.txt", "sub/b.txt"]);
    let shown = place.json(&["usage", "oci:s"]);
    assert_eq!(shown["reference"], "oci:s");
    let rows = shown["repositories"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["repository"], &rows[1]["repository"]), (&json!(""), &json!("team/app")));
    // The config, a file of six bytes and a manifest; the other has one file more, and shares config and file.
    assert_eq!((&rows[0]["objects"], &rows[0]["uniqueObjects"]), (&json!(3), &json!(1)));
    assert_eq!((&rows[1]["objects"], &rows[1]["uniqueObjects"]), (&json!(4), &json!(2)));
    let bytes = |row: usize, key: &str| rows[row][key].as_u64().unwrap();
    assert_eq!(bytes(0, "bytes") - bytes(0, "uniqueBytes"), 8);
    assert_eq!(bytes(1, "bytes") - bytes(1, "uniqueBytes"), 8);
    let store = &shown["store"];
    assert_eq!(
        (&store["objects"], &store["storedObjects"], &store["garbageObjects"]),
        (&json!(7), &json!(5), &json!(0))
    );
    assert_eq!(store["bytes"], bytes(0, "bytes") + bytes(1, "bytes"));
    assert_eq!(store["storedBytes"], bytes(0, "bytes") + bytes(1, "uniqueBytes"));
    // For people, in columns.
    let text = place.ok(&["usage", "oci:s"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "REPOSITORY  OBJECTS   SIZE  UNIQUE  UNIQUE SIZE  QUOTA");
    assert!(lines[1].starts_with("-                 3  "), "{text}");
    assert!(lines[2].starts_with("team/app          4  "), "{text}");
    assert!(lines[3].starts_with("Stored: 5 objects, ") && lines[3].contains("hold 7 objects, "), "{text}");
    assert_eq!(lines.len(), 4);
    assert_eq!(place.ok(&["usage", "oci:s", "--format", "table"]), text);
    assert_eq!(place.ok(&["usage", "-q", "oci:s"]), "-\nteam/app\n");
    let jsonl = place.ok(&["usage", "oci:s", "--format", "jsonl"]);
    assert_eq!(jsonl.lines().count(), 2);
    // Some of them only.
    for args in [&["usage", "oci:s", "team/app"][..], &["usage", "oci:s:team/app"]] {
        let shown = place.json(args);
        assert_eq!(shown["repositories"], json!([rows[1]]));
        assert!(shown.get("store").is_none());
    }
    assert_eq!(place.json(&["usage", "oci:s", "-"])["repositories"], json!([rows[0]]));
}

#[test]
fn any_layout_is_counted_and_nothing_is_written() {
    let place = Place::with_files();
    place.push(&["--plain", "oci:p:v1", "a.txt"]);
    let before = listing(&place.path("p"));
    let shown = place.json(&["usage", "oci:p"]);
    assert_eq!(shown["store"]["storedObjects"], 3);
    assert_eq!(shown["repositories"][0]["objects"], 3);
    assert_eq!(listing(&place.path("p")), before);
    let error = place.fails(3, &["usage", "oci:p", "--set-quota", "1M"]);
    assert!(error.contains("hint: "), "{error}");
    assert_eq!(listing(&place.path("p")), before);
}

#[test]
fn a_quota_is_set_shown_kept_and_lifted() {
    let place = Place::with_files();
    place.write("big", vec![b'x'; 5000]);
    place.push(&["oci:s:app:v1", "a.txt"]);
    let shown = place.json(&["usage", "oci:s:app", "--set-quota", "4k", "--set-object-quota", "10"]);
    assert_eq!(shown["repositories"][0]["quota"], json!({ "objects": 10, "bytes": 4000 }));
    assert!(place.ok(&["usage", "oci:s"]).contains("  10 objects, 4.0 kB\n"));
    let error = place.fails(11, &["push", "oci:s:app:v2", "big"]);
    assert!(error.contains("repository=app") && error.contains("limit=4000"), "{error}");
    assert!(error.contains("hint: ") && error.contains("--set-quota"), "{error}");
    // What it holds already is no growth.
    place.push(&["oci:s:app:v3", "a.txt"]);
    // One of the two stays.
    let shown = place.json(&["usage", "oci:s", "app", "--set-quota", "none"]);
    assert_eq!(shown["repositories"][0]["quota"], json!({ "objects": 10 }));
    place.push(&["oci:s:app:v2", "big"]);
    // Of the whole store, and of a repository that is not there yet.
    let shown = place.json(&["usage", "oci:s", "--set-quota", "6000"]);
    assert_eq!(shown["store"]["quota"], json!({ "bytes": 6000 }));
    assert!(place.ok(&["usage", "oci:s"]).ends_with("Quota: 6.0 kB\n"));
    place.write("other", vec![b'y'; 5000]);
    let error = place.fails(11, &["push", "oci:s:v1", "other"]);
    assert!(error.contains("the store has no room left in its quota"), "{error}");
    place.ok(&["usage", "oci:s", "--set-quota", "none"]);
    // One that is mistyped gets none, nor any of those that were named with it.
    for names in [&["app", "ap"][..], &["ap"], &["new"]] {
        let error = place.fails(3, &[&["usage", "oci:s"], names, &["--set-quota", "10"]].concat());
        assert!(error.contains("no such repository, reference=oci:s, repository="), "{error}");
        assert_eq!(error.contains("did you mean app?"), names.contains(&"ap"), "{error}");
        assert!(error.contains("--create"), "{error}");
    }
    let shown = place.json(&["usage", "oci:s"]);
    assert_eq!(shown["repositories"].as_array().unwrap().len(), 1);
    assert_eq!(shown["repositories"][0]["quota"], json!({ "objects": 10 }));
    place.ok(&["usage", "oci:s", "new", "--set-quota", "10", "--create"]);
    place.fails(11, &["push", "oci:s:new:v1", "a.txt"]);
    place.push(&["oci:s:v1", "other"]);
    for (code, args) in [
        (3, &["usage", "oci:s", "absent"][..]),
        (3, &["usage", "oci:none"]),
        (3, &["usage", "oci:none", "--set-quota", "1M"]),
        (2, &["usage", "oci:s", "Not A Name"]),
        (2, &["usage", "oci:s", "--set-quota", "1.5M"]),
        (2, &["usage", "oci:s", "--set-object-quota", "-1"]),
        (2, &["usage", &format!("oci:s@{EMPTY}")]),
    ] {
        place.fails(code, args);
    }
    assert!(!place.path("none").exists());
}

#[test]
fn counting_anew_changes_nothing_that_is_right() {
    let place = Place::with_files();
    place.push(&["oci:s:app:v1", "a.txt"]);
    let shown = place.ok(&["usage", "oci:s"]);
    assert_eq!(place.ok(&["usage", "oci:s", "--recount"]), shown);
    place.ok(&["verify", "oci:s", "--index"]);
}
