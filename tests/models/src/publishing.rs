//! Publishing: what `index.json` lists has its file, and a base row tells what it says of a tag that has changed since.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::store::{Store, Without};
use crate::Digest;

/// One tag that names a content, or nothing.
type Tag = Option<Digest>;

/// A store that publishes; one repository with one tag.
pub struct Publisher {
    /// Its contents.
    pub store: Store,
    publishing: Mutex<()>,
    /// The tag row and the base row: rows of the same metadata, so one critical section reads both.
    tag: Mutex<(Tag, Option<Tag>)>,
    /// What `index.json` lists, and what it says of the tag.
    published: Mutex<(BTreeSet<Digest>, Tag)>,
}

impl Publisher {
    /// An empty store, published.
    pub fn new(without: Without) -> Self {
        Self {
            store: Store::new(without),
            publishing: Mutex::new(()),
            tag: Mutex::new((None, None)),
            published: Mutex::new((BTreeSet::new(), None)),
        }
    }

    fn without(&self, what: Without) -> bool {
        self.store.without == what
    }

    /// `Core::publish_locked` with `Core::settle`.
    pub fn publish(&self) {
        let _publishing = self.publishing.lock();
        if self.without(Without::SnapshotFirst) {
            self.store.file_journal();
        }
        let listed: BTreeSet<Digest> =
            self.store.rows.lock().iter().filter(|(_, row)| row.known).map(|(digest, _)| *digest).collect();
        let tag = self.tag.lock().0;
        if self.without(Without::FileFirst) {
            *self.published.lock() = (listed, tag);
            self.store.file_journal();
        } else {
            if !self.without(Without::SnapshotFirst) {
                self.store.file_journal();
            }
            *self.published.lock() = (listed, tag);
        }
        self.read_layout();
        self.settle(tag);
    }

    /// `Core::settle`: the base row has done its duty unless the tag has changed since the snapshot.
    fn settle(&self, published: Tag) {
        let _held =
            (!self.without(Without::StripeOfSettle)).then(|| self.store.locks.names(["tag"].into_iter()));
        let now = self.tag.lock().0;
        let same = now == published || self.without(Without::SettleLooks);
        // The batch is written as one; the look was before it.
        self.tag.lock().1 = if same { None } else { Some(published) };
    }

    /// `Plan::tag`: the first change since the last publish puts down what that one says.
    pub fn tag(&self, target: Tag) {
        let _held = self.store.locks.names(["tag"].into_iter());
        let (before, base) = *self.tag.lock();
        let base = if self.without(Without::Base) { base } else { Some(base.unwrap_or(before)) };
        *self.tag.lock() = (target, base);
    }

    /// Removes a content as a collection will: the rows, then a publish that does not reach it, then the file. Filing skips
    /// content whose row is gone, so it must not go between a publisher's snapshot and its filing.
    pub fn sweep(&self, digest: Digest) {
        let waits = !self.without(Without::SweepWaits);
        let publishing = waits.then(|| self.publishing.lock());
        self.store.write_off(digest);
        drop(publishing);
        self.publish();
        self.store.unlink(digest);
    }

    /// Another tool: what the file lists is there. What is not has been swept, so the file does not list it any more.
    pub fn read_layout(&self) {
        let listed = self.published.lock().0.clone();
        for digest in listed {
            if !self.store.has_file(digest) {
                assert!(!self.published.lock().0.contains(&digest), "index.json lists content without a file");
            }
        }
    }

    /// At rest: base row and tag together tell what the file says.
    pub fn check(&self) {
        let (tag, base) = *self.tag.lock();
        let published = self.published.lock().1;
        assert_eq!(base.unwrap_or(tag), published, "an edit of another tool would be taken for something else");
        self.read_layout();
    }
}
