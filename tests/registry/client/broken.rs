//! Reading from a registry that breaks off, stalls, has no time, and says what is not so.

use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use orlop::oci::{Descriptor, Reference};
use orlop::transfer::Sink;
use orlop::{Digest, Error, ErrorKind, Result};

use super::faulty::{Asked, End, Faulty, Reply, reply};
use super::{layer, manifest, options, recorded, registry, repository};
use crate::support::{MANIFEST, image};

const CONTENT: &[u8] = b"0123456789";

/// Where a request wants to begin.
fn offset(asked: &Asked) -> usize {
    let range = asked.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    range.map_or(0, |from| from.parse().unwrap())
}

/// The part that was asked for.
fn part(asked: &Asked) -> Reply {
    let from = offset(asked);
    if asked.header("range").is_empty() {
        return reply(200).body(CONTENT);
    }
    reply(206).header("Content-Range", format!("bytes {from}-9/10")).body(&CONTENT[from..])
}

fn read(port: u16, offset: u64) -> Result<Vec<u8>> {
    let remote = repository(port, options());
    read_from(&remote, &layer(CONTENT), offset)
}

fn read_from(
    remote: &orlop::transfer::RemoteRepository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut content = remote.content(descriptor, offset)?.unwrap();
    content.read_to_end(&mut bytes).map_err(|error| error.downcast::<Error>().unwrap())?;
    Ok(bytes)
}

#[test]
fn goes_on_where_it_broke_off() {
    let faulty = Faulty::new(|asked, before| {
        let part = part(asked);
        if before < 3 { part.end(End::Cut(2)) } else { part }
    });
    assert_eq!(read(faulty.port, 0).unwrap(), CONTENT);
    assert_eq!(faulty.asked().iter().map(offset).collect::<Vec<_>>(), [0, 2, 4, 6]);
    // From the middle, of a registry that knows no parts: what is not wanted is read over.
    let faulty = Faulty::new(|_, before| {
        let whole = reply(200).body(CONTENT);
        if before == 0 { whole.end(End::Cut(2)) } else { whole }
    });
    assert_eq!(read(faulty.port, 4).unwrap(), &CONTENT[4..]);
    assert_eq!(faulty.lines().len(), 2);
    // Parts that are shorter than what was asked for are no failure.
    let faulty = Faulty::new(|asked, _| {
        let from = offset(asked);
        let to = (from + 3).min(10);
        reply(206).header("Content-Range", format!("bytes {from}-{}/*", to - 1)).body(&CONTENT[from..to])
    });
    assert_eq!(read(faulty.port, 1).unwrap(), &CONTENT[1..]);
    assert_eq!(faulty.lines().len(), 3);
}

#[test]
fn ends_when_it_breaks_off_again_and_again() {
    let (options, waits) = recorded(options());
    let faulty = Faulty::new(|asked, _| part(asked).end(End::Cut(1)));
    let error = read_from(&repository(faulty.port, options), &layer(CONTENT), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!((faulty.lines().len(), waits.lock().len()), (5, 4));
    // Nothing listens there at all.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(read(port, 0).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_stall_ends() {
    let options = options().stall(Duration::from_millis(100));
    let faulty = Faulty::new(|asked, before| match before {
        0 => part(asked).end(End::Stall(3)),
        1 => part(asked).end(End::Stall(0)),
        _ => part(asked),
    });
    assert_eq!(read_from(&repository(faulty.port, options), &layer(CONTENT), 0).unwrap(), CONTENT);
    assert_eq!(faulty.asked().iter().map(offset).collect::<Vec<_>>(), [0, 3, 3]);
}

#[test]
fn lies_about_parts_are_told() {
    for (range, kind) in [
        ("bytes 0-9/10", ErrorKind::Unavailable),
        ("bytes 5-9/10", ErrorKind::Unavailable),
        ("bytes 4-9/11", ErrorKind::Mismatch),
        ("bytes 4-10/*", ErrorKind::Mismatch),
        ("nonsense", ErrorKind::Unavailable),
        ("", ErrorKind::Unavailable),
    ] {
        let faulty = Faulty::new(move |_, _| reply(206).header("Content-Range", range).body(&CONTENT[4..]));
        assert_eq!(read(faulty.port, 4).unwrap_err().kind(), kind, "{range}");
        assert_eq!(faulty.lines().len(), 1);
    }
    for body in [&CONTENT[1..], b"0123456789x"] {
        let faulty = Faulty::new(move |_, _| reply(200).body(body));
        assert_eq!(read(faulty.port, 0).unwrap_err().kind(), ErrorKind::Mismatch);
    }
    let faulty = Faulty::new(|_, _| reply(416));
    assert_eq!(read(faulty.port, 4).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_registry_without_time_is_waited_for() {
    let (options, waits) = recorded(options());
    let faulty = Faulty::new(|asked, before| match before {
        0 => reply(429).header("Retry-After", 7),
        1 => reply(503),
        2 => reply(200).end(End::Drop),
        _ => part(asked),
    });
    assert_eq!(read_from(&repository(faulty.port, options), &layer(CONTENT), 0).unwrap(), CONTENT);
    let waits = waits.lock();
    assert_eq!(waits.len(), 3);
    assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&waits[0]), "{waits:?}");

    // Not for longer than anybody wants, and not for ever.
    for (after, asked) in [(3600, 1), (0, 5)] {
        let faulty = Faulty::new(move |_, _| reply(429).header("Retry-After", after));
        let error = read(faulty.port, 0).unwrap_err();
        assert_eq!((error.kind(), faulty.lines().len()), (ErrorKind::Unavailable, asked), "{error}");
        assert!(error.to_string().contains("status=429"), "{error}");
    }
    // And who waits can be woken.
    let options = super::options().sleep(|_| ControlFlow::Break(()));
    let faulty = Faulty::new(|_, _| reply(503));
    let error = read_from(&repository(faulty.port, options), &layer(CONTENT), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn manifests_are_what_their_digests_say() {
    let whole = manifest(&image(b"{}", &[]));
    let digest = whole.descriptor.digest;
    let tag: Reference = "v1".parse().unwrap();
    let other = layer(b"other").digest;
    let bytes = whole.bytes.clone();
    let say = move |said: &str| {
        let (said, bytes) = (said.to_owned(), bytes.clone());
        Faulty::new(move |_, _| {
            let answer = reply(200).header("Content-Type", MANIFEST).body(bytes.to_vec());
            if said.is_empty() { answer } else { answer.header("Docker-Content-Digest", &said) }
        })
    };
    let at = |faulty: &Faulty| repository(faulty.port, options());
    // Without a digest of the registry, and with one of another kind, it is computed.
    for said in ["", &digest.to_string(), "md5:0123"] {
        let faulty = say(said);
        assert_eq!(at(&faulty).manifest(&tag).unwrap().unwrap(), whole, "{said}");
        assert_eq!(at(&faulty).resolve(&tag).unwrap().unwrap(), whole.descriptor, "{said}");
        assert_eq!(at(&faulty).resolve(&digest.into()).unwrap().unwrap(), whole.descriptor, "{said}");
    }
    let faulty = say(&other.to_string());
    for reference in [&tag, &digest.into()] {
        assert_eq!(at(&faulty).manifest(reference).unwrap_err().kind(), ErrorKind::Mismatch);
    }
    assert_eq!(at(&faulty).resolve(&digest.into()).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(at(&say("")).manifest(&other.into()).unwrap_err().kind(), ErrorKind::Mismatch);
    // Without a type it is what it looks like.
    let bytes = whole.bytes.clone();
    let faulty =
        Faulty::new(move |_, _| reply(200).header("Content-Type", "text/plain").body(bytes.to_vec()));
    assert_eq!(at(&faulty).resolve(&tag).unwrap().unwrap(), whole.descriptor);
    // As much as a manifest may have, and no more.
    let faulty =
        Faulty::new(|_, _| reply(200).header("Content-Type", MANIFEST).body(vec![b' '; (4 << 20) + 1]));
    assert_eq!(at(&faulty).manifest(&tag).unwrap_err().kind(), ErrorKind::Unavailable);
    // Only 404 is "not there".
    for (status, kind) in [
        (401, ErrorKind::Unauthorized),
        (403, ErrorKind::Denied),
        (500, ErrorKind::Unavailable),
        (418, ErrorKind::Invalid),
    ] {
        let faulty = Faulty::new(move |_, _| reply(status));
        assert_eq!(at(&faulty).manifest(&tag).unwrap_err().kind(), kind, "{status}");
        assert_eq!(at(&faulty).resolve(&tag).unwrap_err().kind(), kind, "{status}");
    }
    let faulty = Faulty::new(|_, _| reply(404));
    assert!(at(&faulty).manifest(&tag).unwrap().is_none() && at(&faulty).resolve(&tag).unwrap().is_none());
}

/// What a registry has under a digest with another size is not what is meant.
#[test]
fn content_of_another_size_is_not_there() {
    let faulty = Faulty::new(|asked, _| {
        let kind = if asked.path.contains("/manifests/") { MANIFEST } else { "a/b" };
        reply(200).header("Content-Type", kind).body(b"12345")
    });
    let remote = repository(faulty.port, options());
    for (size, is_there) in [(5, true), (6, false)] {
        let content = Descriptor::new("a/b", Digest::of(b"12345"), size);
        assert_eq!(remote.has(&content, false).unwrap(), is_there, "{size}");
        let manifest = Descriptor::new(MANIFEST, Digest::of(b"12345"), size);
        assert_eq!(remote.has_manifest(&manifest, false).unwrap(), is_there, "{size}");
    }
}

#[test]
fn lists_end() {
    let tags = |body: &str| reply(200).body(body.as_bytes());
    let at = |faulty: &Faulty| repository(faulty.port, options()).all_tags();
    // A page that names itself, one of another host, one that is not there, names that are none.
    let faulty = Faulty::new(move |asked, _| {
        tags(r#"{"tags":["a"]}"#).header("Link", format!("<{}>; rel=\"next\"", asked.path))
    });
    assert!(at(&faulty).unwrap_err().to_string().contains("do not end"));
    let faulty = Faulty::new(move |_, _| tags("{}").header("Link", "<http://127.0.0.1:1/x>; rel=next"));
    assert!(at(&faulty).unwrap_err().to_string().contains("another host"));
    let faulty = Faulty::new(move |_, before| match before {
        0 => tags("{}").header("Link", "</v2/a/tags/list?last=x>; rel=next"),
        _ => reply(404),
    });
    assert_eq!(at(&faulty).unwrap_err().kind(), ErrorKind::Unavailable);
    for body in ["", "[]", r#"{"tags":["-"]}"#, r#"{"tags":[1]}"#] {
        let faulty = Faulty::new(move |_, _| tags(body));
        assert_eq!(at(&faulty).unwrap_err().kind(), ErrorKind::Unavailable, "{body}");
    }
    // A link that cannot be read may be that to the next page.
    for link in ["<list?last=b; rel=next", "list?last=b; rel=next", "<list?last=b>; rel=\"next"] {
        let faulty = Faulty::new(move |_, _| tags(r#"{"tags":["a"]}"#).header("Link", link));
        let error = at(&faulty).unwrap_err();
        assert!(error.to_string().contains("the link to the next page cannot be read"), "{error}");
    }
    let faulty = Faulty::new(move |_, _| tags(r#"{"tags":["a"]}"#).header("Link", "</x.css>; rel=preload"));
    assert_eq!(at(&faulty).unwrap().len(), 1);
    // Who leads elsewhere may have signed the address.
    let faulty =
        Faulty::new(move |_, _| tags("{}").header("Link", "<http://127.0.0.1:1/x?sig=secret>; rel=next"));
    let message = at(&faulty).unwrap_err().to_string();
    assert!(message.contains("127.0.0.1:1/x") && !message.contains("secret"), "{message}");
    // Small pages without end, or large ones.
    let faulty = Faulty::new(move |_, before| {
        let page = [&br#"{"tags":["a"]}"#[..], &vec![b' '; (16 << 20) - 100]].concat();
        reply(200).body(page).header("Link", format!("<list?last={before}>; rel=next"))
    });
    assert!(at(&faulty).unwrap_err().to_string().contains("the list is larger than"));
    // Out of order, twice, and over pages.
    let faulty = Faulty::new(move |asked, _| match asked.path.contains("next") {
        true => tags(r#"{"tags":["a","c"]}"#),
        false => tags(r#"{"tags":["c","b"]}"#).header("Link", "<list?next>; rel=\"next\""),
    });
    assert_eq!(at(&faulty).unwrap(), ["a", "b", "c"].map(|tag| tag.parse().unwrap()));
    for (status, kind) in [(404, ErrorKind::Unsupported), (403, ErrorKind::Denied)] {
        let faulty = Faulty::new(move |_, _| reply(status));
        let error = options().client().repositories(&registry(faulty.port)).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}
