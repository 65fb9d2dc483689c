//! Tags and repositories by pages.

use http::request::Parts;
use orlop::server::{Action, Denial, Grant, Limits, Policy, Settings, Verb};
use orlop::{Digest, Expect, Options};

use crate::support::{Answer, MANIFEST, Server, image};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tags {
    name: String,
    tags: Vec<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    repositories: Vec<String>,
}

fn tags(answer: &Answer) -> Vec<String> {
    let Tags { name, tags } = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((name.as_str(), answer.header("content-type")), ("app", "application/json"));
    tags
}

fn repositories(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.header("content-type"), "application/json");
    let Catalog { repositories } = serde_json::from_slice(&answer.body).unwrap();
    repositories
}

/// A server whose repository `app` has these tags.
fn tagged(names: &[&str]) -> Server {
    let server = Server::set(orlop::server::Open, Options::new(), Settings::new().limits(page(5)));
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let digest = here.push_manifest(MANIFEST, image(b"{}", &[]), &[]).unwrap().digest;
    for name in names {
        here.tag(&name.parse().unwrap(), &digest, Expect::Any).unwrap();
    }
    server
}

fn page(most: usize) -> Limits {
    let mut limits = Limits::default();
    limits.page = most;
    limits
}

#[test]
fn tags_are_listed_in_byte_order_and_by_pages() {
    let server = tagged(&["v2", "V1", "_x", "a.b", "v10", "v1"]);
    let path = "/v2/app/tags/list";
    let all = ["V1", "_x", "a.b", "v1", "v10", "v2"];
    let first = server.get(&format!("{path}?n=2")).expect(200);
    assert_eq!(tags(&first), all[..2]);
    assert_eq!(first.header("link"), "</v2/app/tags/list?n=2&last=_x>; rel=\"next\"");
    let second = server.get(first.next()).expect(200);
    assert_eq!(tags(&second), all[2..4]);
    let third = server.get(second.next()).expect(200);
    assert_eq!(tags(&third), all[4..]);
    // Exactly as many as there are is the end.
    assert_eq!(third.header("link"), "");
    assert_eq!(server.get(&format!("{path}?last=v1&n=2")).expect(200).header("link"), "");
    // What the registry gives at most, whoever asks for more or says nothing.
    for n in ["", "?n=5", "?n=6", "?n=99999999999999999999999999"] {
        let cut = server.get(&format!("{path}{n}")).expect(200);
        assert_eq!(tags(&cut), all[..5], "{n}");
        assert_eq!(tags(&server.get(cut.next()).expect(200)), all[5..]);
    }
    // The last need not be there, nor be a tag at all.
    for (last, left) in [("v10", 1), ("v1a", 1), ("W", 5), ("%2Bnot%20a%20tag", 5), ("zzz", 0), ("", 5)] {
        let answer = server.get(&format!("{path}?last={last}")).expect(200);
        assert_eq!(tags(&answer).len(), left, "{last}");
    }
    let none = server.get(&format!("{path}?n=0")).expect(200);
    assert_eq!((tags(&none).len(), none.header("link")), (0, ""));
    for n in ["-1", "x", "", "1.5", "+1"] {
        server.get(&format!("{path}?n={n}")).refused(400, "UNSUPPORTED");
    }
    // The namespace that a page was asked for stays with the next.
    let named = server.get(&format!("{path}?ns=docker.io&n=1")).expect(200);
    assert_eq!(named.next(), "/v2/app/tags/list?n=1&last=V1&ns=docker.io");
}

#[test]
fn a_repository_without_tags_is_another_thing_than_none() {
    let server = tagged(&[]);
    let answer = server.get("/v2/app/tags/list").expect(200);
    assert_eq!(answer.body, r#"{"name":"app","tags":[]}"#);
    for path in ["/v2/none/tags/list", "/v2/none/tags/list?n=0", "/v2/unnamed/tags/list", "/v2/ap/tags/list"]
    {
        server.get(path).refused(404, "NAME_UNKNOWN");
    }
    server.store.default_repository().push_bytes("{}").unwrap();
    assert_eq!(server.get("/v2/unnamed/tags/list").expect(200).body, r#"{"name":"unnamed","tags":[]}"#);
    // Emptied is there still, deleted is not.
    let here = server.store.repository(&"app".parse().unwrap());
    let mut batch = server.store.batch();
    batch.delete_manifest(&here, &Digest::of(image(b"{}", &[]).as_bytes()));
    batch.delete_blob(&here, &Digest::of(b"{}"));
    batch.commit().unwrap();
    server.get("/v2/app/tags/list").expect(200);
    server.store.delete_repository(&"app".parse().unwrap()).unwrap();
    server.get("/v2/app/tags/list").refused(404, "NAME_UNKNOWN");
}

/// Hides what its names begin with, and knows how often it was asked.
#[derive(Clone, Default)]
struct Hiding {
    prefix: &'static str,
    asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    busy: bool,
}

impl Policy for Hiding {
    async fn decide(&self, _request: &Parts, action: &Action) -> Result<Grant, Denial> {
        if action.verb == Verb::Catalog {
            return Ok(Grant::default());
        }
        assert_eq!((action.verb, &action.mount), (Verb::Pull, &None));
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if self.busy {
            return Err(Denial::later(std::time::Duration::from_secs(3)));
        }
        let name = action.repository.as_ref().unwrap().as_str();
        if name.starts_with(self.prefix) { Err(Denial::hidden()) } else { Ok(Grant::default()) }
    }
}

fn hiding(prefix: &'static str) -> (Server<Hiding>, Hiding) {
    let policy = Hiding { prefix, ..Hiding::default() };
    (Server::set(policy.clone(), Options::new(), Settings::new().limits(page(100))), policy)
}

/// Lets repositories be there.
fn create(server: &Server<Hiding>, names: impl Iterator<Item = String>) {
    let mut batch = server.store.batch();
    for name in names {
        batch.push_bytes(&server.store.repository(&name.parse().unwrap()), "{}").unwrap();
    }
    batch.commit().unwrap();
}

#[test]
fn the_catalog_lists_what_is_served_under_its_names() {
    let (server, _) = hiding("-");
    assert_eq!(server.get("/v2/_catalog").expect(200).body, r#"{"repositories":[]}"#);
    // A named repository that nobody can reach, since the unnamed one has its name.
    create(&server, ["a", "b/c", "unnamed", "v", "z"].into_iter().map(str::to_owned));
    assert_eq!(repositories(&server.get("/v2/_catalog").expect(200)), ["a", "b/c", "v", "z"]);
    server.store.default_repository().push_bytes("{}").unwrap();
    let all = ["a", "b/c", "unnamed", "v", "z"];
    assert_eq!(repositories(&server.get("/v2/_catalog").expect(200)), all);
    for n in 1..=5 {
        let (mut path, mut found) = (format!("/v2/_catalog?n={n}"), Vec::new());
        loop {
            let answer = server.get(&path).expect(200);
            let page = repositories(&answer);
            found.extend(page.clone());
            if answer.header("link").is_empty() {
                break;
            }
            assert_eq!(page.len(), n);
            path = answer.next().to_owned();
        }
        assert_eq!(found, all, "by pages of {n}");
    }
    assert_eq!(server.get("/v2/_catalog?n=2").header("link"), "</v2/_catalog?n=2&last=b/c>; rel=\"next\"");
    assert_eq!(repositories(&server.get("/v2/_catalog?last=b").expect(200)), all[1..]);
    assert_eq!(repositories(&server.get("/v2/_catalog?last=unnamed").expect(200)), all[3..]);
    let none = server.get("/v2/_catalog?n=0").expect(200);
    assert_eq!((repositories(&none).len(), none.header("link")), (0, ""));
    server.get("/v2/_catalog?n=x").refused(400, "UNSUPPORTED");
    server.get("/v2/_catalog?last=UPPER").refused(400, "NAME_INVALID");
}

#[test]
fn pages_of_the_catalog_are_full_and_show_nothing_that_is_hidden() {
    let (server, _) = hiding("secret");
    let names = |prefix: &'static str, count| (0..count).map(move |n| format!("{prefix}/{n:05}"));
    create(&server, names("a", 3).chain(names("secret", 300)).chain(names("z", 3)));
    let first = server.get("/v2/_catalog?n=4").expect(200);
    assert_eq!(repositories(&first), ["a/00000", "a/00001", "a/00002", "z/00000"]);
    assert_eq!(first.next(), "/v2/_catalog?n=4&last=z/00000");
    let second = server.get(first.next()).expect(200);
    assert_eq!((repositories(&second).len(), second.header("link")), (2, ""));
    // Full, and behind it is nothing but what is hidden: that is the end.
    let (server, _) = hiding("secret");
    create(&server, names("a", 3).chain(names("secret", 300)));
    let answer = server.get("/v2/_catalog?n=3").expect(200);
    assert_eq!((repositories(&answer).len(), answer.header("link")), (3, ""));
}

#[test]
fn a_catalog_of_what_is_hidden_asks_no_more_than_so_often() {
    let (server, policy) = hiding("secret");
    let names = |prefix: &'static str, count| (0..count).map(move |n| format!("{prefix}/{n:05}"));
    create(&server, names("a", 1).chain(names("secret", 12_000)).chain(names("z", 1)));
    let first = server.get("/v2/_catalog").expect(200);
    assert_eq!(repositories(&first), ["a/00000"]);
    assert_eq!(policy.asked.load(std::sync::atomic::Ordering::Relaxed), 10_000);
    assert!(!first.header("link").contains("secret"), "{}", first.header("link"));
    let second = server.get(first.next()).expect(200);
    assert_eq!((repositories(&second).as_slice(), second.header("link")), (&["z/00000".to_owned()][..], ""));
    // A position of another registry, or of this one before it was started again, is one behind what was listed.
    let position = first.next().rsplit_once('=').unwrap().1;
    let other = first.next().replace(position, &"0".repeat(position.len()));
    assert!(other.contains("last=a/00000"), "{other}");
    assert_eq!(server.get(&other).expect(200).next().len(), first.next().len());
    // Who is told to come again gets no list that lacks something.
    let busy = Hiding { busy: true, ..policy };
    let server = Server::with(busy, Options::new());
    create(&server, names("a", 1));
    assert_eq!(server.get("/v2/_catalog").refused(429, "TOOMANYREQUESTS").header("retry-after"), "3");
}
