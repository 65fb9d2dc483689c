//! `untag`, `inspect`, `repo ls|tags`, and what all groups of verbs have in common.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use orlop::Digest;
use serde_json::json;

use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn tags_go_together_or_not_at_all() {
    let place = Place::with_files();
    let digest = place.push(&["oci:s:v1,v2,v3,v4", "a.txt"]);
    let other = place.push(&["oci:s:team/app:v1,v2", "sub/b.txt"]);
    let stderr = place.fails(3, &["untag", "oci:s:v1", "none", "oci:s:team/app:never"]);
    assert!(stderr.contains("references=oci:s:none,oci:s:team/app:never"), "{stderr}");
    assert_eq!(place.ok(&["resolve", "oci:s:v1"]).trim(), digest);

    let said = place.ok(&["untag", "oci:s:v1,v2", "v1", "oci:s:team/app:v1"]);
    assert_eq!(said, "Untagged oci:s:v1\nUntagged oci:s:v2\nUntagged oci:s:team/app:v1\n");
    assert_eq!(place.ok(&["repo", "tags", "oci:s"]), "v3\nv4\n");
    assert_eq!(place.ok(&["resolve", &format!("oci:s@{digest}")]).trim(), digest);
    let index = fs::read_to_string(place.path("s/index.json")).unwrap();
    assert!(index.contains(&digest) && !index.contains("\"v1\""), "{index}");

    let json = place.json(&["untag", "oci:s:v3", "gone", "--force"]);
    assert_eq!(keys(&json), ["missing", "reference", "untagged"]);
    assert_eq!(json["untagged"][0]["reference"], "oci:s:v3");
    assert_eq!(json["untagged"][0]["digest"], digest);
    assert_eq!(json["missing"], json!(["oci:s:gone"]));
    assert_eq!(place.ok(&["untag", "-f", "oci:s:v3"]), "Missing oci:s:v3\n");
    assert_eq!(place.ok(&["untag", "-q", "oci:s:team/app:v2"]).trim(), other);
    for (code, args, value) in [
        (2, &["oci:s"][..], "oci:s"),
        (2, &[&*format!("oci:s@{digest}")], &*digest),
        (2, &["oci:s:v4", "oci:t:v1"], "oci:t:v1"),
        (2, &["oci:s:v4", "-x"], "-x"),
        (2, &["oci:s:v4", "a/b"], "tag=a/b"),
        (3, &["oci:none:v1", "-f"], "none"),
    ] {
        let stderr = place.fails(code, &[&["untag"], args].concat());
        assert!(stderr.contains(value), "{args:?}: {stderr}");
    }
    let stderr = place.fails(2, &["untag", "oci:s:registry.example:5000/Team/App:v1"]);
    assert!(stderr.contains("removed by the tool that gave it"), "{stderr}");
    assert_eq!(place.ok(&["repo", "tags", "oci:s"]), "v4\n");
    assert!(!place.path("none").exists());
}

#[test]
fn a_manifest_is_inspected() {
    let place = Place::with_files();
    place.write("c.json", r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#);
    let config = "c.json:application/vnd.oci.image.config.v1+json";
    let digest = place.push(&["oci:s:v1,v2", "--config", config, "a.txt", "sub/b.txt:text/plain"]);
    let signature = place.ok(&["attach", "-q", "oci:s:v1", "--artifact-type", "a/sig", "a.txt"]);
    let json = place.json(&["inspect", "oci:s:v1"]);
    assert_eq!(
        keys(&json),
        [
            "annotations",
            "artifactType",
            "config",
            "digest",
            "layers",
            "mediaType",
            "missing",
            "platform",
            "reference",
            "referrers",
            "size",
            "tags",
            "totalSize"
        ]
    );
    assert_eq!(json["tags"], json!(["v1", "v2"]));
    assert_eq!((&json["referrers"], &json["missing"]), (&json!(1), &json!([])));
    assert_eq!(json["platform"]["variant"], "v8");
    let parts = json["config"]["size"].as_u64().unwrap() + 12;
    assert_eq!(json["totalSize"], json["size"].as_u64().unwrap() + parts);
    let layer = &json["layers"][1];
    assert_eq!(keys(layer), ["digest", "mediaType", "present", "size", "title"]);
    assert_eq!((&layer["title"], &layer["mediaType"]), (&json!("sub/b.txt"), &json!("text/plain")));
    assert_eq!(layer["present"], true);

    let shown = place.ok(&["inspect", "oci:s:v1"]);
    for line in [
        format!("Reference:     oci:s@{digest}"),
        "Tags:          v1, v2".into(),
        "Referrers:     1".into(),
        "Platform:      linux/arm64/v8".into(),
        "Annotation:    org.opencontainers.image.created=2026-01-02T03:04:05Z".into(),
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
    assert!(
        shown.lines().any(|line| line.starts_with("layer") && line.ends_with("text/plain  sub/b.txt")),
        "{shown}"
    );
    assert_eq!(place.ok(&["inspect", "-q", "oci:s:v1"]).trim(), digest);

    let attached = place.json(&["inspect", &format!("oci:s@{}", signature.trim())]);
    assert_eq!((&attached["subject"]["digest"], &attached["tags"]), (&json!(digest), &json!([])));
    assert_eq!(attached["subject"]["present"], true);

    place.ok(&["manifest", "index", "create", "oci:s:all", "v1"]);
    let index = place.json(&["inspect", "oci:s:all"]);
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "arm64");
    assert_eq!(index["manifests"][0]["digest"], digest);
    assert!(place.ok(&["inspect", "oci:s:all"]).contains("Platforms:     linux/arm64/v8\n"));
    assert_eq!(place.json(&["inspect", "oci:s:all", "--platform", "linux/arm64"])["digest"], digest);
    place.fails(3, &["inspect", "oci:s:none"]);
    place.fails(2, &["inspect", "oci:s"]);
}

#[test]
fn what_is_not_there_is_said() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    layout.artifact("v1", &[(Some("kept"), b"kept"), (Some("lost"), b"lost"), (Some("cut"), b"whole")]);
    let file = |content: &[u8]| place.path(&format!("s/blobs/sha256/{}", Digest::of(content).encoded()));
    fs::remove_file(file(b"lost")).unwrap();
    let before = listing(&place.path("s"));
    let json = place.json(&["inspect", "oci:s:v1"]);
    let present: Vec<_> = json["layers"].as_array().unwrap().iter().map(|layer| &layer["present"]).collect();
    assert_eq!(
        (present, &json["missing"]),
        (vec![&json!(true), &json!(false), &json!(true)], &json!([Digest::of(b"lost").to_string()]))
    );
    let shown = place.ok(&["inspect", "oci:s:v1"]);
    assert!(shown.ends_with("1 not in the layout\n") && shown.contains("lost  (missing)\n"), "{shown}");
    assert_eq!(listing(&place.path("s")), before);

    // What an index lists may lack something as well, and content with urls belongs elsewhere.
    let child = layout.entries[0].clone();
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": child["mediaType"], "digest": child["digest"], "size": child["size"]}]});
    layout.document("list", INDEX, &list);
    let json = place.json(&["inspect", "oci:s:list"]);
    assert_eq!(json["missing"], json!([Digest::of(b"lost").to_string()]));
    assert_eq!(json["manifests"][0]["present"], true);
    let shown = place.ok(&["inspect", "oci:s:list"]);
    assert!(shown.contains(&format!("below    {}  (missing)\n", Digest::of(b"lost"))), "{shown}");
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
    let far = json!({"mediaType": "a/b", "digest": Digest::of(b"far").to_string(), "size": 3, "urls": ["https://example.com/far"]});
    layout.document(
        "far",
        MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [far]}),
    );
    assert_eq!(place.json(&["inspect", "oci:s:far"])["missing"], json!([]));
    assert!(place.ok(&["inspect", "oci:s:far"]).contains("(not here)"));

    // In a store whose file is gone behind its back as well.
    place.write("big", vec![7; 100_000]);
    place.push(&["oci:t:v1", "big"]);
    let big = Digest::of(&[7; 100_000]);
    let file = place.path(&format!("t/blobs/sha256/{}", big.encoded()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "cut").unwrap();
    assert_eq!(place.json(&["inspect", "oci:t:v1"])["missing"], json!([big.to_string()]));
    fs::remove_file(&file).unwrap();
    assert_eq!(place.json(&["inspect", "oci:t:v1"])["missing"], json!([big.to_string()]));
}

#[test]
fn repositories_and_their_tags() {
    let place = Place::with_files();
    let digest = place.push(&["oci:s:lib/b:v1,v2", "a.txt"]);
    place.push(&["oci:s:lib/a:v9", "a.txt"]);
    place.push(&["oci:s:app:v1", "sub/b.txt"]);
    assert_eq!(place.ok(&["repo", "ls", "oci:s"]), "app\nlib/a\nlib/b\n");
    assert_eq!(place.ok(&["repo", "list", "oci:s", "--last", "app"]), "lib/a\nlib/b\n");
    assert_eq!(place.ok(&["repo", "ls", "oci:s", "--last", "lib/aa"]), "lib/b\n");
    assert_eq!(
        place.json(&["repo", "ls", "oci:s"]),
        json!({"registry": "oci:s", "repositories": ["app", "lib/a", "lib/b"]})
    );

    assert_eq!(place.ok(&["repo", "tags", "oci:s:lib/b"]), "v1\nv2\n");
    assert_eq!(place.json(&["repo", "tags", "oci:s:lib/b", "--last", "v1"]), json!({"tags": ["v2"]}));
    assert_eq!(place.json(&["repo", "tags", "oci:s:lib/b:v1"]), json!({"tags": ["v1", "v2"]}));
    assert_eq!(place.ok(&["repo", "show-tags", &format!("oci:s:lib/b@{digest}"), "--last", "v1"]), "v2\n");
    let none = place.run(&["repo", "tags", "oci:s"]);
    assert_eq!((text(&none.stdout), none.status.code()), (String::new(), Some(0)));
    assert!(text(&none.stderr).contains("orlop ls oci:s"), "{}", text(&none.stderr));

    let like = digest.replace(':', "-");
    place.push(&[&format!("oci:s:v1,{like},sha256-short"), "a.txt"]);
    assert_eq!(place.ok(&["repo", "tags", "oci:s"]), format!("{like}\nsha256-short\nv1\n"));
    assert_eq!(place.ok(&["repo", "tags", "oci:s", "--exclude-digest-tags"]), "sha256-short\nv1\n");
    let listed = place.run(&["repo", "ls", "oci:s"]);
    assert_eq!(text(&listed.stdout), "app\nlib/a\nlib/b\n");
    assert!(text(&listed.stderr).contains("orlop repo tags oci:s"), "{}", text(&listed.stderr));
    // Many more than are asked for at once.
    let many: Vec<String> = (0..1500).map(|index| format!("t{index:04}")).collect();
    for part in many.chunks(100) {
        let mut args = vec!["tag", "oci:s:app:v1"];
        args.extend(part.iter().map(String::as_str));
        place.ok(&args);
    }
    assert_eq!(place.ok(&["repo", "tags", "oci:s:app"]).lines().count(), 1501);
    for (code, args, value) in [
        (3, &["tags", "oci:s:no/such"][..], "no/such"),
        (3, &["tags", "oci:s:No"], "oci:s:No"),
        (3, &["tags", &format!("oci:s@{EMPTY}")], EMPTY),
        (3, &["tags", "oci:none"], "none"),
        (3, &["ls", "oci:none"], "none"),
        (2, &["ls", "oci:s:app"], "oci:s:app"),
        (2, &["frobnicate"], "frobnicate"),
    ] {
        let stderr = place.fails(code, &[&["repo"], args].concat());
        assert!(stderr.contains(value), "{args:?}: {stderr}");
    }
}

/// Every verb of a group, down to its last member, has help with an example.
#[test]
fn every_verb_below_a_verb_has_an_example() {
    let place = Place::new();
    let verbs = [
        "untag",
        "inspect",
        "manifest",
        "manifest fetch",
        "manifest push",
        "manifest delete",
        "manifest fetch-config",
        "manifest index",
        "manifest index create",
        "manifest index update",
        "blob",
        "blob fetch",
        "blob push",
        "blob delete",
        "repo",
        "repo ls",
        "repo tags",
    ];
    for verb in verbs {
        let args: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let help = place.ok(&args);
        assert!(help.contains(&format!("Example:\n  orlop {verb}")), "{help}");
    }
}

/// What is only read stays as it is, in the layouts of other tools and in ours.
#[test]
fn reading_verbs_leave_no_trace() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("plain"));
    layout.artifact("v1", &[(Some("f"), b"f")]);
    place.push(&["oci:store:v1", "a.txt"]);
    let blob = Digest::of(b"f");
    let empty = format!("oci:store@{EMPTY}");
    let f = format!("oci:plain@{blob}");
    for (directory, blob) in [("plain", &f), ("store", &empty)] {
        let before = listing(&place.path(directory));
        let (layout, one) = (format!("oci:{directory}"), format!("oci:{directory}:v1"));
        for args in [
            &["manifest", "fetch", &one][..],
            &["manifest", "fetch-config", &one],
            &["manifest", "index", "create", &layout, "v1", "-o", "-"],
            &["blob", "fetch", blob, "-o", "-"],
            &["inspect", &one],
            &["repo", "ls", &layout],
            &["repo", "tags", &layout],
        ] {
            place.ok(args);
            assert_eq!(listing(&place.path(directory)), before, "{args:?}");
        }
        // Nor does a deletion that is refused because nobody was asked.
        place.fails(9, &["manifest", "delete", &one]);
        assert_eq!(listing(&place.path(directory)), before);
    }
}

/// Names out of a layout are shown, not sent to the terminal.
#[test]
fn names_are_shown_not_sent() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    layout.artifact("v1", &[(Some("a\u{1b}]0;x\u{7}"), b"f")]);
    let output = place.run(&["inspect", "oci:s:v1"]);
    assert!(
        output.status.success() && !output.stdout.contains(&0x1b),
        "{}",
        text(&output.stdout).escape_debug()
    );
}

/// The flags of oras name a layout for these verbs too, with a name or a digest in it.
#[test]
fn the_flags_of_oras() {
    let place = Place::with_files();
    let digest = place.push(&["oci:s:v1", "a.txt"]);
    let hello = Digest::of(b"hello\n").to_string();
    let path = ["--oci-layout-path", "s"];
    for name in ["v1", &*digest] {
        for verb in [&["resolve"][..], &["manifest", "fetch", "-q"], &["inspect", "-q"]] {
            assert_eq!(place.ok(&[verb, &[name], &path].concat()).trim(), digest, "{verb:?} {name}");
        }
    }
    assert_eq!(place.ok(&["resolve", "--oci-layout", &format!("s@{digest}")]).trim(), digest);
    assert_eq!(place.ok(&["blob", "fetch", "--oci-layout", &format!("s@{hello}"), "-o", "-"]), "hello\n");
    assert_eq!(place.ok(&[&["blob", "fetch", &hello, "-o", "-"], &path[..]].concat()), "hello\n");
    place.ok(&[&["blob", "push", &hello, "a.txt"], &path[..]].concat());
    place.ok(&[&["manifest", "index", "create", "v2", "v1"], &path[..]].concat());
    assert_eq!(place.ok(&["repo", "tags", "--oci-layout", "s"]), "v1\nv2\n");
    place.ok(&["untag", "--oci-layout", "s:v2"]);
    place.ok(&["cp", "--from-oci-layout-path", "s", &digest, "oci:copy:v1"]);
    assert_eq!(place.ok(&["resolve", "oci:copy:v1"]).trim(), digest);
}

/// A layout that is to stay plain is changed by every verb that writes, and holds nothing but what the specification says.
#[test]
fn plain_layouts_stay_plain() {
    let place = Place::with_files();
    let push = ["push", "--plain", "-q", "oci:p:v1,v2", "a.txt", "--annotation", CREATED];
    let digest = place.ok(&push).trim().to_owned();
    let plain = |args: &[&str]| place.ok(&[args, &["--plain"]].concat());
    let manifest = place.ok(&["manifest", "fetch", "oci:p:v1"]);
    place.write("m.json", format!("{manifest}\n"));
    plain(&["blob", "push", "oci:p", "sub/b.txt"]);
    plain(&["manifest", "push", "oci:p:v3", "m.json"]);
    let first = plain(&["manifest", "index", "create", "-q", "oci:p:all", "v1", "v3"]);
    plain(&["manifest", "index", "update", "oci:p:all", "--remove", &digest]);
    plain(&["untag", "oci:p:v2"]);
    assert_eq!(place.ok(&["repo", "tags", "oci:p"]), "all\nv1\nv3\n");
    assert_eq!(place.json(&["inspect", "oci:p:all"])["manifests"].as_array().unwrap().len(), 1);
    plain(&["manifest", "delete", "-f", "oci:p:all"]);
    // The index as it was before the update still lists it.
    assert!(place.fails(1, &["manifest", "delete", "-f", "oci:p:v1", "--plain"]).contains(first.trim()));
    plain(&["manifest", "delete", "-f", &format!("oci:p@{}", first.trim())]);
    plain(&["manifest", "delete", "-f", "oci:p:v1"]);
    assert_eq!(place.ok(&["repo", "tags", "oci:p"]), "v3\n");
    place.fails(3, &["resolve", &format!("oci:p@{digest}")]);
    let mut names: Vec<_> = fs::read_dir(place.path("p"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    let index = fs::read_to_string(place.path("p/index.json")).unwrap();
    assert!(!index.contains("\"v1\"") && index.contains("\"v3\""), "{index}");
}
