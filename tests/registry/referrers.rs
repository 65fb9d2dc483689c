//! Referrers: what the index says, filters, pages, and the tags by which older clients list them.

use orlop::oci::Descriptor;
use orlop::server::{Limits, Open, Settings};
use orlop::{Digest, Options, Repository};

use crate::support::{Answer, INDEX, MANIFEST, Server, image};

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

fn listed(answer: &Answer) -> Vec<Descriptor> {
    assert_eq!(answer.header("content-type"), INDEX);
    let Index { schema_version, media_type, manifests } = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((schema_version, media_type.as_str()), (2, INDEX));
    manifests
}

fn digests(answer: &Answer) -> Vec<Digest> {
    listed(answer).into_iter().map(|found| found.digest).collect()
}

fn descriptor(media_type: &str, text: &str) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
        Digest::of(text.as_bytes()),
        text.len()
    )
}

/// An image manifest without layers that refers to a subject, with more fields.
fn referrer(subject: &str, more: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[],"subject":{}{more}}}"#,
        descriptor(EMPTY, "{}"),
        descriptor(MANIFEST, subject)
    )
}

fn index(manifests: &[&str], more: &str) -> String {
    let entries: Vec<String> = manifests.iter().map(|text| descriptor(MANIFEST, text)).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]{more}}}"#, entries.join(","))
}

fn push(here: &Repository, text: &str) -> Digest {
    let media_type = if text.contains(r#""manifests""#) { INDEX } else { MANIFEST };
    here.push_manifest(media_type, text.to_owned(), &[]).unwrap().digest
}

fn path(name: &str, subject: &str) -> String {
    format!("/v2/{name}/referrers/{}", Digest::of(subject.as_bytes()))
}

/// The tag under which clients list the referrers of a subject where there is no API for that.
fn fallback_tag(subject: &str) -> String {
    Digest::of(subject.as_bytes()).to_string().replace(':', "-")
}

#[test]
fn nothing_is_attached_to_what_is_not_there() {
    let server = Server::new();
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    for path in [path("none", "x"), "/v2/none/referrers/sha384:00".to_owned()] {
        let answer = server.get(&path).expect(200);
        assert_eq!((answer.header("content-type"), &answer.body[..]), (INDEX, empty.as_bytes()));
        assert_eq!((answer.header("link"), answer.header("oci-filters-applied")), ("", ""));
    }
    server.store.repository(&"app".parse().unwrap()).push_bytes("{}").unwrap();
    assert_eq!(server.get(&path("app", "{}")).expect(200).body, empty);
}

#[test]
fn descriptors_have_the_type_and_the_annotations_of_what_they_name() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let subject = image(b"{}", &[]);
    let typed = referrer(&subject, r#","artifactType":"example/sbom","annotations":{"a":"1","b":"\"2\""}"#);
    let by_config = referrer(&subject, "");
    let an_index = index(&[], &format!(r#","subject":{}"#, descriptor(MANIFEST, &subject)));
    for text in [&typed, &by_config, &an_index] {
        push(&here, text);
    }
    let found = listed(&server.get(&path("app", &subject)).expect(200));
    let seen: Vec<_> = found
        .iter()
        .map(|found| (found.digest, found.size, found.media_type.as_str(), found.artifact_type.as_deref()))
        .collect();
    let expected = [
        (&typed, MANIFEST, Some("example/sbom")),
        (&by_config, MANIFEST, Some(EMPTY)),
        (&an_index, INDEX, None),
    ];
    let expected = expected
        .map(|(text, media_type, kind)| (Digest::of(text.as_bytes()), text.len() as u64, media_type, kind));
    assert_eq!(seen, expected);
    assert_eq!(
        found[0].annotations.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(),
        [("a", "1"), ("b", "\"2\"")]
    );
    // A type that an index has not is left out, not empty.
    let body = server.get(&path("app", &subject)).body;
    assert_eq!(String::from_utf8_lossy(&body).matches("artifactType").count(), 2);
    // Attached in one repository, it is in that one.
    assert_eq!(digests(&server.get(&path("other", &subject)).expect(200)), []);
    // What is deleted is gone at once; that the subject never came matters to nobody.
    let mut batch = server.store.batch();
    batch.delete_manifest(&here, &Digest::of(typed.as_bytes()));
    batch.commit().unwrap();
    assert_eq!(digests(&server.get(&path("app", &subject)).expect(200)).len(), 2);
}

#[test]
fn a_filter_that_is_there_is_applied_and_said() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let subject = image(b"{}", &[]);
    let kind = "application/vnd.example+json;a=b c";
    let wanted = push(&here, &referrer(&subject, &format!(r#","artifactType":"{kind}""#)));
    push(&here, &referrer(&subject, ""));
    let path = path("app", &subject);
    let filtered = |kind: &str| {
        let answer = server.get(&format!("{path}?artifactType={kind}")).expect(200);
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        digests(&answer)
    };
    assert_eq!(filtered("application%2Fvnd.example%2Bjson%3Ba%3Db%20c"), [wanted]);
    assert_eq!(filtered("application/vnd.example%2Bjson;a=b+c"), [wanted]);
    assert_eq!(filtered("application/vnd.example+json"), []);
    // Present though empty is a filter, and nothing has that type.
    assert_eq!(filtered(""), []);
    let all = server.get(&path).expect(200);
    assert_eq!((digests(&all).len(), all.header("oci-filters-applied")), (2, ""));
}

#[test]
fn pages_hold_so_many_and_so_much_and_keep_the_filter() {
    let mut limits = Limits::default();
    limits.page = 3;
    let server = Server::set(Open, Options::new(), Settings::new().limits(limits));
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let subject = image(b"{}", &[]);
    let attach = |kind: &str, n: usize| {
        push(&here, &referrer(&subject, &format!(r#","artifactType":"{kind}","annotations":{{"n":"{n}"}}"#)))
    };
    let all: Vec<Digest> = (0..8).map(|n| attach(if n % 2 == 0 { "a/a b" } else { "b/b" }, n)).collect();
    let walk = |path: String, kind: Option<&str>| {
        let (mut path, mut found, mut pages) = (path, Vec::new(), 0);
        loop {
            let answer = server.get(&path).expect(200);
            let page = listed(&answer);
            assert_eq!(answer.header("oci-filters-applied"), kind.map_or("", |_| "artifactType"));
            assert!(page.iter().all(|found| kind.is_none() || found.artifact_type.as_deref() == kind));
            found.extend(page.iter().map(|found| found.digest));
            pages += 1;
            if answer.header("link").is_empty() {
                return (found, pages);
            }
            assert_eq!(page.len(), 3);
            path = answer.next().to_owned();
        }
    };
    let path = path("app", &subject);
    assert_eq!(walk(path.clone(), None), (all.clone(), 3));
    let some: Vec<Digest> = all.iter().copied().step_by(2).collect();
    assert_eq!(walk(format!("{path}?artifactType=a/a%20b"), Some("a/a b")), (some, 2));
    // A position is one in its own listing.
    let next = server.get(&path).next().to_owned();
    server.get(&next.replace("?", "?artifactType=b/b&")).refused(400, "UNSUPPORTED");
    server.get(&format!("{path}?nextToken=garbled")).refused(400, "UNSUPPORTED");
}

#[test]
fn a_page_is_no_longer_than_clients_read() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let subject = image(b"{}", &[]);
    // Of text that takes twice its length in JSON.
    let long = "\\n".repeat(450_000);
    for n in 0..6 {
        push(&here, &referrer(&subject, &format!(r#","annotations":{{"n":"{n}","long":"{long}"}}"#)));
    }
    let (mut path, mut found) = (path("app", &subject), 0);
    loop {
        let answer = server.get(&path).expect(200);
        assert!(answer.body.len() <= 4 << 20, "{}", answer.body.len());
        found += listed(&answer).len();
        if answer.header("link").is_empty() {
            break;
        }
        path = answer.next().to_owned();
    }
    assert_eq!(found, 6);
}

#[test]
fn what_clients_list_under_a_tag_too_is_listed_once() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let subject = image(b"{}", &[]);
    push(&here, &subject);
    let attached = referrer(&subject, "");
    let digest = push(&here, &attached);
    // As a client does that takes the registry for one without referrers.
    let fallback = index(&[&attached], "");
    here.push_manifest(INDEX, fallback.clone(), &[fallback_tag(&subject).parse().unwrap()]).unwrap();
    assert_eq!(digests(&server.get(&path("app", &subject)).expect(200)), [digest]);
    let by_tag = server.get(&format!("/v2/app/manifests/{}", fallback_tag(&subject))).expect(200);
    assert_eq!(by_tag.body, fallback);
    // An index under such a tag that names others attaches nothing by that: one that is of another subject, one that is of
    // none, and one that is not there.
    let (other, none) = (referrer(&attached, ""), image(b"{}", &[b"{}"]));
    push(&here, &other);
    push(&here, &none);
    let missing = referrer(&subject, r#","annotations":{"never":"pushed"}"#);
    let mut batch = server.store.batch();
    let wrong = index(&[&attached, &other, &none, &missing], "");
    let wrong = batch.push_sparse_manifest(&here, INDEX, wrong, orlop::Algorithm::Sha256).unwrap();
    batch.tag(&here, &fallback_tag(&subject).parse().unwrap(), wrong, orlop::Expect::Any);
    batch.commit().unwrap();
    assert_eq!(digests(&server.get(&path("app", &subject)).expect(200)), [digest]);
    assert_eq!(digests(&server.get(&path("app", &attached)).expect(200)), [Digest::of(other.as_bytes())]);
}

#[test]
fn referrers_that_an_old_client_listed_under_a_tag_are_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let write = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        std::fs::write(blobs.join(digest.encoded().to_string()), text).unwrap();
    };
    let subject = image(b"{}", &[]);
    let signature = referrer(&subject, r#","artifactType":"example/signature","annotations":{"k":"v"}"#);
    let nested = referrer(&signature, r#","artifactType":"example/nested""#);
    let stranger = referrer("another subject", "");
    let missing = referrer(&subject, r#","artifactType":"example/missing""#);
    // The index of a client has what it thinks of each: here neither a type nor annotations.
    let fallback = index(&[&signature, &stranger, &missing], "");
    let fallback_of_signature = index(&[&nested], "");
    for text in ["{}", &subject, &signature, &nested, &stranger, &fallback, &fallback_of_signature] {
        write(text);
    }
    let entry = |media_type: &str, text: &str, name: &str| {
        let entry = descriptor(media_type, text);
        let name = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#);
        entry[..entry.len() - 1].to_owned() + &name
    };
    let entries = [
        entry(MANIFEST, &subject, "v1"),
        entry(INDEX, &fallback, &fallback_tag(&subject)),
        entry(INDEX, &fallback_of_signature, &fallback_tag(&signature)),
    ];
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index_json = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    std::fs::write(root.join("index.json"), index_json).unwrap();
    let server = Server::in_dir(dir, Open, Options::new(), Settings::new());
    let found = listed(&server.get(&path("unnamed", &subject)).expect(200));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].digest, Digest::of(signature.as_bytes()));
    assert_eq!(found[0].artifact_type.as_deref(), Some("example/signature"));
    assert_eq!(found[0].annotations.get("k").map(String::as_str), Some("v"));
    let deeper = digests(&server.get(&path("unnamed", &signature)).expect(200));
    assert_eq!(deeper, [Digest::of(nested.as_bytes())]);
    let elsewhere = digests(&server.get(&path("unnamed", "another subject")).expect(200));
    assert_eq!(elsewhere, [Digest::of(stranger.as_bytes())]);
    // The client that reads the tag finds it as it was.
    let by_tag = server.get(&format!("/v2/unnamed/manifests/{}", fallback_tag(&subject))).expect(200);
    assert_eq!(by_tag.body, fallback);
}
