//! `orlop inventory`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use orlop::Digest;
use orlop::transfer::archive::{Compression, Inventory};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, verb};
use crate::error::Failure;
use crate::out_file::OutFile;
use crate::output::{self, Output};
use crate::tar_ref;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    file: PathBuf,
    replace: bool,
    compression: Compression,
}

pub(crate) fn command() -> Command {
    verb(
        "inventory",
        "Write down what a layout or archive has, for the next export to leave out",
        "A sorted text of digests and sizes with a sum at its end: the same contents give the same bytes. Content whose file is \
         missing or has another size is left out; `orlop verify` finds what only its hash tells. The eight words that are printed \
         to stderr stand for the sum: read over a phone, they tell whether both sides have the same file.",
        "orlop inventory oci:mirror -o low-side.inv --compress zstd",
    )
    .arg(target("oci:DIR|tar:FILE", "What to look at"))
    .arg(option("output", "FILE", "Where to write it; standard output by default").short('o').default_value("-"))
    .arg(flag("overwrite", "Replace FILE if it is there"))
    .arg(tar_ref::compress_option())
    .arg(flag("oci-layout", "The target is DIR").hide(true))
    .arg(crate::args::layout_path("oci-layout-path", "The target is this layout").hide(true))
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            file: value::<String>(matches, "output").unwrap_or_default().into(),
            replace: matches.get_flag("overwrite"),
            compression: value(matches, "compress").unwrap_or_default(),
        }
    }
}

/// What is said of an inventory that was written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written {
    pub(crate) file: String,
    contents: usize,
    bytes: u64,
    sum: Digest,
    words: String,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (inventory, _) = tar_ref::inventory(&args.target, output)?;
    let written = write(&inventory, &args.file, args.replace, args.compression)?;
    output.summary(format!(
        "{} contents, {}; {}",
        written.contents,
        output::size(written.bytes),
        written.words
    ));
    if args.file.as_os_str() == "-" {
        return Ok(());
    }
    output.result([written.sum], &written, || format!("Wrote {}\nSum: {}\n", written.file, written.sum))
}

/// Writes an inventory into a file.
pub(crate) fn write(
    inventory: &Inventory,
    file: &Path,
    replace: bool,
    compression: Compression,
) -> Result<Written, Failure> {
    let mut to = OutFile::create(file, replace)?;
    inventory
        .write(&mut to, compression)
        .and_then(|()| to.flush())
        .map_err(|error| Failure::io("write the inventory", file, &error))?;
    to.finish()?;
    Ok(Written {
        file: file.display().to_string(),
        contents: inventory.len(),
        bytes: inventory.bytes(),
        sum: inventory.sum(),
        words: inventory.words(),
    })
}
