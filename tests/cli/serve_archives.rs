//! `serve tar:FILE`: an archive answers as the layout that is in it, from where it lies, and takes nothing.

use std::collections::BTreeSet;
use std::fs;

use orlop::Digest;
use serde_json::{Value, json};

use crate::serve_support::*;
use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Packs a directory.
fn pack(place: &Place, directory: &str, file: &str) {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", place.path(directory)).unwrap();
    place.write(file, builder.into_inner().unwrap());
}

/// What an answer says, whatever the order of what it lists.
fn said(answer: &Answer) -> (u16, Vec<String>, Vec<String>) {
    let headers = [
        "content-type",
        "docker-content-digest",
        "content-length",
        "content-range",
        "etag",
        "link",
        "accept-ranges",
    ];
    let mut headers: Vec<String> =
        headers.iter().map(|name| format!("{name}: {}", answer.header(name))).collect();
    headers.extend(
        ["oci-filters-applied", "oras-api-version", "oci-namespace", "cache-control", "allow"]
            .map(|name| answer.header(name).to_owned()),
    );
    let mut body = vec![Digest::of(&answer.body).to_string()];
    if let Ok(Value::Object(mut document)) = serde_json::from_slice::<Value>(&answer.body)
        && let Some(Value::Array(list)) = document.get_mut("manifests")
    {
        list.sort_by_key(|entry| entry["digest"].as_str().map(str::to_owned));
        body = vec![json!(document).to_string()];
    }
    (answer.status, headers, body)
}

#[test]
fn an_archive_answers_as_its_layout() {
    let place = Place::with_files();
    place.write(
        "large.bin",
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>(),
    );
    let artifact = place.push(&["oci:a:v1", "large.bin", "a.txt"]);
    place.ok(&["tag", "oci:a:v1", "v2", "latest"]);
    let sbom = place.ok(&["attach", "-q", "oci:a:v1", "--artifact-type", "application/spdx+json", "a.txt"]);
    place.ok(&["attach", "-q", "oci:a:v1", "--artifact-type", "application/x.sig", "sub/b.txt"]);
    place.ok(&[
        "attach",
        "-q",
        &format!("oci:a@{}", sbom.trim()),
        "--artifact-type",
        "application/x.sig",
        "a.txt",
    ]);
    let other = place.push(&["oci:a:lib/other:v1", "sub/b.txt"]);
    place.ok(&["export", "oci:a", "-o", "out.tar"]);
    let layout = Server::start(&place, &["oci:a", "--read-only"]);
    let archive = Server::start(&place, &["tar:out.tar", "--as", "a"]);
    let large = Digest::of(&fs::read(place.path("large.bin")).unwrap());
    let (small, empty) = (Digest::of(&fs::read(place.path("sub/b.txt")).unwrap()), Digest::of(b"{}"));
    let none = Digest::of(b"nobody has this");
    let mut asked = 0;
    let mut same = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let (expected, found) =
            (layout.send(method, path, headers, b""), archive.send(method, path, headers, b""));
        assert_eq!(said(&found), said(&expected), "{method} {path} {headers:?}");
        asked += 1;
        found.status
    };
    let range = |range| [("Range", range)];
    for method in ["GET", "HEAD"] {
        for (path, status) in [
            ("/v2/".to_owned(), 200),
            ("/v2/_catalog".into(), 200),
            ("/v2/_catalog?n=1".into(), 200),
            ("/v2/_catalog?n=1&last=a".into(), 200),
            ("/v2/a/tags/list".into(), 200),
            ("/v2/a/tags/list?n=2".into(), 200),
            ("/v2/a/tags/list?n=2&last=v1".into(), 200),
            ("/v2/a/tags/list?n=0".into(), 200),
            ("/v2/a/tags/list?n=x".into(), 400),
            ("/v2/none/tags/list".into(), 404),
            ("/v2/a/manifests/v1".into(), 200),
            ("/v2/a/manifests/none".into(), 404),
            (format!("/v2/a/manifests/{artifact}"), 200),
            (format!("/v2/a/manifests/{}", sbom.trim()), 200),
            (format!("/v2/a/manifests/{other}"), 404),
            (format!("/v2/lib/other/manifests/{other}"), 200),
            (format!("/v2/a/manifests/{none}"), 404),
            (format!("/v2/a/manifests/{large}"), 404),
            ("/v2/a/manifests/sha256:short".into(), 400),
            (format!("/v2/a/blobs/{large}"), 200),
            (format!("/v2/a/blobs/{empty}"), 200),
            (format!("/v2/lib/other/blobs/{large}"), 404),
            (format!("/v2/lib/other/blobs/{small}"), 200),
            (format!("/v2/none/blobs/{small}"), 404),
            (format!("/v2/a/blobs/{artifact}"), 404),
            (format!("/v2/a/blobs/{none}"), 404),
            ("/v2/a/blobs/md5:00".into(), 404),
            (format!("/v2/a/referrers/{artifact}"), 200),
            (format!("/v2/a/referrers/{artifact}?artifactType=application/x.sig"), 200),
            (format!("/v2/a/referrers/{}", sbom.trim()), 200),
            (format!("/v2/a/referrers/{none}"), 200),
            (format!("/v2/lib/other/referrers/{artifact}"), 200),
            (format!("/v2/none/referrers/{artifact}"), 200),
            (
                format!("/v2/a/_oras/artifacts/referrers?digest={artifact}&artifactType=application/x.sig"),
                200,
            ),
            ("/v2/a/_oras/artifacts/referrers".into(), 400),
            ("/v2/_oci/ext/discover".into(), 200),
            ("/v2/a/_oci/ext/discover".into(), 200),
            ("/v2/Upper/manifests/v1".into(), 400),
            ("/v2/nowhere".into(), 404),
        ] {
            assert_eq!(same(method, &path, &[]), status, "{path}");
        }
    }
    let blob = format!("/v2/a/blobs/{large}");
    for (wanted, status) in [
        ("bytes=0-0", 206),
        ("bytes=100-2000000", 206),
        ("bytes=2999999-", 206),
        ("bytes=-5", 206),
        ("bytes=3000000-", 416),
        ("bytes=5-1", 416),
        ("lines=1-2", 200),
    ] {
        assert_eq!(same("GET", &blob, &range(wanted)), status, "{wanted}");
    }
    assert_eq!(same("GET", &format!("/v2/a/blobs/{empty}"), &range("bytes=1-1")), 206);
    assert_eq!(same("GET", &blob, &[("If-None-Match", &format!("\"{large}\""))]), 304);
    assert_eq!(same("GET", "/v2/a/manifests/v1", &[("If-Match", "\"other\"")]), 412);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/manifests/v9".into()),
        ("DELETE", format!("/v2/a/manifests/{artifact}")),
        ("DELETE", blob.clone()),
        ("PATCH", "/v2/a/manifests/v1".into()),
    ] {
        assert_eq!(same(method, &path, &[]), 405, "{method}");
    }
    assert!(asked > 90);
    layout.stop();
    archive.stop();
}

#[test]
fn referrers_come_by_pages_and_newest_first() {
    let place = Place::with_files();
    let digest = place.push(&["oci:a:v1", "a.txt"]);
    let mut attached = Vec::new();
    for n in 0..5 {
        let created = format!("org.opencontainers.image.created=2024-01-0{}T00:00:00Z", [3, 1, 5, 2, 4][n]);
        attached.push(
            place
                .ok(&[
                    "attach",
                    "-q",
                    "oci:a:v1",
                    "--artifact-type",
                    "application/x.sig",
                    "--annotation",
                    &created,
                    "a.txt",
                ])
                .trim()
                .to_owned(),
        );
    }
    place.ok(&["export", "oci:a", "-o", "a.tar"]);
    let server = Server::start(&place, &["tar:a.tar"]);
    let (mut found, mut path) = (Vec::new(), format!("/v2/a/_oras/artifacts/referrers?digest={digest}&n=2"));
    for _ in 0..3 {
        let answer = server.get(&path).expect(200);
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        let page: Vec<String> = page["referrers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["digest"].as_str().unwrap().to_owned())
            .collect();
        assert!(page.len() <= 2);
        found.extend(page);
        let link = answer.header("link").to_owned();
        path = link.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
    }
    assert_eq!(path, "", "there is no fourth page");
    assert_eq!(found, [2, 4, 0, 3, 1].map(|n: usize| attached[n].clone()));
    server.get(&format!("/v2/a/referrers/{digest}?nextToken=nonsense")).expect(400);
    server.stop();
}

#[test]
fn volumes_are_one_registry() {
    let place = Place::with_files();
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    place.write("large.bin", &large);
    let digest = place.push(&["oci:a:v1", "large.bin"]);
    place.push(&["oci:a:lib/other:v1", "a.txt"]);
    place.ok(&["export", "oci:a", "-o", "out.tar", "--volume-size", "2.2MB"]);
    let server = Server::start(&place, &["tar:out.003.tar,out.001.tar,out.002.tar"]);
    let blob = format!("/v2/out/blobs/{}", Digest::of(&large));
    assert_eq!(server.get(&blob).expect(200).body, large);
    for (from, to) in [(2_000_000, 2_300_000), (4_999_999, 4_999_999), (1, 4_999_998)] {
        let answer = server.send("GET", &blob, &[("Range", &format!("bytes={from}-{to}"))], b"").expect(206);
        assert_eq!(answer.body, large[from..=to], "{from}-{to}");
    }
    // With all that a client has to do.
    let from = format!("{}/out:v1", server.address);
    place.ok(&["cp", "-r", &from, "oci:copied"]);
    assert_eq!(place.ok(&["resolve", "oci:copied:out:v1"]).trim(), digest);
    place.ok(&["verify", "oci:copied", "--read-data"]);
    server.stop();
    let (code, error) = fails(&place, &["tar:out.001.tar,out.003.tar"]);
    assert_eq!((code, error.contains("missing=2")), (4, true), "{error}");
    // One alone has what is whole in it.
    let mut whole = BTreeSet::new();
    for n in 1..=3 {
        let mut server = Server::start(&place, &[&format!("tar:out.00{n}.tar")]);
        server.line("one of several volumes");
        let status = server.get("/v2/lib/other/manifests/v1").status;
        let blob = server
            .get(&format!("/v2/lib/other/blobs/{}", Digest::of(&fs::read(place.path("a.txt")).unwrap())))
            .status;
        assert_eq!(status, blob, "what is named is whole");
        whole.insert(status);
        server.get("/v2/out/manifests/v1").expect(404);
        server.stop();
    }
    assert_eq!(whole, BTreeSet::from([200, 404]));
}

#[test]
fn names_of_other_tools_show_what_they_reach() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("app"));
    let alpine = layout.artifact("docker.io/library/alpine:3", &[(None, b"alpine")]).to_string();
    let redis = layout.artifact("docker.io/redis:7", &[(None, b"redis")]).to_string();
    let ours = layout.artifact("localhost:5000/foo/bar:v1", &[(None, b"ours")]).to_string();
    let hidden = layout.artifact("v1", &[(None, b"unnamed")]).to_string();
    pack(&place, "app", "app.tar");
    let layout = Server::start(&place, &["oci:app", "--read-only"]);
    let archive = Server::start(&place, &["tar:app.tar"]);
    for (path, digest) in [
        ("library/alpine/manifests/3", Some(&alpine)),
        ("docker.io/library/alpine/manifests/3", Some(&alpine)),
        ("library/alpine/manifests/3?ns=docker.io", Some(&alpine)),
        ("library/alpine/manifests/3?ns=index.docker.io", Some(&alpine)),
        ("library/alpine/manifests/3?ns=quay.io", None),
        ("redis/manifests/7", Some(&redis)),
        ("library/redis/manifests/7?ns=docker.io", Some(&redis)),
        ("foo/bar/manifests/v1", Some(&ours)),
        ("foo/bar/manifests/v1?ns=localhost:5000", Some(&ours)),
        ("app/manifests/v1", Some(&hidden)),
        (&format!("foo/bar/manifests/{ours}"), Some(&ours)),
        (&format!("foo/bar/manifests/{hidden}"), None),
        (&format!("foo/bar/blobs/{}", Digest::of(b"unnamed")), None),
        (&format!("library/alpine/manifests/{redis}"), None),
        ("foo/bar/tags/list", None),
        ("foo/bar/tags/list?n=1&last=a", None),
        ("_catalog", None),
        (&format!("foo/bar/blobs/{}", Digest::of(b"ours")), None),
    ] {
        let path = format!("/v2/{path}");
        let (expected, found) = (layout.get(&path), archive.get(&path));
        assert_eq!(said(&found), said(&expected), "{path}");
        if let Some(digest) = digest {
            assert_eq!(Digest::of(&found.body).to_string(), *digest, "{path}");
        }
    }
    archive.get(&format!("/v2/foo/bar/blobs/{}", Digest::of(b"ours"))).expect(200);
    archive.get(&format!("/v2/foo/bar/blobs/{}", Digest::of(b"unnamed"))).expect(404);
    layout.stop();
    archive.stop();
}

#[test]
fn what_docker_saved_can_be_pulled() {
    let place = Place::with_files();
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    let fixtures = format!("{}/tests/fixtures/layouts/docker-archive", env!("CARGO_MANIFEST_DIR"));
    builder.append_dir_all("./", fixtures).unwrap();
    place.write("saved.tar", builder.into_inner().unwrap());
    let server = Server::start(&place, &["tar:saved.tar"]);
    let digest = place.ok(&["resolve", &format!("{}/library/app:1", server.address)]);
    assert_eq!(digest, place.ok(&["resolve", "tar:saved.tar:app:1"]));
    place.ok(&["cp", &format!("{}/library/app:1", server.address), "oci:b:v1"]);
    place.ok(&["verify", "oci:b", "--read-data"]);
    server.stop();
}

#[test]
fn content_in_a_descriptor_is_served() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("a"));
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}").to_string(), "size": 2, "data": "e30="});
    let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    layout.document("v1", MANIFEST, &document);
    layout.publish();
    let _ = fs::remove_file(place.path(&format!("a/blobs/sha256/{}", Digest::of(b"{}").encoded())));
    pack(&place, "a", "a.tar");
    let server = Server::start(&place, &["tar:a.tar"]);
    let path = format!("/v2/a/blobs/{}", Digest::of(b"{}"));
    assert_eq!(server.get(&path).expect(200).text(), "{}");
    assert_eq!(server.send("GET", &path, &[("Range", "bytes=1-1")], b"").expect(206).text(), "}");
    server.stop();
}

#[test]
fn rights_hold_and_what_cannot_be_served_is_refused() {
    let place = Place::with_files();
    place.push(&["oci:a:docker.io/library/app:v1", "a.txt"]);
    place.push(&["oci:a:team/b:v1", "a.txt"]);
    place.ok(&["export", "oci:a", "-o", "a.tar"]);
    place.write("rights", "anonymous team/* pull\nanonymous library/* pull\n");
    place.write("passwords", entry("x", "x"));
    let server = Server::start(&place, &["tar:a.tar", "--htpasswd", "passwords", "--rights", "rights"]);
    server.get("/v2/team/b/manifests/v1").expect(200);
    server.get("/v2/docker.io/library/app/manifests/v1").expect(401);
    // The same repository by another name.
    server.get("/v2/library/app/manifests/v1").expect(401);
    assert_eq!(server.get("/v2/_catalog").text(), r#"{"repositories":["team/b"]}"#);
    server.get("/readyz").expect(200);
    server.stop();
    for (compress, how) in [("gzip", "gzip -dc"), ("zstd", "zstd -dc")] {
        place.ok(&["export", "oci:a", "-o", "packed.tar", "--overwrite", "--compress", compress]);
        let (code, error) = fails(&place, &["tar:packed.tar"]);
        assert_eq!(
            (code, error.contains(how) && error.contains("orlop import packed.tar")),
            (1, true),
            "{error}"
        );
    }
    for (args, expected, named) in [
        (&["tar:a.tar", "oci:a"][..], 2, "served apart"),
        (&["tar:a.tar:v1"], 2, "whole archive"),
        (&["tar:none.tar"], 3, "none.tar"),
        (&["tar:a.txt"], 5, "archive is cut, archive=a.txt"),
        (&["tar:a.tar", "--listen", ":0"], 9, "no password"),
    ] {
        let (code, error) = fails(&place, args);
        assert_eq!((code, error.contains(named)), (expected, true), "{args:?}: {error}");
    }
    // Two archives are one registry, and the first one's name counts.
    place.push(&["oci:b:team/b:v1", "sub/b.txt"]);
    place.push(&["oci:b:team/c:v1", "a.txt"]);
    place.ok(&["export", "oci:b", "-o", "b.tar"]);
    let server = Server::start(&place, &["tar:a.tar", "tar:b.tar"]);
    let digest = Digest::of(&server.get("/v2/team/b/manifests/v1").expect(200).body).to_string();
    assert_eq!(digest, place.ok(&["resolve", "oci:a:team/b:v1"]).trim());
    server.get("/v2/team/c/manifests/v1").expect(200);
    server.stop();
}

#[test]
fn an_index_is_served_with_what_it_lists() {
    let place = Place::with_files();
    place.push(&["oci:a:one", "a.txt"]);
    place.push(&["oci:a:two", "sub/b.txt"]);
    let index = place.ok(&["manifest", "index", "create", "-q", "oci:a:all", "one", "two"]);
    place.ok(&["export", "oci:a:all", "-o", "a.tar"]);
    let server = Server::start(&place, &["tar:a.tar"]);
    let answer = server.get("/v2/a/manifests/all").expect(200);
    assert_eq!(
        (answer.header("content-type"), Digest::of(&answer.body).to_string()),
        (INDEX, index.trim().to_owned())
    );
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    for child in document["manifests"].as_array().unwrap() {
        server.get(&format!("/v2/a/manifests/{}", child["digest"].as_str().unwrap())).expect(200);
    }
    server.stop();
}
