//! Registries as what arguments name: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`.

mod flags;
pub(crate) mod outgoing;
mod sides;

pub(crate) use self::flags::RemoteArgs;
pub(crate) use self::sides::Remotes;

use std::path::Path;

use orlop::Digest;
use orlop::oci::{Descriptor, Manifest, Reference, RegistryName, RemoteName, Tag};
use orlop::transfer::{Fetched, RegistryClient, RemoteRepository};

use crate::error::{Exit, Failure};
use crate::platform::{self, Wanted};
use crate::reference::{Target, usage};
use crate::view::View;

const FORMS: &str = "write HOST/REPOSITORY, HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST";

/// What an argument names in a registry.
pub(crate) struct Remote {
    pub(crate) name: RemoteName,
    /// All tags that were named, with commas between them.
    pub(crate) tags: Vec<Tag>,
    pub(crate) repository: RemoteRepository,
}

/// The text of a reference to a registry, without its scheme; None for anything else. A directory of that name comes first.
pub(crate) fn reference(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("docker://") {
        return Some(rest);
    }
    let is_layout = text.starts_with("oci:") || text.starts_with("ocidir:") || Path::new(text).is_dir();
    let directory = text.split([':', '@']).next().unwrap_or_default();
    if is_layout || (!directory.is_empty() && Path::new(directory).is_dir()) {
        return None;
    }
    let (host, path) = text.split_once('/')?;
    let is_host = host == "localhost" || host.trim_start_matches('.').contains(['.', ':']);
    (is_host && !path.is_empty() && host.parse::<RegistryName>().is_ok()).then_some(text)
}

impl Remote {
    /// What an argument names, if it names something in a registry.
    pub(crate) fn of(text: &str, args: &RemoteArgs) -> Result<Option<Self>, Failure> {
        let Some(rest) = reference(text) else {
            args.check_unused(text)?;
            return Ok(None);
        };
        // Only the last part can have commas.
        let (first, more) = match rest.split_once(',') {
            Some((first, more)) => (first, Some(more)),
            None => (rest, None),
        };
        let named = |error: &orlop::Error| Failure::usage(error.to_string()).with_hint(FORMS);
        let name: RemoteName = first.parse().map_err(|error| named(&error))?;
        let mut tags: Vec<Tag> = match &name.reference {
            Some(Reference::Tag(tag)) => vec![tag.clone()],
            _ if more.is_some() => {
                return Err(Failure::usage(format!("tags without a tag before them, reference={text}"))
                    .with_hint("write HOST/REPOSITORY:TAG,TAG"));
            }
            _ => Vec::new(),
        };
        for tag in more.iter().flat_map(|more| more.split(',')) {
            let tag = tag.parse().map_err(|error| named(&error))?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let repository = args.client()?.repository(&name.registry, &name.repository)?;
        Ok(Some(Self { name, tags, repository }))
    }

    /// What was named, as an argument.
    pub(crate) fn shown(&self) -> String {
        let more: String = self.tags.iter().skip(1).map(|tag| format!(",{tag}")).collect();
        format!("{}{more}", self.name)
    }

    /// The repository as an argument.
    pub(crate) fn place(&self) -> String {
        self.name.clone().with_reference(None).to_string()
    }

    pub(crate) fn by_digest(&self, digest: &Digest) -> String {
        self.name.clone().with_reference(Some((*digest).into())).to_string()
    }

    pub(crate) fn by_tag(&self, tag: &Tag) -> String {
        self.name.clone().with_reference(Some(tag.clone().into())).to_string()
    }

    pub(crate) fn view(&self, descriptor: &Descriptor) -> View {
        View::new(self.by_digest(&descriptor.digest), descriptor)
    }

    /// The one manifest that was named.
    pub(crate) fn reference(&self) -> Result<&Reference, Failure> {
        match &self.name.reference {
            Some(reference) if self.tags.len() < 2 => Ok(reference),
            Some(_) => Err(Failure::usage(format!("more than one tag, reference={}", self.shown()))
                .with_hint("give one of them")),
            None => Err(Failure::usage(format!("no tag or digest was given, reference={}", self.shown()))
                .with_hint(format!("`orlop repo tags {}` lists the tags", self.place()))),
        }
    }

    /// The digest that was named.
    pub(crate) fn digest(&self) -> Result<Digest, Failure> {
        match &self.name.reference {
            Some(Reference::Digest(digest)) => Ok(*digest),
            _ => Err(Failure::usage(format!("no digest was given, reference={}", self.shown()))
                .with_hint(format!("write {}@DIGEST", self.place()))),
        }
    }

    pub(crate) fn not_found(&self) -> Failure {
        Failure::new(Exit::NotFound, format!("no such reference, reference={}", self.shown()))
            .with_hint(format!("`orlop repo tags {}` lists the tags", self.place()))
    }

    /// The descriptor of the manifest that was named, without reading it.
    pub(crate) fn resolve(&self) -> Result<Descriptor, Failure> {
        self.repository.resolve(self.reference()?)?.ok_or_else(|| self.not_found())
    }

    /// The manifest that was named, or of an index that for a platform.
    pub(crate) fn manifest(&self, wanted: Option<&Wanted>) -> Result<Fetched, Failure> {
        let fetched = self.repository.manifest(self.reference()?)?.ok_or_else(|| self.not_found())?;
        let Some(wanted) = wanted else { return Ok(fetched) };
        let config = |config: &Descriptor| Ok(platform::of_document(&self.bytes(config)?));
        let chosen = platform::choose(&parse(&fetched)?, wanted, &self.shown(), &config)?;
        match chosen {
            None => Ok(fetched),
            Some(child) => {
                let reference = Reference::Digest(child.digest);
                self.repository.manifest(&reference)?.ok_or_else(|| absent("manifest", &child.digest))
            }
        }
    }

    /// Small content, checked.
    pub(crate) fn bytes(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        platform::check_size(descriptor)?;
        let digest = &descriptor.digest;
        let mut reader = self.repository.content(descriptor, 0)?.ok_or_else(|| absent("config", digest))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(|error| read_failure(error, digest))?;
        if digest.algorithm().digest(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(Failure::new(Exit::Integrity, format!("content is damaged, digest={digest}")))
    }
}

/// The descriptor with what only the manifest itself says.
pub(crate) fn complete(fetched: &Fetched) -> Descriptor {
    let mut descriptor = fetched.descriptor.clone();
    if let Ok(manifest) = parse(fetched) {
        descriptor.artifact_type = manifest.artifact_type().map(ToOwned::to_owned);
        descriptor.annotations = manifest.annotations().clone();
    }
    descriptor
}

pub(crate) fn parse(fetched: &Fetched) -> Result<Manifest, Failure> {
    Ok(Manifest::read(&fetched.descriptor.media_type, &fetched.bytes)?)
}

/// What a manifest refers to and the registry lacks.
pub(crate) fn absent(what: &str, digest: &Digest) -> Failure {
    Failure::new(Exit::Incomplete, format!("the {what} is not in the registry, digest={digest}"))
}

/// A failure to read content, which may be one of the registry.
pub(crate) fn read_failure(error: std::io::Error, digest: &Digest) -> Failure {
    match error.downcast::<orlop::Error>() {
        Ok(error) => error.into(),
        Err(error) => Failure::new(Exit::Other, format!("cannot read the content, digest={digest}: {error}")),
    }
}

/// A registry alone, or with the beginning of names of repositories, for the verb that lists them.
pub(crate) fn registry(
    text: &str,
    args: &RemoteArgs,
) -> Result<Option<(RegistryName, String, RegistryClient)>, Failure> {
    let text = text.strip_prefix("docker://").unwrap_or(text).trim_end_matches('/');
    let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
    let is_clear = host == "localhost" || host.contains(['.', ':']);
    let is_layout = text.parse::<Target>().is_ok();
    if !is_clear || is_layout || host.parse::<RegistryName>().is_err() {
        return Ok(None);
    }
    let registry = host.parse().map_err(|error| usage(&error))?;
    Ok(Some((registry, prefix.to_owned(), args.client()?)))
}
