//! A content on its way to a client: piece by piece, in bounded memory.

use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::error::Refusal;
use super::pool::Pool;
use crate::BlobReader;

/// Bytes of one piece.
const PIECE: u64 = 256 << 10;

/// A read on its way; gives the reader back.
type Reading = Pin<Box<dyn Future<Output = Result<(BlobReader, io::Result<Bytes>), Refusal>> + Send>>;

/// A part of one content.
pub(super) struct Content {
    pool: Pool,
    range: Range<u64>,
    reader: Option<BlobReader>,
    reading: Option<Reading>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("range", &self.range).finish_non_exhaustive()
    }
}

impl Content {
    /// The range must lie within the content.
    pub(super) fn new(pool: Pool, reader: BlobReader, range: Range<u64>) -> Self {
        Self { pool, range, reader: Some(reader), reading: None }
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        if let Some(reader) = self.reader.take() {
            let (start, wanted) = (self.range.start, self.left().min(PIECE));
            let pool = self.pool.clone();
            self.reading = Some(Box::pin(async move { pool.run(move || read(reader, start, wanted)).await }));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let done = ready!(reading.as_mut().poll(context));
        self.reading = None;
        let piece = match done {
            Ok((reader, Ok(piece))) => {
                self.reader = Some(reader);
                piece
            }
            Ok((_, Err(error))) => return Poll::Ready(Some(Err(error))),
            Err(_) => return Poll::Ready(Some(Err(io::ErrorKind::ResourceBusy.into()))),
        };
        self.range.start += piece.len() as u64;
        Poll::Ready(Some(Ok(piece)))
    }
}

fn read(mut reader: BlobReader, start: u64, wanted: u64) -> (BlobReader, io::Result<Bytes>) {
    let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
    let outcome = reader
        .seek(SeekFrom::Start(start))
        .and_then(|_| reader.by_ref().take(wanted).read_to_end(&mut piece))
        .and_then(
            |read| if read as u64 == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) },
        );
    (reader, outcome.map(|()| piece.into()))
}
