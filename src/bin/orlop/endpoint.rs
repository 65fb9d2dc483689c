//! What copies come from and go to, behind one face: layouts on disk.

use orlop::oci::{Descriptor, LayoutName, RepositoryName, Tag};
use orlop::transfer::{Arrival, Incoming, Ready, RepositorySink, Sink, Source};
use orlop::{Digest, Repository, Sharing, Store};

use crate::error::{Exit, Failure};
use crate::from_file::Tags;
use crate::output::Output;
use crate::reference::{Selector, Target, usage};
use crate::session::{self, WriteArgs, Writer};
use crate::view::all_repositories;

/// How many rows are asked for at once.
const PAGE: usize = 1000;

/// A place that is copied from.
pub(crate) enum Origin {
    Layout { target: Target, store: Store },
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
    pub(crate) fn open(target: &Target, output: &Output) -> Result<Self, Failure> {
        let store = session::read(target, output)?;
        Ok(Self::Layout { target: target.clone(), store })
    }

    /// Whether a reference is in this place.
    pub(crate) fn is_of(&self, target: &Target) -> bool {
        self.shown() == target.layout()
    }

    /// The place as an argument.
    pub(crate) fn shown(&self) -> String {
        let Self::Layout { target, .. } = self;
        target.layout()
    }

    /// A repository of the place.
    pub(crate) fn source(&self, repository: &RepositoryName) -> Box<dyn Source> {
        let Self::Layout { store, .. } = self;
        Box::new(store.repository(repository))
    }

    /// Names of the place that are no `[REPOSITORY:]TAG`: how many, and the first.
    pub(crate) fn foreign_names(&self) -> Result<(usize, Option<String>), Failure> {
        let Self::Layout { store, .. } = self;
        let names = store.unscoped().foreign_names()?;
        Ok((names.len(), names.into_iter().next().map(|(name, _)| name)))
    }

    /// What a reference to this place stands for.
    pub(crate) fn select(&self, target: &Target, tags: &Tags) -> Result<Selection, Failure> {
        let Self::Layout { store, .. } = self;
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
                let one = Selected { repository, root, named, tags: Vec::new(), shown: target.shown() };
                Ok(Selection::One(one))
            }
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
}

impl Goal {
    /// Opens a layout to write to; one that is not there is made.
    pub(crate) fn open(target: &Target, write: &WriteArgs, output: &Output) -> Result<Self, Failure> {
        Ok(Self::Layout(write.create(target, output)?))
    }

    /// Opens a layout only to look what is there.
    pub(crate) fn look(target: &Target, output: &Output) -> Result<Self, Failure> {
        match session::read(target, output) {
            Ok(store) => Ok(Self::Look(store)),
            Err(failure) if failure.exit() == Exit::NotFound => Ok(Self::Nowhere),
            Err(failure) => Err(failure),
        }
    }

    /// A repository of the place.
    pub(crate) fn sink(&self, repository: &RepositoryName, sharing: Sharing) -> Box<dyn Sink> {
        let store = match self {
            Self::Layout(writer) => &writer.store,
            Self::Look(store) => store,
            Self::Nowhere => return Box::new(Nothing),
        };
        Box::new(RepositorySink::new(&store.repository(repository)).sharing(sharing))
    }

    /// Makes it complete for other tools. No sink of it may be left.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self {
            Self::Layout(writer) => writer.close(),
            Self::Look(_) | Self::Nowhere => Ok(()),
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
