//! Bytes on their way from a client into a session: a part is hashed and written while the next one comes.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::sync::oneshot;

use super::super::error::{Code, Outcome, Refusal};
use super::super::incoming::{End, Incoming};
use super::super::part::Part;
use super::super::pool::Pool;
use super::Done;
use super::work::{Held, Work};

/// Bytes of one part. A request has two of them in memory, the one that is written and the one that comes, beside the piece that
/// its connection read last; and a thread only while it has a whole part or the last one.
const PART: usize = 1 << 20;

/// Takes a whole body. Goes on to a sound end if nobody waits for it any more: what came is then kept as if it had broken off.
pub(super) async fn run(pool: Pool, work: Work, body: Incoming) -> Outcome<Done> {
    let (_wanted, unwanted) = oneshot::channel();
    let work = Arc::new(work);
    let receiving =
        Receiving { pool, work, body, unwanted, part: Part::default(), spare: Part::default(), held: None };
    tokio::spawn(receiving.run()).await.unwrap_or_else(|_| {
        let message = "the request was not finished";
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, message))
    })
}

struct Receiving {
    pool: Pool,
    work: Arc<Work>,
    body: Incoming,
    /// Ends when nobody waits for the answer.
    unwanted: oneshot::Receiver<Infallible>,
    /// What is coming.
    part: Part,
    /// Room for the part after that.
    spare: Part,
    /// The session, once it is open and while nobody writes.
    held: Option<Held>,
}

/// Begins work, which may be refused where too much waits, or goes on with what was begun.
async fn on<T: Send + 'static>(
    pool: &Pool,
    begun: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Outcome<T> {
    if begun { pool.go_on(work).await } else { pool.run(work).await }
}

impl Receiving {
    async fn run(mut self) -> Outcome<Done> {
        let mut end = std::future::poll_fn(|context| self.poll_part(context)).await;
        loop {
            let (work, held) = (Arc::clone(&self.work), self.held.take());
            match end {
                None => end = self.write(held).await?,
                Some(End::Complete) => {
                    let part = self.part;
                    return on(&self.pool, held.is_some(), move || work.complete(held, &part)).await?;
                }
                Some(End::Broken(failure)) => {
                    let part = self.part;
                    let settle = move || match held {
                        held if work.keeps_parts() => work.keep(held, &part),
                        Some(held) => {
                            work.abandon(held);
                            Ok(())
                        }
                        None => Ok(()),
                    };
                    self.pool.go_on(settle).await??;
                    return Err(broken(&*failure));
                }
            }
        }
    }

    /// Writes a part while the next one comes; tells the end when there is one.
    async fn write(&mut self, held: Option<Held>) -> Outcome<Option<End>> {
        let (pool, work) = (self.pool.clone(), Arc::clone(&self.work));
        let mut part = std::mem::replace(&mut self.part, std::mem::take(&mut self.spare));
        let mut writing = pin!(on(&pool, held.is_some(), move || {
            let held = work.write(held, &part)?;
            part.clear();
            Ok((held, part))
        }));
        let mut filled = None;
        std::future::poll_fn(|context| {
            if self.held.is_none()
                && let Poll::Ready(written) = writing.as_mut().poll(context)
            {
                let (held, spare) = written.and_then(|written| written)?;
                (self.held, self.spare) = (Some(held), spare);
            }
            if filled.is_none()
                && let Poll::Ready(end) = self.poll_part(context)
            {
                filled = Some(end);
            }
            match filled.take_if(|_| self.held.is_some()) {
                Some(end) => Poll::Ready(Ok(end)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        if Pin::new(&mut self.unwanted).poll(context).is_ready() {
            return Poll::Ready(Some(End::Broken("nobody waits for the answer".into())));
        }
        self.body.poll_fill(context, &mut self.part, PART)
    }
}

#[cold]
fn broken(failure: &(dyn std::error::Error + Send + Sync)) -> Refusal {
    Refusal::bad_request(Code::BlobUploadInvalid, format!("the body broke off: {failure}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use bytes::Bytes;
    use http_body::Frame;

    use super::super::work::{Target, Then};
    use super::*;
    use crate::{Options, UploadOptions};

    const PIECE: usize = 10_007;

    /// So many pieces, and how many bytes of them were taken.
    struct Counted(usize, Arc<AtomicUsize>);

    impl http_body::Body for Counted {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            self.1.fetch_add(PIECE, Ordering::SeqCst);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[7; PIECE])))))
        }
    }

    /// A disk that takes nothing stops the client, whatever it has to send, and costs two parts of memory.
    #[test]
    fn what_is_not_written_is_not_taken_from_the_client() {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().create(dir.path().join("store")).unwrap();
        let (pool, taken) = (Pool::new(1, 8), Arc::<AtomicUsize>::default());
        let (disk, stalled) = mpsc::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let stuck = pool.clone();
            let stuck = tokio::spawn(async move { stuck.run(move || stalled.recv().is_err()).await });
            tokio::task::yield_now().await;
            let work = Work {
                repository: store.default_repository(),
                name: "a".parse().unwrap(),
                quota: None,
                target: Target::New(UploadOptions::new()),
                chunk: None,
                then: Then::Save,
            };
            let body = Incoming::new(Counted(1000, Arc::clone(&taken)));
            let upload = tokio::spawn(run(pool.clone(), work, body));
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let buffered = taken.load(Ordering::SeqCst);
            assert!((2 * PART..2 * PART + PIECE).contains(&buffered), "{buffered}");
            drop(disk);
            assert!(stuck.await.unwrap().unwrap());
            let done = upload.await.unwrap().unwrap();
            assert!(matches!(done, Done::Saved(_, offset) if offset == 1000 * PIECE as u64));
        });
    }
}
