//! Writing a large file behind the caller's back, so that hashing and writing overlap on two cores.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::sys::{Aligned, TempFile};

/// Bytes that are read or written at a time elsewhere.
pub(super) const BUFFER: usize = 256 * 1024;
/// Bytes handed over at a time: a disk that is written to without the page cache takes less at half the rate.
const PART: usize = 1 << 20;
/// Parts under way: with the one being filled, 3 MiB for each large ingest.
const UNDER_WAY: usize = 2;

/// Pipes at work in this process: more than there are cores gain nothing and cost a thread each.
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// A thread that writes into a temporary file what is sent to it.
#[derive(Debug)]
pub(super) struct Pipe {
    /// None once finished.
    filled: Option<Sender<Aligned>>,
    empty: Receiver<Aligned>,
    buffer: Aligned,
    /// How much goes into it: parts begin at multiples of their size.
    room: usize,
    writer: Option<JoinHandle<io::Result<TempFile>>>,
}

impl Pipe {
    /// Takes over the file, which with `around` is written past the page cache; or gives it back when enough pipes are at work or no
    /// thread is to be had.
    pub(super) fn start(temp: TempFile, around: bool) -> Result<Self, TempFile> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        if PIPES.fetch_add(1, Ordering::Relaxed) >= cores {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return Err(temp);
        }
        let begun = temp.written() % PART as u64;
        let (filled, to_write) = bounded::<Aligned>(UNDER_WAY);
        let (give_back, empty) = bounded(UNDER_WAY + 1);
        // The file goes to the thread by a channel, so that it is still here when there is no thread.
        let (hand_over, handed) = bounded::<TempFile>(1);
        let work = move || {
            let mut temp = handed.recv().map_err(|_| io::Error::other("nothing to write into"))?;
            for buffer in to_write {
                if around {
                    temp.write_around(&buffer)?
                } else {
                    temp.write_all(&buffer)?
                }
                // The other side may have stopped listening: the buffer is just dropped.
                let _ = give_back.try_send(buffer);
            }
            Ok(temp)
        };
        match thread::Builder::new().name("orlop-ingest".to_owned()).spawn(work) {
            Ok(writer) => {
                // The thread waits for it and the channel has room: this cannot fail.
                let _ = hand_over.send(temp);
                let room = usize::try_from(PART as u64 - begun).unwrap_or(PART);
                let buffer = Aligned::with_capacity(PART);
                Ok(Self { filled: Some(filled), empty, buffer, room, writer: Some(writer) })
            }
            Err(_) => {
                PIPES.fetch_sub(1, Ordering::Relaxed);
                Err(temp)
            }
        }
    }

    /// Takes a copy of `bytes`. Waits while the disk is slower than the caller. An error may belong to an
    /// earlier write.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room.saturating_sub(self.buffer.len());
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend(now);
            bytes = later;
            if self.buffer.len() >= self.room {
                self.room = PART;
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let mut next = self.empty.try_recv().unwrap_or_else(|_| Aligned::with_capacity(PART));
        next.clear();
        let full = std::mem::replace(&mut self.buffer, next);
        let sent = self.filled.as_ref().is_some_and(|filled| filled.send(full).is_ok());
        if sent {
            return Ok(());
        }
        // The writer has ended, which it does early only on an error.
        match self.join() {
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("the writing thread has ended early")),
        }
    }

    /// Waits until all is written; the file comes back.
    pub(super) fn finish(mut self) -> io::Result<TempFile> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.join()
    }

    fn join(&mut self) -> io::Result<TempFile> {
        self.filled = None;
        let Some(writer) = self.writer.take() else {
            return Err(io::Error::other("an earlier write failed"));
        };
        PIPES.fetch_sub(1, Ordering::Relaxed);
        writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread has panicked")))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // The file, if it comes back, is dropped and with that removed.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    use rustix::io::Errno;

    use super::*;
    use crate::sys::Dir;
    use crate::sys::fault::{Call, Fault, arm};

    /// Other tests may have all the pipes for a moment.
    fn start(dir: &Dir) -> Pipe {
        loop {
            match Pipe::start(TempFile::create(dir).unwrap(), true) {
                Ok(pipe) => return pipe,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    #[test]
    fn what_goes_in_is_in_the_file() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        for size in [0, 1, PART, PART + 1, 10 * PART + 3] {
            let bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut pipe = start(&dir);
            for piece in bytes.chunks(100_001) {
                pipe.write(piece).unwrap();
            }
            let temp = pipe.finish().unwrap();
            let mut found = vec![0; size + 1];
            assert_eq!(temp.file().unwrap().read_at(&mut found, 0).unwrap(), size);
            found.truncate(size);
            assert!(found == bytes);
        }
    }

    #[test]
    fn an_error_of_the_thread_comes_back_and_the_file_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        for nth in [1, 2, 9] {
            let armed = arm(Fault::new(Call::Write, root.path(), Errno::NOSPC).nth(nth).short_writes());
            let mut pipe = start(&dir);
            let bytes = vec![1; 3 * PART];
            let result =
                (0..20).try_for_each(|_| pipe.write(&bytes)).and_then(|()| pipe.finish().map(|_| ()));
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert_eq!((armed.fired(), dir.list().unwrap().count()), (1, 0));
        }
    }

    #[test]
    fn a_dropped_pipe_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let mut pipe = start(&dir);
        pipe.write(&vec![1; 3 * PART]).unwrap();
        assert_eq!(dir.list().unwrap().count(), 1);
        drop(pipe);
        assert_eq!(dir.list().unwrap().count(), 0);
    }
}
