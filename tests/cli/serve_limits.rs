//! `serve` and clients that want too much, or never say what.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use orlop::Digest;

use crate::serve_support::*;
use crate::support::*;

/// What comes before the server ends the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        // Reset is an end too; nothing at all for so long is none.
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it does not end the connection");
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn heads_that_do_not_come_are_not_waited_for() {
    let place = Place::new();
    let server = Server::start(&place, &["oci:app", "--header-timeout", "300ms"]);
    for said in ["", "GET /v2/ HTTP/1.1\r\nHost: regis"] {
        let start = Instant::now();
        let mut stream = server.connect();
        stream.write_all(said.as_bytes()).unwrap();
        assert!(!rest(stream).contains("200"));
        assert!((Duration::from_millis(250)..PATIENCE).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
    // Byte by byte, each in time.
    let mut stream = server.connect();
    let start = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(start.elapsed() < PATIENCE, "a head that never ends is waited for");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.get("/v2/").expect(200);
    server.stop();
}

#[test]
fn heads_are_bounded() {
    let place = Place::new();
    let server = Server::start(&place, &["oci:app", "--max-header-size", "8Ki"]);
    server.send("GET", "/v2/", &[("X-Small", &"x".repeat(4_000))], b"").expect(200);
    server.send("GET", "/v2/", &[("X-Large", &"x".repeat(100_000))], b"").expect(431);
    server.stop();
    for (args, named) in [
        (["--max-header-size", "10"], "max-header-size=10"),
        (["--header-timeout", "0"], "header-timeout=0"),
        (["--max-connections", "0"], "max-connections"),
    ] {
        let (code, error) = fails(&place, &[&["oci:app"][..], &args].concat());
        assert_eq!((code, error.contains(named)), (2, true), "{error}");
    }
}

#[test]
fn bodies_that_stop_coming_are_not_waited_for() {
    let place = Place::new();
    let server = Server::start(&place, &["oci:app", "--idle-timeout", "300ms"]);
    let path = format!("/v2/app/blobs/uploads/?digest={}", Digest::of(b"content"));
    let mut stream = server.connect();
    stream.write_all(head("POST", &path, &[], Some(7)).as_bytes()).unwrap();
    stream.write_all(b"cont").unwrap();
    let heard = rest(stream);
    assert!(!heard.contains(" 201 "), "{heard}");
    server.get(&format!("/v2/app/blobs/{}", Digest::of(b"content"))).expect(404);
    // What comes slowly but comes is taken, however long it takes in all.
    let mut stream = server.connect();
    stream.write_all(head("POST", &path, &[], Some(7)).as_bytes()).unwrap();
    for byte in b"content" {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(&[*byte]).unwrap();
    }
    Answer::read(&mut stream).expect(201);
    server.stop();
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let place = Place::new();
    let content: Vec<u8> = (0..32_000_000_u32).map(|n| (n % 251) as u8).collect();
    place.write("large", &content);
    place.push(&["oci:app:v1", "large"]);
    let mut server = Server::start(&place, &["oci:app", "--idle-timeout", "300ms"]);
    let mut stream = server.connect();
    let path = format!("/v2/app/blobs/{}", Digest::of(&content));
    stream.write_all(head("GET", &path, &[], None).as_bytes()).unwrap();
    let line = server.line("/v2/app/blobs/");
    assert!(line.ends_with(" cut"), "{line}");
    assert!(rest(stream).len() < content.len());
    server.stop();
}

#[test]
fn more_connections_than_there_may_be_are_told_so() {
    let place = Place::new();
    let server = Server::start(&place, &["oci:app", "--max-connections", "1"]);
    let mut first = server.connect();
    first.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    first.read_exact(&mut [0; 12]).unwrap();
    let answer = server.get("/v2/").expect(503);
    assert_eq!(answer.header("retry-after"), "1");
    drop(first);
    let start = Instant::now();
    while server.get("/v2/").status != 200 {
        assert!(start.elapsed() < PATIENCE, "the place is not given back");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.stop();
}

#[test]
fn more_requests_than_there_may_be_are_told_so() {
    let place = Place::new();
    let server = Server::start(&place, &["oci:app", "--max-requests", "1"]);
    let path = format!("/v2/app/blobs/uploads/?digest={}", Digest::of(b"content"));
    let mut first = server.connect();
    first.write_all(head("POST", &path, &[("expect", "100-continue")], Some(7)).as_bytes()).unwrap();
    // It is told to go on when it has the only place.
    let mut told = Vec::new();
    while !told.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        first.read_exact(&mut byte).unwrap();
        told.push(byte[0]);
    }
    assert!(told.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&told));
    let answer = server.get("/v2/").expect(429);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.text().contains("TOOMANYREQUESTS"), "{answer:?}");
    // Who watches the server is no client.
    server.get("/readyz").expect(200);
    first.write_all(b"content").unwrap();
    Answer::read(&mut first).expect(201);
    server.get("/v2/").expect(200);
    server.stop();
}

#[test]
fn content_and_sessions_are_bounded() {
    let place = Place::new();
    let server = Server::start(&place, &["oci:app", "--max-blob-size", "1k", "--max-uploads", "1"]);
    let path = |content: &[u8]| format!("/v2/app/blobs/uploads/?digest={}", Digest::of(content));
    server.send("POST", &path(&[1; 1000]), &[], &[1; 1000]).expect(201);
    assert!((400..500).contains(&server.send("POST", &path(&[1; 1001]), &[], &[1; 1001]).status));
    server.send("POST", "/v2/app/blobs/uploads/", &[], b"").expect(202);
    let answer = server.send("POST", "/v2/app/blobs/uploads/", &[], b"").expect(429);
    assert_eq!(answer.header("retry-after"), "1");
    server.stop();
}
