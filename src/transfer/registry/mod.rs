//! A client of registries (distribution-spec): pulls, pushes, referrers, lists, and who asks.
//!
//! A registry that could not be asked, or did not answer as the protocol has it, is an error, and never looks like one that has
//! nothing. What comes is checked against its digest, or said to be unchecked.

mod address;
mod auth;
mod auth_file;
mod challenge;
mod client;
mod credential;
mod credential_files;
mod deletes;
mod download;
mod fallback;
mod helper;
mod host;
mod link;
mod manifests;
mod options;
mod pages;
mod parts;
mod place;
mod ranges;
mod referrers;
mod refusal;
mod repository;
mod retry;
mod session;
mod tls;
mod token;
mod upload;

#[cfg(fuzzing)]
pub(crate) mod fuzzing;

pub use self::client::RegistryClient;
pub use self::credential::{Credential, Credentials};
pub use self::credential_files::CredentialFiles;
pub use self::download::RemoteContent;
pub use self::options::RegistryOptions;
pub use self::repository::RemoteRepository;
