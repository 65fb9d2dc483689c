//! `orlop import`

use std::path::PathBuf;

use clap::{ArgMatches, Command};
use orlop::transfer::archive::{Archive, Compression, Imported, Importer, Inventory, StreamImport};
use orlop::{Digest, ErrorKind, Store};
use serde::Serialize;

use crate::args::{flag, option, rest, value, values, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::inventory;
use crate::output::{self, Output, plain};
use crate::progress::Progress;
use crate::reference::{Target, new_directory};
use crate::session::{self, WriteArgs};
use crate::source;
use crate::tar_ref;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    files: Vec<String>,
    target: String,
    check: bool,
    keep_going: bool,
    receipt: Option<PathBuf>,
    replace: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "import",
        "Take archives or volumes into a layout, once it is proved that nothing is missing",
        "Reads OCI layouts in tar files, compressed or not, and what `docker save` writes. Before anything is written, every manifest is looked at, and \
         all that it refers to must be in the archive or in the layout; otherwise it exits with 4, or with 5 where something is damaged. Tags move last. Volumes are given in any order; if \
         not all of a set are there, what came is kept, and the next visit goes on.",
        "orlop import /mnt/dvd/out.*.tar oci:mirror --receipt next.inv",
    )
    .arg(rest("paths", "FILE... oci:DIR", "The archive or volumes, - for standard input; and the layout, last").num_args(2..).required(true))
    .arg(flag("check", "Prove that all is there and undamaged, and write nothing"))
    .arg(flag("keep-going", "Take what is whole when something is missing or damaged; exits with 8 then").conflicts_with("check"))
    .arg(option("receipt", "FILE", "Write down what is there afterwards: the next --have of an export"))
    .arg(flag("overwrite", "Replace the receipt if it is there"))
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let mut files = values(matches, "paths");
        let target = files.pop().unwrap_or_default();
        Self {
            files,
            target,
            check: matches.get_flag("check"),
            keep_going: matches.get_flag("keep-going"),
            receipt: value::<String>(matches, "receipt").map(PathBuf::from),
            replace: matches.get_flag("overwrite"),
            write: WriteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    reference: String,
    manifests: u64,
    tags: u64,
    copied: u64,
    present: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_volumes: Vec<u32>,
    /// Manifests that an index of another tool lists and the archive does not have.
    #[serde(skip_serializing_if = "is_zero")]
    absent: usize,
    /// What was left because it is damaged or not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<inventory::Written>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target = new_directory(&args.target)?;
    target.whole()?;
    if let Some(receipt) = &args.receipt {
        crate::out_file::refuse_existing(receipt, args.replace)?;
    }
    if args.files.iter().any(|file| file == "-") {
        return from_stdin(args, &target, output);
    }
    let files: Vec<&str> = args.files.iter().map(|file| file.strip_prefix("tar:").unwrap_or(file)).collect();
    let archive = tar_ref::open_files(&files, true)?;
    if args.check {
        return check(&archive, &target, output);
    }
    if !args.keep_going {
        prove(&archive, &target, output)?;
    }
    let writer = args.write.create(&target, output)?;
    let done = import(&archive, &writer.store, args.keep_going, output);
    let receipt = done.as_ref().ok().map(|_| receipt(args, &writer.store)).transpose();
    let closed = writer.close();
    let done = done?;
    closed?;
    finish(done, &archive, &target, receipt?.flatten(), output)
}

/// Whether the archive, with what the layout has, is all that it names. The layout need not be there, and does not come to be.
fn prove(archive: &Archive, target: &Target, output: &Output) -> Result<(), Failure> {
    let place = Looked::at(target, output)?;
    let importer = Importer::new(archive, &place.store)?;
    complete(&importer, output)
}

/// What is looked at of a layout, or an empty one where there is none yet.
struct Looked {
    store: Store,
    _scratch: Option<tempfile::TempDir>,
}

impl Looked {
    fn at(target: &Target, output: &Output) -> Result<Self, Failure> {
        if target.path().join("index.json").exists() || target.path().join(".orlop").exists() {
            return Ok(Self { store: session::read(target, output)?, _scratch: None });
        }
        let scratch = tempfile::tempdir().map_err(|error| {
            Failure::io("create a temporary directory", std::path::Path::new("."), &error)
        })?;
        let store = orlop::Options::new().create(scratch.path().join("empty"))?;
        Ok(Self { store, _scratch: Some(scratch) })
    }
}

fn complete(importer: &Importer<'_>, output: &Output) -> Result<(), Failure> {
    tar_ref::note_unusable(importer.unusable(), output);
    let is_usable = importer.unusable().next().is_none();
    importer.proof().map_err(|error| match (error.kind(), importer.missing().first()) {
        (ErrorKind::NotFound, Some(first)) if is_usable => Failure::new(
            Exit::Incomplete,
            format!(
                "neither the archive nor the layout has all content, missing={}, first={}, manifest={}",
                importer.missing().len(),
                first.digest,
                first.manifest
            ),
        )
        .with_hint("nothing was written; export again with an inventory of this layout, or without --have"),
        (ErrorKind::NotFound, _) => Failure::new(Exit::Incomplete, error.to_string()).with_hint(LEFT),
        (ErrorKind::Mismatch, _) => tar_ref::unopened(error).with_hint_instead(LEFT),
        _ => error.into(),
    })
}

/// What to do about an archive that is not whole in itself.
const LEFT: &str = "nothing was written; bring the archive again from where it was made, or take what is whole of it with --keep-going";

fn check(archive: &Archive, target: &Target, output: &Output) -> Result<(), Failure> {
    interrupt::defer();
    let place = Looked::at(target, output)?;
    let mut importer = Importer::new(archive, &place.store)?;
    complete(&importer, output)?;
    note_absent(importer.absent().len(), output);
    let (contents, bytes) = importer.wanted();
    importer.set_watch(watch("Checking", Some(bytes), output));
    importer.verify().and_then(|()| archive.verify_volumes()).map_err(|error| match error.kind() {
        ErrorKind::Interrupted => interrupt::failure("nothing was written"),
        ErrorKind::Mismatch | ErrorKind::Corrupt => tar_ref::unopened(error)
            .with_hint_instead("nothing was written; bring the archive again from where it was made"),
        _ => error.into(),
    })?;
    output.summary(format!("{contents} contents would be taken, {}", output::size(bytes)));
    missing_volumes(archive, importer.missing_volumes())
}

/// Content in its order, with its bytes that are done.
fn watch(
    action: &'static str,
    total: Option<u64>,
    output: &Output,
) -> impl FnMut(&Digest, u64) -> std::ops::ControlFlow<()> + use<> {
    let mut progress = Progress::new(output.progress(), action, total);
    let mut last: Option<Digest> = None;
    move |digest, done| {
        if last.replace(*digest) != Some(*digest) {
            progress.begin(&digest.to_string());
        }
        progress.advance(done)
    }
}

fn import(archive: &Archive, store: &Store, keep_going: bool, output: &Output) -> Result<Imported, Failure> {
    let mut importer = Importer::new(archive, store)?;
    importer.keep_going(keep_going);
    importer.set_watch(watch("Importing", Some(importer.wanted().1), output));
    importer.run().map_err(failed)
}

fn failed(error: orlop::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::new(Exit::Incomplete, error.to_string())
            .with_hint("no tag has moved; export again with an inventory of this layout"),
        ErrorKind::Interrupted => {
            interrupt::failure("no tag has moved; the next import goes on with what came")
        }
        ErrorKind::Mismatch | ErrorKind::Corrupt => tar_ref::unopened(error).with_hint_instead(
            "no tag has moved; bring the archive again from where it was made, or look at the layout with `orlop verify`",
        ),
        _ => error.into(),
    }
}

/// A stream is read once, so that nothing can be proved before content comes; no name is given before all of it has.
fn from_stdin(args: &Args, target: &Target, output: &Output) -> Result<(), Failure> {
    if args.files.len() > 1 || args.check {
        return Err(Failure::usage(
            "standard input is read once, as the only archive, without --check, archive=-",
        )
        .with_hint("write it into a file first"));
    }
    source::check_stdin()?;
    let writer = args.write.create(target, output)?;
    let stdin = std::io::stdin();
    let done =
        StreamImport::new(&writer.store)
            .keep_going(args.keep_going)
            .watch(watch("Importing", None, output))
            .run(source::patient(&stdin))
            .map_err(|error| {
                if interrupt::is_caught() { interrupt::failure("no tag has moved") } else { failed(error) }
            });
    let receipt = done.as_ref().ok().map(|_| receipt(args, &writer.store)).transpose();
    let closed = writer.close();
    let done = done?;
    closed?;
    report(done, target, receipt?.flatten(), output)
}

fn receipt(args: &Args, store: &Store) -> Result<Option<inventory::Written>, Failure> {
    let Some(file) = &args.receipt else { return Ok(None) };
    let compression = Compression::None;
    inventory::write(&Inventory::of_store(store)?, file, args.replace, compression).map(Some)
}

fn finish(
    done: Imported,
    archive: &Archive,
    target: &Target,
    receipt: Option<inventory::Written>,
    output: &Output,
) -> Result<(), Failure> {
    let missing = done.missing_volumes.clone();
    report(done, target, receipt, output)?;
    missing_volumes(archive, &missing)
}

/// Tools that write an image of several platforms leave out some as they are asked to, and write down nothing of it.
fn note_absent(absent: usize, output: &Output) {
    if absent > 0 {
        output.note(format!(
            "an index lists manifests that the archive does not have, and is taken without them, manifests={absent}"
        ));
    }
}

fn missing_volumes(archive: &Archive, missing: &[u32]) -> Result<(), Failure> {
    let Some(set) = archive.set().filter(|_| !missing.is_empty()) else { return Ok(()) };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(Failure::new(
        Exit::Incomplete,
        format!(
            "volumes of the set are still to come, missing={}, volumes={}, set={}",
            missing.join(","),
            set.volumes,
            set.id
        ),
    )
    .with_hint("import each of them the same way, in any order; what came is kept"))
}

fn report(
    done: Imported,
    target: &Target,
    receipt: Option<inventory::Written>,
    output: &Output,
) -> Result<(), Failure> {
    output.summary(format!(
        "{} copied, {}; {} there already",
        done.copied,
        output::size(done.bytes),
        done.present
    ));
    if let Some(first) = done.unnamed.first() {
        output.note(format!(
            "names that are no [REPOSITORY:]TAG were not carried, names={}, first={}",
            done.unnamed.len(),
            plain(first)
        ));
    }
    note_absent(done.absent.len(), output);
    tar_ref::note_unusable(&done.unusable, output);
    let missing = done.missing.iter().map(|missing| missing.digest.to_string());
    let left: Vec<String> = done.unusable.iter().map(|one| one.name.clone()).chain(missing).collect();
    let report = Report {
        reference: target.layout(),
        manifests: done.manifests,
        tags: done.tags,
        copied: done.copied,
        present: done.present,
        bytes: done.bytes,
        missing_volumes: done.missing_volumes,
        absent: done.absent.len(),
        left,
        receipt,
    };
    output.result(Vec::<Digest>::new(), &report, || {
        let mut text = format!(
            "Imported {} manifests, {} tags => {}\n",
            report.manifests,
            report.tags,
            plain(&report.reference)
        );
        if let Some(receipt) = &report.receipt {
            text.push_str(&format!("Receipt: {}\n", plain(&receipt.file)));
        }
        text
    })?;
    let Some(first) = report.left.first() else { return Ok(()) };
    Err(Failure::new(
        Exit::Partial,
        format!("something was left, left={}, first={}", report.left.len(), plain(first)),
    )
    .with_hint("what is whole was taken; bring the archive again from where it was made for the rest"))
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
