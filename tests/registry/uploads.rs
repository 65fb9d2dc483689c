//! Content on its way in: in one request or in many, kept as far as it was acknowledged, refused without a trace otherwise.

use bytes::Bytes;
use http::Method;
use orlop::{Algorithm, Digest};

use crate::support::{Answer, Pieces, Server};

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
