//! `orlop cp`

use clap::{Arg, ArgMatches, Command};
use orlop::oci::{LayoutName, RepositoryName, Role, Tag};
use orlop::transfer::{Copied, Copier};
use orlop::{Digest, ErrorKind, Repository, Sharing, Store};
use serde::Serialize;

use crate::args::{flag, in_layout, layout_path, target, value, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output, plain};
use crate::progress::Progress;
use crate::reference::{Selector, Target, repository_and_tags};
use crate::session::{self, WriteArgs};
use crate::view::all_repositories;

/// How many rows are asked for at once.
const PAGE: usize = 1000;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    from: String,
    to: String,
    recursive: bool,
    sharing: Sharing,
    verify: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "cp",
        "Copy artifacts from one layout to another",
        "Everything that a manifest refers to goes with it, its subject too; with -r also what is attached to it, and to the \
         manifests that an index lists, and what is attached to that. Tags move when everything is there. Content is shared with the source by \
         reflink or hard link where both are on one filesystem. Without a name in the destination, the names of the source are \
         kept; without a name in the source, everything is copied.",
        "orlop cp -r oci:app:v1 oci:/media/stick/mirror --plain",
    )
    .visible_alias("copy")
    .arg(target("oci:DIR[:REF]", "What to copy"))
    .arg(Arg::new("to").value_name("oci:DIR[:[REPOSITORY:]TAG[,TAG...]]").help("Where to").required(true))
    .args(declare())
    .args(WriteArgs::declare())
}

fn declare() -> [Arg; 7] {
    [
        flag("recursive", "Copy what is attached as well: signatures, SBOMs and the like").short('r'),
        flag(
            "no-link",
            "Share nothing with the source by hard links: damage to one is no damage to the other",
        ),
        flag("no-verify", "Do not hash what the destination has already; only sizes are compared"),
        flag("from-oci-layout", "The source is DIR[:REF]").hide(true),
        flag("to-oci-layout", "The destination is DIR[:REF]").hide(true),
        layout_path("from-oci-layout-path", "The source is a name in this layout").hide(true),
        layout_path("to-oci-layout-path", "The destination is a name in this layout").hide(true),
    ]
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let place = |name: &str, flags: [&str; 2]| {
            let text: String = value(matches, name).unwrap_or_default();
            match value::<String>(matches, flags[1]) {
                Some(layout) => in_layout(&layout, &text),
                None if matches.get_flag(flags[0]) && !text.starts_with("oci:") => format!("oci:{text}"),
                None => text,
            }
        };
        Self {
            from: place("target", ["from-oci-layout", "from-oci-layout-path"]),
            to: place("to", ["to-oci-layout", "to-oci-layout-path"]),
            recursive: matches.get_flag("recursive"),
            sharing: if matches.get_flag("no-link") { Sharing::Reflink } else { Sharing::Link },
            verify: !matches.get_flag("no-verify"),
            write: WriteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    reference: String,
    digests: Vec<Digest>,
    tags: Vec<String>,
    manifests: u64,
    copied: u64,
    present: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<Missing>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Missing {
    digest: Digest,
    manifest: Digest,
    role: String,
}

/// One manifest, with the tags that it gets in a repository of the destination.
struct Item {
    from: RepositoryName,
    digest: Digest,
    to: RepositoryName,
    tags: Vec<Tag>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (from, to): (Target, Target) = (args.from.parse()?, to_target(&args.to)?);
    let source = session::read(&from, output)?;
    let items = items(&source, &from, &to)?;
    let writer = args.write.create(&to, output)?;
    let mut report = Report {
        reference: to.shown(),
        digests: Vec::new(),
        tags: Vec::new(),
        manifests: 0,
        copied: 0,
        present: 0,
        bytes: 0,
        absent: Vec::new(),
    };
    let mut outcome = Ok(());
    {
        let mut progress = Progress::new(output.progress(), "Copying", None);
        for group in items.chunk_by(|one, other| (&one.from, &one.to) == (&other.from, &other.to)) {
            outcome = copy(args, &source, &writer.store, group, &mut progress, |item, copied| {
                report.add(item, &to, copied)
            });
            if outcome.is_err() {
                break;
            }
        }
    }
    // What came before a failure is complete for other tools too.
    let closed = writer.close();
    outcome?;
    closed?;
    print(&report, &from, output)?;
    let left =
        if from.selector == Selector::Layout { source.unscoped().foreign_names()? } else { Vec::new() };
    match left.first() {
        None => Ok(()),
        Some((name, _)) => Err(Failure::new(
            Exit::Partial,
            format!(
                "names that are no [REPOSITORY:]TAG were not carried, names={}, first={}",
                left.len(),
                plain(name)
            ),
        )
        .with_hint(format!(
            "copy them one by one under other names: `orlop cp {}:NAME {}:TAG`",
            from.layout(),
            to.layout()
        ))),
    }
}

/// The destination need not exist yet.
fn to_target(text: &str) -> Result<Target, Failure> {
    crate::reference::new_directory(text)
}

/// Copies items between the same two repositories; each content is looked at once.
fn copy(
    args: &Args,
    source: &Store,
    target: &Store,
    items: &[Item],
    progress: &mut Progress,
    mut done: impl FnMut(&Item, Copied),
) -> Result<(), Failure> {
    let Some(first) = items.first() else { return Ok(()) };
    let (from, to) = (source.repository(&first.from), target.repository(&first.to));
    let mut copier =
        Copier::new(&from, &to).referrers(args.recursive).sharing(args.sharing).verify(args.verify).watch(
            |step| match step {
                orlop::transfer::Step::Begin(descriptor) => {
                    progress.begin(&descriptor.digest.to_string());
                    progress.advance(0)
                }
                orlop::transfer::Step::Moved(_, bytes) => progress.advance(bytes),
                _ => progress.advance(0),
            },
        );
    for item in items {
        let copied = copier.copy(&item.digest, &item.tags).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::new(Exit::Incomplete, error.to_string())
                .with_hint("no tag of it has moved; take what is missing from where the source came from"),
            ErrorKind::Interrupted => {
                interrupt::failure("its tags have not moved; the next copy goes on with what came")
            }
            _ => error.into(),
        })?;
        done(item, copied);
    }
    Ok(())
}

/// What is to be copied, and what it is called at the destination.
fn items(source: &Store, from: &Target, to: &Target) -> Result<Vec<Item>, Failure> {
    if from.selector == Selector::Layout {
        return match to.selector {
            Selector::Layout => everything(source),
            _ => Err(Failure::usage(format!(
                "a whole layout cannot be copied to one name, source={}, destination={}",
                from.shown(),
                to.shown()
            ))
            .with_hint(format!(
                "name what to copy, as {}:TAG, or leave out the name of the destination",
                from.layout()
            ))),
        };
    }
    let found = from.find(source)?;
    let digest = found.descriptor.digest;
    let (name, _) = found.into_parts();
    let (to, tags) = match (&to.selector, &from.selector) {
        (Selector::Layout, Selector::Name(text)) => match LayoutName::parse(text) {
            LayoutName::Tag(repository, tag) => (repository, vec![tag]),
            LayoutName::Foreign(_) => {
                return Err(Failure::usage(format!(
                    "the name in the source is no [REPOSITORY:]TAG, reference={}",
                    from.shown()
                ))
                .with_hint(format!("say what it is called in the destination, as {}:TAG", to.layout())));
            }
        },
        (Selector::Layout, _) => (name.clone(), Vec::new()),
        _ => repository_and_tags(to)?,
    };
    Ok(vec![Item { from: name, digest, to, tags }])
}

/// Every manifest of every repository.
fn everything(source: &Store) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    for name in all_repositories(source)? {
        manifests(&source.repository(&name), &mut items)?;
    }
    Ok(items)
}

fn manifests(repository: &Repository, items: &mut Vec<Item>) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = repository.manifests(after.as_ref(), PAGE)?;
        for descriptor in &page.items {
            let digest = descriptor.digest;
            let (from, to) = (repository.name().clone(), repository.name().clone());
            items.push(Item { from, digest, to, tags: repository.tags_of(&digest)? });
        }
        after = page.items.last().map(|descriptor| descriptor.digest);
        if !page.more {
            return Ok(());
        }
    }
}

impl Report {
    fn add(&mut self, item: &Item, to: &Target, copied: Copied) {
        self.digests.push(item.digest);
        self.tags.extend(item.tags.iter().map(|tag| to.by_tag(&item.to, tag)));
        self.manifests += copied.manifests;
        self.copied += copied.copied;
        self.present += copied.present;
        self.bytes += copied.bytes;
        self.absent.extend(copied.absent.iter().filter(|absent| absent.role != Role::Subject).map(
            |absent| Missing {
                digest: absent.digest,
                manifest: absent.manifest,
                role: role_name(absent.role).into(),
            },
        ));
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Config => "config",
        Role::Layer => "layer",
        Role::Blob => "blob",
        Role::Manifest => "manifest",
        Role::Subject => "subject",
        _ => "other",
    }
}

fn print(report: &Report, from: &Target, output: &Output) -> Result<(), Failure> {
    if !report.absent.is_empty() {
        output.note(format!(
            "the source lacks some of what it refers to, and so does the copy, absent={}",
            report.absent.len()
        ));
    }
    output.summary(format!(
        "{} copied, {}; {} there already",
        report.copied,
        output::size(report.bytes),
        report.present
    ));
    output.result(&report.digests, report, || {
        let mut text = format!("Copied {} => {}\n", plain(&from.shown()), plain(&report.reference));
        if let [digest] = report.digests.as_slice() {
            text.push_str(&format!("Digest: {digest}\n"));
        }
        text
    })
}
