//! `orlop blob` on a registry.

use std::io;

use orlop::oci::{Descriptor, Reference, media_type};

use super::{PushArgs, UNKNOWN};
use crate::confirm::{DeleteArgs, ask};
use crate::content::{FetchArgs, print_descriptor};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::reference::usage;
use crate::remote::outgoing::{Outgoing, Prepared};
use crate::remote::{Remote, absent};
use crate::source::{NOTHING, Source, check_stdin};
use crate::view::View;

pub(super) fn fetch(remote: &Remote, args: &FetchArgs, output: &Output) -> Result<(), Failure> {
    let found = describe(remote)?;
    let Some(descriptor) = found else { return fetch_manifest(remote, args, output) };
    let view = remote.view(&descriptor);
    if args.destination.is_none() {
        return args.content(&view, &descriptor, &mut io::empty(), output);
    }
    let content = remote.repository.content(&descriptor, 0)?;
    let mut content = content.ok_or_else(|| absent("content", &descriptor.digest))?;
    args.content(&view, &descriptor, &mut content, output)
}

/// A manifest is content too, which registries keep by itself.
fn fetch_manifest(remote: &Remote, args: &FetchArgs, output: &Output) -> Result<(), Failure> {
    let fetched = remote.repository.manifest(remote.reference()?)?.ok_or_else(|| not_found(remote))?;
    let view = remote.view(&fetched.descriptor);
    args.content(&view, &fetched.descriptor, &mut &*fetched.bytes, output)
}

/// What a registry knows of a content; None for what is named by a tag, or is no content.
fn describe(remote: &Remote) -> Result<Option<Descriptor>, Failure> {
    let Reference::Digest(digest) = remote.reference()? else { return Ok(None) };
    let size = remote.repository.content_size(digest)?;
    Ok(size.map(|size| Descriptor::new(UNKNOWN, *digest, size)))
}

fn not_found(remote: &Remote) -> Failure {
    Failure::new(Exit::NotFound, format!("no such content, reference={}", remote.shown()))
}

pub(super) fn push(remote: &Remote, args: &PushArgs, output: &Output) -> Result<(), Failure> {
    let named = match &remote.name.reference {
        None => None,
        Some(_) => Some(remote.digest()?),
    };
    media_type::validate(media_type::essence(&args.media_type)).map_err(|error| usage(&error))?;
    let source = Source::of(args.file.as_ref(), "", None)?;
    if source.is_directory() {
        return Err(Failure::usage(format!("a directory is no content, path={}", args.file))
            .with_hint("push its files: `orlop push`"));
    }
    if args.file == "-" {
        check_stdin()?;
    }
    interrupt::defer();
    let prepared = Prepared::of(source, named.map(|digest| digest.algorithm()))?;
    let (digest, size) = (prepared.digest, prepared.size);
    let unexpected = [
        named.filter(|named| *named != digest).map(|named| format!("expected={named}, found={digest}")),
        args.size.filter(|wanted| *wanted != size).map(|wanted| format!("expected={wanted}, found={size}")),
    ];
    if let Some(what) = unexpected.into_iter().flatten().next() {
        return Err(Failure::new(Exit::Integrity, format!("content is not what was announced, {what}"))
            .with_hint("nothing was stored"));
    }
    let descriptor = Descriptor::new(&*args.media_type, digest, size);
    let mut progress = Progress::new(output.progress(), "Pushing", Some(size));
    progress.begin(&args.file);
    Outgoing::new(&prepared, progress).push(&remote.repository, &descriptor)?;
    interrupt::check(NOTHING)?;
    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    output.result([digest], &remote.view(&descriptor), || {
        format!("Pushed {}\nDigest: {digest}\n", remote.shown())
    })
}

pub(super) fn delete(remote: &Remote, args: &DeleteArgs, output: &Output) -> Result<(), Failure> {
    let digest = remote.digest()?;
    let descriptor = match describe(remote)? {
        Some(descriptor) => descriptor,
        None if args.force && !args.descriptor => {
            return output.result([""; 0], &None::<View>, || format!("Missing {}\n", remote.shown()));
        }
        None => return Err(not_found(remote)),
    };
    if !ask(&format!("Are you sure you want to delete the blob {digest}?"), args.force)? {
        return Ok(());
    }
    remote.repository.delete_blob(&digest)?;
    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    output.result([digest], &remote.view(&descriptor), || format!("Deleted {}\n", remote.shown()))
}
