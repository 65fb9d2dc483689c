//! An OCI registry on stores: the distribution-spec (1.1.1 and what has come since), and the referrers API of ORAS.
//!
//! [`Registry`] is a [`tower_service::Service`] over the types of the crate `http`, so it serves below whatever speaks HTTP; who
//! may do what is up to a [`Policy`]. It uses nothing of a store but its public API.
//!
//! Needs the threads of a tokio runtime around it: what may wait for a disk is done on a bounded number of blocking ones.

mod alias;
#[cfg(feature = "archive")]
mod archived;
mod artifacts;
mod body;
mod conditional;
mod delete;
mod error;
mod extensions;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod incoming;
mod lists;
mod manifests;
mod mount;
mod names;
mod pages;
mod part;
mod policy;
mod pool;
mod position;
mod pull;
mod query;
mod quota;
mod ranges;
mod referrers;
mod registry;
mod respond;
mod route;
mod stream;
#[cfg(test)]
mod tests;
mod uploads;

pub use self::body::Body;
pub use self::error::Cause;
pub use self::names::{Clash, Layout};
pub use self::policy::{Action, Denial, Grant, Open, Policy, Principal, Verb};
pub use self::registry::{Limits, Registry, Settings};
