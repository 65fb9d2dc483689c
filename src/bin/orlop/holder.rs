//! Where an artifact is that is read file by file: a repository of a layout, or of a registry.

use std::io::Read;

use orlop::oci::{Descriptor, Manifest, Platform, Reference};
use orlop::{Digest, Repository};

use crate::error::{Exit, Failure};
use crate::platform::{self, Wanted};
use crate::reference::Target;
use crate::remote::{self, Remote};

/// A repository, and what of it was named.
pub(crate) enum Holder {
    Layout { target: Target, repository: Repository },
    Registry(Remote),
}

impl Holder {
    /// What was named, as an argument.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Layout { target, .. } => target.shown(),
            Self::Registry(remote) => remote.shown(),
        }
    }

    /// Something of the repository, as an argument.
    pub(crate) fn by_digest(&self, digest: &Digest) -> String {
        match self {
            Self::Layout { target, repository } => target.by_digest(repository.name(), digest),
            Self::Registry(remote) => remote.by_digest(digest),
        }
    }

    /// What is lacking, and where it can be had.
    pub(crate) fn missing(&self, what: &str, digest: &Digest) -> Failure {
        match self {
            Self::Layout { .. } => platform::missing(what, digest),
            Self::Registry(_) => remote::absent(what, digest),
        }
    }

    /// A manifest that must be there.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Manifest, Failure> {
        match self {
            Self::Layout { repository, .. } => {
                let stored = repository.manifest(digest)?.ok_or_else(|| self.missing("manifest", digest))?;
                Ok(stored.parse()?)
            }
            Self::Registry(remote) => {
                let fetched = remote.repository.manifest(&Reference::Digest(*digest))?;
                remote::parse(&fetched.ok_or_else(|| self.missing("manifest", digest))?)
            }
        }
    }

    /// The size of content, if it is there.
    pub(crate) fn size(&self, digest: &Digest) -> Result<Option<u64>, Failure> {
        Ok(match self {
            Self::Layout { repository, .. } => repository.stat(digest)?.map(|stat| stat.size),
            Self::Registry(remote) => remote.repository.content_size(digest)?,
        })
    }

    /// Content that must be there.
    pub(crate) fn reader(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>, Failure> {
        let digest = &descriptor.digest;
        let reader = match self {
            Self::Layout { repository, .. } => {
                repository.reader(digest)?.map(|reader| Box::new(reader) as Box<dyn Read>)
            }
            Self::Registry(remote) => {
                let content = remote.repository.content(descriptor, 0)?;
                content.map(|content| Box::new(content) as Box<dyn Read>)
            }
        };
        reader.ok_or_else(|| self.missing("content", digest))
    }

    /// The manifest for a platform: the first that an index lists for it, or an image whose config says so.
    pub(crate) fn select(
        &self,
        descriptor: Descriptor,
        wanted: Option<&Wanted>,
    ) -> Result<Descriptor, Failure> {
        let Some(wanted) = wanted else { return Ok(descriptor) };
        let manifest = self.manifest(&descriptor.digest)?;
        let config = |config: &Descriptor| self.platform(config);
        Ok(platform::choose(&manifest, wanted, &self.shown(), &config)?.unwrap_or(descriptor))
    }

    /// What a config says that its image runs on, if it says anything.
    fn platform(&self, config: &Descriptor) -> Result<Option<Platform>, Failure> {
        match self {
            Self::Layout { repository, .. } => platform::of_config(repository, config),
            Self::Registry(remote) => Ok(platform::of_document(&remote.bytes(config)?)),
        }
    }

    /// Whether it is an artifact about another one, as a signature is: for no platform itself.
    pub(crate) fn is_about(&self, descriptor: &Descriptor) -> Result<bool, Failure> {
        Ok(platform::is_about(&self.manifest(&descriptor.digest)?))
    }
}

/// The failure to read an artifact that lists no files.
pub(crate) fn no_files(media_type: &str) -> Failure {
    Failure::new(Exit::Other, format!("not a manifest that lists files, media_type={media_type}"))
}
