//! A content on its way to a client: piece by piece, in bounded memory.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::pool::{Pool, Started};
use crate::BlobReader;

/// Bytes of one piece. A connection has at most two of them: one that is being sent, and the next.
const PIECE: u64 = 256 << 10;

/// What content is read from, at any place of it.
pub(super) trait Readable: Send + Sync {
    /// A part that is in memory; None where it has to be read.
    fn ready(&self, range: Range<u64>) -> crate::Result<Option<Bytes>>;

    /// Reads a part, and may wait for a disk.
    fn range(&self, range: Range<u64>) -> crate::Result<Bytes>;
}

impl Readable for BlobReader {
    fn ready(&self, range: Range<u64>) -> crate::Result<Option<Bytes>> {
        self.ready(range)
    }

    fn range(&self, range: Range<u64>) -> crate::Result<Bytes> {
        self.range(range)
    }
}

/// A part of one content.
///
/// What is in memory is lent to whoever sends it. The rest is read by the pool, and while a piece that was read is sent the
/// next one is read, but no more: a slow client holds no thread and no further memory.
pub(super) struct Content {
    pool: Pool,
    reader: Arc<dyn Readable>,
    /// What is still to be given; it begins with the next piece.
    left: Range<u64>,
    next: Next,
}

/// The next piece.
enum Next {
    /// Nobody has looked for it.
    Unknown,
    Ready(Bytes),
    Reading(Started<crate::Result<Bytes>>),
    /// It cannot be read, for this reason if that was not told yet.
    Failed(Option<crate::Error>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Content {
    /// The range must lie within the content.
    pub(super) fn new(pool: Pool, reader: Arc<dyn Readable>, range: Range<u64>) -> Self {
        Self { pool, reader, left: range, next: Next::Unknown }
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left.end - self.left.start
    }

    /// The next piece; none at the end. Once it fails it fails for ever, so that a part is never taken for the whole.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        if matches!(self.next, Next::Unknown) {
            self.next = self.look();
        }
        let was_read = matches!(self.next, Next::Reading(_));
        let piece = match &mut self.next {
            Next::Ready(piece) => Ok(std::mem::take(piece)),
            Next::Reading(reading) => match ready!(reading.poll_done(context)) {
                Some(read) => read.map_err(Some),
                None => Err(None),
            },
            Next::Failed(why) => Err(why.take()),
            Next::Unknown => Err(None),
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(why) => {
                self.next = Next::Failed(None);
                let error =
                    why.map_or_else(|| io::Error::other("content can no longer be read"), io::Error::other);
                return Poll::Ready(Some(Err(error)));
            }
        };
        self.left.start += piece.len() as u64;
        self.next = if was_read && self.left() > 0 { self.look() } else { Next::Unknown };
        Poll::Ready(Some(Ok(piece)))
    }

    /// Looks for the next piece in memory, and begins to read it where it is not.
    fn look(&self) -> Next {
        let piece = self.left.start..self.left.end.min(self.left.start.saturating_add(PIECE));
        match self.reader.ready(piece.clone()) {
            Ok(Some(piece)) => Next::Ready(piece),
            Ok(None) => {
                let reader = Arc::clone(&self.reader);
                Next::Reading(self.pool.start(move || reader.range(piece)))
            }
            Err(error) => Next::Failed(Some(error)),
        }
    }
}
