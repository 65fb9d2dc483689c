//! The client of registries, against the registry of this crate on the loopback, and against one that does everything wrong.

mod auth;
mod broken;
mod faulty;
mod ours;
mod pushes;
mod referring;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use orlop::Digest;
use orlop::oci::{Descriptor, RegistryName};
use orlop::transfer::{CredentialFiles, Fetched, RegistryOptions, RemoteRepository};

use crate::support::MANIFEST;

/// Options that wait for nothing and know nobody.
pub(crate) fn options() -> RegistryOptions {
    RegistryOptions::new()
        .credentials(CredentialFiles::new([]))
        .certificate_directories([])
        .sleep(|_| ControlFlow::Continue(()))
}

/// The repository `a` of a registry on this machine.
pub(crate) fn repository(port: u16, options: RegistryOptions) -> RemoteRepository {
    options.client().repository(&registry(port), &"a".parse().unwrap()).unwrap()
}

pub(crate) fn registry(port: u16) -> RegistryName {
    format!("127.0.0.1:{port}").parse().unwrap()
}

/// The waits that were asked for.
pub(crate) fn recorded(
    options: RegistryOptions,
) -> (RegistryOptions, Arc<parking_lot::Mutex<Vec<Duration>>>) {
    let waits = Arc::<parking_lot::Mutex<Vec<Duration>>>::default();
    let seen = Arc::clone(&waits);
    let options = options.sleep(move |wait| {
        seen.lock().push(wait);
        ControlFlow::Continue(())
    });
    (options, waits)
}

pub(crate) fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::new("application/vnd.oci.image.layer.v1.tar", Digest::of(bytes), bytes.len() as u64)
}

pub(crate) fn manifest(text: &str) -> Fetched {
    let descriptor = Descriptor::new(MANIFEST, Digest::of(text.as_bytes()), text.len() as u64);
    Fetched::new(descriptor, text.to_owned().into())
}

/// A manifest with a subject, an artifact type and an annotation.
pub(crate) fn referrer(subject: &Digest, artifact_type: &str) -> Fetched {
    let empty = Digest::of(b"{}");
    manifest(&format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"{artifact_type}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"layers":[],"subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":9}},"annotations":{{"n":"{artifact_type}"}}}}"#
    ))
}
