//! Quarantine: damaged content, out of the way of everybody who trusts names, and kept.

use super::{Core, PRIVATE, QUARANTINE};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sys;

impl Core {
    /// Moves what has the name of a content to quarantine; false when nothing has it, or there is no quarantine, as in a
    /// plain layout. The caller holds the content's stripe exclusively and has marked its row.
    pub(super) fn move_to_quarantine(&self, digest: &Digest) -> Result<bool> {
        if self.ephemeral.is_some() {
            return Ok(false);
        }
        let path = self.root.join(PRIVATE).join(QUARANTINE);
        let fail = |error| Error::io("move damaged content to quarantine", &path, error);
        let private = super::open::open_private(&self.root)?;
        private.make_dir(QUARANTINE).map_err(fail)?;
        let Some(quarantine) = private.open_dir(QUARANTINE).map_err(fail)? else { return Ok(false) };
        let name = format!("{}-{}-{}", digest.algorithm(), digest.encoded(), sys::now().as_nanosecond());
        let moved = self.blobs.move_away(digest, &quarantine, &name)?;
        if moved {
            // Its new name first: between the two syncs it may have both, never none.
            quarantine.sync().map_err(fail).map_err(|error| self.poison(error))?;
            self.blobs.sync_dirs(&[digest.algorithm()]).map_err(|error| self.poison(error))?;
        }
        Ok(moved)
    }
}
