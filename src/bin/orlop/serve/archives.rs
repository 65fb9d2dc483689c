//! The archives of a server: opened, and under which name the unnamed repository of each is served.

use std::path::Path;

use orlop::oci::RepositoryName;
use orlop::transfer::archive::{Archive, Compression};

use super::open::fitted;
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::reference::{Selector, Target};
use crate::tar_ref;

/// Opens `tar:FILE[,FILE...]`; `name` is what the unnamed repository is to be called, if anybody said so.
pub(super) fn open(
    text: &str,
    name: Option<&RepositoryName>,
    output: &Output,
) -> Result<Option<(Archive, RepositoryName)>, Failure> {
    let Some(target) = tar_ref::parse(text).transpose()? else { return Ok(None) };
    if target.selector != Selector::Layout {
        return Err(Failure::usage(format!("a whole archive is served, reference={text}"))
            .with_hint("leave out what stands behind the name of the file"));
    }
    let files = tar_ref::files(&target);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for file in &files {
        uncompressed(file)?;
    }
    let archive = match *files {
        [one] => alone(one, output)?,
        _ => tar_ref::open_files(&files, false)?,
    };
    tar_ref::note_unusable(archive.unusable(), output);
    let name = match name {
        Some(name) => name.clone(),
        None => files.first().and_then(|file| name_of(Path::new(file))).ok_or_else(|| unnamed(&target))?,
    };
    Ok(Some((archive, name)))
}

/// One file, which may be one volume of several: then what it has whole is all that there is.
fn alone(file: &str, output: &Output) -> Result<Archive, Failure> {
    let archive = tar_ref::open_files(&[file], true)?;
    let Some(set) = archive.set().filter(|set| !set.missing.is_empty()) else { return Ok(archive) };
    output.note(format!(
        "this is one of several volumes, and served is what it has whole, volumes={}, missing={}, archive={file}",
        set.volumes,
        set.missing.len()
    ));
    tar_ref::open_files(&[file], false)
}

/// Refuses what has no places to be read from.
fn uncompressed(file: &str) -> Result<(), Failure> {
    let how = match Compression::of_file(file).map_err(tar_ref::unopened)? {
        Compression::None => return Ok(()),
        Compression::Gzip => "gzip -dc",
        _ => "zstd -dc",
    };
    let message = format!("an archive that is compressed cannot be served, archive={file}");
    Err(Failure::new(Exit::Other, message).with_hint(format!(
        "decompress it first: `{how} {file} > plain.tar`; or take it in: `orlop import {file} oci:DIR`"
    )))
}

/// The name of a file as one of a repository: without its ending and the number of the volume.
fn name_of(file: &Path) -> Option<RepositoryName> {
    let stem = file.file_stem()?.to_string_lossy().into_owned();
    let is_number = |number: &str| number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    let stem = match stem.rsplit_once('.') {
        Some((stem, number)) if is_number(number) => stem,
        _ => &stem,
    };
    fitted(stem)
}

#[cold]
fn unnamed(target: &Target) -> Failure {
    let shown = target.path().display();
    Failure::usage(format!("the name of the file cannot be one of a repository, path={shown}"))
        .with_hint("say with --as under which name the unnamed repository is to be served")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_names() {
        for (file, expected) in [
            ("a/out.tar", Some("out")),
            ("out.001.tar", Some("out")),
            ("app-1.2.tar", Some("app-1.2")),
            ("My Images.tar", Some("my-images")),
            ("out", Some("out")),
            ("--.tar", None),
        ] {
            assert_eq!(name_of(Path::new(file)).as_ref().map(RepositoryName::as_str), expected, "{file}");
        }
    }
}
