//! The body of a request, whatever brings it.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

pub(super) type Failure = Box<dyn StdError + Send + Sync>;

/// The body of a request, whatever brings it.
pub(super) struct Incoming(Pin<Box<dyn Pieces>>);

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
            match std::task::ready!(self.as_mut().poll_frame(context)) {
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
        Self(Box::pin(body))
    }

    /// How many bytes come in all, if that is known.
    pub(super) fn announced(&self) -> Option<u64> {
        self.0.announced()
    }

    /// The next piece, of whatever size it has; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        std::future::poll_fn(|context| self.0.as_mut().poll_piece(context)).await
    }
}
