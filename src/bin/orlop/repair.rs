//! `orlop repair`

use clap::{ArgMatches, Command};
use orlop::transfer::archive::Archive;
use orlop::{Digest, ErrorKind, Sharing, Store};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::reference::Target;
use crate::session::{self, WriteArgs};
use crate::tar_ref;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    from: String,
    verify: bool,
    sharing: Sharing,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "repair",
        "Bring damaged and missing content again from another layout or an archive",
        "Everything is hashed first, so that damage is found; the damaged files of a store go to .orlop/quarantine. Tags and \
         membership stay as they are. Exits with 4 if the other layout does not have all of it whole.",
        "orlop repair oci:app --from oci:/media/backup/app",
    )
    .arg(target("oci:DIR", "The layout that is hurt"))
    .arg(option("from", "oci:DIR|tar:FILE", "The layout or archive to take from; it is only read").required(true))
    .arg(flag("no-verify", "Do not hash: repair what is missing, has another size, or is known to be damaged"))
    .arg(flag("no-link", "Share nothing with the other layout by hard links"))
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            from: value(matches, "from").unwrap_or_default(),
            verify: !matches.get_flag("no-verify"),
            sharing: if matches.get_flag("no-link") { Sharing::Reflink } else { Sharing::Link },
            write: WriteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Repaired {
    reference: String,
    healed: Vec<Digest>,
    brought: Vec<Digest>,
    bytes: u64,
    lacking: Vec<Digest>,
}

/// Where content is taken from.
enum From {
    Layout(Store),
    Archive(Archive),
}

impl From {
    fn open(text: &str, output: &Output) -> Result<Self, Failure> {
        if let Some(target) = tar_ref::parse(text) {
            let target = target?;
            target.whole()?;
            return Ok(Self::Archive(tar_ref::open(&target)?));
        }
        let target: Target = text.parse()?;
        target.whole()?;
        Ok(Self::Layout(session::read(&target, output)?))
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    target.whole()?;
    let source = From::open(&args.from, output)?;
    let writer = args.write.open(&target, output)?;
    if args.verify {
        let mut progress = Progress::new(output.progress(), "Verifying", None);
        let watch = |now: orlop::VerifyProgress| progress.advance(now.bytes);
        let report = writer.store.verify().read_data(true).watch(watch).run()?;
        interrupt::check("nothing was repaired")?;
        output.summary(format!("{} contents, {} hashed", report.contents, output::size(report.bytes)));
    }
    let mut progress = Progress::new(output.progress(), "Repairing", None);
    let watch = |digest: &Digest| {
        progress.begin(&digest.to_string());
        progress.advance(0)
    };
    let repair = match &source {
        From::Layout(source) => writer.store.repair_from(source),
        From::Archive(archive) => writer.store.repair_with(|digest| archive.content(digest, 0)),
    };
    let report = repair.sharing(args.sharing).watch(watch).run();
    drop(progress);
    let closed = writer.close();
    let report = report.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => interrupt::failure("what was brought so far stays"),
        _ => error.into(),
    })?;
    closed?;
    let repaired = Repaired {
        reference: target.layout(),
        healed: report.healed,
        brought: report.brought,
        bytes: report.bytes,
        lacking: report.lacking,
    };
    let digests: Vec<Digest> = repaired.healed.iter().chain(&repaired.brought).copied().collect();
    output.result(digests, &repaired, || {
        format!(
            "Repaired {}: {} healed, {} brought, {}; {} lacking\n",
            repaired.reference,
            repaired.healed.len(),
            repaired.brought.len(),
            output::size(repaired.bytes),
            repaired.lacking.len()
        )
    })?;
    let Some(first) = repaired.lacking.first() else { return Ok(()) };
    Err(Failure::new(
        Exit::Incomplete,
        format!(
            "the other layout does not have all of it whole, reference={}, lacking={}, first={first}",
            args.from,
            repaired.lacking.len()
        ),
    )
    .with_hint("run it again with another layout behind --from"))
}
