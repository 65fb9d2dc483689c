//! The manifest that lists what was pushed.

use std::collections::BTreeMap;

use orlop::Digest;
use orlop::oci::{Descriptor, media_type};
use serde::Serialize;

use super::{EMPTY, UNKNOWN_ARTIFACT, UNKNOWN_CONFIG};
use crate::content::as_go;
use crate::error::{Exit, Failure};

const EMPTY_BASE64: &str = "e30=";

/// What a manifest is made of.
pub(super) struct Parts {
    pub(super) artifact_type: Option<String>,
    pub(super) is_v1_0: bool,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) layers: Vec<Descriptor>,
    pub(super) config: Option<Descriptor>,
}

/// A manifest.
pub(super) struct Composed {
    pub(super) document: Vec<u8>,
    /// With its artifact type and annotations.
    pub(super) descriptor: Descriptor,
    /// Whether it refers to the empty object. Some tools want the file even where the descriptor has its bytes.
    pub(super) has_empty: bool,
}

/// The members in the order of oras, so that the same files have the same digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    annotations: &'a BTreeMap<String, String>,
}

impl Parts {
    /// The manifest, which may refer to another one.
    pub(super) fn compose(self, subject: Option<&Descriptor>) -> Result<Composed, Failure> {
        let Self { mut artifact_type, is_v1_0, annotations, mut layers, config } = self;
        let config = match config {
            Some(config) => config,
            None if is_v1_0 => {
                let kind = artifact_type.take().unwrap_or_else(|| UNKNOWN_CONFIG.to_owned());
                Descriptor::new(kind, Digest::of(EMPTY), EMPTY.len() as u64)
            }
            None => empty(),
        };
        // As oras has it: the list of layers of an image of specification 1.0 may be empty, any other has an empty layer.
        if !is_v1_0 {
            artifact_type.get_or_insert_with(|| UNKNOWN_ARTIFACT.to_owned());
            if layers.is_empty() {
                layers.push(empty());
            }
        }
        let has_empty =
            layers.iter().chain([&config]).any(|descriptor| descriptor.digest == Digest::of(EMPTY));
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::IMAGE_MANIFEST,
            artifact_type: artifact_type.as_deref(),
            config: &config,
            layers: &layers,
            subject: subject
                .map(|subject| Descriptor::new(&*subject.media_type, subject.digest, subject.size)),
            annotations: &annotations,
        };
        let document = serde_json::to_vec(&manifest)
            .map_err(|error| Failure::new(Exit::Other, format!("cannot write the manifest: {error}")))?;
        let document = as_go(&document);
        let mut descriptor =
            Descriptor::new(media_type::IMAGE_MANIFEST, Digest::of(&document), document.len() as u64);
        descriptor.artifact_type = artifact_type.or(Some(config.media_type));
        descriptor.annotations = annotations.into_iter().collect();
        Ok(Composed { document, descriptor, has_empty })
    }
}

fn empty() -> Descriptor {
    let mut descriptor = Descriptor::new(media_type::EMPTY, Digest::of(EMPTY), EMPTY.len() as u64);
    descriptor.data = Some(EMPTY_BASE64.into());
    descriptor
}
