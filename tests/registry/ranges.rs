//! Parts of content, and answers that depend on what a client has.

use http::Method;
use orlop::Digest;

use crate::support::{Answer, MANIFEST, Server, image};

/// A content of 2,048 bytes that are not all the same, held by `app`.
fn small() -> (Server, Vec<u8>, String) {
    let server = Server::new();
    let content: Vec<u8> = (0..2048_u32).map(|n| (n % 253) as u8).collect();
    server.store.repository(&"app".parse().unwrap()).push_bytes(content.clone()).unwrap();
    let path = format!("/v2/app/blobs/{}", Digest::of(&content));
    (server, content, path)
}

fn range(server: &Server, path: &str, range: &str) -> Answer {
    server.send(Method::GET, path, &[("range", range)], "")
}

#[test]
fn a_part_is_sent_as_a_part() {
    let (server, content, path) = small();
    for (asked, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
        ("bytes=0-2047", 0, 2048),
        ("bytes=2047-2047", 2047, 2048),
    ] {
        let answer = range(&server, &path, asked).expect(206);
        assert_eq!(answer.body, content[start..end], "{asked}");
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/2048", end - 1));
        assert_eq!(answer.header("content-length"), (end - start).to_string());
        assert_eq!(answer.header("docker-content-digest"), Digest::of(&content).to_string());
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("content-encoding"), "");
    }
    for asked in ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0", "bytes=x"] {
        let answer = range(&server, &path, asked).refused(416, "SIZE_INVALID");
        assert_eq!(answer.header("content-range"), "bytes */2048", "{asked}");
    }
    for asked in ["lines=1-2", "bytes=0-1,5-6", "nonsense"] {
        let answer = range(&server, &path, asked).expect(200);
        assert_eq!(answer.body, content, "{asked}");
        assert_eq!(answer.header("content-range"), "");
    }
    // A range is of a GET: a HEAD tells of the whole.
    let head = server.send(Method::HEAD, &path, &[("range", "bytes=0-1")], "").expect(200);
    assert_eq!((head.header("content-length"), head.header("content-range")), ("2048", ""));
}

#[test]
fn a_part_of_large_content_is_streamed_and_nothing_around_it() {
    let server = Server::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    server.store.repository(&"app".parse().unwrap()).push_bytes(content.clone()).unwrap();
    let path = format!("/v2/app/blobs/{}", Digest::of(&content));
    for (start, end) in [(1, 2_999_999), (1_000_000, 1_000_100), (262_143, 524_289), (2_900_000, 3_000_000)] {
        let answer = range(&server, &path, &format!("bytes={start}-{}", end - 1)).expect(206);
        assert!(answer.body == content[start..end], "{start}..{end}: {} bytes", answer.body.len());
        assert_eq!(answer.broken, None);
        assert_eq!(answer.header("content-length"), (end - start).to_string());
    }
}

#[test]
fn an_empty_content_is_sent_whole_whatever_part_is_asked_for() {
    let server = Server::new();
    server.store.repository(&"app".parse().unwrap()).push_bytes("").unwrap();
    let path = format!("/v2/app/blobs/{}", Digest::of(b""));
    for asked in ["bytes=0-", "bytes=0-99", "bytes=-5"] {
        let answer = range(&server, &path, asked).expect(200);
        assert_eq!((answer.header("content-length"), answer.body.len()), ("0", 0));
    }
    assert_eq!(server.head(&path).expect(200).header("content-length"), "0");
}

#[test]
fn a_part_is_of_what_the_client_has_or_the_whole_is_sent() {
    let (server, content, path) = small();
    let digest = Digest::of(&content);
    let ask = |condition: &str| {
        server.send(Method::GET, &path, &[("range", "bytes=0-9"), ("if-range", condition)], "")
    };
    assert_eq!(ask(&format!("\"{digest}\"")).expect(206).body, content[..10]);
    let others = [
        &format!("W/\"{digest}\""),
        &format!("\"{}\"", Digest::of(b"x")),
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "*",
    ];
    for other in others {
        assert_eq!(ask(other).expect(200).body, content, "{other}");
    }
}

#[test]
fn content_is_sent_only_to_who_lacks_it() {
    let (server, content, blob) = small();
    let here = server.store.repository(&"app".parse().unwrap());
    let manifest = image(&content, &[]);
    let pushed = here.push_manifest(MANIFEST, manifest, &["v1".parse().unwrap()]).unwrap().digest;
    let by_tag = "/v2/app/manifests/v1".to_owned();
    let by_digest = format!("/v2/app/manifests/{pushed}");
    for (path, digest, lasting) in [
        (&blob, Digest::of(&content), "private, max-age=31536000, immutable"),
        (&by_digest, pushed, "private, max-age=31536000, immutable"),
        (&by_tag, pushed, "private, no-cache"),
    ] {
        let tag = format!("\"{digest}\"");
        let answer = server.get(path).expect(200);
        assert_eq!((answer.header("etag"), answer.header("cache-control")), (&*tag, lasting));
        for method in [Method::GET, Method::HEAD] {
            for has in [&tag, "*", &format!("\"other\", W/{tag}"), &digest.to_string()] {
                let answer = server.send(method.clone(), path, &[("if-none-match", has)], "").expect(304);
                assert!(answer.body.is_empty());
                assert_eq!((answer.header("etag"), answer.header("cache-control")), (&*tag, lasting));
                assert_eq!(answer.header("docker-content-digest"), digest.to_string());
                assert_eq!(answer.header("content-length"), "");
            }
            server.send(method.clone(), path, &[("if-none-match", "\"other\"")], "").expect(200);
            for same in [&tag, "*"] {
                server.send(method.clone(), path, &[("if-match", same)], "").expect(200);
            }
            let weak = format!("W/{tag}");
            for other in ["\"other\"", &weak] {
                let answer = server.send(method.clone(), path, &[("if-match", other)], "").expect(412);
                assert_eq!(answer.body.is_empty(), method == Method::HEAD);
            }
        }
        // Several lines are one list, and what a client has goes before the part that it wants.
        let lines = [("if-none-match", "\"other\""), ("if-none-match", &*tag), ("range", "bytes=9999-")];
        server.send(Method::GET, path, &lines, "").expect(304);
        let lines = [("if-match", &*tag), ("if-none-match", &*tag)];
        server.send(Method::GET, path, &lines, "").expect(304);
    }
    // Nothing is not modified: a condition is of something that is there.
    let missing = format!("/v2/app/blobs/{}", Digest::of(b"missing"));
    server.send(Method::GET, &missing, &[("if-match", "*")], "").refused(404, "BLOB_UNKNOWN");
    server.send(Method::GET, &missing, &[("if-none-match", "*")], "").refused(404, "BLOB_UNKNOWN");
    // A tag that moved is another.
    let next = here.push_manifest(MANIFEST, image(&content, &[&content]), &["v1".parse().unwrap()]).unwrap();
    let old = format!("\"{pushed}\"");
    let answer = server.send(Method::GET, &by_tag, &[("if-none-match", &*old)], "").expect(200);
    assert_eq!(answer.header("etag"), format!("\"{}\"", next.digest));
}
