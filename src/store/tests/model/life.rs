//! What ends content: collections, and the leases that keep it from them; and upload sessions, which bring it in parts.

use std::collections::BTreeSet;
use std::time::Duration;

use orlop::{Expected, UploadOptions};

use super::super::support::*;
use super::world::{Model, REPOSITORIES, Shown, World};
use super::{Failing, Step};
use crate::digest::Digest;
use crate::store::LeaseEntry;
use crate::sys::fault::arm;

impl World {
    /// Nothing that was pushed or asked for protects itself here, so what goes is known, but for the order in which tags
    /// changed: what the store shows is checked, and believed from then on.
    pub(super) fn collect(&mut self, failing: Option<Failing>) {
        let before = self.model.clone();
        // What an earlier one kept is due a millisecond later.
        std::thread::sleep(Duration::from_millis(2));
        let armed = failing.map(|failing| arm(failing.fault(&self.dir)));
        let outcome = self.store().collector().grace(Duration::ZERO).run();
        let fired = armed.as_ref().is_some_and(|armed| armed.fired() > 0);
        drop(armed);
        assert!(outcome.is_ok() || fired, "{outcome:?}");
        if fired {
            let store = self.store.take().unwrap();
            if failing.is_some_and(|failing| failing.nth.is_multiple_of(2)) {
                drop(store);
            } else {
                crash(&self.dir, store);
            }
            self.open();
        } else {
            let report = outcome.unwrap();
            assert!(
                report.complete && report.failed.is_empty() && report.unreadable.is_empty(),
                "{report:?}"
            );
        }
        let after = self.shown();
        self.check_collected(&before, &after, !fired);
        self.model = after;
    }

    fn check_collected(&self, before: &Model, after: &Model, complete: bool) {
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        let leased = self.leased();
        for (name, before) in before {
            let after = &after[name];
            assert!(after.tags.iter().all(|(tag, target)| before.tags.get(tag) == Some(target)), "{name:?}");
            let kept = before.keep.map_or(usize::MAX, |keep| keep as usize).min(before.tags.len());
            assert!(
                after.tags.len() >= kept && (!complete || after.tags.len() == kept),
                "{name:?}: {after:?}"
            );
            assert!(after.manifests.is_subset(&before.manifests), "{name:?}");
            for image in 0..self.images.len() {
                let digest = self.images[image].digest();
                if before.manifests.contains(&digest) && !after.manifests.contains(&digest) {
                    assert!(self.may_go(before, after, image), "{name:?}: image {image} of {before:?}");
                }
            }
            let needed = self.reached(after);
            let held: BTreeSet<Digest> = leased.intersection(&before.contents).copied().collect();
            assert!(after.contents.is_superset(&needed) && after.contents.is_superset(&held), "{name:?}");
            if complete {
                assert_eq!(after.contents, &needed | &held, "{name:?}");
            }
        }
    }

    /// Untagged manifests stay, but for those that a policy took the last tag from, what only such an index listed, and
    /// referrers whose subject went.
    fn may_go(&self, before: &Shown, after: &Shown, image: usize) -> bool {
        let digest = self.images[image].digest();
        let had_tag =
            |image: usize| before.tags.values().any(|target| *target == self.images[image].digest());
        let listed = image < 2 && after.manifests.contains(&self.images[2].digest());
        let by_policy =
            had_tag(image) || (image < 2 && had_tag(2)) || (image == 3 && (had_tag(0) || had_tag(2)));
        let without_subject = image == 3 && !before.manifests.contains(&self.images[0].digest());
        let tagged = after.tags.values().any(|target| *target == digest);
        !tagged && !listed && (without_subject || (before.keep.is_some() && by_policy))
    }

    /// What the manifests of a repository consist of.
    fn reached(&self, shown: &Shown) -> BTreeSet<Digest> {
        let held = self.images.iter().filter(|artifact| shown.manifests.contains(&artifact.digest()));
        held.flat_map(Artifact::blobs).map(|bytes| digest_of(bytes)).collect()
    }

    fn leases(&self) -> Vec<LeaseEntry> {
        let page = self.store().leases(None, 100).unwrap();
        assert!(!page.more);
        page.items
    }

    /// What is held by leases; a lease here has one content, which its label names.
    fn leased(&self) -> BTreeSet<Digest> {
        self.leases().iter().map(|lease| lease.label.parse().unwrap()).collect()
    }

    /// A lease on a content of a repository, if it is there.
    pub(super) fn lease(&self, repository: usize, blob: usize) {
        let loose = self.loose();
        let digest = digest_of(&loose[blob % loose.len()]);
        let lease = self.store().lease(Duration::from_secs(3600), &digest.to_string()).unwrap();
        let held = self.model.values().any(|shown| shown.contents.contains(&digest));
        let here =
            self.model.get(REPOSITORIES[repository]).is_some_and(|shown| shown.contents.contains(&digest));
        let added = lease.add(&[digest]);
        // Content that nobody holds may be there still, until a collection takes it.
        assert!(added.is_ok() || !held, "{added:?}, here={here}");
        if added.is_err() {
            lease.release().unwrap();
        }
    }

    pub(super) fn release(&self) {
        for entry in self.leases() {
            self.store().open_lease(&entry.id).unwrap().unwrap().release().unwrap();
        }
        assert_eq!(self.leases().len(), 0);
    }

    /// A blob in two parts, with an end of the process in between.
    pub(super) fn upload(&mut self, repository: usize, blob: usize, crashes: bool) {
        // What a session takes of a quota is told elsewhere.
        self.plainly(&Step::SetQuota { repository, more: None });
        let bytes = self.blobs[blob].clone();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut upload = self.repository(repository).start_upload(&UploadOptions::new()).unwrap();
        upload.append(0, first).unwrap();
        upload.save().unwrap();
        let id = upload.id();
        drop(upload);
        let store = self.store.take().unwrap();
        if crashes {
            crash(&self.dir, store);
        } else {
            store.close().unwrap();
        }
        self.open();
        let mut upload = self.repository(repository).upload(&id).unwrap().unwrap();
        upload.append(first.len() as u64, second).unwrap();
        let pushed = upload.finish(&Expected::from(digest_of(&bytes))).unwrap();
        assert_eq!(pushed.digest, digest_of(&bytes));
        self.predict(&Step::PushBlob { repository, blob }).unwrap();
        assert!(self.repository(repository).upload(&id).unwrap().is_none());
    }
}
