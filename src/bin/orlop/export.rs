//! `orlop export`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use orlop::oci::{LayoutName, RepositoryName, Tag};
use orlop::transfer::Source;
use orlop::transfer::archive::{Compression, Exporter, Inventory, Plan};
use orlop::{Digest, ErrorKind, Store};
use serde::Serialize;

use crate::args::{bytes, flag, option, rest, value, values, verb};
use crate::artifact::source_date;
use crate::endpoint::{Named, Origin, Selected, Selection};
use crate::error::{Exit, Failure};
use crate::from_file::Tags;
use crate::interrupt;
use crate::out_file::{OutFile, refuse_existing};
use crate::output::{self, Output, plain};
use crate::progress::Progress;
use crate::reference::{Selector, Target};
use crate::remote::RemoteArgs;
use crate::session;
use crate::tar_ref;

/// Tags of a registry that are looked up side by side.
const JOBS: usize = 4;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    targets: Vec<String>,
    file: PathBuf,
    replace: bool,
    have: Vec<String>,
    volume_size: Option<u64>,
    docker: bool,
    referrers: bool,
    compression: Compression,
    dry_run: bool,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "export",
        "Write artifacts of a layout or a registry into an archive, or into volumes of a size",
        "An archive is an OCI layout in a tar file, streamed straight from where the artifacts are, with everything that is attached to what was named. \
         The same content gives the same bytes; the times in it are that of SOURCE_DATE_EPOCH, else zero. With --have it carries only what the \
         receiver lacks; manifests always go along, so that the receiver can prove that nothing is missing. Each volume is a layout of its own; \
         they are written to FILE with a number in its name.",
        "orlop export oci:mirror -o out.tar --have low-side.inv --volume-size 4.7GB",
    )
    .arg(
        rest("targets", "oci:DIR[:REF]|REGISTRY/REPOSITORY[:TAG|@DIGEST]", "What to write; without REF everything, without TAG all tags; tar:FILE[:REF] too")
            .required(true),
    )
    .arg(option("output", "FILE", "Where to write; - is standard output").short('o').required(true))
    .arg(flag("overwrite", "Replace FILE if it is there"))
    .arg(option("have", "FILE", "Leave out what this inventory, receipt or archive lists; can be repeated").action(clap::ArgAction::Append))
    .arg(option("volume-size", "BYTES", "Write volumes of at most this size, as 4.7GB or 700MiB").value_parser(size))
    .arg(flag("docker", "Let `docker load` find the images too, by a manifest.json"))
    .arg(flag("no-referrers", "Leave what is attached behind"))
    .arg(tar_ref::compress_option().conflicts_with("volume-size"))
    .arg(flag("dry-run", "Say what would be written, and write nothing"))
    .args(RemoteArgs::declare())
}

/// A size as people write it on media, which may have a fraction.
fn size(text: &str) -> Result<u64, String> {
    let Some((whole, rest)) = text.split_once('.') else { return bytes(text) };
    let digits = rest.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = rest.get(digits.len()..).unwrap_or_default();
    let scale = u32::try_from(digits.len()).ok().and_then(|len| 10u64.checked_pow(len));
    let (one, whole) = (bytes(&format!("1{unit}"))?, bytes(&format!("{whole}{unit}"))?);
    let fraction: u64 = digits.parse().map_err(|_| "not a number".to_owned())?;
    let part = scale.and_then(|scale| Some(fraction.checked_mul(one)? / scale)).ok_or("too many digits")?;
    whole.checked_add(part).ok_or_else(|| "too many bytes".into())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            targets: values(matches, "targets"),
            file: value::<String>(matches, "output").unwrap_or_default().into(),
            replace: matches.get_flag("overwrite"),
            have: values(matches, "have"),
            volume_size: value(matches, "volume-size"),
            docker: matches.get_flag("docker"),
            referrers: !matches.get_flag("no-referrers"),
            compression: value(matches, "compress").unwrap_or_default(),
            dry_run: matches.get_flag("dry-run"),
            remote: RemoteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    files: Vec<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    set: String,
    manifests: usize,
    contents: usize,
    bytes: u64,
    known: usize,
    known_bytes: u64,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let named: Vec<Named> = args.targets.iter().map(|text| Named::source(text)).collect::<Result<_, _>>()?;
    let Some(first) = named.first() else { return Err(Failure::usage("nothing to export was named")) };
    if let Some(other) = named.iter().find(|other| other.place() != first.place()) {
        return Err(Failure::usage(format!(
            "only one layout or registry is exported at a time, one={}, other={}",
            first.place(),
            other.place()
        ))
        .with_hint("copy them into one layout with `orlop cp` first"));
    }
    let is_stdout = args.file.as_os_str() == "-";
    if is_stdout && args.volume_size.is_some() {
        return Err(
            Failure::usage("volumes are several files, output=-").with_hint("name a file with --output")
        );
    }
    let have = have(&args.have, output)?;
    let Named::Layout(target) = first else {
        if matches!(first, Named::Archive(_)) {
            args.remote.check_unused(&first.shown())?;
        }
        let origin = Origin::open(first, &args.remote.client()?, output)?;
        let chosen = Chosen::of(&origin, &named)?;
        return export(chosen.add(chosen.exporter()), &have, args, output);
    };
    args.remote.check_unused(&target.shown())?;
    let store = session::read(target, output)?;
    let targets: Vec<&Target> = named.iter().filter_map(Named::layout).collect();
    export(add(Exporter::new(&store), &targets, &store)?, &have, args, output)
}

fn export(exporter: Exporter<'_>, have: &Inventory, args: &Args, output: &Output) -> Result<(), Failure> {
    let mut exporter = exporter
        .have(have)
        .referrers(args.referrers)
        .docker(args.docker)
        .compression(args.compression)
        .time(source_date()?.unwrap_or(0));
    if let Some(size) = args.volume_size {
        exporter = exporter.volume_size(size);
    }
    let mut plan = exporter.plan().map_err(unplanned)?;
    let files = files(&args.file, args.volume_size.is_some().then(|| plan.volumes()));
    let report = Report {
        files: files.iter().map(|file| file.display().to_string()).collect(),
        set: plan.set().to_owned(),
        manifests: plan.manifests().count(),
        contents: plan.contents().count(),
        bytes: plan.contents().map(|(_, size)| size).sum(),
        known: plan.known().count(),
        known_bytes: plan.known().map(|(_, size)| size).sum(),
    };
    if !args.dry_run {
        write(&mut plan, args, &files, report.bytes, output)?;
    }
    finish(&report, args, &plan, output)
}

/// What the receiver has.
fn have(files: &[String], output: &Output) -> Result<Inventory, Failure> {
    let mut have = Inventory::default();
    for file in files {
        have.extend(&tar_ref::inventory(file, output)?.0);
    }
    Ok(have)
}

fn add<'a>(
    mut exporter: Exporter<'a>,
    targets: &[&Target],
    store: &'a Store,
) -> Result<Exporter<'a>, Failure> {
    for target in targets {
        if target.selector == Selector::Layout {
            exporter = exporter.everything()?;
            continue;
        }
        let (repository, descriptor) = target.find(store)?.into_parts();
        let tags: Vec<Tag> = match &target.selector {
            // What another tool called it is a name of its own; the tags of its manifest say as much.
            Selector::Name(name) => match LayoutName::parse(name) {
                LayoutName::Tag(named, tag) if named == repository => vec![tag],
                _ => store.repository(&repository).tags_of(&descriptor.digest)?,
            },
            _ => Vec::new(),
        };
        exporter = exporter.with(&repository, &descriptor.digest, &tags);
    }
    Ok(exporter)
}

/// What is exported of a place that is no layout.
struct Chosen {
    items: Vec<Selected>,
    sources: BTreeMap<RepositoryName, Box<dyn Source>>,
}

impl Chosen {
    fn of(origin: &Origin, named: &[Named]) -> Result<Self, Failure> {
        let (mut items, mut sources) = (Vec::new(), BTreeMap::new());
        for named in named {
            tar_ref::unusable(&origin.unusable(named), &named.shown())?;
            match origin.select(named, &Tags::Named, JOBS)? {
                Selection::One(one) | Selection::Foreign(one) => items.push(one),
                Selection::Many(many) => items.extend(many),
            }
        }
        for item in &items {
            if !sources.contains_key(&item.named) {
                sources.insert(item.named.clone(), origin.source(&item.repository)?);
            }
        }
        Ok(Self { items, sources })
    }

    fn exporter(&self) -> Exporter<'_> {
        Exporter::from_sources(
            self.sources.iter().map(|(name, source)| (name.clone(), &**source as &dyn Source)),
        )
    }

    fn add<'a>(&self, exporter: Exporter<'a>) -> Exporter<'a> {
        self.items.iter().fold(exporter, |exporter, item| exporter.with(&item.named, &item.root, &item.tags))
    }
}

fn unplanned(error: orlop::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::new(Exit::Incomplete, error.to_string())
            .with_hint("nothing was written; what is missing has to be brought there first, into a layout by `orlop repair`"),
        _ => error.into(),
    }
}

/// The files that are written: with the number of the volume before the ending.
fn files(file: &Path, volumes: Option<u32>) -> Vec<PathBuf> {
    let Some(volumes) = volumes else { return vec![file.to_owned()] };
    let width = volumes.to_string().len().max(3);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ending = file.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    (1..=volumes).map(|number| file.with_file_name(format!("{stem}.{number:0width$}{ending}"))).collect()
}

fn write<'a>(
    plan: &mut Plan<'a>,
    args: &Args,
    files: &[PathBuf],
    total: u64,
    output: &Output,
) -> Result<(), Failure> {
    for file in files {
        refuse_existing(file, args.replace || file.as_os_str() == "-")?;
    }
    interrupt::defer();
    let mut progress = Progress::new(output.progress(), "Exporting", Some(total));
    let mut last: Option<Digest> = None;
    plan.set_watch(move |digest, done| {
        if last.replace(*digest) != Some(*digest) {
            progress.begin(&digest.to_string());
        }
        progress.advance(done)
    });
    for (number, file) in (1..).zip(files) {
        let to = OutFile::create(file, args.replace)?;
        let written = if args.volume_size.is_some() { plan.write_volume(number, to) } else { plan.write(to) };
        let to = written.map_err(|error| match error.kind() {
            ErrorKind::Interrupted => interrupt::failure("the file that was being written is gone"),
            _ => error.into(),
        })?;
        to.finish()?;
    }
    Ok(())
}

fn finish(report: &Report, args: &Args, plan: &Plan<'_>, output: &Output) -> Result<(), Failure> {
    let shown = if args.dry_run { "would be written" } else { "written" };
    output.summary(format!(
        "{} contents {shown}, {}; {} left out, {}",
        report.contents,
        output::size(report.bytes),
        report.known,
        output::size(report.known_bytes)
    ));
    if args.file.as_os_str() == "-" && !args.dry_run {
        return Ok(());
    }
    let digests: Vec<Digest> = plan.manifests().collect();
    output.result(digests, report, || {
        let verb = if args.dry_run { "Would write" } else { "Wrote" };
        let mut text: String = report.files.iter().map(|file| format!("{verb} {}\n", plain(file))).collect();
        if !report.set.is_empty() {
            text.push_str(&format!("Set: {}\n", report.set));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_media() {
        for (text, expected) in
            [("4.7GB", 4_700_000_000), ("1.5KiB", 1536), ("25G", 25_000_000_000), ("0.5M", 500_000)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["4.", "4.xGB", ".5G", "4.7XB", "1.99999999999999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn volumes_are_numbered_before_the_ending() {
        let names = |file: &str, volumes| {
            files(Path::new(file), volumes).iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("a/out.tar", Some(2)), ["a/out.001.tar", "a/out.002.tar"]);
        assert_eq!(names("out", Some(1)), ["out.001"]);
        assert_eq!(names("out.tar", None), ["out.tar"]);
    }
}
