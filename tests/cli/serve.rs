//! `serve`: what is served, how it begins and ends, and what an operator can see of it.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orlop::Digest;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::serve_support::*;
use crate::support::*;

/// A manifest of a config and one layer.
fn image(config: &[u8], layer: &[u8]) -> String {
    let of = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": of("a/config", config), "layers": [of("a/layer", layer)]})
        .to_string()
}

fn large() -> Vec<u8> {
    (0..32_000_000_u32).map(|n| (n % 251) as u8).collect()
}

#[test]
fn what_is_pushed_is_pulled_and_in_the_layout() {
    let place = Place::with_files();
    let digest = place.push(&["oci:app:v1", "a.txt"]);
    let server = Server::start(&place, &["oci:app"]);
    server.get("/v2/").expect(200);
    let answer = server.get("/v2/app/manifests/v1").expect(200);
    assert_eq!(Digest::of(&answer.body).to_string(), digest);
    assert_eq!(answer.header("content-type"), MANIFEST);
    let layer = large();
    let config = server.push_blob("team/app", b"{}");
    let pushed = server.push_blob("team/app", &layer);
    let manifest = image(b"{}", &layer);
    server.put_manifest("/v2/team/app/manifests/v2", &manifest).expect(201);
    assert_eq!(server.get(&format!("/v2/team/app/blobs/{pushed}")).expect(200).body, layer);
    server.get(&format!("/v2/app/blobs/{pushed}")).expect(404);
    server.get(&format!("/v2/app/blobs/{config}")).expect(200);
    server.stop();
    assert_eq!(
        place.ok(&["resolve", "oci:app:team/app:v2"]).trim(),
        Digest::of(manifest.as_bytes()).to_string()
    );
    place.ok(&["verify", "oci:app", "--read-data", "--index"]);
}

#[test]
fn the_unnamed_repository_has_the_name_of_the_directory_or_another() {
    let place = Place::with_files();
    place.push(&["oci:My App:v1", "a.txt"]);
    place.push(&["oci:--:v1", "a.txt"]);
    let server = Server::start(&place, &["oci:My App"]);
    server.get("/v2/my-app/manifests/v1").expect(200);
    server.stop();
    let server = Server::start(&place, &["oci:My App", "--as", "team/app"]);
    server.get("/v2/team/app/manifests/v1").expect(200);
    server.get("/v2/my-app/manifests/v1").expect(404);
    server.stop();
    let (code, error) = fails(&place, &["oci:--"]);
    assert_eq!(code, 2);
    assert!(error.contains("path=") && error.contains("--as"), "{error}");
    let (code, error) = fails(&place, &["oci:a", "--as", "b", "--as", "c"]);
    assert_eq!((code, error.contains("names=2, layouts=1")), (2, true), "{error}");
    let (code, error) = fails(&place, &["oci:a", "--as", "Upper"]);
    assert_eq!((code, error.contains("Upper")), (2, true), "{error}");
}

#[test]
fn read_only_changes_nothing_and_needs_no_store() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("plain"));
    let digest = layout.artifact("v1", &[(None, b"layer")]);
    let before = listing(&place.path("plain"));
    let server = Server::start(&place, &["oci:plain", "--read-only"]);
    server.get("/v2/plain/manifests/v1").expect(200);
    server.get(&format!("/v2/plain/blobs/{}", Digest::of(b"layer"))).expect(200);
    server.send("POST", "/v2/plain/blobs/uploads/", &[], b"").expect(405);
    server.put_manifest("/v2/plain/manifests/v2", &image(b"{}", b"layer")).expect(405);
    server.send("DELETE", &format!("/v2/plain/manifests/{digest}"), &[], b"").expect(405);
    server.get("/readyz").expect(200);
    // What another tool adds is served without a restart.
    let mut before_the_edit = before.clone();
    layout.artifact("v2", &[(None, b"other")]);
    let edited = listing(&place.path("plain"));
    let start = Instant::now();
    while server.get("/v2/plain/manifests/v2").status != 200 {
        assert!(start.elapsed() < PATIENCE, "the edit is not served: {}", server.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
    before_the_edit.clear();
    assert_eq!(listing(&place.path("plain")), edited);
    let (code, error) = fails(&place, &["oci:none", "--read-only"]);
    assert_eq!((code, error.contains("none")), (3, true), "{error}");
    assert!(!place.path("none").exists());
}

#[test]
fn edits_of_other_tools_are_served() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("app"));
    layout.artifact("v1", &[(None, b"layer")]);
    let server = Server::start(&place, &["oci:app"]);
    server.get("/v2/app/manifests/v1").expect(200);
    server.get("/v2/app/manifests/v2").expect(404);
    let digest = layout.artifact("v2", &[(None, b"other")]);
    let start = Instant::now();
    while server.get("/v2/app/manifests/v2").status != 200 {
        assert!(start.elapsed() < PATIENCE, "the edit is not served: {}", server.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(Digest::of(&server.get("/v2/app/manifests/v2").body), digest);
    server.stop();
}

#[test]
fn nothing_is_open_to_others_unasked() {
    let place = Place::with_files();
    place.push(&["oci:app:v1", "a.txt"]);
    for address in ["0.0.0.0:0", "[::]:0", ":0"] {
        for more in [&["--read-only"][..], &["--anonymous-pull"], &[]] {
            let (code, error) = fails(&place, &[&["oci:app", "--listen", address], more].concat());
            assert_eq!(code, 9, "{error}");
            assert!(
                error.contains(":0") && error.contains("--htpasswd") && error.contains("--insecure-open"),
                "{error}"
            );
        }
    }
    let (code, error) = fails(&place, &["oci:app", "--listen", "nowhere"]);
    assert_eq!((code, error.contains("nowhere")), (2, true), "{error}");
}

#[test]
fn a_store_has_one_server_and_an_address_too() {
    let place = Place::with_files();
    place.push(&["oci:app:v1", "a.txt"]);
    let server = Server::start(&place, &["oci:app"]);
    let (code, error) = fails(&place, &["oci:app", "--lock-timeout", "0"]);
    assert_eq!((code, error.contains("--lock-timeout")), (1, true), "{error}");
    let output = place.run(&["serve", "oci:other", "--listen", &server.address]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("address={}", server.address)) && error.contains("--listen"), "{error}");
    server.stop();
}

#[test]
fn a_download_under_way_is_finished_before_the_end() {
    let place = Place::new();
    place.write("large", large());
    place.push(&["oci:app:v1", "large"]);
    let mut server = Server::start(&place, &["oci:app"]);
    let digest = Digest::of(&large());
    let mut stream = server.connect();
    stream.write_all(head("GET", &format!("/v2/app/blobs/{digest}"), &[], None).as_bytes()).unwrap();
    let mut first = vec![0; 1000];
    stream.read_exact(&mut first).unwrap();
    server.signal(Signal::TERM);
    let start = Instant::now();
    while std::net::TcpStream::connect(&server.address).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it takes connections still");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let answer = Answer::parse(&[first, rest].concat());
    assert_eq!(Digest::of(&answer.body), digest);
    assert_eq!(server.ended(), Some(0), "{}", server.stderr());
    place.ok(&["verify", "oci:app"]);
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_it_from_ending() {
    let place = Place::new();
    place.write("large", large());
    place.push(&["oci:app:v1", "large"]);
    for (signal, code, name) in [(Signal::TERM, 143, "SIGTERM"), (Signal::INT, 130, "SIGINT")] {
        let mut server = Server::start(&place, &["oci:app", "--shutdown-timeout", "200ms"]);
        let mut stream = server.connect();
        let path = format!("/v2/app/blobs/{}", Digest::of(&large()));
        stream.write_all(head("GET", &path, &[], None).as_bytes()).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        server.signal(signal);
        assert_eq!(server.ended(), Some(code), "{}", server.stderr());
        assert!(server.stderr().contains(&format!("connections=1, signal={name}")), "{}", server.stderr());
        // The store was closed all the same.
        assert!(!place.ok(&["verify", "oci:app", "--index"]).is_empty());
    }
}

#[test]
fn every_request_has_a_line() {
    let place = Place::with_files();
    place.push(&["oci:app:v1", "a.txt"]);
    place.write("passwords", entry("alice", "secret"));
    let mut server = Server::start(&place, &["oci:app", "--htpasswd", "passwords"]);
    let alice = basic("alice", "secret");
    let size = server.send("GET", "/v2/app/manifests/v1", &[("Authorization", &alice)], b"").body.len();
    server.get("/v2/app/tags/list?n=%22%1b%5b&x=\u{e9}").expect(401);
    let line = server.line("/v2/app/manifests/v1");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words.len(), 8, "{line}");
    assert!(words[0].starts_with("20") && words[0].ends_with('Z'), "{line}");
    assert!(words[1].starts_with("127.0.0.1:"), "{line}");
    assert_eq!(words[2..7], ["alice", "\"GET", "/v2/app/manifests/v1\"", "200", &size.to_string()], "{line}");
    assert!(words[7].parse::<f64>().unwrap() < 60.0, "{line}");
    let line = server.line("/v2/app/tags/list");
    assert!(line.contains(" - \"GET /v2/app/tags/list?n=%22%1b%5b&x="), "{line}");
    assert!(line.chars().all(|c| !c.is_control()), "{line}");
    server.stop();
    let quiet = Server::start(&place, &["oci:app", "--quiet"]);
    quiet.get("/v2/").expect(200);
    assert!(!quiet.stderr().contains("/v2/"), "{}", quiet.stderr());
    quiet.stop();
}

#[test]
fn the_log_goes_to_a_file_that_can_be_moved() {
    let place = Place::new();
    let mut server = Server::start(&place, &["oci:app", "--access-log", "log", "--format", "json"]);
    server.get("/v2/one/tags/list").expect(404);
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(place.path(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let wait = |name: &str, count: usize| {
        let start = Instant::now();
        while lines(name).len() < count {
            assert!(start.elapsed() < PATIENCE, "{:?}", lines(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("log", 1);
    let line = &lines("log")[0];
    assert_eq!(keys(line).len(), 8, "{line}");
    assert_eq!(
        (&line["method"], &line["path"], &line["status"], &line["complete"]),
        (&json!("GET"), &json!("/v2/one/tags/list"), &json!(404), &json!(true))
    );
    fs::rename(place.path("log"), place.path("log.1")).unwrap();
    server.signal(Signal::HUP);
    server.line("read again");
    server.get("/v2/two/tags/list").expect(404);
    wait("log", 1);
    assert_eq!(lines("log")[0]["path"], "/v2/two/tags/list");
    assert_eq!(lines("log.1").len(), 1);
    assert!(!server.stderr().contains("/v2/"), "{}", server.stderr());
    server.stop();
    let (code, error) = fails(&place, &["oci:app", "--access-log", "none/log"]);
    assert_eq!((code, error.contains("none/log")), (1, true), "{error}");
}

#[test]
fn operators_see_meters_and_health() {
    let place = Place::with_files();
    place.push(&["oci:app:v1", "a.txt"]);
    let mut server = Server::start(&place, &["oci:app", "--metrics-listen", "127.0.0.1:0"]);
    let line = server.line("metrics on ");
    let operators =
        line.strip_prefix("metrics on http://").unwrap().strip_suffix("/metrics").unwrap().to_owned();
    server.get("/v2/app/manifests/v1").expect(200);
    server.get("/v2/app/manifests/none").expect(404);
    server.push_blob("app", b"content");
    // Counted once the connection is done with it.
    let text = || send(&operators, "GET", "/metrics", &[], b"").expect(200).text();
    let start = Instant::now();
    while !text().contains("orlop_http_requests_total{route=\"uploads\",method=\"POST\",status=\"2xx\"} 1\n")
    {
        assert!(start.elapsed() < PATIENCE, "{}", text());
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = text();
    for line in [
        "# TYPE orlop_http_requests_total counter\n",
        "orlop_http_requests_total{route=\"manifest\",method=\"GET\",status=\"2xx\"} 1\n",
        "orlop_http_requests_total{route=\"manifest\",method=\"GET\",status=\"4xx\"} 1\n",
        "orlop_http_request_seconds_count{route=\"manifest\",method=\"GET\"} 2\n",
        "orlop_http_request_seconds_bucket{route=\"manifest\",method=\"GET\",le=\"+Inf\"} 2\n",
        "orlop_http_received_bytes_total{route=\"uploads\"} 7\n",
        "orlop_http_requests_running 0\n",
        "# HELP orlop_commits_total ",
        "orlop_commits_total{store=\"app\"} 1\n",
        "# TYPE orlop_commit_seconds histogram\n",
    ] {
        assert!(text.contains(line), "{line}---\n{text}");
    }
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is in no table of docs/metrics.md");
    }
    for address in [&operators, &server.address] {
        assert_eq!(send(address, "GET", "/healthz", &[], b"").expect(200).text(), "ok\n");
        assert_eq!(send(address, "GET", "/readyz", &[], b"").expect(200).text(), "ok\n");
    }
    server.get("/metrics").expect(404);
    send(&operators, "GET", "/v2/", &[], b"").expect(404);
    server.stop();
}

#[test]
fn tls_speaks_both_versions_and_takes_a_renewed_certificate() {
    let place = Place::new();
    let certificate = |name: &str| {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", &format!("/CN={name}"), "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(place.path(""))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
    };
    certificate("first.example");
    let mut server = Server::start(&place, &["oci:app", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    assert!(server.stderr().contains("listening on https://127.0.0.1:"), "{}", server.stderr());
    let ask = |protocol: &str, address: &str| {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", address, "-alpn", protocol, "-ign_eof"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let request = if protocol == "http/1.1" { head("GET", "/v2/", &[], None) } else { String::new() };
        client.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        if protocol != "http/1.1" {
            std::thread::sleep(Duration::from_millis(500));
            client.kill().unwrap();
        }
        String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout).into_owned()
    };
    let said = ask("http/1.1", &server.address);
    assert!(said.contains("ALPN protocol: http/1.1") && said.contains("HTTP/1.1 200 OK"), "{said}");
    assert!(said.contains("first.example"), "{said}");
    let said = ask("h2", &server.address);
    assert!(said.contains("ALPN protocol: h2"), "{said}");
    certificate("second.example");
    server.signal(Signal::HUP);
    server.line("read again");
    let said = ask("http/1.1", &server.address);
    assert!(said.contains("second.example") && said.contains("HTTP/1.1 200 OK"), "{said}");
    // Nonsense does not end what works.
    place.write("cert.pem", "no certificate");
    server.signal(Signal::HUP);
    server.line("what was in force stays");
    assert!(ask("http/1.1", &server.address).contains("second.example"));
    // Whoever speaks no TLS hears nothing of HTTP.
    let mut plain = server.connect();
    plain.write_all(head("GET", "/v2/", &[], None).as_bytes()).unwrap();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    assert!(!String::from_utf8_lossy(&heard).contains("HTTP"));
    server.stop();
    for (args, named) in [
        (["--tls-cert", "cert.pem", "--tls-key", "key.pem"], "path=cert.pem"),
        (["--tls-cert", "key.pem", "--tls-key", "cert.pem"], "path=key.pem"),
        (["--tls-cert", "none.pem", "--tls-key", "key.pem"], "path=none.pem"),
    ] {
        let (code, error) = fails(&place, &[&["oci:app"][..], &args].concat());
        assert!([1, 2].contains(&code) && error.contains(named), "{code} {error}");
    }
    let (code, error) = fails(&place, &["oci:app", "--tls-cert", "cert.pem"]);
    assert_eq!((code, error.contains("--tls-key")), (2, true), "{error}");
}

#[test]
fn what_is_wrong_with_a_store_is_for_the_operator_alone() {
    let place = Place::new();
    place.write("large", large());
    place.push(&["oci:app:v1", "large"]);
    let digest = Digest::of(&large());
    let mut server = Server::start(&place, &["oci:app"]);
    let file = place.path("app/blobs/sha256").join(digest.encoded().to_string());
    fs::remove_file(file).unwrap();
    for _ in 0..2 {
        let answer = server.get(&format!("/v2/app/blobs/{digest}")).expect(500);
        assert!(answer.text().contains("its log says why") && !answer.text().contains("app/"), "{answer:?}");
    }
    let line = server.line("error: ");
    assert!(line.contains(&digest.to_string()), "{line}");
    assert!(line.ends_with(&format!("request=\"GET /v2/app/blobs/{digest}\"")), "{line}");
    server.line(" 500 ");
    assert_eq!(server.stderr().matches("error: ").count(), 1, "{}", server.stderr());
    server.stop();
}
