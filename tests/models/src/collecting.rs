//! Collecting: what somebody was told to be there stays until he has used it, and no file goes that is listed or came back.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::Digest;
use crate::locks::Need;
use crate::publishing::Publisher;
use crate::store::{Row, Without};

/// One repository whose contents are collected when no manifest refers to them.
pub struct Collecting {
    /// Its contents, published.
    pub publisher: Publisher,
    /// What the repository holds, and what a manifest of it refers to: rows of the same metadata.
    members: Mutex<BTreeSet<Digest>>,
    edges: Mutex<BTreeSet<Digest>>,
    /// The existence answers of the last grace.
    touched: Mutex<BTreeSet<Digest>>,
}

impl Collecting {
    /// An empty repository.
    pub fn new(without: Without) -> Self {
        Self {
            publisher: Publisher::new(without),
            members: Mutex::new(BTreeSet::new()),
            edges: Mutex::new(BTreeSet::new()),
            touched: Mutex::new(BTreeSet::new()),
        }
    }

    fn without(&self, what: Without) -> bool {
        self.publisher.store.without == what
    }

    fn touch(&self, digest: Digest) {
        if !self.without(Without::Touch) {
            self.touched.lock().insert(digest);
        }
    }

    /// `Repository::stat`: what is answered stays for a grace.
    pub fn answer(&self, digest: Digest) -> bool {
        let stripes = &self.publisher.store.locks;
        let _held = (!self.without(Without::StripeOfAnswer))
            .then(|| stripes.content([(&digest, Need::Shared)].into_iter()));
        if self.without(Without::TouchFirst) {
            let found = self.members.lock().contains(&digest);
            drop(_held);
            self.touch(digest);
            return found;
        }
        self.touch(digest);
        self.members.lock().contains(&digest)
    }

    /// A push of a content, which gets its name before its row.
    pub fn push(&self, digest: Digest) {
        let _held = self.publisher.store.locks.content([(&digest, Need::Exclusive)].into_iter());
        self.touch(digest);
        self.publisher.store.files.lock().insert(digest);
        let mut members = self.members.lock();
        self.publisher.store.rows.lock().insert(digest, Row { known: true, journal: None });
        members.insert(digest);
    }

    /// A push whose grace is over.
    pub fn push_long_ago(&self, digest: Digest) {
        self.push(digest);
        self.touched.lock().clear();
    }

    /// A push of a manifest that refers to a content: false where the store says that it lacks it.
    pub fn push_manifest(&self, child: Digest) -> bool {
        let _held = self.publisher.store.locks.content([(&child, Need::Shared)].into_iter());
        if !self.members.lock().contains(&child) {
            return false;
        }
        self.edges.lock().insert(child);
        true
    }

    /// What clients do: what is there is not sent.
    pub fn push_all(&self, digest: Digest) {
        if !self.answer(digest) {
            self.push(digest);
        }
        assert!(self.push_manifest(digest), "blob unknown, and it was just told to be there");
        // Nobody deletes the manifest.
        assert!(self.members.lock().contains(&digest), "what a manifest refers to is gone");
    }

    /// Deletes the manifest: what it referred to is queued.
    pub fn delete_manifest(&self, child: Digest) {
        self.edges.lock().remove(&child);
    }

    fn is_needed(&self, digest: Digest) -> bool {
        self.edges.lock().contains(&digest) || self.touched.lock().contains(&digest)
    }

    /// A content whose grace is over: rows under the stripe, a publish, the file under the stripe.
    pub fn collect(&self, digest: Digest) {
        let stripes = &self.publisher.store.locks;
        if self.without(Without::LookUnderStripe) && self.is_needed(digest) {
            return;
        }
        let held = stripes.content([(&digest, Need::Exclusive)].into_iter());
        if !self.without(Without::LookUnderStripe) && self.is_needed(digest) {
            return;
        }
        {
            let mut members = self.members.lock();
            if !members.remove(&digest) {
                return;
            }
            self.publisher.store.rows.lock().remove(&digest);
        }
        drop(held);
        if !self.without(Without::PublishFirst) {
            self.publisher.publish();
        }
        if self.without(Without::LookBeforeUnlink) {
            self.publisher.store.files.lock().remove(&digest);
        } else {
            self.publisher.store.unlink(digest);
        }
    }

    /// At rest: what a manifest refers to is held, and what is held has its row and its file, and nothing else has.
    pub fn check(&self) {
        let (members, edges) = (self.members.lock().clone(), self.edges.lock().clone());
        assert!(edges.is_subset(&members), "a dangling edge");
        let known: BTreeSet<Digest> = self.publisher.store.rows.lock().keys().copied().collect();
        assert_eq!(known, members, "content rows and members differ");
        assert_eq!(*self.publisher.store.files.lock(), members, "files and members differ");
        self.publisher.read_layout();
    }
}
