//! The body of a request, whatever brings it.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::part::Part;

pub(super) type Failure = Box<dyn StdError + Send + Sync>;

/// The body of a request, whatever brings it.
pub(super) struct Incoming {
    pieces: Pin<Box<dyn Pieces>>,
    /// What of the last piece nobody had room for.
    rest: Bytes,
}

/// Why there is no more of a body.
#[derive(Debug)]
pub(super) enum End {
    /// That was all.
    Complete,
    /// It broke off.
    Broken(Failure),
}

trait Pieces: Send {
    fn poll_piece(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>>;
    fn announced(&self) -> Option<u64>;
}

impl<B> Pieces for B
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Failure>,
{
    fn poll_piece(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match ready!(self.as_mut().poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                // Trailers say nothing that counts here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    fn announced(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl Incoming {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Failure>,
    {
        Self { pieces: Box::pin(body), rest: Bytes::new() }
    }

    /// How many bytes come in all, if that is known; asked before the first of them is taken.
    pub(super) fn announced(&self) -> Option<u64> {
        self.pieces.announced()
    }

    /// Fills a buffer with what comes, up to so many bytes in all; tells the end when there is one. What is in the buffer stays
    /// there whatever happens, and nothing is taken out of the body that has no room in it, but for the rest of one piece.
    pub(super) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Part,
        limit: usize,
    ) -> Poll<Option<End>> {
        while buffer.len() < limit {
            if self.rest.is_empty() {
                match ready!(self.pieces.as_mut().poll_piece(context)) {
                    None => return Poll::Ready(Some(End::Complete)),
                    Some(Err(failure)) => return Poll::Ready(Some(End::Broken(failure))),
                    Some(Ok(piece)) => self.rest = piece,
                }
            }
            let taken = self.rest.split_to(self.rest.len().min(limit - buffer.len()));
            buffer.extend(&taken, limit);
        }
        Poll::Ready(None)
    }

    /// [`Incoming::poll_fill`], waited for.
    pub(super) async fn fill(&mut self, buffer: &mut Part, limit: usize) -> Option<End> {
        std::future::poll_fn(|context| self.poll_fill(context, buffer, limit)).await
    }
}
