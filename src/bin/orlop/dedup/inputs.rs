//! The sources of a measurement: layouts, archives of them, files, and directories of files and layouts.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orlop::dedup::{Contents, Corpus};
use orlop::digest::Digester;
use orlop::oci::names::Meaning;
use orlop::oci::{Descriptor, RepositoryName};
use orlop::{Algorithm, Digest, Store};
use rustix::fs::OFlags;

use super::NOTHING;
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::reference::{Selector, Target};
use crate::session;
use crate::tar_ref;

/// What a plain file is said to be.
const FILE: &str = "application/octet-stream";
/// How deep directories of files are followed.
const MAX_DEPTH: usize = 64;
const BUFFER: usize = 256 << 10;

/// Everything that the sources name, in their order.
pub(super) fn read(sources: &[String], output: &Output) -> Result<Corpus, Failure> {
    let mut inputs =
        Inputs { corpus: Corpus::new(), output, progress: Progress::new(output.progress(), "Hashing", None) };
    for source in sources {
        interrupt::check(NOTHING)?;
        let path = Path::new(source);
        if path.is_file() {
            inputs.file(path)?;
        } else if path.is_dir() && !is_layout(path) {
            inputs.directory(path, 0)?;
        } else if let Some(target) = tar_ref::parse(source) {
            inputs.archive(&target?)?;
        } else {
            let target: Target = source.parse()?;
            inputs.target(&target)?;
        }
    }
    Ok(inputs.corpus)
}

struct Inputs<'a> {
    corpus: Corpus,
    output: &'a Output,
    progress: Progress,
}

impl Inputs<'_> {
    fn target(&mut self, target: &Target) -> Result<(), Failure> {
        let store = session::read(target, self.output)?;
        if let Some(repository) = whole_repository(&store, target)? {
            let repository = store.repository(&repository);
            return Ok(self.corpus.add_repository(&target.shown(), &repository)?);
        }
        if target.selector == Selector::Layout {
            return Ok(self.corpus.add_store(&target.shown(), &store)?);
        }
        let found = target.find(&store)?;
        Ok(self.corpus.add_reference(&target.shown(), Arc::new(found.repository), &found.descriptor)?)
    }

    /// An archive of a layout or of docker, read where it lies.
    fn archive(&mut self, target: &Target) -> Result<(), Failure> {
        let archive = tar_ref::open(target)?;
        let shown = target.shown().replacen("oci:", "tar:", 1);
        match &target.selector {
            Selector::Layout => return Ok(self.corpus.add_archive(&shown, &archive)?),
            Selector::Name(name) if matches!(archive.find_name(name), Meaning::None) => {
                if let Ok(name) = name.parse::<RepositoryName>()
                    && archive.repositories().contains(&name)
                {
                    return Ok(self.corpus.add_source(&shown, Arc::new(archive.repository(&name)))?);
                }
            }
            _ => {}
        }
        let (repository, descriptor) = tar_ref::find(&archive, target)?;
        Ok(self.corpus.add_reference(&shown, Arc::new(archive.repository(&repository)), &descriptor)?)
    }

    /// Files in the order of their names, and layouts among them.
    #[expect(clippy::disallowed_methods, reason = "a directory of the user, no part of a store")]
    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), Failure> {
        let failed = |error: &std::io::Error| Failure::io("read the directory", path, error);
        if depth > MAX_DEPTH {
            return Err(Failure::new(
                Exit::Other,
                format!("directories are too deep, path={}", path.display()),
            ));
        }
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| failed(&error))? {
            let entry = entry.map_err(|error| failed(&error))?;
            entries.push((entry.path(), entry.file_type().map_err(|error| failed(&error))?));
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, kind) in entries {
            if kind.is_file() {
                self.file(&path)?;
            } else if kind.is_dir() && is_layout(&path) {
                let name = path.to_str().filter(|name| !name.contains([':', '@'])).ok_or_else(|| {
                    Failure::new(
                        Exit::Other,
                        format!("a layout whose path cannot be named, path={}", path.display()),
                    )
                })?;
                self.target(&format!("oci:{name}").parse()?)?;
            } else if kind.is_dir() {
                self.directory(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.display().to_string();
        self.progress.begin(&name);
        let (digest, size) = self.hash(path)?;
        let descriptor = Descriptor::new(FILE, digest, size);
        self.corpus.add_blob(name, &descriptor, Arc::new(InFile(path.to_owned())));
        Ok(())
    }

    /// What a layout would call it: two sources with the same file have the same blob.
    fn hash(&mut self, path: &Path) -> Result<(Digest, u64), Failure> {
        let failed = |error: &std::io::Error| Failure::io("read the file", path, error);
        let mut file = open(path).map_err(|error| failed(&error))?;
        let mut digester = Digester::new(Algorithm::default());
        let mut buffer = vec![0; BUFFER];
        let mut size = 0;
        loop {
            let count = match file.read(&mut buffer) {
                Ok(0) => return Ok((digester.finish(), size)),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(&error)),
            };
            digester.update(buffer.get(..count).unwrap_or_default());
            size += count as u64;
            if self.progress.advance(size).is_break() {
                return Err(interrupt::failure(NOTHING));
            }
        }
    }
}

/// The repository that a name means as a whole, where it is not `[repository:]tag`.
fn whole_repository(store: &Store, target: &Target) -> Result<Option<RepositoryName>, Failure> {
    let Selector::Name(name) = &target.selector else { return Ok(None) };
    let Ok(name) = name.parse::<RepositoryName>() else { return Ok(None) };
    match target.find(store) {
        Ok(_) => Ok(None),
        Err(failure) if failure.exit() == Exit::NotFound => {
            Ok(if store.repository(&name).exists()? { Some(name) } else { None })
        }
        Err(failure) => Err(failure),
    }
}

fn is_layout(path: &Path) -> bool {
    [".orlop", "oci-layout", "index.json"].iter().any(|name| path.join(name).exists())
}

#[expect(clippy::disallowed_methods, reason = "the files of the user, no part of a store")]
fn open(path: &Path) -> std::io::Result<File> {
    // Not blocking, in case it is a pipe by now.
    File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// A plain file.
struct InFile(PathBuf);

impl Contents for InFile {
    fn open(&self, _: &Descriptor) -> std::io::Result<Option<Box<dyn Read + Send + '_>>> {
        match open(&self.0) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
