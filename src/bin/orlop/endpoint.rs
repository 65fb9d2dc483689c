//! What copies come from and go to, behind one face: layouts on disk, archives, and registries.

use orlop::oci::{Descriptor, LayoutName, RegistryName, RepositoryName, Tag};
use orlop::transfer::archive::{Archive, ArchiveName, Unusable};
use orlop::transfer::{Arrival, Incoming, Ready, RegistryClient, RepositorySink, Sink, Source};
use orlop::{Digest, Repository, Sharing, Store};

use crate::error::{Exit, Failure};
use crate::from_file::Tags;
use crate::output::Output;
use crate::reference::{Selector, Target, usage};
use crate::remote_ref::Remote;
use crate::session::{self, WriteArgs, Writer};
use crate::tar_ref;
use crate::view::all_repositories;

/// How many rows are asked for at once.
const PAGE: usize = 1000;

/// What an argument names.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Layout(Target),
    Archive(Target),
    Registry(Remote),
}

impl Named {
    /// As a source, which must be there to be named without a scheme.
    pub(crate) fn source(text: &str) -> Result<Self, Failure> {
        if let Some(target) = tar_ref::parse(text) {
            return target.map(Self::Archive);
        }
        match Remote::parse(text)? {
            Some(remote) => Ok(Self::Registry(remote)),
            None => text.parse().map(Self::Layout),
        }
    }

    /// As a destination.
    pub(crate) fn destination(text: &str) -> Result<Self, Failure> {
        if tar_ref::parse(text).is_some() {
            return Err(Failure::usage(format!("an archive cannot be copied to, reference={text}"))
                .with_hint("`orlop export oci:DIR -o FILE` writes archives: copy to a layout first"));
        }
        match Remote::parse(text)? {
            Some(remote) => Ok(Self::Registry(remote)),
            None => crate::reference::new_directory(text).map(Self::Layout),
        }
    }

    /// The layout, if it is one.
    pub(crate) fn layout(&self) -> Option<&Target> {
        match self {
            Self::Layout(target) => Some(target),
            Self::Archive(_) | Self::Registry(_) => None,
        }
    }

    /// As an argument.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Layout(target) => target.shown(),
            Self::Archive(target) => tar(&target.shown()),
            Self::Registry(remote) => remote.shown(),
        }
    }

    /// The place that it is in, as an argument.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Layout(target) => target.layout(),
            Self::Archive(target) => tar(&target.layout()),
            Self::Registry(remote) => remote.registry.to_string(),
        }
    }

    /// Whether it names the place itself, and nothing in it.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Layout(target) | Self::Archive(target) => target.selector == Selector::Layout,
            Self::Registry(remote) => remote.repository.is_none(),
        }
    }

    /// A tag of the place, as an argument.
    pub(crate) fn by_tag(&self, repository: &RepositoryName, tag: &Tag) -> String {
        match self {
            Self::Layout(target) => target.by_tag(repository, tag),
            Self::Archive(target) => tar(&target.by_tag(repository, tag)),
            Self::Registry(remote) => format!("{}/{repository}:{tag}", remote.registry),
        }
    }
}

/// A reference to a file, which is written like one to a layout.
fn tar(shown: &str) -> String {
    shown.replacen("oci:", "tar:", 1)
}

/// A place that is copied from.
pub(crate) enum Origin {
    Layout { target: Target, store: Store },
    Archive { target: Target, archive: Archive },
    Registry { name: RegistryName, client: RegistryClient },
}

/// A manifest that is to be copied.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    /// Where it is.
    pub(crate) repository: RepositoryName,
    pub(crate) root: Digest,
    /// What it is called there: the repository, which another tool may have spelled in another way, and its tags.
    pub(crate) named: RepositoryName,
    pub(crate) tags: Vec<Tag>,
    /// As an argument.
    pub(crate) shown: String,
}

/// What all of a reference stands for.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    One(Selected),
    /// One manifest, by a name that is no `[REPOSITORY:]TAG`.
    Foreign(Selected),
    /// A repository, or all there is.
    Many(Vec<Selected>),
}

impl Origin {
    /// Opens what a reference is in.
    pub(crate) fn open(named: &Named, client: &RegistryClient, output: &Output) -> Result<Self, Failure> {
        Ok(match named {
            Named::Layout(target) => {
                Self::Layout { target: target.clone(), store: session::read(target, output)? }
            }
            Named::Archive(target) => {
                let archive = tar_ref::open(target)?;
                tar_ref::note_unusable(archive.unusable(), output);
                Self::Archive { target: target.clone(), archive }
            }
            Named::Registry(remote) => {
                Self::Registry { name: remote.registry.clone(), client: client.clone() }
            }
        })
    }

    /// The place as an argument.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Layout { target, .. } => target.layout(),
            Self::Archive { target, .. } => tar(&target.layout()),
            Self::Registry { name, .. } => name.to_string(),
        }
    }

    /// The registry, if it is one.
    pub(crate) fn registry(&self) -> Option<&RegistryName> {
        match self {
            Self::Layout { .. } | Self::Archive { .. } => None,
            Self::Registry { name, .. } => Some(name),
        }
    }

    /// A repository of the place.
    pub(crate) fn source(&self, repository: &RepositoryName) -> Result<Box<dyn Source>, Failure> {
        Ok(match self {
            Self::Layout { store, .. } => Box::new(store.repository(repository)),
            Self::Archive { archive, .. } => Box::new(archive.repository(repository)),
            Self::Registry { name, client } => Box::new(client.repository(name, repository)?),
        })
    }

    /// Names of the place that are no `[REPOSITORY:]TAG`: how many, and the first.
    pub(crate) fn foreign_names(&self) -> Result<(usize, Option<String>), Failure> {
        let names: Vec<String> = match self {
            Self::Layout { store, .. } => {
                store.unscoped().foreign_names()?.into_iter().map(|(name, _)| name).collect()
            }
            Self::Archive { archive, .. } => {
                let is_foreign =
                    |name: &&ArchiveName| matches!(LayoutName::parse(&name.name), LayoutName::Foreign(_));
                archive.names().iter().filter(is_foreign).map(|name| name.name.clone()).collect()
            }
            Self::Registry { .. } => Vec::new(),
        };
        Ok((names.len(), names.into_iter().next()))
    }

    /// What a reference to this place, with several names, stands for and cannot be used.
    pub(crate) fn unusable(&self, named: &Named) -> Vec<Unusable> {
        let (Self::Archive { archive, .. }, Named::Archive(target)) = (self, named) else {
            return Vec::new();
        };
        let repository = match &target.selector {
            Selector::Layout => None,
            Selector::Name(name) if tar_ref::find(archive, target).is_err() => Some(name.as_str()),
            _ => return Vec::new(),
        };
        let is_meant = |one: &&Unusable| match (repository, LayoutName::parse(&one.name)) {
            (None, _) => true,
            (Some(repository), LayoutName::Tag(of, _)) => of.as_str() == repository,
            (Some(_), LayoutName::Foreign(_)) => false,
        };
        archive.unusable().iter().filter(is_meant).cloned().collect()
    }

    /// What a reference to this place stands for.
    pub(crate) fn select(&self, named: &Named, tags: &Tags, jobs: usize) -> Result<Selection, Failure> {
        match (self, named) {
            (Self::Layout { store, .. }, Named::Layout(target)) => select(store, target, tags),
            (Self::Archive { archive, .. }, Named::Archive(target)) => of_archive(archive, target, tags),
            (Self::Registry { client, .. }, Named::Registry(remote)) => remote.select(client, tags, jobs),
            _ => Ok(Selection::Many(Vec::new())),
        }
    }
}

fn select(store: &Store, target: &Target, tags: &Tags) -> Result<Selection, Failure> {
    match (&target.selector, tags) {
        (Selector::Layout, Tags::Named) => everything(store, target).map(Selection::Many),
        (Selector::Layout, _) => {
            repository_of(store, target, &RepositoryName::unnamed(), tags).map(Selection::Many)
        }
        (Selector::Name(name), Tags::Named) => by_name(store, target, name),
        (Selector::Name(name), _) => {
            let repository = name.parse().map_err(|error| usage(&error))?;
            repository_of(store, target, &repository, tags).map(Selection::Many)
        }
        (Selector::Digest(..) | Selector::Prefix(..), _) => {
            let (repository, Descriptor { digest: root, .. }) = target.find(store)?.into_parts();
            let named = repository.clone();
            Ok(Selection::One(Selected { repository, root, named, tags: Vec::new(), shown: target.shown() }))
        }
    }
}

/// What is meant of an archive.
fn of_archive(archive: &Archive, target: &Target, tags: &Tags) -> Result<Selection, Failure> {
    let named = |one: &ArchiveName| match LayoutName::parse(&one.name) {
        LayoutName::Tag(named, tag) => Some(Selected {
            repository: one.repository.clone(),
            root: one.descriptor.digest,
            shown: tar(&target.by_tag(&named, &tag)),
            named,
            tags: vec![tag],
        }),
        LayoutName::Foreign(_) => None,
    };
    let all = || archive.names().iter().filter_map(named);
    if target.selector == Selector::Layout {
        let mut many: Vec<Selected> = all().filter(|one| one.tags.iter().all(|tag| tags.hold(tag))).collect();
        for name in archive.repositories().into_iter().filter(|_| matches!(tags, Tags::Named)) {
            for descriptor in archive.repository(&name).untagged() {
                let shown = tar(&target.by_digest(&name, &descriptor.digest));
                let (repository, named) = (name.clone(), name.clone());
                many.push(Selected { repository, root: descriptor.digest, named, tags: Vec::new(), shown });
            }
        }
        return Ok(Selection::Many(many));
    }
    let name = match &target.selector {
        Selector::Name(name) => name.as_str(),
        _ => "",
    };
    let is_repository = archive.repositories().iter().any(|found| found.as_str() == name);
    match tar_ref::find(archive, target) {
        Err(failure) if failure.exit() != Exit::NotFound || !is_repository => Err(failure),
        Err(_) => {
            let of_name =
                |one: &Selected| one.named.as_str() == name && one.tags.iter().all(|tag| tags.hold(tag));
            Ok(Selection::Many(all().filter(of_name).collect()))
        }
        Ok((repository, Descriptor { digest: root, .. })) => {
            let (shown, held) = (tar(&target.shown()), repository.clone());
            let one = |named, tags| Selected { repository, root, named, tags, shown };
            Ok(match (LayoutName::parse(name), &target.selector) {
                (LayoutName::Tag(named, tag), Selector::Name(_)) => Selection::One(one(named, vec![tag])),
                (_, Selector::Name(_)) => Selection::Foreign(one(RepositoryName::unnamed(), Vec::new())),
                _ => Selection::One(one(held, Vec::new())),
            })
        }
    }
}

/// One tag, tags with commas between them, or a whole repository.
fn by_name(store: &Store, target: &Target, name: &str) -> Result<Selection, Failure> {
    let failure = match target.find(store) {
        Ok(found) => {
            let (repository, Descriptor { digest: root, .. }) = found.into_parts();
            let one = |named, tags| Selected { repository, root, named, tags, shown: target.shown() };
            return Ok(match LayoutName::parse(name) {
                LayoutName::Tag(named, tag) => Selection::One(one(named, vec![tag])),
                LayoutName::Foreign(_) => Selection::Foreign(one(RepositoryName::unnamed(), Vec::new())),
            });
        }
        Err(failure) if failure.exit() == Exit::NotFound => failure,
        Err(failure) => return Err(failure),
    };
    if let Ok(repository) = name.parse::<RepositoryName>()
        && store.repository(&repository).exists()?
    {
        return repository_of(store, target, &repository, &Tags::All).map(Selection::Many);
    }
    let (repository, tags) = name.rsplit_once(':').unwrap_or(("", name));
    if !tags.contains(',') {
        return Err(failure);
    }
    let mut many = Vec::new();
    for tag in tags.split(',') {
        let name = if repository.is_empty() { tag.to_owned() } else { format!("{repository}:{tag}") };
        let mut target = target.clone();
        target.selector = Selector::Name(name.clone());
        match by_name(store, &target, &name)? {
            Selection::One(one) => many.push(one),
            Selection::Foreign(_) | Selection::Many(_) => return Err(failure),
        }
    }
    Ok(Selection::Many(many))
}

/// The tags of a repository.
fn repository_of(
    store: &Store,
    target: &Target,
    name: &RepositoryName,
    tags: &Tags,
) -> Result<Vec<Selected>, Failure> {
    let repository = store.repository(name);
    let (mut many, mut after) = (Vec::new(), None::<Tag>);
    loop {
        let page = repository.tags(after.as_ref().map(Tag::as_str), PAGE)?;
        for entry in page.items.iter().filter(|entry| tags.hold(&entry.tag)) {
            many.push(Selected {
                repository: name.clone(),
                root: entry.digest,
                named: name.clone(),
                tags: vec![entry.tag.clone()],
                shown: target.by_tag(name, &entry.tag),
            });
        }
        after = page.items.into_iter().next_back().map(|entry| entry.tag);
        if !page.more {
            return Ok(many);
        }
    }
}

/// Every manifest of every repository.
fn everything(store: &Store, target: &Target) -> Result<Vec<Selected>, Failure> {
    let mut many = Vec::new();
    for name in all_repositories(store)? {
        manifests(&store.repository(&name), target, &mut many)?;
    }
    Ok(many)
}

fn manifests(repository: &Repository, target: &Target, many: &mut Vec<Selected>) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = repository.manifests(after.as_ref(), PAGE)?;
        for descriptor in &page.items {
            let (root, name) = (descriptor.digest, repository.name().clone());
            let tags = repository.tags_of(&root)?;
            let shown = target.by_digest(&name, &root);
            many.push(Selected { repository: name.clone(), root, named: name, tags, shown });
        }
        after = page.items.last().map(|descriptor| descriptor.digest);
        if !page.more {
            return Ok(());
        }
    }
}

/// A place that is copied to.
pub(crate) enum Goal {
    Layout(Writer),
    /// The same where nothing is to be changed.
    Look(Store),
    /// One that is not there yet, where nothing is to be changed.
    Nowhere,
    Registry(RegistryName, RegistryClient),
}

impl Goal {
    /// Opens a place to write to; a layout that is not there is made. With `look`, only to see what is there.
    pub(crate) fn open(
        named: &Named,
        look: bool,
        write: &WriteArgs,
        client: &RegistryClient,
        output: &Output,
    ) -> Result<Self, Failure> {
        match named {
            Named::Registry(remote) => Ok(Self::Registry(remote.registry.clone(), client.clone())),
            Named::Archive(_) => Ok(Self::Nowhere),
            Named::Layout(target) if look => match session::read(target, output) {
                Ok(store) => Ok(Self::Look(store)),
                Err(failure) if failure.exit() == Exit::NotFound => Ok(Self::Nowhere),
                Err(failure) => Err(failure),
            },
            Named::Layout(target) => Ok(Self::Layout(write.create(target, output)?)),
        }
    }

    /// The registry, if it is one.
    pub(crate) fn registry(&self) -> Option<&RegistryName> {
        match self {
            Self::Registry(name, _) => Some(name),
            _ => None,
        }
    }

    /// A repository of the place.
    pub(crate) fn sink(
        &self,
        repository: &RepositoryName,
        sharing: Sharing,
    ) -> Result<Box<dyn Sink>, Failure> {
        let store = match self {
            Self::Layout(writer) => &writer.store,
            Self::Look(store) => store,
            Self::Nowhere => return Ok(Box::new(Nothing)),
            Self::Registry(name, client) => return Ok(Box::new(client.repository(name, repository)?)),
        };
        Ok(Box::new(RepositorySink::new(&store.repository(repository)).sharing(sharing)))
    }

    /// Makes it complete for other tools. No sink of it may be left.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self {
            Self::Layout(writer) => writer.close(),
            Self::Look(_) | Self::Nowhere | Self::Registry(..) => Ok(()),
        }
    }
}

/// A place that is not there yet: it has nothing, and is given nothing.
struct Nothing;

impl Sink for Nothing {
    fn place(&self) -> String {
        "a place that is not there yet".into()
    }

    fn has(&self, _: &Descriptor, _: bool) -> orlop::Result<bool> {
        Ok(false)
    }

    fn has_manifest(&self, _: &Descriptor, _: bool) -> orlop::Result<bool> {
        Ok(false)
    }

    fn mount(&self, _: &Descriptor, _: &RepositoryName) -> orlop::Result<bool> {
        Ok(false)
    }

    fn push(&self, _: &Descriptor, _: &dyn Incoming) -> orlop::Result<Arrival> {
        Ok(Arrival::Copied)
    }

    fn complete(&self, _: Vec<Ready>, _: &[(Tag, Digest)]) -> orlop::Result<()> {
        Ok(())
    }
}
