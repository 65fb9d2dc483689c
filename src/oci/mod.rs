//! The OCI documents, read and written without any input or output: media types, descriptors, manifests and their
//! edges, names, and the documents of an image layout.
//!
//! Sources: the OCI image-spec and distribution-spec, Docker's image manifest version 2 schema 2, the ORAS artifact
//! manifest, and the OCI artifact manifest of image-spec 1.1.0-rc2.

mod annotations;
pub mod attached;
pub(crate) mod base64;
pub(crate) mod descriptor;
pub(crate) mod json;
pub mod layout;
mod manifest;
pub mod media_type;
pub mod names;
mod pattern;
mod reference;
mod remote;

pub use annotations::Annotations;
#[cfg(feature = "client")]
pub(crate) use descriptor::Object;
pub use descriptor::{Descriptor, Platform};
pub use layout::{IndexEntry, IndexWriter, LayoutName, Membership, read_index};
pub use manifest::{MAX_MANIFEST_SIZE, MAX_SUCCESSORS, Manifest, Role, Successor};
pub use media_type::ManifestKind;
pub use pattern::TagPattern;
pub use reference::{Reference, RepositoryName, Tag};
pub use remote::{RegistryName, RemoteName};
