//! Moving artifacts with everything that belongs to them from one place to another.

#[cfg(feature = "archive")]
pub mod archive;
mod closure;
mod contents;
mod copy;
mod finish;
mod member;
mod parallel;
mod platforms;
#[cfg(feature = "client")]
pub(crate) mod registry;
mod run;
mod seam;
mod store;

pub use self::closure::{
    Closure, ClosureAbsent, ClosureAttached, ClosureFinding, ClosureLeftOut, ClosureManifest, ClosureReport,
};
pub use self::copy::{Absent, Copied, Copier, Item, LeftOut, Outcome, Step};
pub use self::platforms::Platforms;
#[cfg(feature = "client")]
pub use self::registry::{
    Credential, CredentialFiles, Credentials, RegistryClient, RegistryOptions, RemoteContent,
    RemoteRepository,
};
pub use self::seam::{Arrival, Fetched, FoundBy, FoundReferrers, Incoming, Ready, Sink, Source};
pub use self::store::RepositorySink;

#[cfg(test)]
mod tests;
