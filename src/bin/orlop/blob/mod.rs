//! `orlop blob`: content as it is.

use std::io;
use std::path::Path;

use clap::{Arg, ArgMatches, Command, value_parser};
use orlop::oci::{Descriptor, RepositoryName, media_type};
use orlop::{Digest, Expected, Repository, Store};

use crate::args::{option, target, target_of, value, verb};
use crate::confirm::{DeleteArgs, ask, check, in_use, whole};
use crate::content::{FetchArgs, descriptor_flag, output_option, pretty_flag, print_descriptor};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::loose;
use crate::output::Output;
use crate::platform::missing;
use crate::progress::Progress;
use crate::reference::{Selector, Target, usage};
use crate::remote::{Remote, RemoteArgs};
use crate::session::{self, WriteArgs};
use crate::source::{NOTHING, patient};
use crate::view::View;

mod in_registry;

/// What content is of which nothing is known.
const UNKNOWN: &str = "application/octet-stream";

pub(crate) fn command() -> Command {
    Command::new("blob")
        .about("Fetch, push and delete content")
        .after_help("Example:\n  orlop blob push oci:app layer.tar")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([fetch_command(), push_command(), delete_command()])
}

pub(crate) fn run(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("fetch", matches)) => {
            fetch(&target_of(matches), &FetchArgs::of(matches)?, &RemoteArgs::of(matches), output)
        }
        Some(("push", matches)) => push(&PushArgs::of(matches), output),
        Some(("delete", matches)) => delete(&DeleteArgs::of(matches), output),
        _ => Err(Failure::usage("no verb was given").with_hint("`orlop blob --help` lists them")),
    }
}

fn fetch_command() -> Command {
    verb(
        "fetch",
        "Write a content to stdout or into a file",
        "A file appears when all of it has been checked against its digest.",
        "orlop blob fetch oci:app@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a -o config.json",
    )
    .visible_alias("get")
    .arg(target("oci:DIR[:REPOSITORY]@DIGEST|HOST/REPOSITORY@DIGEST", "The content"))
    .arg(output_option("Where to write; - is stdout").required_unless_present("descriptor"))
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .args(RemoteArgs::declare())
}

fn fetch(text: &str, args: &FetchArgs, remote: &RemoteArgs, output: &Output) -> Result<(), Failure> {
    args.check(output)?;
    if let Some(remote) = Remote::of(text, remote)? {
        return in_registry::fetch(&remote, args, output);
    }
    let target: Target = text.parse()?;
    let store = session::read(&target, output)?;
    let target = target.expanded(&store)?;
    let (repository, descriptor) = match &target.selector {
        Selector::Digest(name, digest) => {
            let repository = store.repository(name);
            match describe(&repository, digest, &target) {
                Err(failure) if failure.exit() == Exit::NotFound && name.is_unnamed() => {
                    return fetch_loose(&store, &target, digest, args, output)?.ok_or(failure);
                }
                descriptor => (repository, descriptor?),
            }
        }
        // A manifest is content too.
        _ => {
            let found = target.find(&store)?;
            (found.repository, found.descriptor)
        }
    };
    let digest = &descriptor.digest;
    let view = View::new(target.by_digest(repository.name(), digest), &descriptor);
    if args.destination.is_none() {
        return args.content(&view, &descriptor, &mut io::empty(), output);
    }
    let mut reader = repository.reader(digest)?.ok_or_else(|| missing("content", digest))?;
    args.content(&view, &descriptor, &mut reader, output)
}

/// Content that another tool has put into the layout and that no manifest refers to yet. None if there is no such file.
fn fetch_loose(
    store: &Store,
    target: &Target,
    digest: &Digest,
    args: &FetchArgs,
    output: &Output,
) -> Result<Option<()>, Failure> {
    let Some((mut file, size)) = loose::verified(store, target.path(), digest)? else { return Ok(None) };
    let descriptor = Descriptor::new(UNKNOWN, *digest, size);
    let view = View::new(target.shown(), &descriptor);
    args.content(&view, &descriptor, &mut file, output).map(Some)
}

/// What a repository knows of a content.
fn describe(repository: &Repository, digest: &Digest, target: &Target) -> Result<Descriptor, Failure> {
    let stat = repository.stat(digest)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no such content, reference={}", target.shown()))
            .with_hint("content belongs to a repository: oci:DIR:REPOSITORY@DIGEST")
    })?;
    let media_type = stat.media_type.unwrap_or_else(|| UNKNOWN.to_owned());
    Ok(Descriptor::new(media_type, *digest, stat.size))
}

/// The arguments of a push.
#[derive(Debug)]
struct PushArgs {
    target: String,
    file: String,
    size: Option<u64>,
    media_type: String,
    descriptor: bool,
    pretty: bool,
    write: WriteArgs,
    remote: RemoteArgs,
}

fn push_command() -> Command {
    verb(
        "push",
        "Store a content",
        "The directory becomes a layout if it is none. Until a manifest refers to it, other tools find it by its file only.",
        "orlop blob push oci:app layer.tar",
    )
    .arg(target("oci:DIR[:REPOSITORY][@DIGEST]|HOST/REPOSITORY[@DIGEST]", "Where to; a digest must be that of the content"))
    .arg(Arg::new("file").value_name("FILE|-").help("The content; - is stdin").required(true))
    .arg(option("size", "BYTES", "Refuse content of another size").value_parser(value_parser!(u64)))
    .arg(
        option("media-type", "TYPE", "The media type in the descriptor that is printed")
            .default_value(media_type::LAYER_TAR),
    )
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .args(WriteArgs::declare())
    .args(RemoteArgs::declare())
}

impl PushArgs {
    fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            file: value(matches, "file").unwrap_or_default(),
            size: value(matches, "size"),
            media_type: value(matches, "media-type").unwrap_or_default(),
            descriptor: matches.get_flag("descriptor"),
            pretty: matches.get_flag("pretty"),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }
}

fn push(args: &PushArgs, output: &Output) -> Result<(), Failure> {
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return in_registry::push(&remote, args, output);
    }
    let target: Target = args.target.parse()?;
    let (name, digest) = match &target.selector {
        Selector::Layout => (RepositoryName::unnamed(), None),
        Selector::Name(name) => (name.parse().map_err(|error| usage(&error))?, None),
        Selector::Digest(name, digest) => (name.clone(), Some(*digest)),
        Selector::Prefix(..) => {
            return Err(Failure::usage(format!("digest is not whole, reference={}", target.shown()))
                .with_hint("a push needs all of it, or none: then it is computed"));
        }
    };
    media_type::validate(media_type::essence(&args.media_type)).map_err(|error| usage(&error))?;
    let path = Path::new(&args.file);
    if args.file != "-" && session::metadata(path)?.is_dir() {
        return Err(Failure::usage(format!("a directory is no content, path={}", args.file))
            .with_hint("push its files: `orlop push`"));
    }
    let mut expected = digest.map(Expected::from).unwrap_or_default();
    expected.size = args.size;

    let writer = args.write.create(&target, output)?;
    let mut progress = Progress::new(output.progress(), "Storing", args.size);
    progress.begin(&args.file);
    let mut watch = |done| progress.advance(done);
    let content = if args.file == "-" {
        writer.store.ingest_reader_observed(patient(&io::stdin()), &expected, &mut watch)
    } else {
        writer.store.ingest_file_observed(path, &expected, &mut watch)
    };
    drop(progress);
    // After a signal the store is closed as always.
    let content = match content {
        Err(_) if interrupt::is_caught() => {
            writer.close()?;
            return Err(interrupt::failure(NOTHING));
        }
        other => other?,
    };
    let descriptor = Descriptor::new(&*args.media_type, content.digest(), content.size());
    let mut batch = writer.store.batch();
    batch.push(&writer.store.repository(&name), content)?;
    batch.commit()?;
    writer.close()?;

    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    let digest = descriptor.digest;
    let view = View::new(target.by_digest(&name, &digest), &descriptor);
    output.result([digest], &view, || format!("Pushed {}\nDigest: {digest}\n", target.shown()))
}

fn delete_command() -> Command {
    let command = verb(
        "delete",
        "Delete a content from a repository",
        "Content that a manifest of the repository refers to cannot be deleted; other repositories keep it.",
        "orlop blob delete oci:app@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    );
    DeleteArgs::declare(
        command.arg(target("oci:DIR[:REPOSITORY]@DIGEST|HOST/REPOSITORY@DIGEST", "The content")),
    )
}

fn delete(args: &DeleteArgs, output: &Output) -> Result<(), Failure> {
    check(args.descriptor, args.force)?;
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return in_registry::delete(&remote, args, output);
    }
    let target: Target = args.target.parse()?;
    whole(&target)?;
    let Selector::Digest(name, digest) = &target.selector else {
        return Err(Failure::usage(format!("no digest was given, reference={}", target.shown()))
            .with_hint("write oci:DIR@DIGEST; a manifest goes by `orlop manifest delete`"));
    };
    let descriptor = {
        // Nobody else waits for the lock while somebody thinks about the answer.
        let store = session::read(&target, output)?;
        match describe(&store.repository(name), digest, &target) {
            Ok(descriptor) => descriptor,
            Err(failure) if failure.exit() == Exit::NotFound && args.force && !args.descriptor => {
                return output.result([""; 0], &None::<View>, || format!("Missing {}\n", target.shown()));
            }
            Err(failure) => return Err(failure),
        }
    };
    if !ask(&format!("Are you sure you want to delete the blob {digest}?"), args.force)? {
        return Ok(());
    }
    let writer = args.write.open(&target, output)?;
    let mut batch = writer.store.batch();
    batch.delete_blob(&writer.store.repository(name), digest);
    batch.commit().map_err(in_use)?;
    writer.close()?;

    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    let view = View::new(target.by_digest(name, digest), &descriptor);
    output.result([digest], &view, || format!("Deleted {}\n", target.shown()))
}
