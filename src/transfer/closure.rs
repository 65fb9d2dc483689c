//! The record of a copy: what belonged to an artifact at its source, so that the other side can tell what was lost.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::member::Member;
use super::run::Run;
use super::seam::{Fetched, FoundBy};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Role, Tag, media_type};
use crate::store::Repository;

/// The version of the record that is written, and read.
const VERSION: u32 = 1;
/// The largest record that is read, in bytes.
const MAX_RECORD: u64 = 64 << 20;
/// How many rows are asked for at once.
const PAGE: usize = 1000;

/// What was found at the source of a copy: every manifest that was asked for what is attached to it, how that was found, and what was
/// left out on purpose.
///
/// It is stored as an artifact whose subject is the root that was copied, so that it goes wherever referrers go, with any tool. It says
/// nothing of time: the same things found in the same way give the same bytes, and copying again adds nothing. Records themselves are
/// not listed in it.
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Closure {
    schema_version: u32,
    /// The manifest that was copied.
    pub root: Digest,
    /// What the source was called.
    pub source: String,
    /// Whether it was asked what refers to each manifest.
    pub referrers: bool,
    /// Whether it was asked for what cosign attaches by tags.
    pub cosign_tags: bool,
    /// The platforms that were asked for; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// The manifests that belong to the root, itself among them, each behind what it refers to.
    pub manifests: Vec<ClosureManifest>,
    /// What the platforms left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ClosureLeftOut>,
    /// What the source lacked and was allowed to lack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<ClosureAbsent>,
}

/// A manifest of a [`Closure`].
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosureManifest {
    /// The manifest.
    pub digest: Digest,
    /// How its referrers were found: `layout`, `api` or `fallback-tag`. None if nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<String>,
    /// Pages that were read of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u64>,
    /// What is attached to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<ClosureAttached>,
}

/// What is attached to a manifest of a [`Closure`].
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosureAttached {
    /// Its manifest.
    pub digest: Digest,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The tag by which cosign attached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

/// What the platforms of a [`Closure`] left out.
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosureLeftOut {
    /// The index that lists it.
    pub index: Digest,
    /// The manifest that was left out.
    pub digest: Digest,
    /// What it runs on.
    pub platform: String,
}

/// What the source of a [`Closure`] lacked.
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosureAbsent {
    /// The manifest that refers to it.
    pub manifest: Digest,
    /// The content.
    pub digest: Digest,
    /// What it is to the manifest: `config`, `layer`, `blob`, `manifest` or `subject`.
    pub role: String,
}

/// What is wrong with what a [`Closure`] says should be there.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClosureFinding {
    /// The manifest or content.
    pub digest: Digest,
    /// The manifest that refers to it or that it is attached to.
    pub manifest: Digest,
    /// What it is, if it was attached.
    pub artifact_type: Option<String>,
    /// Whether it is there and not what its digest says; otherwise it is missing.
    pub is_corrupt: bool,
    /// More of it, for people.
    pub detail: String,
}

/// What became of a [`Closure`] in a repository.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClosureReport {
    /// Manifests that are there and whole.
    pub manifests: u64,
    /// How many of them are attached to others.
    pub attached: u64,
    /// Content that is not there on purpose: left out by platform, or absent at the source.
    pub sparse: u64,
    /// What is missing or damaged.
    pub findings: Vec<ClosureFinding>,
}

/// What the artifact of a record refers to.
type Contents = [(Descriptor, Vec<u8>); 2];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact<'m> {
    schema_version: u32,
    media_type: &'m str,
    artifact_type: &'m str,
    config: &'m Descriptor,
    layers: [&'m Descriptor; 1],
    subject: Descriptor,
}

impl Closure {
    /// The artifact type, and the media type of the record in it.
    pub const ARTIFACT_TYPE: &'static str = "application/vnd.orlop.closure.v1+json";

    /// Of the manifests that belong to a root, in their order: the same whichever groups they came in.
    pub(super) fn of(run: &Run<'_, '_>, root: Digest, members: &[(Digest, Member)]) -> Self {
        let choice = &run.with.choice;
        let is_record = |kind: Option<&str>| kind == Some(Self::ARTIFACT_TYPE);
        let (mut manifests, mut left_out, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for (digest, member) in members {
            left_out.extend(member.left_out.iter().map(|(out, platform)| ClosureLeftOut {
                index: *digest,
                digest: *out,
                platform: platform.clone(),
            }));
            absent.extend(member.absent.iter().map(|(role, lacking)| ClosureAbsent {
                manifest: *digest,
                digest: *lacking,
                role: role_name(*role).to_owned(),
            }));
            if is_record(member.artifact_type.as_deref()) {
                continue;
            }
            let attached = member.attached.iter().filter(|one| !is_record(one.artifact_type.as_deref()));
            manifests.push(ClosureManifest {
                digest: *digest,
                found_by: member.found.map(|(by, _)| found_by(by).to_owned()),
                pages: member.found.map(|(_, pages)| pages),
                attached: attached
                    .map(|one| ClosureAttached {
                        digest: one.digest,
                        artifact_type: one.artifact_type.clone(),
                        tag: one.tag.clone(),
                    })
                    .collect(),
            });
        }
        Self {
            schema_version: VERSION,
            root,
            source: run.with.from.place(),
            referrers: choice.referrers,
            cosign_tags: choice.cosign_tags,
            platforms: choice.platforms.as_ref().map(|some| some.shown()).unwrap_or_default(),
            manifests,
            left_out,
            absent,
        }
    }

    /// The artifact that holds the record, and its contents.
    pub(super) fn artifact(&self, root: &Descriptor) -> Result<(Fetched, Contents)> {
        let fail = |error| Error::invalid("the record of a copy cannot be written").with_source(error);
        let (empty, record) = (b"{}".to_vec(), serde_json::to_vec(self).map_err(fail)?);
        let describe = |media_type: &str, bytes: &[u8]| {
            Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
        };
        let config = describe(media_type::EMPTY, &empty);
        let layer = describe(Self::ARTIFACT_TYPE, &record);
        let artifact = Artifact {
            schema_version: 2,
            media_type: media_type::IMAGE_MANIFEST,
            artifact_type: Self::ARTIFACT_TYPE,
            config: &config,
            layers: [&layer],
            subject: Descriptor::new(root.media_type.clone(), root.digest, root.size),
        };
        let bytes = serde_json::to_vec(&artifact).map_err(fail)?;
        let descriptor = describe(media_type::IMAGE_MANIFEST, &bytes).with_artifact_type(Self::ARTIFACT_TYPE);
        Ok((Fetched::new(descriptor, bytes.into()), [(config, empty), (layer, record)]))
    }

    /// The records that a repository holds, in order of their digests.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn records(repository: &Repository) -> Result<Vec<Digest>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = repository.manifests(after.as_ref(), PAGE)?;
            after = page.items.last().map(|descriptor| descriptor.digest);
            let records = page
                .items
                .into_iter()
                .filter(|descriptor| descriptor.artifact_type.as_deref() == Some(Self::ARTIFACT_TYPE));
            found.extend(records.map(|descriptor| descriptor.digest));
            if !page.more {
                return Ok(found);
            }
        }
    }

    /// Reads a record that a repository holds.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is not there or lacks its content; `Corrupt` when it cannot be understood; `Unsupported` when a newer version
    /// wrote it.
    pub fn read(repository: &Repository, record: &Digest) -> Result<Self> {
        let lacks =
            |what| Error::not_found(format!("the record of a copy lacks its {what}, digest={record}"));
        let manifest = repository.manifest(record)?.ok_or_else(|| lacks("manifest"))?.parse()?;
        let layer = manifest.successors().iter().find(|part| part.role == Role::Layer);
        let layer = &layer.ok_or_else(|| unreadable(record))?.descriptor;
        if layer.size > MAX_RECORD {
            return Err(unreadable(record));
        }
        let bytes = repository.get(&layer.digest)?.ok_or_else(|| lacks("content"))?;
        if Digest::of(&bytes) != layer.digest && layer.digest.algorithm().digest(&bytes) != layer.digest {
            return Err(unreadable(record));
        }
        Self::parse(&bytes, record)
    }

    fn parse(bytes: &[u8], record: &Digest) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            schema_version: u32,
        }
        let unreadable = |error: serde_json::Error| unreadable(record).with_source(error);
        let Version { schema_version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if schema_version != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the record of a copy is of another version, digest={record}, version={schema_version}"
                ),
            ));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    /// Looks whether everything that the record names is in a repository; with `hash` every content is read and hashed, otherwise manifests alone
    /// are.
    ///
    /// # Errors
    ///
    /// `Io`; `Corrupt` only of metadata: damaged content is a finding.
    pub fn check(&self, repository: &Repository, hash: bool) -> Result<ClosureReport> {
        let mut check = Check {
            repository,
            hash,
            allowed: self
                .left_out
                .iter()
                .map(|out| (out.index, out.digest))
                .chain(self.absent.iter().map(|absent| (absent.manifest, absent.digest)))
                .collect(),
            seen: HashSet::new(),
            report: ClosureReport::default(),
        };
        let mut attached: HashMap<Digest, (Digest, &ClosureAttached)> = HashMap::new();
        for subject in &self.manifests {
            for one in &subject.attached {
                attached.entry(one.digest).or_insert((subject.digest, one));
            }
        }
        for manifest in &self.manifests {
            let to = attached.get(&manifest.digest);
            let parent = to.map_or(self.root, |(subject, _)| *subject);
            let artifact_type = to.and_then(|(_, attached)| attached.artifact_type.clone());
            if check.manifest(&manifest.digest, parent, artifact_type)? && to.is_some() {
                check.report.attached += 1;
            }
            for (tag, attached) in
                manifest.attached.iter().filter_map(|attached| Some((attached.tag.as_ref()?, attached)))
            {
                check.tag(tag, attached, manifest.digest)?;
            }
        }
        Ok(check.report)
    }
}

#[cold]
fn unreadable(record: &Digest) -> Error {
    Error::corrupt(format!("the record of a copy cannot be understood, digest={record}"))
}

/// A check under way.
struct Check<'c> {
    repository: &'c Repository,
    hash: bool,
    /// What may be missing, by who refers to it.
    allowed: HashSet<(Digest, Digest)>,
    seen: HashSet<Digest>,
    report: ClosureReport,
}

impl Check<'_> {
    /// Whether a manifest is there, with what it refers to.
    fn manifest(&mut self, digest: &Digest, parent: Digest, artifact_type: Option<String>) -> Result<bool> {
        let before = self.report.findings.len();
        let found = match self.repository.manifest(digest) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.find(*digest, parent, artifact_type, true, error.to_string());
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Some(found) = found else {
            self.find(*digest, parent, artifact_type, false, "the manifest is not there".into());
            return Ok(false);
        };
        if digest.algorithm().digest(&found.content) != *digest {
            self.find(
                *digest,
                parent,
                artifact_type,
                true,
                "the manifest is not what its digest says".into(),
            );
            return Ok(false);
        }
        for part in found.parse()?.successors() {
            self.content(&part.descriptor, *digest, artifact_type.clone())?;
        }
        let is_whole = self.report.findings.len() == before;
        self.report.manifests += u64::from(is_whole);
        Ok(is_whole)
    }

    fn content(
        &mut self,
        descriptor: &Descriptor,
        manifest: Digest,
        artifact_type: Option<String>,
    ) -> Result<()> {
        let digest = descriptor.digest;
        if self.repository.stat(&digest)?.is_none() {
            if self.allowed.contains(&(manifest, digest)) {
                self.report.sparse += 1;
            } else {
                self.find(digest, manifest, artifact_type, false, "the content is not there".into());
            }
            return Ok(());
        }
        if !self.seen.insert(digest) {
            return Ok(());
        }
        let unscoped = self.repository.store().unscoped();
        let looked = if self.hash {
            unscoped.verify(&digest)
        } else {
            unscoped
                .reader(&digest)
                .map(|reader| reader.is_some_and(|reader| reader.len() == descriptor.size))
        };
        match looked {
            Ok(true) => {}
            Ok(false) => {
                self.find(digest, manifest, artifact_type, true, "the content has another size".into())
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.find(digest, manifest, artifact_type, true, error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn tag(&mut self, tag: &Tag, attached: &ClosureAttached, manifest: Digest) -> Result<()> {
        let detail = match self.repository.resolve(tag)? {
            Some(found) if found.digest == attached.digest => return Ok(()),
            Some(found) => {
                format!(
                    "the tag by which it is attached names something else, tag={tag}, found={}",
                    found.digest
                )
            }
            None => format!("the tag by which it is attached is not there, tag={tag}"),
        };
        self.find(attached.digest, manifest, attached.artifact_type.clone(), false, detail);
        Ok(())
    }

    fn find(
        &mut self,
        digest: Digest,
        manifest: Digest,
        artifact_type: Option<String>,
        is_corrupt: bool,
        detail: String,
    ) {
        self.report.findings.push(ClosureFinding { digest, manifest, artifact_type, is_corrupt, detail });
    }
}

fn found_by(by: FoundBy) -> &'static str {
    match by {
        FoundBy::Layout => "layout",
        FoundBy::Api => "api",
        FoundBy::FallbackTag => "fallback-tag",
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Config => "config",
        Role::Layer => "layer",
        Role::Blob => "blob",
        Role::Manifest => "manifest",
        Role::Subject => "subject",
    }
}
