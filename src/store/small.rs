//! Small content kept in memory for handles that do not wait, so that what is asked for over and over costs no system calls.
//!
//! Only bytes that were hashed get in, and content is immutable, so nothing here is ever wrong: who may see it is asked of the
//! metadata at every read. What is looked at stays longer.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::digest::Digest;

/// Content of at most so many bytes is kept.
pub(super) const SMALL: u64 = 32 << 10;
/// All that is kept, in bytes of content and of what it takes to find it.
const ROOM: usize = 8 << 20;
/// What an entry takes beside its content.
const ENTRY: usize = 256;

/// The small contents of one store that are kept in memory.
pub(super) struct Small(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    entries: HashMap<Digest, Entry>,
    /// In the order in which they are considered to go.
    order: VecDeque<Digest>,
    room: usize,
}

struct Entry {
    content: Bytes,
    /// Looked at since it was considered.
    used: bool,
}

impl Small {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut kept = self.0.lock();
        let entry = kept.entries.get_mut(digest)?;
        entry.used = true;
        Some(entry.content.clone())
    }

    /// Keeps a content, which was hashed. Others go for it.
    pub(super) fn keep(&self, digest: &Digest, content: Bytes) {
        let mut kept = self.0.lock();
        if content.len() as u64 > SMALL || kept.entries.contains_key(digest) {
            return;
        }
        kept.room += content.len() + ENTRY;
        kept.order.push_back(*digest);
        kept.entries.insert(*digest, Entry { content, used: false });
        while kept.room > ROOM {
            kept.consider();
        }
    }
}

impl Kept {
    /// Lets the one go that is the next to be considered, unless it was looked at: then its turn comes again.
    fn consider(&mut self) {
        let Some(digest) = self.order.pop_front() else { return };
        match self.entries.get_mut(&digest) {
            Some(entry) if entry.used => {
                entry.used = false;
                self.order.push_back(digest);
            }
            _ => {
                let gone = self.entries.remove(&digest).map_or(0, |entry| entry.content.len() + ENTRY);
                self.room = self.room.saturating_sub(gone);
            }
        }
    }
}

impl std::fmt::Debug for Small {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Small").field("room", &self.0.lock().room).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(n: u32) -> (Digest, Bytes) {
        let content = Bytes::from(n.to_be_bytes().repeat(1000));
        (Digest::of(&content), content)
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_looked_at_stays() {
        let small = Small::new();
        let (hot, bytes) = content(0);
        small.keep(&hot, bytes.clone());
        for n in 1..10_000 {
            let (digest, content) = content(n);
            small.keep(&digest, content.clone());
            small.keep(&digest, content.clone());
            assert_eq!(small.get(&hot), Some(bytes.clone()), "{n}");
            if n % 2 == 0 {
                assert_eq!(small.get(&digest), Some(content));
            }
        }
        let kept = small.0.lock();
        assert_eq!(kept.entries.len(), kept.order.len());
        assert_eq!(kept.room, kept.entries.len() * (4000 + ENTRY));
        assert!(kept.room <= ROOM && kept.room > ROOM - 2 * 4256, "{}", kept.room);
        drop(kept);
        let large = Bytes::from(vec![0; 40_000]);
        let digest = Digest::of(&large);
        small.keep(&digest, large);
        assert_eq!(small.get(&digest), None);
    }
}
