//! Content on its way in: in one request or in many, kept as far as it was acknowledged, refused without a trace otherwise.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use orlop::digest::Digester;
use orlop::server::{Open, Settings};
use orlop::{Algorithm, Digest, Limits, Options, Upload};
use parking_lot::Mutex;

use crate::support::{Answer, Pieces, Server, Whole, feed, until};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

/// Bytes that are nowhere the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

fn start(server: &Server) -> String {
    let answer = server.send(Method::POST, UPLOADS, &[], "").expect(202);
    assert_eq!((answer.header("range"), answer.body.len()), ("0-0", 0));
    let location = answer.header("location").to_owned();
    assert_eq!(location, format!("{UPLOADS}{}", answer.header("docker-upload-uuid")));
    location
}

fn append(server: &Server, location: &str, range: &str, bytes: &[u8]) -> Answer {
    let headers = [("content-range", range)];
    let headers = if range.is_empty() { &[][..] } else { &headers[..] };
    server.send(Method::PATCH, location, headers, bytes.to_vec())
}

fn finish(server: &Server, location: &str, digest: Digest, bytes: &[u8]) -> Answer {
    let digest = digest.to_string().replace(':', "%3A");
    server.send(Method::PUT, &format!("{location}?digest={digest}"), &[], bytes.to_vec())
}

/// Where the session ends, by its status.
#[track_caller]
fn ends_at(server: &Server, location: &str, range: &str) {
    let status = server.get(&format!("{location}?digest=left%20on%20it")).expect(204);
    assert_eq!((status.header("range"), status.header("location")), (range, location));
}

#[track_caller]
fn holds(server: &Server, answer: &Answer, content: &[u8], algorithm: Algorithm) {
    let digest = algorithm.digest(content).to_string();
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("location"), format!("/v2/team/app/blobs/{digest}"));
    let pulled = server.get(answer.header("location")).expect(200);
    assert!(pulled.body == content, "not what was pushed, digest={digest}");
}

/// Pieces whose sizes are no powers of anything.
fn odd(content: &[u8], size: usize) -> Vec<std::io::Result<Bytes>> {
    content.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
}

#[test]
fn content_comes_by_every_way_with_every_algorithm() {
    let server = Server::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3] {
        // Nothing, less than the journal takes, more, and more than one part.
        for size in [0, 2, 40_000, 2_500_000] {
            let content = noise(size + algorithm as usize);
            let content = if size == 0 { &[][..] } else { &content };
            let digest = algorithm.digest(content);
            let single = format!("{UPLOADS}?digest={digest}");
            let answer = server.send(Method::POST, &single, &[], content.to_vec()).expect(201);
            holds(&server, &answer, content, algorithm);
            server.delete(answer.header("location")).expect(202);

            let location = start(&server);
            let answer = finish(&server, &location, digest, content).expect(201);
            holds(&server, &answer, content, algorithm);
            server.get(&location).refused(404, "BLOB_UPLOAD_UNKNOWN");
            server.delete(answer.header("location")).expect(202);

            // The algorithm is named at the end, although chunks came before.
            let location = start(&server);
            let mut sent = 0;
            for chunk in content.chunks(size / 3 + 1) {
                let range = format!("{sent}-{}", sent + chunk.len() - 1);
                sent += chunk.len();
                let answer = append(&server, &location, &range, chunk).expect(202);
                assert_eq!(answer.header("range"), format!("0-{}", sent - 1));
                assert_eq!(answer.header("location"), location);
            }
            let answer = finish(&server, &location, digest, b"").expect(201);
            holds(&server, &answer, content, algorithm);
            server.delete(answer.header("location")).expect(202);

            // It is named at the beginning; the body has no length, and its pieces are odd.
            let path = format!("{UPLOADS}?digest-algorithm={}", digest.algorithm());
            let location = server.send(Method::POST, &path, &[], "").expect(202);
            let location = location.header("location");
            let pieces = Pieces(odd(content, 7_919));
            server.send_pieces(Method::PATCH, location, &[], pieces).expect(202);
            let answer = finish(&server, location, digest, b"").expect(201);
            holds(&server, &answer, content, algorithm);
            server.delete(answer.header("location")).expect(202);
        }
    }
    assert_eq!(server.store.uploads(None, 10).unwrap().items, []);
}

#[test]
fn a_chunk_out_of_order_changes_nothing() {
    let server = Server::new();
    let content = noise(3067);
    let digest = Digest::of(&content);
    let location = start(&server);
    let out_of_order = |range: &str, bytes: &[u8], has: &str| {
        let answer = append(&server, &location, range, bytes);
        let closing = server.send(
            Method::PUT,
            &format!("{location}?digest={digest}"),
            &[("content-range", range)],
            bytes.to_vec(),
        );
        for answer in [answer, closing] {
            let answer = answer.refused(416, "BLOB_UPLOAD_INVALID");
            assert_eq!((answer.header("location"), answer.header("range")), (&*location, has));
        }
        ends_at(&server, &location, has);
    };
    out_of_order("1024-2047", &content[1024..2048], "0-0");
    append(&server, &location, "bytes 0-1023/*", &content[..1024]).expect(202);
    out_of_order("2048-3066", &content[2048..], "0-1023");
    append(&server, &location, "1024-2047", &content[1024..2048]).expect(202);
    out_of_order("0-1023", &content[..1024], "0-2047");
    let last = server.send(
        Method::PUT,
        &format!("{location}?digest={digest}"),
        &[("content-range", "2048-3066")],
        content[2048..].to_vec(),
    );
    holds(&server, &last.expect(201), &content, Algorithm::Sha256);
}

#[test]
fn a_chunk_is_what_its_range_says() {
    let server = Server::new();
    let content = noise(3000);
    let location = start(&server);
    append(&server, &location, "0-999", &content[..1000]).expect(202);
    for (range, bytes) in [("1000-1999", 999..1998), ("1000-1999", 0..1001), ("1000-1999", 0..0)] {
        // With and without a length.
        append(&server, &location, range, &content[bytes.clone()]).refused(400, "SIZE_INVALID");
        let whole = Whole(Some(Bytes::copy_from_slice(&content[bytes])));
        let begun = server.begin(Method::PATCH, &location, &[("content-range", range)], whole);
        server.answer(begun).refused(400, "SIZE_INVALID");
        ends_at(&server, &location, "0-999");
    }
    // Beyond what was said nothing is taken, however much comes.
    let endless = Pieces((0..400).map(|_| Ok(Bytes::from(noise(10_000)))).collect());
    let headers = [("content-range", "1000-2000999")];
    server.send_pieces(Method::PATCH, &location, &headers, endless).refused(400, "SIZE_INVALID");
    for range in ["1000", "1999-1000", "0x3e8-1999", "pages 1000-1999", "1000-99999999999999999999"] {
        append(&server, &location, range, &content[1000..2000]).refused(400, "BLOB_UPLOAD_INVALID");
    }
    ends_at(&server, &location, "0-999");
}

#[test]
fn another_digest_leaves_the_session_as_it_was() {
    let server = Server::new();
    let content = noise(50_000);
    let digest = Digest::of(&content);
    let location = start(&server);
    for range in ["0-0", "0-29999"] {
        let sent = if range == "0-0" { 0 } else { 30_000 };
        let wrong = Digest::of(b"another");
        finish(&server, &location, wrong, &content[sent..]).refused(400, "DIGEST_INVALID");
        finish(&server, &location, digest, &content[sent + 1..]).refused(400, "DIGEST_INVALID");
        ends_at(&server, &location, range);
        if sent == 0 {
            append(&server, &location, "", &content[..30_000]).expect(202);
        }
    }
    for query in
        ["", "?digest", "?digest=", "?digest=sha256:short", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"]
    {
        let path = format!("{location}{query}");
        server.send(Method::PUT, &path, &[], content[30_000..].to_vec()).refused(400, "DIGEST_INVALID");
    }
    ends_at(&server, &location, "0-29999");
    finish(&server, &location, digest, &content[30_000..]).expect(201);
    // At once there is no session that could stay.
    let path = format!("{UPLOADS}?digest={}", Digest::of(b"another"));
    server.send(Method::POST, &path, &[], content.clone()).refused(400, "DIGEST_INVALID");
    let large = noise(1_500_000);
    server.send(Method::POST, &path, &[], large).refused(400, "DIGEST_INVALID");
    server
        .send(Method::POST, &format!("{UPLOADS}?digest-algorithm=md5"), &[], "")
        .refused(400, "DIGEST_INVALID");
    server.get(&format!("/v2/team/app/blobs/{}", Digest::of(b"another"))).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_session_is_known_in_its_repository_and_by_its_id_alone() {
    let server = Server::new();
    let location = start(&server);
    append(&server, &location, "", b"here").expect(202);
    let id = location.strip_prefix(UPLOADS).unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_ne!(id[..16], start(&server).strip_prefix(UPLOADS).unwrap()[..16]);
    let digest = Digest::of(b"here");
    let elsewhere = format!("/v2/team/other/blobs/uploads/{id}");
    let nested = format!("/v2/team/app/a/blobs/uploads/{id}");
    let zero = format!("{UPLOADS}{}", "0".repeat(32));
    let (upper, short, not_utf8) = (
        format!("{UPLOADS}{}", "A".repeat(32)),
        format!("{UPLOADS}{}", &id[1..]),
        format!("{UPLOADS}%00%01"),
    );
    for path in [&elsewhere, &nested, &zero, &upper, &short, &not_utf8] {
        server.get(path).refused(404, "BLOB_UPLOAD_UNKNOWN");
        server.delete(path).refused(404, "BLOB_UPLOAD_UNKNOWN");
        append(&server, path, "", b"there").refused(404, "BLOB_UPLOAD_UNKNOWN");
        finish(&server, path, digest, b"").refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
    ends_at(&server, &location, "0-3");
    finish(&server, &location, digest, b"").expect(201);
}

#[test]
fn cancelled_is_gone() {
    let server = Server::new();
    for bytes in [&b""[..], b"some"] {
        let location = start(&server);
        append(&server, &location, "", bytes).expect(202);
        let answer = server.delete(&location).expect(204);
        assert!(answer.body.is_empty());
        server.get(&location).refused(404, "BLOB_UPLOAD_UNKNOWN");
        server.delete(&location).refused(404, "BLOB_UPLOAD_UNKNOWN");
        append(&server, &location, "", b"more").refused(404, "BLOB_UPLOAD_UNKNOWN");
        finish(&server, &location, Digest::of(bytes), b"").refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn what_was_acknowledged_outlives_a_restart() {
    let server = Server::new();
    let content = noise(100_000);
    let (location, empty) = (start(&server), start(&server));
    append(&server, &location, "0-69999", &content[..70_000]).expect(202);
    let server = server.restart(Open, Options::new());
    // Nothing was said of the other but that it began.
    append(&server, &empty, "", b"x").refused(404, "BLOB_UPLOAD_UNKNOWN");
    ends_at(&server, &location, "0-69999");
    append(&server, &location, "70000-99998", &content[70_000..99_999]).expect(202);
    let server = server.restart(Open, Options::new());
    let answer =
        finish(&server, &location, Algorithm::Sha512.digest(&content), &content[99_999..]).expect(201);
    holds(&server, &answer, &content, Algorithm::Sha512);
}

#[test]
fn a_patch_that_breaks_off_is_kept_as_far_as_it_came() {
    let server = Server::new();
    let content = noise(2_600_000);
    for came in [0, 10, 40_000, 1_048_576, 2_500_000] {
        let location = start(&server);
        let torn = |bytes: &[u8]| {
            let mut pieces = odd(bytes, 65_537);
            pieces.push(Err(std::io::Error::other("connection reset")));
            Pieces(pieces)
        };
        let broken = server.send_pieces(Method::PATCH, &location, &[], torn(&content[..came]));
        broken.refused(400, "BLOB_UPLOAD_INVALID");
        ends_at(&server, &location, &format!("0-{}", came.saturating_sub(1)));
        // What a PUT brings counts when the PUT does.
        let digest = Digest::of(&content);
        let path = format!("{location}?digest={digest}");
        let broken = server.send_pieces(Method::PUT, &path, &[], torn(&content[came..2_599_000]));
        broken.refused(400, "BLOB_UPLOAD_INVALID");
        ends_at(&server, &location, &format!("0-{}", came.saturating_sub(1)));
        let range = format!("{came}-{}", content.len() - 1);
        append(&server, &location, &range, &content[came..]).expect(202);
        let answer = finish(&server, &location, digest, b"").expect(201);
        holds(&server, &answer, &content, Algorithm::Sha256);
        server.delete(answer.header("location")).expect(202);
        // And what a POST brings has no other name.
        let path = format!("{UPLOADS}?digest={digest}");
        server
            .send_pieces(Method::POST, &path, &[], torn(&content[..came]))
            .refused(400, "BLOB_UPLOAD_INVALID");
    }
    assert_eq!(server.store.uploads(None, 10).unwrap().items, []);
}

/// The session as the store has it.
fn session(server: &Server, location: &str) -> orlop::Result<Option<Upload>> {
    let id = location.strip_prefix(UPLOADS).unwrap().parse().unwrap();
    server.store.repository(&"team/app".parse().unwrap()).upload(&id)
}

#[test]
fn one_client_at_a_time_has_a_session() {
    let server = Server::new();
    let location = start(&server);
    append(&server, &location, "", b"first").expect(202);
    let held = session(&server, &location).unwrap().unwrap();
    let digest = Digest::of(b"first");
    for answer in [
        append(&server, &location, "", b"second"),
        append(&server, &location, "77-78", b"xy"),
        finish(&server, &location, digest, b""),
        server.delete(&location),
    ] {
        let answer = answer.refused(429, "TOOMANYREQUESTS");
        assert_eq!(answer.header("retry-after"), "1");
    }
    ends_at(&server, &location, "0-4");
    drop(held);
    finish(&server, &location, digest, b"").expect(201);
}

#[test]
fn slow_clients_hold_no_thread() {
    let mut limits = orlop::server::Limits::default();
    (limits.writers, limits.waiting) = (1, 1);
    let server = Server::set(Open, Options::new(), Settings::new().limits(limits));
    let content = noise(1_500_000);
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let location = start(&server);
            let (feeder, body) = feed();
            let begun = server.begin(Method::PATCH, &location, &[], body);
            // One part can be written, and half of the next is there.
            feeder.give(content.clone());
            (location, feeder, begun)
        })
        .collect();
    let path = format!("{UPLOADS}?digest={}", Digest::of(&content));
    let other = server.begin(Method::POST, &path, &[], Whole(Some(content.clone().into())));
    until(|| other.is_finished());
    server.answer(other).expect(201);
    for (location, feeder, begun) in slow {
        feeder.give("the rest");
        drop(feeder);
        assert_eq!(server.answer(begun).expect(202).header("range"), "0-1500007");
        let digest = Digest::of(&[&content[..], b"the rest"].concat());
        finish(&server, &location, digest, b"").expect(201);
    }
}

#[test]
fn a_request_that_is_given_up_ends_and_keeps_what_came() {
    let server = Server::new();
    let content = noise(1_500_000);
    let location = start(&server);
    let (feeder, body) = feed();
    let begun = server.begin(Method::PATCH, &location, &[], body);
    feeder.give(content.clone());
    // Nobody waits for the answer any more, and the body would never have ended.
    begun.abort();
    until(|| server.get(&location).header("range") == "0-1499999");
    until(|| finish(&server, &location, Digest::of(&content), b"").status == 201);
}

#[test]
fn limits_of_the_store_are_told() {
    let mut limits = Limits::default();
    (limits.max_uploads, limits.max_content_size) = (1, Some(100_000));
    let server = Server::with(Open, Options::new().limits(limits));
    let large = noise(100_001);
    let digest = Digest::of(&large);
    let location = start(&server);
    let busy = server.send(Method::POST, UPLOADS, &[], "").refused(429, "TOOMANYREQUESTS");
    assert_eq!(busy.header("retry-after"), "1");
    append(&server, &location, "", &large).refused(413, "SIZE_INVALID");
    finish(&server, &location, digest, &large).refused(413, "SIZE_INVALID");
    ends_at(&server, &location, "0-0");
    server.delete(&location).expect(204);
    // With a length it is refused before any of it is taken, and without one all the same.
    let path = format!("{UPLOADS}?digest={digest}");
    let begun = server.begin(Method::POST, &path, &[], Whole(Some(large.clone().into())));
    server.answer(begun).refused(413, "SIZE_INVALID");
    server.send(Method::POST, &path, &[], large.clone()).refused(413, "SIZE_INVALID");
    let path = format!("{UPLOADS}?digest={}", Digest::of(&large[1..]));
    server.send(Method::POST, &path, &[], large[1..].to_vec()).expect(201);
}

#[test]
fn nothing_is_written_where_only_reading_is_allowed() {
    let server = Server::set(Open, Options::new(), Settings::new().read_only(true));
    let digest = Digest::of(b"x");
    let session = format!("{UPLOADS}{}", "0".repeat(32));
    for (method, path) in [
        (Method::POST, UPLOADS.to_owned()),
        (Method::POST, format!("{UPLOADS}?digest={digest}")),
        (Method::PATCH, session.clone()),
        (Method::PUT, format!("{session}?digest={digest}")),
        (Method::DELETE, session),
        (Method::PUT, "/v2/team/app/manifests/v1".into()),
        (Method::DELETE, "/v2/team/app/manifests/v1".into()),
        (Method::DELETE, format!("/v2/team/app/blobs/{digest}")),
    ] {
        server.send(method, &path, &[], "x").refused(405, "UNSUPPORTED");
    }
}

/// A hundred megabytes in pieces of odd sizes, made as they are asked for.
struct Long {
    left: usize,
    size: usize,
    hash: Arc<Mutex<Digester>>,
}

impl http_body::Body for Long {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        self.size = self.size * 7 % 300_007 + 1;
        let piece = noise(self.size.min(self.left));
        self.left -= piece.len();
        self.hash.lock().update(&piece);
        let next = if piece.is_empty() { None } else { Some(Ok(http_body::Frame::data(piece.into()))) };
        std::task::Poll::Ready(next)
    }
}

#[test]
fn long_content_comes_in_pieces_of_any_size() {
    let server = Server::new();
    let hash = Arc::new(Mutex::new(Digester::new(Algorithm::Sha256)));
    let location = start(&server);
    let long = Long { left: 100_000_001, size: 1, hash: Arc::clone(&hash) };
    let begun = server.begin(Method::PATCH, &location, &[], long);
    assert_eq!(server.answer(begun).expect(202).header("range"), "0-100000000");
    let digest = hash.lock().clone().finish();
    let answer = finish(&server, &location, digest, b"").expect(201);
    let head = server.head(answer.header("location")).expect(200);
    assert_eq!(head.header("content-length"), "100000001");
}

/// The name alone is that of another host, which is only to be read.
#[test]
fn who_says_of_which_host_a_name_is_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().create(dir.path().join("store")).unwrap();
    store.repository(&"quay.io/app".parse().unwrap()).push_bytes("x").unwrap();
    store.close().unwrap();
    let server = Server::in_dir(dir, Open, Options::new(), Settings::new());
    server.send(Method::POST, "/v2/app/blobs/uploads/", &[], "").refused(405, "UNSUPPORTED");

    let started = server.send(Method::POST, "/v2/app/blobs/uploads/?ns=docker.io", &[], "").expect(202);
    let location = started.header("location").to_owned();
    assert!(location.ends_with("?ns=docker.io"), "{location}");
    let appended = server.send(Method::PATCH, &location, &[], "content").expect(202);
    assert_eq!(appended.header("location"), location);
    let finish = format!("{location}&digest={}", Digest::of(b"content"));
    let created = server.send(Method::PUT, &finish, &[], "").expect(201);
    assert_eq!(server.get(created.header("location")).expect(200).body, "content");
    assert!(server.store.repository(&"app".parse().unwrap()).exists().unwrap());
}
