//! `tar:FILE[:REF]`, and what else of files stands for contents: volumes and inventories.

use std::path::Path;

use clap::Arg;
use orlop::oci::names::Meaning;
use orlop::oci::{Descriptor, RepositoryName};
use orlop::transfer::archive::{Archive, ArchiveName, Compression, Inventory, Unusable};
use orlop::{Error, ErrorKind};

use crate::args::option;
use crate::error::{Exit, Failure};
use crate::output::{Output, plain};
use crate::reference::{Selector, Target, split};
use crate::session;

const SCHEME: &str = "tar:";

/// How an archive or an inventory is compressed.
pub(crate) fn compress_option() -> Arg {
    option("compress", "zstd|gzip", "Compress what is written").value_parser(|text: &str| match text {
        "zstd" => Ok(Compression::Zstd),
        "gzip" => Ok(Compression::Gzip),
        _ => Err("use zstd or gzip"),
    })
}

/// The archive that `tar:FILE[:REF]` names, with what of it is meant; None for anything else. FILE may be several volumes with commas
/// between them.
pub(crate) fn parse(text: &str) -> Option<Result<Target, Failure>> {
    text.strip_prefix(SCHEME).map(|rest| split(rest, text))
}

/// Opens the archive of a reference.
pub(crate) fn open(target: &Target) -> Result<Archive, Failure> {
    let files = files(target);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    open_files(&files, false)
}

/// The files of a reference: one, or those between commas.
pub(crate) fn files(target: &Target) -> Vec<String> {
    let shown = target.path().to_string_lossy().into_owned();
    if Path::new(&shown).exists() { vec![shown] } else { shown.split(',').map(str::to_owned).collect() }
}

/// Opens an archive, or the volumes of one set.
pub(crate) fn open_files(files: &[&str], partial: bool) -> Result<Archive, Failure> {
    let opened = match files {
        [one] if !partial => Archive::open(one),
        several => Archive::open_all(several, partial),
    };
    opened.map_err(unopened)
}

/// Why an archive cannot be opened.
pub(crate) fn unopened(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Corrupt => Failure::from(error)
            .with_hint_instead("nothing of it was used; bring it again from where it was written"),
        ErrorKind::NotFound if error.to_string().starts_with("volumes") => {
            Failure::new(Exit::Incomplete, error.to_string())
                .with_hint("name all volumes of the set, in any order")
        }
        ErrorKind::NotFound if error.to_string().starts_with("archive lacks") => {
            Failure::new(Exit::Incomplete, error.to_string())
                .with_hint("nothing of it was used; bring it again from where it was written")
        }
        ErrorKind::Unsupported => Failure::from(error)
            .with_hint_instead("pack the layout again as a plain tar archive: `tar -C DIR -cf FILE .`"),
        _ => error.into(),
    }
}

/// What of an archive was to be copied and cannot be used.
pub(crate) fn unusable(unusable: &[Unusable], archive: &str) -> Result<(), Failure> {
    let is_damaged = |one: &&Unusable| one.kind != ErrorKind::NotFound;
    let Some(first) = unusable.iter().find(is_damaged).or_else(|| unusable.first()) else { return Ok(()) };
    let exit = if is_damaged(&first) { Exit::Integrity } else { Exit::Incomplete };
    let (names, name, reason) = (unusable.len(), plain(&first.name), &first.reason);
    let message = format!(
        "the archive names what cannot be used, names={names}, first={name}: {reason}, archive={archive}"
    );
    Err(Failure::new(exit, message)
        .with_hint("nothing was written; bring the archive again from where it was made"))
}

/// Tells what of an archive cannot be used.
pub(crate) fn note_unusable<'a>(unusable: impl IntoIterator<Item = &'a Unusable>, output: &Output) {
    const NOTES: usize = 10;
    let mut further = 0;
    for (at, Unusable { name, reason, .. }) in unusable.into_iter().enumerate() {
        if at < NOTES {
            output.note(format!("cannot be used, name={}: {reason}", plain(name)));
        } else {
            further += 1;
        }
    }
    if further > 0 {
        output.note(format!("and {further} further findings"));
    }
}

/// Finds the manifest that a reference means.
pub(crate) fn find(archive: &Archive, target: &Target) -> Result<(RepositoryName, Descriptor), Failure> {
    let shown = || target.shown().replacen("oci:", SCHEME, 1);
    let not_found = || Failure::new(Exit::NotFound, format!("no such reference, reference={}", shown()));
    match &target.selector {
        Selector::Name(name) => match archive.find_name(name) {
            Meaning::One(ArchiveName { repository, descriptor, .. }) => Ok((repository, descriptor)),
            Meaning::None => Err(not_found()),
            Meaning::Ambiguous(several) => {
                let names: Vec<String> = several
                    .iter()
                    .map(|one| format!("{} ({})", one.descriptor.digest, plain(&one.name)))
                    .collect();
                let message = format!("the name stands for more than one manifest, reference={}", shown());
                Err(Failure::new(Exit::NotFound, message)
                    .with_hint(format!("give one of them: {}", names.join(", "))))
            }
        },
        Selector::Digest(repository, digest) => {
            let found = archive.repository(repository).manifests()?;
            let found = found.into_iter().find(|found| found.digest == *digest);
            found.map(|found| (repository.clone(), found)).ok_or_else(not_found)
        }
        Selector::Layout | Selector::Prefix(..) => {
            Err(Failure::usage(format!("no tag or whole digest was given, reference={}", shown())))
        }
    }
}

/// What a layout, an archive or an inventory has.
pub(crate) fn inventory(text: &str, output: &Output) -> Result<(Inventory, Vec<(String, String)>), Failure> {
    if let Some(target) = parse(text) {
        return Ok(of_archive(&open(&target?)?));
    }
    let path = Path::new(text);
    if !path.is_file() {
        let target: Target = text.parse()?;
        target.whole()?;
        let store = session::read(&target, output)?;
        return Ok((Inventory::of_store(&store)?, names(&store)?));
    }
    match Inventory::open(path) {
        Ok(found) => Ok((found, Vec::new())),
        Err(error) if error.to_string().starts_with("this is no inventory") => {
            Ok(of_archive(&open_files(&[text], false)?))
        }
        Err(error) => Err(unread(error)),
    }
}

fn of_archive(archive: &Archive) -> (Inventory, Vec<(String, String)>) {
    let names = archive.names().iter().map(|name| (name.name.clone(), name.descriptor.digest.to_string()));
    (Inventory::of_archive(archive), names.collect())
}

fn names(store: &orlop::Store) -> Result<Vec<(String, String)>, Failure> {
    let mut names = Vec::new();
    for name in crate::view::all_repositories(store)? {
        let repository = store.repository(&name);
        let mut after: Option<String> = None;
        loop {
            let page = repository.tags(after.as_deref(), 1000)?;
            names.extend(
                page.items
                    .iter()
                    .map(|tag| (orlop::oci::LayoutName::of(&name, &tag.tag), tag.digest.to_string())),
            );
            after = page.items.last().map(|tag| tag.tag.to_string());
            if !page.more {
                break;
            }
        }
    }
    Ok(names)
}

/// Why an inventory cannot be read.
pub(crate) fn unread(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Corrupt => {
            Failure::from(error).with_hint_instead("let the other side write it again with `orlop inventory`")
        }
        _ => error.into(),
    }
}
