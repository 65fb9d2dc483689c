//! `orlop inspect`

use std::collections::BTreeSet;

use clap::{ArgMatches, Command};
use orlop::oci::{Annotations, Descriptor, Manifest, ManifestKind, Platform, Role};
use orlop::{Digest, Repository};
use serde::Serialize;

use crate::args::{target, target_of, value, verb};
use crate::artifact::TITLE;
use crate::error::Failure;
use crate::output::{self, Output, plain};
use crate::platform::{Wanted, missing, of_config, platform_option, select};
use crate::reference::Target;
use crate::session;
use crate::view::{Extent, View, complete};

/// How many referrers are asked for at once.
const PAGE: usize = 1000;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    platform: Option<Wanted>,
}

pub(crate) fn command() -> Command {
    verb(
        "inspect",
        "Show what a manifest is, what it consists of, and whether all of that is there",
        "",
        "orlop inspect oci:app:v1",
    )
    .arg(target("oci:DIR:REF", "The manifest"))
    .arg(platform_option())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self { target: target_of(matches), platform: value(matches, "platform") }
    }
}

/// A manifest. The names are part of the interface.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    #[serde(flatten)]
    view: View,
    /// Of the manifest and everything below it that is there.
    total_size: u64,
    /// The tags of its repository that name it.
    tags: Vec<String>,
    referrers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Part>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<Vec<Part>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Part>>,
    /// Digests of algorithms that content cannot be stored under.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unsupported: Vec<String>,
    /// What belongs to it and is not there, also further below; a subject may be elsewhere and does not count.
    missing: BTreeSet<Digest>,
}

/// Something that the manifest refers to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
    present: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = select(target.find(&store)?, args.platform.as_ref(), &target)?;
    let repository = &found.repository;
    let digest = found.descriptor.digest;
    let stored = repository.manifest(&digest)?.ok_or_else(|| missing("manifest", &digest))?;
    let manifest = stored.parse()?;
    let descriptor = complete(repository, &found.descriptor)?;
    let look = Look { repository, target: &target };
    let extent = Extent::of(repository, &descriptor)?;
    let parts = |role: Role| -> Result<Vec<Part>, Failure> {
        let of_role = manifest.successors().iter().filter(|one| one.role == role);
        of_role.map(|one| look.part(&one.descriptor)).collect()
    };
    let mut inspected = Inspected {
        view: View::new(target.by_digest(repository.name(), &digest), &descriptor),
        total_size: extent.bytes,
        tags: repository.tags_of(&digest)?.iter().map(ToString::to_string).collect(),
        referrers: look.referrers(&digest)?,
        platform: look.platform(&manifest)?,
        subject: manifest.subject().map(|subject| look.part(subject)).transpose()?,
        config: parts(Role::Config)?.pop(),
        layers: None,
        blobs: None,
        manifests: None,
        unsupported: manifest.foreign().to_vec(),
        missing: extent.missing.into_iter().chain(extent.absent).collect(),
    };
    // An empty list is there where the kind of manifest has one.
    match manifest.kind() {
        Some(ManifestKind::ImageManifest | ManifestKind::DockerManifest) => {
            inspected.layers = Some(parts(Role::Layer)?);
        }
        Some(kind) if kind.is_index() => inspected.manifests = Some(parts(Role::Manifest)?),
        Some(_) => inspected.blobs = Some(parts(Role::Blob)?),
        None => {}
    }
    // What the store knows of, and whose file is gone or cut all the same.
    let lost: Vec<Digest> =
        inspected.parts().filter(|(_, part)| !part.present).map(|(_, part)| part.digest).collect();
    for digest in lost {
        if repository.stat(&digest)?.is_some() {
            inspected.missing.insert(digest);
        }
    }
    output.result([digest], &inspected, || inspected.text())
}

/// Where to look things up.
struct Look<'a> {
    repository: &'a Repository,
    target: &'a Target,
}

impl Look<'_> {
    fn part(&self, descriptor: &Descriptor) -> Result<Part, Failure> {
        let mut annotations = descriptor.annotations.clone();
        let title = annotations.get(TITLE).cloned();
        annotations.retain(|name, _| name != TITLE);
        Ok(Part {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            title,
            artifact_type: descriptor.artifact_type.clone(),
            platform: descriptor.platform.as_deref().cloned(),
            annotations,
            present: self.is_present(descriptor)?,
        })
    }

    /// Whether the bytes can be had. What has a file of its size is not hashed for that; everything else must be
    /// readable, as small content is that has no file yet.
    fn is_present(&self, descriptor: &Descriptor) -> Result<bool, Failure> {
        let digest = &descriptor.digest;
        let Some(stat) = self.repository.stat(digest)? else { return Ok(false) };
        let file = self
            .target
            .path()
            .join("blobs")
            .join(digest.algorithm().to_string())
            .join(digest.encoded().to_string());
        if session::metadata(&file).is_ok_and(|found| found.is_file() && found.len() == stat.size) {
            return Ok(true);
        }
        Ok(self.repository.reader(digest).is_ok_and(|reader| reader.is_some()))
    }

    /// What an image runs on, where its config is there and says so.
    fn platform(&self, manifest: &Manifest) -> Result<Option<Platform>, Failure> {
        let Some(config) = manifest.config() else { return Ok(None) };
        if self.repository.stat(&config.digest)?.is_none() {
            return Ok(None);
        }
        // A config that cannot be looked into makes nobody unable to see the rest.
        Ok(of_config(self.repository, config).unwrap_or_default())
    }

    fn referrers(&self, digest: &Digest) -> Result<usize, Failure> {
        let mut count = 0;
        let mut after = None;
        loop {
            let mut query = self.repository.referrers(digest).limit(PAGE);
            if let Some(token) = &after {
                query = query.after(token);
            }
            let page = query.page()?;
            count += page.descriptors.len();
            after = page.next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }
}

impl Inspected {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        let lists = [("layer", &self.layers), ("blob", &self.blobs), ("manifest", &self.manifests)];
        let config = self.config.iter().map(|part| ("config", part));
        config.chain(
            lists.into_iter().flat_map(|(name, list)| list.iter().flatten().map(move |part| (name, part))),
        )
    }

    fn text(&self) -> String {
        let view = &self.view;
        let mut text = String::new();
        let mut line =
            |name: &str, value: &str| text.push_str(&format!("{:<15}{}\n", format!("{name}:"), plain(value)));
        line("Reference", &view.reference);
        line("Digest", &view.digest.to_string());
        line("MediaType", &view.media_type);
        if let Some(kind) = &view.artifact_type {
            line("ArtifactType", kind);
        }
        line("Size", &format!("{} ({} in all)", output::size(view.size), output::size(self.total_size)));
        line("Tags", if self.tags.is_empty() { "none".into() } else { self.tags.join(", ") }.as_str());
        line("Referrers", &self.referrers.to_string());
        if let Some(platform) = &self.platform {
            line("Platform", &platform.to_string());
        }
        let platforms: Vec<String> = self
            .manifests
            .iter()
            .flatten()
            .filter_map(|part| part.platform.as_ref())
            .map(ToString::to_string)
            .collect();
        if !platforms.is_empty() {
            line("Platforms", &platforms.join(", "));
        }
        if let Some(subject) = &self.subject {
            let place = if subject.present { "" } else { " (not here)" };
            line("Subject", &format!("{}{place}", subject.digest));
        }
        for (name, value) in view.annotations.iter() {
            line("Annotation", &format!("{name}={value}"));
        }
        for digest in &self.unsupported {
            line("Unsupported", digest);
        }
        self.table(&mut text);
        for digest in
            self.missing.iter().filter(|digest| self.parts().all(|(_, part)| part.digest != **digest))
        {
            text.push_str(&format!("{:<9}{digest}  (missing)\n", "below"));
        }
        if !self.missing.is_empty() {
            text.push_str(&format!("{} not in the layout\n", self.missing.len()));
        }
        text
    }

    fn table(&self, text: &mut String) {
        for (index, (role, part)) in self.parts().enumerate() {
            if index == 0 {
                text.push_str(&format!(
                    "\n{:<9}{:<72}{:>10}  {}\n",
                    "PART", "DIGEST", "SIZE", "TYPE AND NAME"
                ));
            }
            let kind = part.artifact_type.as_deref().unwrap_or(&part.media_type);
            let mut what = plain(kind).into_owned();
            if let Some(platform) = &part.platform {
                what.push_str(&format!("  {}", plain(&platform.to_string())));
            }
            if let Some(title) = &part.title {
                what.push_str(&format!("  {}", plain(title)));
            }
            let there = match part.present {
                true => "",
                false if self.missing.contains(&part.digest) => "  (missing)",
                // Content that may be elsewhere by what its descriptor says.
                false => "  (not here)",
            };
            text.push_str(&format!(
                "{role:<9}{:<72}{:>10}  {what}{there}\n",
                part.digest.to_string(),
                output::size(part.size)
            ));
        }
    }
}
