//! `orlop pull`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgMatches, Command, value_parser};
use orlop::Repository;
use orlop::oci::{Descriptor, Manifest, Role, Successor};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, verb};
use crate::artifact::{TITLE, UNPACK};
use crate::error::{Exit, Failure};
use crate::output::{self, Output};
use crate::place::{Folder, Present, Relative};
use crate::reference::{Found, Target};
use crate::session;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    output: PathBuf,
    keep_old_files: bool,
}

pub(crate) fn command() -> Command {
    verb(
        "pull",
        "Write the files of an artifact into a directory",
        "Every file is checked against its digest and appears whole or not at all, always below the directory. \
         A file with the same content is left alone.",
        "orlop pull oci:app:v1 -o restored",
    )
    .arg(target("oci:DIR:REF", "The artifact"))
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
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            output: value(matches, "output").unwrap_or_else(|| PathBuf::from(".")),
            keep_old_files: matches.get_flag("keep-old-files"),
        }
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

/// A file that is to be written.
struct Item {
    name: Relative,
    descriptor: Descriptor,
    present: Present,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = target.find(&store)?;
    let (mut items, nameless) = items(&manifest(&found, &target)?)?;
    check_content(&found.repository, &items)?;
    if nameless > 0 {
        output.note(format!("layers without a file name were left out, layers={nameless}"));
    }
    let folder = Folder::open(&args.output)?;
    // Everything that can be refused is refused before the first file is written.
    for item in &mut items {
        item.present = folder.look(&item.name, item.descriptor.size, &item.descriptor.digest)?;
        if item.present == Present::Other && args.keep_old_files {
            return Err(folder.exists(&item.name));
        }
    }
    let mut written = 0;
    for item in items.iter().filter(|item| item.present != Present::Same) {
        write(&found.repository, &folder, item, !args.keep_old_files)?;
        written += 1;
    }
    report(&found, &target, &folder, &items, written, output)
}

fn report(
    found: &Found,
    target: &Target,
    folder: &Folder,
    items: &[Item],
    written: usize,
    output: &Output,
) -> Result<(), Failure> {
    let name = found.repository.name();
    let view = |item: &Item| File {
        path: folder.absolute(&item.name).to_string_lossy().into_owned(),
        view: View::new(target.by_digest(name, &item.descriptor.digest), &item.descriptor),
    };
    let digest = found.descriptor.digest;
    let pulled =
        Pulled { reference: target.by_digest(name, &digest), files: items.iter().map(view).collect() };
    let files = if items.len() == 1 { "1 file".to_owned() } else { format!("{} files", items.len()) };
    let bytes = output::size(items.iter().map(|item| item.descriptor.size).sum());
    let same = match items.len() - written {
        0 => String::new(),
        same => format!(", {same} there already"),
    };
    output.summary(format!("{files}, {bytes}{same}"));
    output.result([digest], &pulled, || format!("Pulled {}\nDigest: {digest}\n", target.shown()))
}

/// Reads the manifest, which must be one that lists files.
fn manifest(found: &Found, target: &Target) -> Result<Manifest, Failure> {
    let digest = &found.descriptor.digest;
    let stored = found.repository.manifest(digest)?.ok_or_else(|| {
        Failure::new(Exit::Incomplete, format!("the manifest is not in the layout, digest={digest}"))
            .with_hint("take it from where the layout came from")
    })?;
    let manifest = stored.parse()?;
    match manifest.kind() {
        Some(kind) if kind.is_index() => {
            let mut hint = "pull one of the manifests that it lists".to_owned();
            // An attestation is for no platform, which is how it is told from an image.
            let is_image = |successor: &&Successor| {
                successor.descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
            };
            for (index, successor) in manifest.successors().iter().filter(is_image).take(8).enumerate() {
                let one = &successor.descriptor;
                hint.push_str(if index == 0 { ": " } else { ", " });
                hint.push_str(&target.by_digest(found.repository.name(), &one.digest));
                if let Some(platform) = &one.platform {
                    hint.push_str(&format!(" ({}/{})", platform.os, platform.architecture));
                }
            }
            Err(Failure::new(
                Exit::Other,
                format!("an index has no files of its own, reference={}", target.shown()),
            )
            .with_hint(hint))
        }
        Some(_) => Ok(manifest),
        None => {
            let media_type = manifest.media_type();
            Err(Failure::new(
                Exit::Other,
                format!("not a manifest that lists files, media_type={media_type}"),
            ))
        }
    }
}

/// The files that a manifest names, and the number of layers that have no name.
fn items(manifest: &Manifest) -> Result<(Vec<Item>, usize), Failure> {
    let mut items: Vec<Item> = Vec::new();
    let mut names: BTreeMap<Relative, orlop::Digest> = BTreeMap::new();
    let mut nameless = 0;
    for successor in manifest.successors() {
        let descriptor = &successor.descriptor;
        if !matches!(successor.role, Role::Layer | Role::Blob) {
            continue;
        }
        let Some(title) = descriptor.annotations.get(TITLE).filter(|title| !title.is_empty()) else {
            nameless += usize::from(descriptor.media_type != orlop::oci::media_type::EMPTY);
            continue;
        };
        if descriptor.annotations.get(UNPACK).is_some_and(|value| value == "true") {
            return Err(Failure::new(
                Exit::Other,
                format!("packed directories cannot be unpacked yet, name={title}"),
            )
            .with_hint("`oras pull --oci-layout` reads the same directory"));
        }
        let name = Relative::parse(title).map_err(|what| {
            Failure::new(
                Exit::Policy,
                format!("name of a file {what}, name={title}, digest={}", descriptor.digest),
            )
            .with_hint("nothing was written: a file never lands outside the directory of --output")
        })?;
        match names.insert(name.clone(), descriptor.digest) {
            None => items.push(Item { name, descriptor: descriptor.clone(), present: Present::Nothing }),
            Some(other) if other == descriptor.digest => {}
            Some(_) => {
                return Err(Failure::new(
                    Exit::Policy,
                    format!("two files have the same name, name={title}"),
                )
                .with_hint("nothing was written: which of them is meant cannot be told"));
            }
        }
    }
    for name in names.keys() {
        if let Some(file) = name.ancestors().find(|ancestor| names.contains_key(ancestor)) {
            return Err(Failure::new(
                Exit::Policy,
                format!("a file has the name of a directory, name={}", file.shown()),
            )
            .with_hint("nothing was written: the artifact contradicts itself"));
        }
    }
    Ok((items, nameless))
}

/// Refuses before anything is written if content is missing.
fn check_content(repository: &Repository, items: &[Item]) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for item in items {
        let Descriptor { digest, size, .. } = &item.descriptor;
        match repository.stat(digest)? {
            None => missing.push(digest.to_string()),
            Some(stat) if stat.size != *size => {
                let found = stat.size;
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
    Err(Failure::new(
        Exit::Incomplete,
        format!("content is not in the layout, missing={count}, digests={}", missing.join(",")),
    )
    .with_hint("nothing was written; take the missing content from where the layout came from"))
}

fn write(repository: &Repository, folder: &Folder, item: &Item, replace: bool) -> Result<(), Failure> {
    let Descriptor { digest, size, .. } = &item.descriptor;
    let mut reader = repository.reader(digest)?.ok_or_else(|| {
        Failure::new(Exit::Incomplete, format!("content is not in the layout, digest={digest}"))
    })?;
    folder.put(&item.name, &mut reader, *size, digest, replace)
}
