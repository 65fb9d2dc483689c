//! What refers to a manifest: all of it, or an error.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use http::Method;
use serde::Deserialize;

use super::address::encode;
use super::pages::walk;
use super::repository::{Inner, RemoteRepository};
use super::session::Request;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::media_type::{self, essence};
use crate::oci::{Descriptor, MAX_MANIFEST_SIZE, Object};
use crate::transfer::{FoundBy, FoundReferrers};

pub(super) const WHAT: &str = "cannot list the referrers";

/// How many referrers of one manifest are taken.
const MAX_REFERRERS: usize = 1_000_000;

/// The list, as both the API and the fallback tag have it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl List {
    /// Reads a list; None for a document that is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Vec<Descriptor>> {
        let Object(list) = serde_json::from_slice::<Object<Self>>(bytes).ok()?;
        let is_index = list.media_type.is_none_or(|name| essence(&name) == media_type::IMAGE_INDEX);
        list.manifests.filter(|_| is_index)
    }
}

impl RemoteRepository {
    /// Everything that refers to a manifest, or what of it has an artifact type. Whether the manifest itself is there does not
    /// matter.
    ///
    /// The API of the registry is asked, all its pages; where there is none (404), the list under the fallback tag. Nothing else
    /// counts as an answer: a registry that wants to know who asks, forbids it, or has no time, is an error.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `Denied`, `Unavailable`; the last also for lists that do not end or cannot be read.
    pub fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<FoundReferrers> {
        let mut found = match self.inner.by_api(subject, artifact_type)? {
            Some(found) => found,
            None => self.by_fallback(subject)?,
        };
        if let Some(artifact_type) = artifact_type {
            // Whether the registry did it or not: some say so and do not.
            found.referrers.retain(|referrer| referrer.artifact_type.as_deref() == Some(artifact_type));
        }
        Ok(found)
    }
}

impl Inner {
    /// What the API answers; None where there is none.
    fn by_api(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Option<FoundReferrers>> {
        let mut query = String::new();
        if let Some(artifact_type) = artifact_type {
            query.push_str("artifactType=");
            encode(artifact_type, &mut query);
        }
        let first = self.session.url(&self.path(&format!("referrers/{subject}")), &query)?;
        let about = self.session.about(WHAT);
        let mut gathered = Gathered::new(subject);
        let walked = walk(&self.session, first, &self.pull, WHAT, &mut |bytes| {
            let page = List::read(bytes).ok_or_else(|| about.broken("the answer is no index"))?;
            gathered.take(page).ok_or_else(|| about.broken(&format!("more than {MAX_REFERRERS} referrers")))
        })?;
        Ok(walked.map(|walked| FoundReferrers::new(gathered.referrers, FoundBy::Api, walked.pages)))
    }

    /// Whether the registry keeps referrers itself. If it does it is asked once for each repository.
    pub(super) fn has_api(&self, subject: &Digest) -> Result<bool> {
        if self.api.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let url = self.url(&format!("referrers/{subject}"))?;
        let request = Request::new(Method::GET, url, &self.pull, WHAT);
        let has_api = self.session.expect(&request, &[http::StatusCode::OK])?.is_some();
        self.api.fetch_or(has_api, Ordering::Relaxed);
        Ok(has_api)
    }
}

/// Referrers, each once.
pub(super) struct Gathered {
    seen: HashSet<Digest>,
    pub(super) referrers: Vec<Descriptor>,
}

impl Gathered {
    pub(super) fn new(subject: &Digest) -> Self {
        // Some registries list the subject itself.
        Self { seen: HashSet::from([*subject]), referrers: Vec::new() }
    }

    /// Takes those that are new; None if they are too many.
    pub(super) fn take(&mut self, page: Vec<Descriptor>) -> Option<()> {
        for descriptor in page {
            if self.seen.insert(descriptor.digest) {
                self.referrers.push(descriptor);
            }
        }
        (self.referrers.len() <= MAX_REFERRERS).then_some(())
    }
}

/// A list that is larger than any manifest may be cannot be kept under a tag.
#[cold]
pub(super) fn too_large(place: &str) -> Error {
    Error::invalid(format!(
        "the list of referrers under the fallback tag would be too large, registry={place}, limit={MAX_MANIFEST_SIZE}"
    ))
}
