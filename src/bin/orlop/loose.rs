//! Files below `blobs/` that nothing in the layout names yet, as other tools leave them between a push of content and a
//! push of the manifest that refers to it.

use std::fs::File;
use std::io::{self, Seek};
use std::path::Path;

use orlop::digest::Digester;
use orlop::{Digest, Store};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Exit, Failure};

/// Opens the file of a content that the store knows nothing of. Links are not followed, and it is not known yet
/// whether the content is what the name of the file says.
pub(crate) fn open(store: &Store, layout: &Path, digest: &Digest) -> Result<Option<File>, Failure> {
    // What a repository holds belongs to it.
    if store.unscoped().stat(digest)?.is_some() {
        return Ok(None);
    }
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut path = layout.to_owned();
    let failed = |path: &Path, errno: Errno| Failure::io("open the content", path, &errno.into());
    let mut parent = match rustix::fs::open(layout, directory, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed(&path, errno)),
    };
    // Not blocking, in case it is a pipe.
    let regular = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let steps = [
        ("blobs".to_owned(), directory),
        (digest.algorithm().to_string(), directory),
        (digest.encoded().to_string(), regular),
    ];
    for (name, flags) in steps {
        path.push(&name);
        parent = match rustix::fs::openat(&parent, name.as_str(), flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Failure::new(
                    Exit::Policy,
                    format!("a symbolic link stands where content belongs, path={}", path.display()),
                )
                .with_hint("links in a layout are not followed: they may lead anywhere"));
            }
            Err(errno) => return Err(failed(&path, errno)),
        };
    }
    let file = File::from(parent);
    let found = file.metadata().map_err(|error| Failure::io("read the content", &path, &error))?;
    Ok(found.is_file().then_some(file))
}

/// The same, hashed: the file from its beginning, and its size.
pub(crate) fn verified(
    store: &Store,
    layout: &Path,
    digest: &Digest,
) -> Result<Option<(File, u64)>, Failure> {
    let Some(mut file) = open(store, layout, digest)? else { return Ok(None) };
    let failed = |error: &io::Error| Failure::io("read the content", layout, error);
    let mut digester = Digester::new(digest.algorithm());
    let size = io::copy(&mut file, &mut digester).map_err(|error| failed(&error))?;
    let found = digester.finish();
    if found != *digest {
        return Err(Failure::new(
            Exit::Integrity,
            format!("content is not what its digest says, expected={digest}, found={found}"),
        )
        .with_hint("push the same content again to heal it, or take it from where the layout came from"));
    }
    file.rewind().map_err(|error| failed(&error))?;
    Ok(Some((file, size)))
}
