//! Everything that a client does, on the registry of this crate behind a socket.

use std::io::Read;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use orlop::oci::{Descriptor, Reference, Tag};
use orlop::transfer::{Copier, FoundBy, RepositorySink, Sink as _, Source as _};
use orlop::{Algorithm, ErrorKind, Expect, Options};

use super::{layer, manifest, options, referrer, registry, repository};
use crate::support::{Server, image};

/// The registry behind a socket.
pub(crate) struct Listening {
    pub(crate) port: u16,
    pub(crate) server: Server,
    _runtime: Arc<tokio::runtime::Runtime>,
}

pub(crate) fn listen(server: Server) -> Listening {
    let runtime =
        Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = TowerToHyperService::new(server.registry.clone());
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let connection = auto::Builder::new(TokioExecutor::new());
                // A client that goes away is what tests do.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Listening { port, server, _runtime: runtime }
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn content(remote: &orlop::transfer::RemoteRepository, descriptor: &Descriptor, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    remote.content(descriptor, offset).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn manifests_and_tags() {
    let listening = listen(Server::new());
    let remote = repository(listening.port, options());
    let image = manifest(&image(b"{}", &[b"layer"]));
    let digest = image.descriptor.digest;

    assert!(remote.all_tags().unwrap().is_empty());
    assert!(remote.manifest(&digest.into()).unwrap().is_none());
    assert!(remote.resolve(&tag("v1").into()).unwrap().is_none());
    assert!(!remote.tag(&digest, &tag("v1")).unwrap());
    // What it refers to comes first.
    assert!(matches!(
        remote.push_manifest(&image, &[]).unwrap_err().kind(),
        ErrorKind::NotFound | ErrorKind::Invalid
    ));
    remote.push_bytes(&layer(b"{}"), b"{}").unwrap();
    remote.push_bytes(&layer(b"layer"), b"layer").unwrap();
    remote.push_manifest(&image, &[tag("v1"), tag("v0")]).unwrap();
    assert!(remote.tag(&digest, &tag("v2")).unwrap());

    for reference in [Reference::Tag(tag("v1")), tag("v2").into(), digest.into()] {
        assert_eq!(remote.resolve(&reference).unwrap().unwrap(), image.descriptor);
        assert_eq!(remote.manifest(&reference).unwrap().unwrap(), image);
    }
    assert_eq!(remote.all_tags().unwrap(), [tag("v0"), tag("v1"), tag("v2")]);
    assert!(remote.delete_tag(&tag("v0")).unwrap());
    assert!(!remote.delete_tag(&tag("v0")).unwrap());
    assert!(remote.delete_manifest(&digest).unwrap());
    assert!(!remote.delete_manifest(&digest).unwrap());
    assert!(remote.all_tags().unwrap().is_empty());
    assert!(remote.delete_blob(&layer(b"layer").digest).unwrap());
    assert_eq!(remote.content_size(&layer(b"layer").digest).unwrap(), None);
}

#[test]
fn pages_of_tags_and_repositories() {
    let listening = listen(Server::new());
    let client = options().client();
    for name in ["b", "a", "a/c"] {
        let remote = client.repository(&registry(listening.port), &name.parse().unwrap()).unwrap();
        remote.push_bytes(&layer(b"{}"), b"{}").unwrap();
        remote.push_manifest(&manifest(&image(b"{}", &[])), &[tag("t")]).unwrap();
    }
    let names = client.repositories(&registry(listening.port)).unwrap();
    assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "a/c", "b"]);
    client.check(&registry(listening.port)).unwrap();

    let remote = repository(listening.port, options());
    let store = &listening.server.store;
    let mut batch = store.batch();
    let named = store.repository(&"a".parse().unwrap());
    let digest = manifest(&image(b"{}", &[])).descriptor.digest;
    for at in 0..2500 {
        batch.tag(&named, &tag(&format!("n{at:04}")), digest, Expect::Any);
    }
    batch.commit().unwrap();
    // More than one page of the registry, in pages of the reader.
    assert_eq!(remote.all_tags().unwrap().len(), 2501);
    let mut seen = Vec::new();
    loop {
        let page = remote.tags(seen.last(), 999).unwrap();
        assert!(page.items.len() <= 999);
        seen.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, remote.all_tags().unwrap());
}

#[test]
fn content_small_and_large_of_every_algorithm() {
    let listening = listen(Server::new());
    // In parts of a thousand bytes.
    let remote = repository(listening.port, options().chunk(1000).unwrap());
    let large: Vec<u8> = (0..2500_u32).flat_map(u32::to_be_bytes).collect();
    for bytes in [&b""[..], b"x", &large[..1000], &large[..1001], &large] {
        for algorithm in Algorithm::ALL {
            let descriptor = Descriptor::new("a/b", algorithm.digest(bytes), bytes.len() as u64);
            assert!(!remote.has(&descriptor, true).unwrap());
            remote.push_bytes(&descriptor, bytes).unwrap();
            assert!(remote.has(&descriptor, true).unwrap());
            assert_eq!(remote.content_size(&descriptor.digest).unwrap(), Some(bytes.len() as u64));
            for offset in [0, bytes.len() / 2, bytes.len()] {
                assert_eq!(content(&remote, &descriptor, offset as u64), bytes[offset..], "{offset}");
            }
        }
    }
    let descriptor = layer(&large);
    assert_eq!(remote.content(&descriptor, 10_001).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(remote.content(&layer(b"none"), 0).unwrap().is_none());
    assert!(remote.content(&layer(b"none"), 4).unwrap().is_none());
    let other = Descriptor::new("a/b", descriptor.digest, 9);
    assert_eq!(remote.content(&other, 0).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(remote.content(&other, 5).unwrap_err().kind(), ErrorKind::Mismatch);
    // What is not what it says never gets there.
    for bytes in [&b"no"[..], &large[1..]] {
        let wrong = Descriptor::new("a/b", layer(b"yes").digest, bytes.len() as u64);
        assert_eq!(remote.push_bytes(&wrong, bytes).unwrap_err().kind(), ErrorKind::Mismatch);
        assert!(!remote.has(&wrong, false).unwrap());
    }
    let short = Descriptor::new("a/b", layer(b"yes").digest, 3000);
    assert_eq!(remote.push_bytes(&short, &large[..2000]).unwrap_err().kind(), ErrorKind::Mismatch);
}

#[test]
fn manifests_of_other_algorithms_get_tags() {
    let listening = listen(Server::new());
    let remote = repository(listening.port, options());
    remote.push_bytes(&layer(b"{}"), b"{}").unwrap();
    let mut image = manifest(&image(b"{}", &[]));
    image.descriptor.digest = Algorithm::Sha512.digest(&image.bytes);
    let digest = image.descriptor.digest;
    remote.push_manifest(&image, &[tag("v1"), tag("v2")]).unwrap();
    remote.tag(&digest, &tag("v3")).unwrap();
    for name in ["v1", "v2", "v3"] {
        assert_eq!(remote.resolve(&tag(name).into()).unwrap().unwrap().digest, digest, "{name}");
    }
    assert_eq!(remote.manifest(&digest.into()).unwrap().unwrap(), image);
}

#[test]
fn mounts() {
    let listening = listen(Server::new());
    let client = options().client();
    let at = |name: &str| client.repository(&registry(listening.port), &name.parse().unwrap()).unwrap();
    let (from, to) = (at("from"), at("to"));
    from.push_bytes(&layer(b"x"), b"x").unwrap();
    assert!(to.mount(&layer(b"x").digest, from.name()).unwrap());
    assert_eq!(content(&to, &layer(b"x"), 0), b"x");
    // A mount that becomes a session: the push goes on with it.
    assert!(!to.mount(&layer(b"y").digest, from.name()).unwrap());
    to.push_bytes(&layer(b"y"), b"y").unwrap();
    assert_eq!(content(&to, &layer(b"y"), 0), b"y");
}

#[test]
fn referrers_of_the_api() {
    let listening = listen(Server::new());
    let remote = repository(listening.port, options());
    remote.push_bytes(&layer(b"{}"), b"{}").unwrap();
    let subject = layer(b"subject").digest;
    let referrers: Vec<_> = ["t/a", "t/b+c", "t/a"].map(|kind| referrer(&subject, kind)).into();
    for referrer in &referrers {
        remote.push_manifest(referrer, &[]).unwrap();
    }
    let found = remote.referrers(&subject, None).unwrap();
    assert_eq!((found.by, found.pages, found.referrers.len()), (FoundBy::Api, 1, 2));
    let found = remote.referrers(&subject, Some("t/b+c")).unwrap();
    assert_eq!(found.referrers[0].digest, referrers[1].descriptor.digest);
    assert_eq!(found.referrers[0].annotations.get("n").unwrap(), "t/b+c");
    assert!(remote.referrers(&layer(b"none").digest, None).unwrap().referrers.is_empty());
    // Nothing was put under a tag.
    assert!(remote.all_tags().unwrap().is_empty());
}

#[test]
fn copied_there_and_back() {
    let listening = listen(Server::new());
    let remote = repository(listening.port, options().chunk(100).unwrap());
    let large: Vec<u8> = (0..999_u32).flat_map(u32::to_be_bytes).collect();
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let store = Options::new().open_or_create(&here).unwrap();
    let local = store.default_repository();
    let image = manifest(&image(b"{}", &[&large, b"small"]));
    let signature = referrer(&image.descriptor.digest, "t/s");
    for bytes in [&b"{}"[..], &large, b"small"] {
        local.push_bytes(bytes.to_vec()).unwrap();
    }
    let mut batch = store.batch();
    for pushed in [&image, &signature] {
        batch.push_manifest(&local, &pushed.descriptor.media_type, pushed.bytes.clone()).unwrap();
    }
    batch.tag(&local, &tag("v1"), image.descriptor.digest, Expect::Any);
    batch.commit().unwrap();

    let digest = image.descriptor.digest;
    for round in 0..2 {
        let copied = Copier::between(&local, &remote).referrers(true).copy(&digest, &[tag("v1")]).unwrap();
        assert_eq!((copied.manifests, copied.copied > 0), (2, round == 0), "{copied:?}");
    }
    assert_eq!(remote.resolve(&tag("v1").into()).unwrap().unwrap(), image.descriptor);
    assert_eq!(remote.referrers(&digest, None).unwrap().referrers.len(), 1);

    let back = Options::new().open_or_create(&there).unwrap();
    let back = back.default_repository();
    let sink = RepositorySink::new(&back);
    Copier::between(&remote, &sink).referrers(true).copy(&digest, &[tag("v1")]).unwrap();
    assert_eq!(back.resolve(&tag("v1")).unwrap().unwrap().digest, digest);
    assert!(back.manifest(&signature.descriptor.digest).unwrap().is_some());
    assert_eq!(&back.get(&layer(&large).digest).unwrap().unwrap()[..], large);
}
