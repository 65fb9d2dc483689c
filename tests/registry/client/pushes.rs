//! Pushing into a registry that loses sessions, forgets how far it is, and mounts when it likes.

use parking_lot::Mutex;

use orlop::{ErrorKind, Result};

use super::faulty::{Asked, End, Faulty, Reply, reply};
use super::{layer, options, repository};

const CONTENT: &[u8] = b"0123456789";

/// A registry with one session at a time, which `spoil` may spoil: it is told of the request, and of how many came before.
fn sessions(spoil: impl Fn(&Asked, usize, &mut Vec<u8>) -> Option<Reply> + Send + Sync + 'static) -> Faulty {
    let state = Mutex::new((Vec::new(), Vec::new()));
    Faulty::new(move |asked, before| {
        let (session, content) = &mut *state.lock();
        if let Some(reply) = spoil(asked, before, session) {
            if reply.status() == 201 {
                *content = std::mem::take(session);
            }
            return reply;
        }
        let at = |session: &Vec<u8>, status| {
            reply(status)
                .header("Location", "/up/1?s=a%3D")
                .header("Range", format!("0-{}", session.len().max(1) - 1))
        };
        match asked.method.as_str() {
            "POST" => {
                session.clear();
                at(session, 202)
            }
            "PATCH" => {
                let (from, _) = asked.header("content-range").split_once('-').unwrap();
                if from.parse::<usize>().unwrap() != session.len() {
                    return at(session, 416);
                }
                session.extend_from_slice(&asked.body);
                at(session, 202)
            }
            "GET" => at(session, 204),
            "PUT" => {
                session.extend_from_slice(&asked.body);
                *content = std::mem::take(session);
                reply(201)
            }
            "HEAD" if content == CONTENT => reply(200).body(CONTENT),
            "HEAD" => reply(404),
            "DELETE" => reply(204),
            other => panic!("{other}"),
        }
    })
}

fn push(faulty: &Faulty, chunk: u64) -> Result<()> {
    let remote = repository(faulty.port, options().chunk(chunk).unwrap());
    remote.push_bytes(&layer(CONTENT), CONTENT)?;
    assert_eq!(remote.content_size(&layer(CONTENT).digest)?, Some(10));
    Ok(())
}

#[test]
fn small_content_goes_at_once_and_large_content_in_parts() {
    let faulty = sessions(|_, _, _| None);
    push(&faulty, 10).unwrap();
    let lines = faulty.lines();
    let end = format!("PUT /up/1?s=a%3D&digest={}", layer(CONTENT).digest);
    assert_eq!(lines[..2], ["POST /v2/a/blobs/uploads/".to_owned(), end.clone()]);
    let faulty = sessions(|_, _, _| None);
    push(&faulty, 4).unwrap();
    let ranges: Vec<_> =
        faulty.asked().iter().map(|asked| asked.header("content-range").to_owned()).collect();
    assert_eq!(ranges[1..4], ["0-3", "4-7", "8-9"]);
    assert_eq!(faulty.lines()[4], end);
    // A registry that wants larger parts gets them.
    let faulty = sessions(|asked, _, _| {
        let more = || reply(202).header("Location", "/up/1").header("OCI-Chunk-Min-Length", 7);
        (asked.method == "POST").then(more)
    });
    push(&faulty, 4).unwrap();
    assert_eq!((faulty.asked()[1].body.len(), faulty.asked()[2].body.len()), (7, 3));
}

#[test]
fn goes_on_where_the_registry_is() {
    // The part came, and the answer did not.
    let faulty = sessions(|asked, before, session| {
        (before == 2).then(|| {
            session.extend_from_slice(&asked.body);
            reply(202).end(End::Drop)
        })
    });
    push(&faulty, 4).unwrap();
    // Half of it came.
    let faulty = sessions(|asked, before, session| {
        (before == 2).then(|| {
            session.extend_from_slice(&asked.body[..2]);
            reply(500)
        })
    });
    push(&faulty, 4).unwrap();
    assert_eq!(faulty.asked()[4].body, b"6789"[..2]);
    // It has lost what came before, too.
    let faulty = sessions(|_, before, session| {
        (before == 3).then(|| {
            session.truncate(2);
            reply(503)
        })
    });
    push(&faulty, 4).unwrap();
    assert_eq!(faulty.count("POST"), 1, "{:?}", faulty.lines());
    // It says that it has no time.
    let faulty = sessions(|_, before, _| (before == 1).then(|| reply(429).header("Retry-After", 1)));
    push(&faulty, 4).unwrap();
}

#[test]
fn a_range_that_is_behind_is_advice() {
    // It says what it had before every time, as one of the large ones does; nothing goes wrong, so nobody asks.
    let faulty = sessions(|asked, _, session| {
        (asked.method == "PATCH").then(|| {
            session.extend_from_slice(&asked.body);
            reply(202).header("Location", "/up/1").header("Range", "0-0")
        })
    });
    push(&faulty, 4).unwrap();
    assert_eq!((faulty.count("PATCH"), faulty.count("GET /up")), (3, 0));
    // Something goes wrong, and what it says is not so: once again from the beginning.
    let faulty = sessions(|asked, before, session| match asked.method.as_str() {
        "PATCH" if before == 2 => {
            session.extend_from_slice(&asked.body);
            Some(reply(500))
        }
        "GET" if before < 9 => Some(reply(204).header("Location", "/up/1").header("Range", "0-3")),
        _ => None,
    });
    push(&faulty, 4).unwrap();
    assert_eq!((faulty.count("POST"), faulty.count("DELETE")), (2, 1), "{:?}", faulty.lines());
}

#[test]
fn a_session_that_is_lost_is_begun_again_and_what_fails_is_cancelled() {
    for chunk in [4, 10] {
        let faulty = sessions(|_, before, _| (before == 1).then(|| reply(404)));
        push(&faulty, chunk).unwrap();
        assert_eq!((faulty.count("POST"), faulty.count("DELETE /up/1")), (2, 1), "{:?}", faulty.lines());
        let faulty =
            sessions(|asked, _, _| matches!(asked.method.as_str(), "PATCH" | "PUT").then(|| reply(403)));
        assert_eq!(push(&faulty, chunk).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!((faulty.count("POST"), faulty.count("DELETE")), (1, 1));
        // For ever is not for ever.
        let faulty =
            sessions(|asked, _, _| matches!(asked.method.as_str(), "PATCH" | "PUT").then(|| reply(500)));
        assert_eq!(push(&faulty, chunk).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(faulty.count("POST"), faulty.count("DELETE"));
        assert!(faulty.lines().len() < 100);
    }
    // Only the answer was lost: it is there.
    let faulty = sessions(|asked, before, session| {
        (asked.method == "PUT" && before == 1).then(|| {
            session.extend_from_slice(&asked.body);
            reply(201).end(End::Drop)
        })
    });
    push(&faulty, 10).unwrap();
    let faulty = sessions(|asked, _, _| {
        (asked.method == "PUT").then(|| reply(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#))
    });
    assert_eq!(push(&faulty, 10).unwrap_err().kind(), ErrorKind::Mismatch);
}

#[test]
fn nowhere_to_send_it() {
    for (answer, why) in [
        (reply(202), "does not say where"),
        (reply(202).header("Location", "ftp://x/"), "no web address"),
        (reply(202).header("Location", "/up").header("OCI-Chunk-Min-Length", u64::MAX), "too large"),
    ] {
        let faulty = Faulty::new(move |_, _| answer.clone());
        let error = push(&faulty, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(why), "{error}");
    }
    // To another host without what the registry may know.
    let elsewhere = Faulty::new(|_, _| reply(201));
    let port = elsewhere.port;
    let faulty = Faulty::new(move |asked, _| match (asked.header("authorization"), asked.method.as_str()) {
        ("", _) => reply(401).header("WWW-Authenticate", "Basic"),
        (_, "POST") => reply(202).header("Location", format!("http://127.0.0.1:{port}/up")),
        _ => reply(200).body(CONTENT),
    });
    let known = options().credentials(orlop::transfer::Credential::password("me", "pw"));
    repository(faulty.port, known).push_bytes(&layer(CONTENT), CONTENT).unwrap();
    assert_eq!(elsewhere.asked()[0].header("authorization"), "");
    assert_eq!(elsewhere.asked()[0].body, CONTENT);
}

#[test]
fn mounts_that_become_sessions() {
    let digest = layer(CONTENT).digest;
    let from = "other/b".parse().unwrap();
    let faulty = sessions(|_, _, _| None);
    {
        let remote = repository(faulty.port, options());
        assert!(!remote.mount(&digest, &from).unwrap());
        assert_eq!(faulty.lines(), [format!("POST /v2/a/blobs/uploads/?mount={digest}&from=other/b")]);
        remote.push_bytes(&layer(CONTENT), CONTENT).unwrap();
        assert_eq!((faulty.count("POST"), faulty.count("PUT")), (1, 1));
        // What nobody pushes is cancelled in the end.
        assert!(!remote.mount(&layer(b"x").digest, &from).unwrap());
        assert_eq!(faulty.count("DELETE"), 0);
    }
    assert_eq!(faulty.count("DELETE /up/1"), 1);
    for (status, mounted) in [(201, true), (401, false), (403, false), (404, false), (405, false)] {
        let faulty = Faulty::new(move |_, _| reply(status));
        assert_eq!(repository(faulty.port, options()).mount(&digest, &from).unwrap(), mounted, "{status}");
    }
    // The token is to allow both.
    let faulty = Faulty::new(|asked, _| {
        let realm = format!("Bearer realm=\"http://{}/token\"", asked.header("host"));
        match asked.path.starts_with("/token") {
            true => reply(200).body(r#"{"token":"t"}"#),
            false if asked.header("authorization").is_empty() => reply(401).header("WWW-Authenticate", realm),
            false => reply(201),
        }
    });
    assert!(repository(faulty.port, options()).mount(&digest, &from).unwrap());
    let scopes = "/token?scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Aother%2Fb%3Apull";
    assert_eq!(faulty.asked()[1].path, scopes);
}
