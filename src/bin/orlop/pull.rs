//! `orlop pull`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgMatches, Command, value_parser};
use orlop::Digest;
use orlop::oci::{Descriptor, Manifest, ManifestKind, Role, Successor, media_type};
use serde::Serialize;

use crate::args::{bytes, flag, option, target, target_of, value, verb};
use crate::artifact::{TITLE, UNPACK, UNPACKED_DIGEST};
use crate::error::{Exit, Failure};
use crate::holder::{Holder, no_files};
use crate::interrupt;
use crate::output::{self, Output};
use crate::place::{Folder, Present, Relative};
use crate::platform::{Wanted, platform_option};
use crate::progress::Progress;
use crate::reference::{Found, Target};
use crate::remote::{Remote, RemoteArgs};
use crate::session;
use crate::unpack::{INTERRUPTED, Limit, Packed};
use crate::view::View;

/// A directory that is not much larger than usual unpacks to less than that.
const UNPACK_FACTOR: u64 = 100;
const UNPACK_LEAST: u64 = 1_000_000_000;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    output: PathBuf,
    keep_old_files: bool,
    platform: Option<Wanted>,
    /// Under which name the config is written, and of which media type it must be.
    config: Option<(String, Option<String>)>,
    include_subject: bool,
    unpack_limit: Option<u64>,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "pull",
        "Write the files of an artifact into a directory",
        "Every file is checked against its digest and appears whole or not at all, always below the directory. \
         A file with the same content is left alone. A packed directory is unpacked beside its place and then moved \
         there; one that is there already is merged, file by file.",
        "orlop pull oci:app:v1 -o restored
  orlop pull oci:app:v1 --keep-old-files
  orlop pull oci:app:v1 --platform linux/arm64 --config config.json",
    )
    .arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "The artifact"))
    .arg(
        option("output", "DIR", "Where to write; made if it is not there")
            .short('o')
            .default_value(".")
            .value_parser(value_parser!(PathBuf)),
    )
    .arg(
        flag("keep-old-files", "Fail, before anything is written, if a file is there with other content")
            .short('k')
            .conflicts_with("overwrite"),
    )
    .arg(flag("overwrite", "Replace files that are there with other content [default]"))
    .arg(platform_option())
    .arg(
        option("config", "PATH[:TYPE]", "Write the config of the manifest as well, if it has this media type")
            .value_parser(config),
    )
    .arg(flag("include-subject", "Pull what the artifact refers to as well, and so on"))
    .arg(
        option(
            "unpack-limit",
            "SIZE",
            "How much a packed directory may unpack to, as 500M or 20G \
             every entry counts with its path and half a kilobyte [default: a hundred times its packed size, at least 1G]",
        )
        .value_parser(bytes),
    )
    // As oras has it.
    .arg(option("concurrency", "N", "Accepted and ignored").value_parser(value_parser!(u16)).hide(true))
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            output: value(matches, "output").unwrap_or_else(|| PathBuf::from(".")),
            keep_old_files: matches.get_flag("keep-old-files"),
            platform: value(matches, "platform"),
            config: value(matches, "config"),
            include_subject: matches.get_flag("include-subject"),
            unpack_limit: value(matches, "unpack-limit"),
            remote: RemoteArgs::of(matches),
        }
    }
}

/// `PATH[:TYPE]`
fn config(text: &str) -> Result<(String, Option<String>), String> {
    let (path, kind) = match text.rsplit_once(':') {
        Some((path, kind)) => (path, Some(kind.to_owned()).filter(|kind| !kind.is_empty())),
        None => (text, None),
    };
    match Relative::parse(path) {
        Ok(_) => Ok((path.to_owned(), kind)),
        Err(what) => Err(format!("the path of the config {what}; it is below the directory of --output")),
    }
}

#[derive(Serialize)]
struct Pulled {
    reference: String,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    /// The absolute path.
    path: String,
    #[serde(flatten)]
    view: View,
}

/// A file or a directory that is to be written.
struct Item {
    name: Relative,
    descriptor: Descriptor,
    /// Whether it is a packed directory.
    is_directory: bool,
    present: Present,
}

/// What is to be written.
#[derive(Default)]
struct Items {
    items: Vec<Item>,
    names: BTreeMap<Relative, (Digest, bool)>,
    /// Layers that have no name.
    nameless: usize,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (holder, root) = match Remote::of(&args.target, &args.remote)? {
        Some(remote) => {
            let root = remote.resolve()?;
            (Holder::Registry(remote), root)
        }
        None => {
            let target: Target = args.target.parse()?;
            let Found { repository, descriptor } = target.find(&session::read(&target, output)?)?;
            (Holder::Layout { target, repository }, descriptor)
        }
    };
    // With --include-subject the platform may be for what a signature or the like is about.
    let root = if args.include_subject && args.platform.is_some() && holder.is_about(&root)? {
        root
    } else {
        holder.select(root, args.platform.as_ref())?
    };
    let mut items = collect(args, &holder, &root, output)?;
    check_content(&holder, &items.items)?;
    if items.nameless > 0 {
        output.note(format!("layers without a file name were left out, layers={}", items.nameless));
    }
    let folder = Folder::open(&args.output)?;
    // Everything that can be refused is refused before the first file is written.
    for item in items.items.iter_mut().filter(|item| !item.is_directory) {
        item.present = folder.look(&item.name, item.descriptor.size, &item.descriptor.digest)?;
        if item.present == Present::Other && args.keep_old_files {
            return Err(folder.exists(&item.name));
        }
    }
    let written = write(args, &holder, &folder, &items.items, output)?;
    report(&holder, &root, &folder, &items.items, written, output)
}

/// What the artifact names, and with --include-subject what is named by its subject, and so on.
fn collect(args: &Args, holder: &Holder, root: &Descriptor, output: &Output) -> Result<Items, Failure> {
    let mut items = Items::default();
    let first = manifest(holder, &root.digest)?;
    // Whether what the platform is for is still to come.
    let mut open = args.include_subject && args.platform.is_some() && holder.is_about(root)?;
    if let Some((path, kind)) = &args.config {
        items.config(&first, path, kind.as_deref(), output)?;
    }
    let mut next = Some(first);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(present) = next.take() {
        items.add(&present)?;
        // A subject is named by its digest, so there is no way round; but what is stored may have been damaged.
        let subject = present.subject().filter(|subject| args.include_subject && seen.insert(subject.digest));
        if let Some(descriptor) = subject.cloned() {
            let is_index = ManifestKind::of(&descriptor.media_type).is_some_and(|kind| kind.is_index());
            let wanted = args.platform.as_ref();
            let is_meant = open && !holder.is_about(&descriptor)?;
            let subject = holder.select(descriptor, wanted.filter(|_| is_meant || is_index))?;
            open &= !is_meant;
            next = Some(manifest(holder, &subject.digest)?);
        }
    }
    items.check()?;
    Ok(items)
}

fn report(
    holder: &Holder,
    root: &Descriptor,
    folder: &Folder,
    items: &[Item],
    written: usize,
    output: &Output,
) -> Result<(), Failure> {
    let view = |item: &Item| File {
        path: folder.absolute(&item.name).to_string_lossy().into_owned(),
        view: View::new(holder.by_digest(&item.descriptor.digest), &item.descriptor),
    };
    let digest = root.digest;
    let pulled = Pulled { reference: holder.by_digest(&digest), files: items.iter().map(view).collect() };
    let directories = items.iter().filter(|item| item.is_directory).count();
    let what = output::count(items.len() - directories, directories);
    let bytes = output::size(items.iter().map(|item| item.descriptor.size).sum());
    let same = match items.len() - written {
        0 => String::new(),
        same => format!(", {same} there already"),
    };
    output.summary(format!("{what}, {bytes}{same}"));
    output.result([digest], &pulled, || format!("Pulled {}\nDigest: {digest}\n", holder.shown()))
}

/// Reads the manifest, which must be one that lists files.
fn manifest(holder: &Holder, digest: &Digest) -> Result<Manifest, Failure> {
    let manifest = holder.manifest(digest)?;
    match manifest.kind() {
        Some(kind) if kind.is_index() => {
            let mut hint = "choose by --platform, or pull one of the manifests that it lists".to_owned();
            // An attestation is for no platform, which is how it is told from an image.
            let is_image = |successor: &&Successor| {
                successor.descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
            };
            for (index, successor) in manifest.successors().iter().filter(is_image).take(8).enumerate() {
                let one = &successor.descriptor;
                hint.push_str(if index == 0 { ": " } else { ", " });
                hint.push_str(&holder.by_digest(&one.digest));
                if let Some(platform) = &one.platform {
                    hint.push_str(&format!(" ({}/{})", platform.os, platform.architecture));
                }
            }
            Err(Failure::new(
                Exit::Other,
                format!("an index has no files of its own, reference={}", holder.by_digest(digest)),
            )
            .with_hint(hint))
        }
        Some(_) => Ok(manifest),
        None => Err(no_files(manifest.media_type())),
    }
}

impl Items {
    /// Adds the files that a manifest names.
    fn add(&mut self, manifest: &Manifest) -> Result<(), Failure> {
        for successor in manifest.successors() {
            let descriptor = &successor.descriptor;
            if !matches!(successor.role, Role::Layer | Role::Blob | Role::Config) {
                continue;
            }
            match descriptor.annotations.get(TITLE).filter(|title| !title.is_empty()) {
                Some(title) => self.add_one(descriptor, title)?,
                None if successor.role == Role::Config => {}
                None => self.nameless += usize::from(descriptor.media_type != media_type::EMPTY),
            }
        }
        Ok(())
    }

    /// Adds the config under a name of its own.
    fn config(
        &mut self,
        manifest: &Manifest,
        path: &str,
        kind: Option<&str>,
        output: &Output,
    ) -> Result<(), Failure> {
        let config = manifest.successors().iter().find(|successor| successor.role == Role::Config);
        let Some(config) = config.map(|config| &config.descriptor) else {
            output.note("the manifest has no config");
            return Ok(());
        };
        if kind.is_some_and(|kind| kind != config.media_type) {
            output.note(format!(
                "the config has another media type and is not written, media_type={}",
                config.media_type
            ));
            return Ok(());
        }
        self.add_one(config, path)
    }

    fn add_one(&mut self, descriptor: &Descriptor, title: &str) -> Result<(), Failure> {
        let is_directory = descriptor.annotations.get(UNPACK).is_some_and(|value| value == "true");
        let parsed = if is_directory { Relative::parse_directory(title) } else { Relative::parse(title) };
        let name = parsed.map_err(|what| {
            Failure::new(
                Exit::Policy,
                format!("name of a file {what}, name={title}, digest={}", descriptor.digest),
            )
            .with_hint("nothing was written: a file never lands outside the directory of --output")
        })?;
        match self.names.insert(name.clone(), (descriptor.digest, is_directory)) {
            None => {
                let descriptor = descriptor.clone();
                self.items.push(Item { name, descriptor, is_directory, present: Present::Nothing });
            }
            Some((other, _)) if other == descriptor.digest => {}
            Some(_) => {
                return Err(Failure::new(
                    Exit::Policy,
                    format!("two files have the same name, name={title}"),
                )
                .with_hint("nothing was written: which of them is meant cannot be told"));
            }
        }
        Ok(())
    }

    /// Refuses files that stand in the way of others.
    fn check(&self) -> Result<(), Failure> {
        let is_file = |name: &Relative| self.names.get(name).is_some_and(|(_, is_directory)| !is_directory);
        for name in self.names.keys() {
            if let Some(file) = name.ancestors().find(is_file) {
                return Err(Failure::new(
                    Exit::Policy,
                    format!("a file has the name of a directory, name={}", file.shown()),
                )
                .with_hint("nothing was written: the artifact contradicts itself"));
            }
        }
        Ok(())
    }
}

/// Refuses before anything is written if content is missing.
fn check_content(holder: &Holder, items: &[Item]) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for item in items {
        let Descriptor { digest, size, .. } = &item.descriptor;
        match holder.size(digest)? {
            None => missing.push(digest.to_string()),
            Some(found) if found != *size => {
                return Err(Failure::new(
                    Exit::Integrity,
                    format!(
                        "content has another size than its descriptor says, digest={digest}, expected={size}, found={found}"
                    ),
                ));
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let count = missing.len();
    missing.truncate(8);
    let (place, hint) = match holder {
        Holder::Layout { .. } => {
            ("layout", "nothing was written; take the missing content from where the layout came from")
        }
        Holder::Registry(_) => ("registry", "nothing was written"),
    };
    Err(Failure::new(
        Exit::Incomplete,
        format!("content is not in the {place}, missing={count}, digests={}", missing.join(",")),
    )
    .with_hint(hint))
}

/// Writes what is not there yet; answers how many that were.
fn write(
    args: &Args,
    holder: &Holder,
    folder: &Folder,
    items: &[Item],
    output: &Output,
) -> Result<usize, Failure> {
    interrupt::defer();
    let wanted = || items.iter().filter(|item| item.present != Present::Same);
    let total = wanted().map(|item| item.descriptor.size).sum();
    let mut progress = Progress::new(output.progress(), "Writing", Some(total));
    let mut left_out = 0;
    for item in wanted() {
        interrupt::check(INTERRUPTED)?;
        progress.begin(&item.name.shown());
        left_out += write_one(args, holder, folder, item, &mut progress)?;
    }
    drop(progress);
    if left_out > 0 {
        output.note(format!(
            "devices, FIFOs and the like in a packed directory were left out, entries={left_out}"
        ));
    }
    Ok(wanted().count())
}

fn write_one(
    args: &Args,
    holder: &Holder,
    folder: &Folder,
    item: &Item,
    progress: &mut Progress,
) -> Result<usize, Failure> {
    let Descriptor { digest, size, .. } = &item.descriptor;
    let mut reader = holder.reader(&item.descriptor)?;
    let (replace, observer) = (!args.keep_old_files, &mut |done| progress.advance(done));
    if !item.is_directory {
        folder.put(&item.name, &mut reader, *size, digest, replace, observer)?;
        return Ok(0);
    }
    let packed = Packed {
        name: &item.name,
        digest,
        size: *size,
        // As oras has it: what is no digest is none.
        content: item.descriptor.annotations.get(UNPACKED_DIGEST).and_then(|digest| digest.parse().ok()),
        limit: match args.unpack_limit {
            Some(bytes) => Limit { bytes, factor: 0 },
            None => Limit { bytes: UNPACK_LEAST, factor: UNPACK_FACTOR },
        },
    };
    Ok(folder.unpack(&packed, &mut reader, replace, observer)?.left_out)
}
