//! The layouts of a server: opened, and under which name the unnamed repository of each is served.

use std::path::Path;
use std::time::Duration;

use orlop::oci::RepositoryName;
use orlop::server::Layout;
use orlop::{Answers, Collect, ErrorKind, Limits, Options, ReadMode, Store};

use crate::error::Failure;
use crate::output::Output;
use crate::reference::Target;
use crate::session::{self, WriteArgs};

/// Kept for an open on a full disk: nobody is at hand who makes room.
const BALLAST: u64 = 64 << 20;

/// How layouts are opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) read_only: bool,
    pub(super) collect: Option<Duration>,
    pub(super) grace: Option<Duration>,
    pub(super) limits: Limits,
    /// Bytes are read by this program and not by the kernel alone: a mapping that fails would be a signal.
    pub(super) encrypts: bool,
    pub(super) write: WriteArgs,
}

/// A layout that is served.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) layout: Layout,
    pub(super) target: Target,
}

impl Opening {
    /// Opens one layout; `name` is what the unnamed repository is to be called, if anybody said so.
    pub(super) fn open(
        &self,
        text: &str,
        name: Option<&RepositoryName>,
        output: &Output,
    ) -> Result<Opened, Failure> {
        let target: Target = text.parse()?;
        let path = target.whole()?;
        let store = if self.read_only {
            self.read(&target, output)?
        } else {
            let options = self.options();
            match self.write.patiently_with(options, output, |options| options.open_or_create(path))? {
                Err(error) if error.kind() == ErrorKind::ReadOnly => {
                    output.note(format!(
                        "the medium is read-only, and so is the layout, path={}",
                        path.display()
                    ));
                    self.read(&target, output)?
                }
                opened => opened.map_err(|error| session::opened(error, &target))?,
            }
        };
        let name = match name {
            Some(name) => name.clone(),
            None => name_of(path)?,
        };
        Ok(Opened { layout: Layout::new(store).unnamed_as(name), target })
    }

    fn read(&self, target: &Target, output: &Output) -> Result<Store, Failure> {
        let store = self.view(target)?;
        session::note(store.reports().iter(), output);
        Ok(store)
    }

    /// A frozen view of a layout.
    pub(super) fn view(&self, target: &Target) -> Result<Store, Failure> {
        // Whoever writes the directory may be anyone: a read that fails is an error, a mapping that fails is a signal.
        let options = Options::new().limits(self.limits.clone()).read_mode(ReadMode::Copy);
        options.open_read_only(target.path()).map_err(|error| session::unread(error, target))
    }

    fn options(&self) -> Options {
        let options = Options::new().answers(Answers::Shared).ballast(BALLAST).limits(self.limits.clone());
        let options = if self.encrypts { options.read_mode(ReadMode::Copy) } else { options };
        let options = match self.grace {
            Some(grace) => options.grace(grace),
            None => options,
        };
        match self.collect {
            Some(every) => options.collect(Collect::Background { every }),
            None => options,
        }
    }
}

/// The name of a directory as one of a repository: lower case, and a dash for what repositories cannot have.
fn name_of(path: &Path) -> Result<RepositoryName, Failure> {
    // For `.` and the like.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let last = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    fitted(&last).ok_or_else(|| {
        let shown = whole.display();
        Failure::usage(format!("the name of the directory cannot be one of a repository, path={shown}"))
            .with_hint("say with --as under which name the unnamed repository is to be served")
    })
}

/// A text as the name of a repository, if there is enough in it for one.
pub(super) fn fitted(name: &str) -> Option<RepositoryName> {
    if let Ok(name) = name.parse() {
        return Some(name);
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(|c| !fits(c)).filter(|word| !word.is_empty()).collect();
    words.join("-").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_become_names() {
        for (name, expected) in [
            ("images", Some("images")),
            ("a.b_c--d", Some("a.b_c--d")),
            ("My Images", Some("my-images")),
            ("..v1", Some("v1")),
            ("App_", Some("app")),
            ("a:b", Some("a-b")),
            ("\u{e9}t\u{e9}", Some("t")),
            ("\u{5b58}\u{50a8}", None),
            ("", None),
            ("--", None),
        ] {
            assert_eq!(fitted(name).as_ref().map(RepositoryName::as_str), expected, "{name}");
        }
    }
}
