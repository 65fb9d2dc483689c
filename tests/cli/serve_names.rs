//! `serve`: which name stands for what, with full references and several layouts.

use std::time::{Duration, Instant};

use orlop::Digest;
use serde_json::{Value, json};

use crate::serve_support::*;
use crate::support::*;

/// The digest that a tag has by a name, or the status.
fn tagged(server: &Server, path: &str) -> Result<String, u16> {
    let answer = server.get(path);
    if answer.status == 200 { Ok(Digest::of(&answer.body).to_string()) } else { Err(answer.status) }
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn full_references_are_served_under_their_paths() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("app"));
    let alpine = layout.artifact("docker.io/library/alpine:3", &[(None, b"alpine")]).to_string();
    let redis = layout.artifact("docker.io/redis:7", &[(None, b"redis")]).to_string();
    let ours = layout.artifact("localhost:5000/foo/bar:v1", &[(None, b"ours")]).to_string();
    let next = layout.artifact("localhost:5000/foo/bar:v2", &[(None, b"next")]).to_string();
    layout.artifact("v1", &[(None, b"unnamed")]);
    for args in [&["oci:app"][..], &["oci:app", "--read-only"]] {
        let server = Server::start(&place, args);
        for (path, digest) in [
            ("library/alpine/manifests/3", &alpine),
            ("docker.io/library/alpine/manifests/3", &alpine),
            ("library/alpine/manifests/3?ns=docker.io", &alpine),
            ("redis/manifests/7", &redis),
            ("library/redis/manifests/7?ns=docker.io", &redis),
            ("foo/bar/manifests/v1", &ours),
            ("foo/bar/manifests/v2?ns=localhost:5000", &next),
            ("foo/bar/manifests/v2?ns=localhost%3A5000", &next),
        ] {
            assert_eq!(tagged(&server, &format!("/v2/{path}")).as_ref(), Ok(digest), "{path}");
        }
        let tags = server.get("/v2/foo/bar/tags/list?n=1").expect(200);
        assert_eq!(parsed(&tags), json!({"name": "foo/bar", "tags": ["v1"]}));
        assert!(tags.header("link").starts_with("</v2/foo/bar/tags/list?n=1&last=v1>"), "{tags:?}");
        assert_eq!(parsed(&server.get("/v2/foo/bar/tags/list?last=v1"))["tags"], json!(["v2"]));
        let answer = server.get("/v2/library/alpine/manifests/3?ns=docker.io");
        assert_eq!(answer.header("oci-namespace"), "docker.io");
        assert_eq!(server.get("/v2/library/alpine/manifests/3").header("oci-namespace"), "");
        // What a tag names may be another thing tomorrow; what a digest names is not.
        assert!(!server.get("/v2/foo/bar/manifests/v1").header("cache-control").contains("immutable"));
        // Of another host there is nothing.
        assert_eq!(tagged(&server, "/v2/library/alpine/manifests/3?ns=quay.io"), Err(404));
        server.get(&format!("/v2/foo/bar/manifests/{next}")).expect(200);
        server.get(&format!("/v2/foo/bar/blobs/{}", Digest::of(b"ours"))).expect(200);
        assert_eq!(server.get(&format!("/v2/foo/bar/blobs/{}", Digest::of(b"ours"))).body, b"ours");
        // Nothing beside what the names reach.
        for hidden in [&b"alpine"[..], b"redis", b"unnamed"] {
            server.get(&format!("/v2/foo/bar/blobs/{}", Digest::of(hidden))).expect(404);
        }
        server.get(&format!("/v2/foo/bar/manifests/{alpine}")).expect(404);
        server.get("/v2/foo/bar/manifests/none").expect(404);
        server.get("/v2/foo/bar/manifests/v1:x").expect(400);
        // And nothing is written there.
        server.send("POST", "/v2/foo/bar/blobs/uploads/", &[], b"").expect(405);
        server.send("POST", "/v2/library/alpine/blobs/uploads/", &[], b"").expect(405);
        server.send("DELETE", "/v2/foo/bar/manifests/v1", &[], b"").expect(405);
        let catalog = parsed(&server.get("/v2/_catalog"));
        assert_eq!(
            catalog["repositories"],
            json!(["app", "docker.io/library/alpine", "docker.io/redis", "foo/bar"])
        );
        server.stop();
    }
}

#[test]
fn what_is_attached_is_shown_only_if_it_is_named() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("app"));
    let subject = layout.artifact("localhost:5000/foo:v1", &[(None, b"layer")]);
    let signature = |kind: &str| {
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
        let size = std::fs::metadata(place.path("app/blobs/sha256").join(subject.encoded().to_string()))
            .unwrap()
            .len();
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": empty, "layers": [empty],
            "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": size}})
    };
    let named = layout.document("localhost:5000/foo:signature", MANIFEST, &signature("a/named"));
    layout.document("other", MANIFEST, &signature("a/other"));
    let server = Server::start(&place, &["oci:app"]);
    let listed = parsed(&server.get(&format!("/v2/foo/referrers/{subject}")).expect(200));
    let digests: Vec<&Value> =
        listed["manifests"].as_array().unwrap().iter().map(|entry| &entry["digest"]).collect();
    assert_eq!(digests, [&json!(named.to_string())]);
    assert_eq!(
        parsed(&server.get(&format!("/v2/app/referrers/{subject}")))["manifests"].as_array().unwrap().len(),
        2
    );
    server.stop();
}

#[test]
fn clashes_are_told_and_the_order_is_kept() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("app"));
    let docker = layout.artifact("docker.io/team/app:v1", &[(None, b"docker")]).to_string();
    let quay = layout.artifact("quay.io/team/app:v1", &[(None, b"quay")]).to_string();
    layout.artifact("docker.io/team/web:v1", &[(None, b"of docker")]);
    let own = layout.artifact("team/web:v1", &[(None, b"own")]).to_string();
    let unnamed = layout.artifact("v1", &[(None, b"unnamed")]).to_string();
    layout.artifact("app:v1", &[(None, b"named")]);
    let server = Server::start(&place, &["oci:app"]);
    let told = server.stderr();
    for clash in [
        "name=team/app, served=app:docker.io/team/app, hidden=app:quay.io/team/app",
        "name=team/web, served=app:team/web, hidden=app:docker.io/team/web",
        "name=app, served=app (without a name), hidden=app:app",
    ] {
        assert!(
            told.lines().any(|line| line.starts_with("note: ") && line.ends_with(clash)),
            "{clash}\n{told}"
        );
    }
    assert_eq!(told.matches("more than one thing").count(), 3, "{told}");
    assert_eq!(tagged(&server, "/v2/team/app/manifests/v1"), Ok(docker.clone()));
    assert_eq!(tagged(&server, "/v2/team/app/manifests/v1?ns=quay.io"), Ok(quay));
    assert_eq!(tagged(&server, "/v2/team/app/manifests/v1?ns=docker.io"), Ok(docker));
    assert_eq!(tagged(&server, "/v2/team/web/manifests/v1"), Ok(own.clone()));
    assert_eq!(tagged(&server, "/v2/team/web/manifests/v1?ns=quay.io"), Ok(own));
    assert_eq!(tagged(&server, "/v2/app/manifests/v1"), Ok(unnamed));
    // What others add while it runs.
    let late = layout.artifact("localhost:5000/late/comer:v1", &[(None, b"late")]).to_string();
    let start = Instant::now();
    while tagged(&server, "/v2/late/comer/manifests/v1") != Ok(late.clone()) {
        assert!(start.elapsed() < PATIENCE, "the edit is not served: {}", server.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    // And what comes by the registry itself.
    let pushed = server.push_blob("quay.io/late/own", b"pushed");
    while server.get(&format!("/v2/late/own/blobs/{pushed}")).status != 200 {
        assert!(start.elapsed() < PATIENCE, "a new repository is not served under its path");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
}

#[test]
fn an_alias_shows_nobody_more_than_the_repository_itself() {
    let place = Place::with_files();
    place.push(&["oci:app:quay.io/team/app:v1", "a.txt"]);
    place.write("passwords", ["alice", "bob"].map(|name| entry(name, name)).concat());
    place.write("rights", "alice team/* all\nbob * pull\n");
    let server = Server::start(&place, &["oci:app", "--htpasswd", "passwords", "--rights", "rights"]);
    let status = |name: &str, path: &str| {
        server.send("GET", path, &[("Authorization", &basic(name, name))], b"").status
    };
    assert_eq!(status("bob", "/v2/team/app/manifests/v1"), 200);
    assert_eq!(status("alice", "/v2/quay.io/team/app/manifests/v1"), 403);
    assert_eq!(status("alice", "/v2/team/app/manifests/v1"), 403);
    server.stop();
}

#[test]
fn several_layouts_are_one_registry() {
    let place = Place::with_files();
    let first = place.push(&["oci:first:v1", "a.txt"]);
    let shared = place.push(&["oci:first:shared:v1", "a.txt"]);
    place.push(&["oci:second:shared:v1", "sub/b.txt"]);
    let only = place.push(&["oci:second:only:v1", "sub/b.txt"]);
    let second = place.push(&["oci:second:v1", "sub/b.txt"]);
    let server = Server::start(&place, &["oci:first", "oci:second", "--as", "one"]);
    assert!(
        server.stderr().contains("name=shared, served=first:shared, hidden=second:shared"),
        "{}",
        server.stderr()
    );
    for (name, digest) in [("one", first), ("second", second), ("shared", shared), ("only", only)] {
        assert_eq!(tagged(&server, &format!("/v2/{name}/manifests/v1")), Ok(digest), "{name}");
    }
    assert_eq!(
        parsed(&server.get("/v2/_catalog"))["repositories"],
        json!(["one", "only", "second", "shared"])
    );
    let mut pages = Vec::new();
    let mut path = "/v2/_catalog?n=1".to_owned();
    loop {
        let page = server.get(&path).expect(200);
        pages.extend(parsed(&page)["repositories"].as_array().unwrap().clone());
        let link = page.header("link");
        if link.is_empty() {
            break;
        }
        path = link.split(['<', '>']).nth(1).unwrap().to_owned();
        assert!(pages.len() < 10, "pages go on: {pages:?}");
    }
    assert_eq!(json!(pages), json!(["one", "only", "second", "shared"]));
    // A push goes where the repository is, and otherwise to the first.
    server.push_blob("only", b"there");
    server.push_blob("new", b"here");
    server.stop();
    let has = |layout: &str, name: &str| {
        let shown = place.json(&["usage", layout]);
        shown["repositories"].as_array().unwrap().iter().any(|row| row["repository"] == name)
    };
    assert!(has("oci:first", "new") && !has("oci:second", "new") && !has("oci:first", "only"));
}
