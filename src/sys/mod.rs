//! The only floor that calls the operating system for the files of a store.
//!
//! Everything works relative to an open [`Dir`], never follows a symbolic link inside a store, and passes a
//! [`fault`] point before it calls the system, so that tests reach every error path.

mod around;
mod atomic;
mod clock;
mod clone;
mod dir;
pub(crate) mod fault;
mod growing;
mod lock;
mod map;
mod random;
mod read;
mod scratch;
mod space;
mod temp;
mod tree;
#[cfg(feature = "client")]
mod user_file;

pub(crate) use self::around::Aligned;
pub(crate) use self::atomic::{cut_off, overwrite, replace, sync_document, write_over};
pub(crate) use self::clock::{Clock, now};
pub(crate) use self::clone::{How, may_be_shared};
pub(crate) use self::dir::{Dir, Exchanged, Ready, Stat, open_source};
pub(crate) use self::growing::GrowingFile;
pub(crate) use self::lock::StoreLock;
pub(crate) use self::map::{Mapped, Mapping, are_resident};
pub(crate) use self::random::random;
pub(crate) use self::read::{read_at, read_exact_at, read_ready_at, read_some_at};
pub(crate) use self::scratch::ScratchDir;
pub(crate) use self::space::{Free, FsKind, filesystem_id, filesystem_kind, free_space, sync_filesystem};
pub(crate) use self::temp::TempFile;
pub(crate) use self::tree::{Linked, clear, copy_mode, is_within, link, remove_tree};
#[cfg(feature = "client")]
pub(crate) use self::user_file::{names_in, read_small, replace_private};
