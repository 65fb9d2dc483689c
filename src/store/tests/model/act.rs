//! What the operations do to the store, and to its directory.

use std::fs;
use std::time::Duration;

use orlop::transfer::Copier;
use rustix::io::Errno;

use super::super::support::*;
use super::predict::Answer;
use super::world::{REPOSITORIES, TAGS, World};
use super::{Failing, Op, Step};
use crate::error::{ErrorKind, Result};
use crate::store::{Quota, Retention};
use crate::sys::fault::{Fault, arm};

impl World {
    pub(super) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Do(ref step) => self.plainly(step),
            // Reading what cannot be read is a finding; the sweep of fault points has it.
            Op::Fault(Step::Verify, _) => self.plainly(&Step::Verify),
            Op::Fault(ref step, failing) => self.under_fault(step, failing),
            Op::PushImage { repository, image, tag } => self.push_image(repository, image, tag),
            Op::Copy { repository, image } => self.copy(repository, image),
            Op::Damage { blob, push } => self.damage(blob, push),
            Op::ForeignTag { tag, image, open } => self.foreign_tag(tag, image, open),
            Op::ForeignUntag { tag } => {
                self.store.take().unwrap().close().unwrap();
                edit_index(&self.dir.root(), |entries| entries.retain(|value| !is_named(value, TAGS[tag])));
                self.open();
                self.set_tag(0, tag, None);
            }
            Op::Reopen => {
                self.store.take().unwrap().close().unwrap();
                self.check_layout();
                self.open();
                assert_eq!(self.store().reports(), []);
            }
            Op::FaultyReopen(failing) => self.reopen_under_fault(failing),
            Op::Crash => {
                crash(&self.dir, self.store.take().unwrap());
                self.open();
                assert_eq!(self.store().reports(), []);
            }
            Op::Collect(failing) => self.collect(failing),
            Op::Lease { repository, blob } => self.lease(repository, blob),
            Op::Release => self.release(),
            Op::Upload { repository, blob, crashes } => self.upload(repository, blob, crashes),
            Op::Rebuild { salvage } => {
                self.store.take().unwrap().close().unwrap();
                if !salvage {
                    fs::remove_dir_all(self.dir.root().join(".orlop")).unwrap();
                    self.forget_unreferenced();
                }
                self.forget_empty();
                options().rebuild(self.dir.root()).unwrap();
                self.open();
            }
        }
    }

    fn act(&self, step: &Step) -> Result<Answer> {
        match *step {
            Step::PushBlob { repository, blob } => {
                let pushed = self.repository(repository).push_bytes(self.blobs[blob].clone())?;
                Ok(Answer::Pushed(pushed.digest))
            }
            Step::PushBatch { repository, images, tag: name, want, submit } => {
                let here = self.repository(repository);
                let mut batch = self.store().batch();
                for artifact in [images.0, images.1].into_iter().flat_map(|image| self.family(image)) {
                    for part in &artifact.parts {
                        batch.push_bytes(&here, part.clone())?;
                    }
                    batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone())?;
                }
                batch.tag(&here, &tag(TAGS[name]), self.images[images.1].digest(), self.expect(want));
                let committed = if submit { batch.submit().wait()? } else { batch.commit()? };
                Ok(Answer::Previous(committed.tags[0].previous))
            }
            Step::Tag { repository, tag: name, image, want } => {
                let (digest, want) = (self.images[image].digest(), self.expect(want));
                self.repository(repository).tag(&tag(TAGS[name]), &digest, want).map(Answer::Previous)
            }
            Step::Untag { repository, tag: name, want } => {
                let want = self.expect(want);
                self.repository(repository).untag(&tag(TAGS[name]), want).map(Answer::Previous)
            }
            Step::Mount { from, to, image } => {
                let Some(part) = self.images[image].parts.first() else { return Ok(Answer::Mounted(false)) };
                let mounted = self.repository(to).mount(&self.repository(from), &digest_of(part))?;
                Ok(Answer::Mounted(mounted.is_some()))
            }
            Step::DeleteRepository { repository } => {
                self.store().delete_repository(&name(REPOSITORIES[repository])).map(Answer::Deleted)
            }
            Step::DeleteManifest { repository, image } => {
                let mut batch = self.store().batch();
                batch.delete_manifest(&self.repository(repository), &self.images[image].digest());
                batch.commit().map(|_| Answer::Done)
            }
            Step::DeleteBlob { repository, blob } => {
                let loose = self.loose();
                let mut batch = self.store().batch();
                batch.delete_blob(&self.repository(repository), &digest_of(&loose[blob % loose.len()]));
                batch.commit().map(|_| Answer::Done)
            }
            Step::SetQuota { repository, more } => {
                let objects = more.map(|more| self.held(repository) + more);
                let quota = Quota { objects, bytes: None };
                self.repository(repository).set_quota(&quota).map(|()| Answer::Done)
            }
            Step::SetRetention { repository, keep } => {
                let policy = keep.map(|keep| Retention { keep_last: Some(keep), ..Retention::default() });
                self.repository(repository).set_retention(policy.as_ref()).map(|()| Answer::Done)
            }
            // Nobody else puts anything there meanwhile.
            Step::RemoveUnknown => self.store().remove_unknown(Duration::ZERO, false).map(|_| Answer::Done),
            Step::Flush => self.store().flush().map(|()| Answer::Done),
            Step::Verify => {
                self.assert_sound();
                Ok(Answer::Done)
            }
        }
    }

    pub(super) fn plainly(&mut self, step: &Step) {
        let predicted = self.predict(step);
        match (predicted, self.act(step)) {
            (Ok(expected), Ok(answer)) => assert_eq!(answer, expected),
            (Err(kinds), Err(error)) => {
                let kind = error.kind();
                assert!(kinds.contains(&kind), "{error:?} instead of {kinds:?}");
                fails::<()>(Err(error), kind, &[]);
            }
            (expected, found) => panic!("{found:?} instead of {expected:?}"),
        }
        if matches!(step, Step::Flush) {
            self.check_layout();
        }
    }

    /// Success means success, an error leaves the old state, and `Indeterminate` the old or the new one.
    fn under_fault(&mut self, step: &Step, failing: Failing) {
        let before = self.model.clone();
        let predicted = self.predict(step);
        let armed = arm(failing.fault(&self.dir));
        let found = self.act(step);
        let fired = armed.fired() > 0;
        drop(armed);
        let mut either = false;
        match (predicted, found) {
            (Ok(expected), Ok(answer)) => {
                assert_eq!(answer, expected);
                if matches!(step, Step::Flush) {
                    self.check_layout();
                }
            }
            (Err(kinds), Err(error)) if kinds.contains(&error.kind()) => {}
            (_, Err(error)) => {
                assert!(fired, "{error:?}, and nothing failed");
                either = error.kind() == ErrorKind::Indeterminate;
                if !either {
                    self.model.clone_from(&before);
                }
            }
            (expected, found) => panic!("{found:?} instead of {expected:?}"),
        }
        if !fired {
            return;
        }
        let store = self.store.take().unwrap();
        if failing.nth.is_multiple_of(2) {
            drop(store)
        } else {
            crash(&self.dir, store)
        }
        self.open();
        if either && self.shown() == before {
            self.model = before;
        }
    }

    fn reopen_under_fault(&mut self, failing: Failing) {
        let armed = arm(failing.fault(&self.dir));
        let closed = self.store.take().unwrap().close();
        if closed.is_ok() {
            self.check_layout();
        }
        let opened = options().open(self.dir.root());
        let fired = armed.fired() > 0;
        drop(armed);
        assert!(fired || (closed.is_ok() && opened.is_ok()), "{closed:?}, {:?}", opened.err());
        drop(opened);
        self.open();
    }

    fn push_image(&mut self, repository: usize, image: usize, tag: Option<usize>) {
        // Each part would have to be predicted by itself.
        self.plainly(&Step::SetQuota { repository, more: None });
        for artifact in self.family(image) {
            let last = artifact.digest() == self.images[image].digest();
            let names: Vec<&str> = tag.filter(|_| last).map(|tag| TAGS[tag]).into_iter().collect();
            artifact.push(&self.repository(repository), &names);
        }
        self.hold_family(repository, image);
        if let Some(tag) = tag {
            self.set_tag(repository, tag, Some(image));
        }
    }

    fn copy(&self, repository: usize, image: usize) {
        let digest = self.images[image].digest();
        let (_dir, other) = fresh();
        let (from, to) = (self.repository(repository), repo(&other, "copy"));
        let copied = Copier::new(&from, &to).referrers(true).copy(&digest, &[tag("copied")]);
        if !self.holds(repository, image) {
            fails(copied, ErrorKind::NotFound, &[]);
            return;
        }
        copied.unwrap();
        assert_eq!(tags(&to), [("copied".to_owned(), digest)]);
        let mut wanted = self.family(image);
        if (image == 0 || image == 2) && self.holds(repository, 3) {
            wanted.push(self.images[3].clone());
        }
        for bytes in wanted.iter().flat_map(Artifact::blobs) {
            assert_eq!(&to.get(&digest_of(bytes)).unwrap().unwrap()[..], &bytes[..]);
        }
        assert!(other.verify().read_data(true).index(true).run().unwrap().is_sound());
    }

    fn damage(&self, blob: usize, push: bool) {
        self.store().flush().unwrap();
        let mut all = self.loose();
        all.extend(self.images.iter().map(|artifact| artifact.bytes.clone()));
        let bytes = all[blob % all.len()].clone();
        let digest = digest_of(&bytes);
        let holder = self.model.iter().find(|(_, shown)| shown.contents.contains(&digest));
        let Some((holder, _)) = holder.filter(|_| !bytes.is_empty()) else { return };
        damage(&blob_path(&self.dir.root(), &digest));
        let report = self.store().verify().read_data(true).run().unwrap();
        assert_eq!(report.findings.iter().map(|found| found.digest).collect::<Vec<_>>(), [Some(digest)]);
        if push {
            let here = repo(self.store(), holder);
            match self.images.iter().find(|artifact| artifact.digest() == digest) {
                Some(artifact) => {
                    here.push_manifest(artifact.media_type, artifact.bytes.clone(), &[]).unwrap();
                }
                None => drop(here.push_bytes(bytes).unwrap()),
            }
        } else {
            let (_dir, spare) = fresh();
            spare.default_repository().push_bytes(bytes).unwrap();
            assert!(self.store().repair_from(&spare).run().is_ok());
        }
        self.assert_sound();
    }

    fn assert_sound(&self) {
        let report = self.store().verify().read_data(true).index(true).run().unwrap();
        assert!(report.is_sound() && report.complete, "{:?}", report.findings);
    }

    /// Merged by the next publish, or by the next open and published later.
    fn foreign_tag(&mut self, tag: usize, image: usize, open: bool) {
        if open {
            self.store().flush().unwrap();
        } else {
            self.store.take().unwrap().close().unwrap();
        }
        for artifact in self.family(image) {
            put_blobs(&self.dir.root(), &artifact);
        }
        let artifact = self.images[image].clone();
        edit_index(&self.dir.root(), |entries| {
            entries.retain(|value| !is_named(value, TAGS[tag]));
            entries.push(entry(Some(TAGS[tag]), &artifact));
        });
        if open {
            self.store().flush().unwrap();
        } else {
            self.open();
        }
        self.hold_family(0, image);
        self.set_tag(0, tag, Some(image));
    }
}

impl Failing {
    pub(super) fn fault(self, dir: &Scratch) -> Fault {
        let errno = [Errno::IO, Errno::NOSPC, Errno::MFILE][self.errno];
        let fault = Fault::any(&dir.root(), errno).nth(self.nth);
        if self.forever { fault.forever() } else { fault }
    }
}
