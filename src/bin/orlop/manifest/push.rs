//! `orlop manifest push`

use clap::{Arg, ArgMatches, Command};
use orlop::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest, Reference, RepositoryName, Role, Tag, media_type};
use orlop::transfer::Fetched;
use orlop::{Algorithm, Batch, Digest, ErrorKind, Expect, Expected, Repository, Store};
use serde::{Deserialize, Serialize};

use super::read_file;
use crate::args::{option, target, target_of, value, verb};
use crate::content::{descriptor_flag, pretty_flag, print_descriptor};
use crate::error::{Exit, Failure};
use crate::loose;
use crate::output::Output;
use crate::reference::{Selector, Target, repository_and_tags, usage};
use crate::remote::{Remote, RemoteArgs};
use crate::session::WriteArgs;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    file: String,
    media_type: Option<String>,
    descriptor: bool,
    pretty: bool,
    write: WriteArgs,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "push",
        "Store a manifest, byte for byte",
        "What it refers to must be there, except for its subject and for content that is not for distribution.",
        "orlop manifest push oci:app:v1 manifest.json",
    )
    .arg(target("oci:DIR[:[REPOSITORY:]TAG[,TAG...]|@DIGEST]|HOST/REPOSITORY[:TAG[,TAG...]|@DIGEST]", "Where to; a digest must be that of the manifest"))
    .arg(Arg::new("file").value_name("FILE|-").help("The manifest; - is stdin").required(true))
    .arg(option("media-type", "TYPE", "Its media type [default: what the document says]"))
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .args(WriteArgs::declare())
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            file: value(matches, "file").unwrap_or_default(),
            media_type: value(matches, "media-type"),
            descriptor: matches.get_flag("descriptor"),
            pretty: matches.get_flag("pretty"),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }
}

/// What a push of a manifest prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pushed {
    #[serde(flatten)]
    pub(super) view: View,
    pub(super) reference_as_tags: Vec<String>,
}

/// Where a manifest goes: into a repository, under tags or as the digest says.
struct Place {
    repository: RepositoryName,
    tags: Vec<Tag>,
    digest: Option<Digest>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return in_registry(args, &remote, output);
    }
    let target: Target = args.target.parse()?;
    let place = match &target.selector {
        Selector::Digest(repository, digest) => {
            Place { repository: repository.clone(), tags: Vec::new(), digest: Some(*digest) }
        }
        Selector::Prefix(..) => {
            return Err(Failure::usage(format!("digest is not whole, reference={}", target.shown()))
                .with_hint("a push needs all of it, or none: then it is computed"));
        }
        _ => {
            let (repository, tags) = repository_and_tags(&target)?;
            Place { repository, tags, digest: None }
        }
    };
    // What can be refused before a store is opened is.
    let (manifest, mut descriptor, bytes) = document(args, place.digest)?;
    let (media_type, found) = (descriptor.media_type.clone(), descriptor.digest);

    // A manifest that refers to anything belongs where that is; a mistyped name must not make a layout.
    let writer = if manifest.successors().is_empty() {
        args.write.create(&target, output)?
    } else {
        args.write.open(&target, output)?
    };
    let repository = writer.store.repository(&place.repository);
    let mut batch = writer.store.batch();
    take_in(&writer.store, &repository, &mut batch, &manifest, &target)?;
    batch.push_manifest_as(&repository, &media_type, bytes, found.algorithm())?;
    for tag in &place.tags {
        batch.tag(&repository, tag, found, Expect::Any);
    }
    batch.commit().map_err(incomplete)?;
    drop(repository);
    writer.close()?;

    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    descriptor.artifact_type = manifest.artifact_type().map(ToOwned::to_owned);
    descriptor.annotations = manifest.annotations().clone();
    report(&target, &place.repository, &place.tags, &descriptor, output)
}

/// The document that is pushed; its digest must be the one that was named, if one was.
fn document(args: &Args, named: Option<Digest>) -> Result<(Manifest, Descriptor, Vec<u8>), Failure> {
    let bytes = read_file(&args.file, MAX_MANIFEST_SIZE)?;
    let media_type = match &args.media_type {
        Some(media_type) => media_type::essence(media_type).to_owned(),
        None => media_type_of(&bytes, &args.file)?,
    };
    let algorithm = named.map_or_else(Algorithm::default, |digest| digest.algorithm());
    let found = algorithm.digest(&bytes);
    if let Some(expected) = named.filter(|expected| *expected != found) {
        return Err(Failure::new(
            Exit::Integrity,
            format!("manifest has another digest than the reference, expected={expected}, found={found}"),
        )
        .with_hint("nothing was stored; give the file as it was, or a tag"));
    }
    let manifest = Manifest::parse(&media_type, &bytes).map_err(|error| usage(&error))?;
    let descriptor = Descriptor::new(media_type, found, bytes.len() as u64);
    Ok((manifest, descriptor, bytes))
}

fn in_registry(args: &Args, remote: &Remote, output: &Output) -> Result<(), Failure> {
    let named = match &remote.name.reference {
        Some(Reference::Digest(digest)) => Some(*digest),
        _ => None,
    };
    let (manifest, mut descriptor, bytes) = document(args, named)?;
    let fetched = Fetched::new(descriptor.clone(), bytes.into());
    remote.repository.push_manifest(&fetched, &remote.tags).map_err(incomplete)?;
    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    descriptor.artifact_type = manifest.artifact_type().map(ToOwned::to_owned);
    descriptor.annotations = manifest.annotations().clone();
    let view = remote.view(&descriptor);
    let reference_as_tags = remote.tags.iter().map(|tag| remote.by_tag(tag)).collect();
    let digest = descriptor.digest;
    output.result([digest], &Pushed { view, reference_as_tags }, || {
        format!("Pushed {}\nDigest: {digest}\n", remote.shown())
    })
}

/// Takes in content that another tool has put beside us and that the manifest is the first to refer to.
fn take_in(
    store: &Store,
    repository: &Repository,
    batch: &mut Batch,
    manifest: &Manifest,
    target: &Target,
) -> Result<(), Failure> {
    for successor in manifest.successors().iter().filter(|one| one.role != Role::Manifest) {
        let descriptor = &successor.descriptor;
        if repository.stat(&descriptor.digest)?.is_none()
            && let Some(file) = loose::open(store, target.path(), &descriptor.digest)?
        {
            batch.push(repository, store.ingest_reader(file, &Expected::from(descriptor))?)?;
        }
    }
    Ok(())
}

/// Prints what was pushed.
pub(super) fn report(
    target: &Target,
    repository: &RepositoryName,
    tags: &[Tag],
    descriptor: &Descriptor,
    output: &Output,
) -> Result<(), Failure> {
    let view = View::new(target.by_digest(repository, &descriptor.digest), descriptor);
    let reference_as_tags = tags.iter().map(|tag| target.by_tag(repository, tag)).collect();
    let digest = descriptor.digest;
    output.result([digest], &Pushed { view, reference_as_tags }, || {
        format!("Pushed {}\nDigest: {digest}\n", target.shown())
    })
}

/// Content that a manifest needs and that is not there makes it incomplete: the reference itself was not asked for.
pub(super) fn incomplete(error: orlop::Error) -> Failure {
    if error.kind() != ErrorKind::NotFound {
        return error.into();
    }
    Failure::new(Exit::Incomplete, error.to_string()).with_hint(
        "nothing was stored; `orlop blob push` stores what is missing, `orlop manifest push` what is listed",
    )
}

/// The media type that a document gives itself.
fn media_type_of(bytes: &[u8], path: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: Option<String>,
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|error| {
        Failure::usage(format!("manifest is not a JSON object, path={path}: {error}"))
            .with_hint("--media-type says what it is otherwise")
    })?;
    document.media_type.filter(|found| !found.is_empty()).ok_or_else(|| {
        Failure::usage(format!("manifest does not say its media type, path={path}"))
            .with_hint("give it by --media-type")
    })
}
