//! The parts of a content on its way to a registry, each read and hashed while the one before it is sent.

use std::io::{self, Read};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;

use crate::digest::Digester;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Descriptor;
use crate::transfer::Incoming;
use crate::transfer::store::from_io;

/// A content in parts. Two of them are in memory: the one that is sent, and the next.
pub(super) struct Parts<'a> {
    content: &'a dyn Incoming,
    descriptor: &'a Descriptor,
    /// The content, where it is in memory and need not be copied.
    lent: Option<Bytes>,
    /// The bytes of each, but the last.
    length: u64,
    digester: Digester,
    /// What is read again was hashed up to here.
    hashed: u64,
}

impl<'a> Parts<'a> {
    pub(super) fn new(content: &'a dyn Incoming, descriptor: &'a Descriptor, length: u64) -> Self {
        let digester = Digester::new(descriptor.digest.algorithm());
        // What cannot be had is told when it is read.
        let lent = content.local().ok().flatten().and_then(|reader| reader.lent());
        let lent = lent.filter(|lent| lent.len() as u64 == descriptor.size);
        Self { content, descriptor, lent, length, digester, hashed: 0 }
    }

    /// All of it, if it has one part only.
    pub(super) fn only(&mut self) -> Result<Option<Bytes>> {
        let size = self.descriptor.size;
        if size > self.length {
            return Ok(None);
        }
        let mut reader = self.open(0)?;
        self.next(&mut reader, 0).map(Some)
    }

    /// Gives part after part from `from` on, with where it begins, to who answers how much is there then, until that is not
    /// the end of the part; answers it.
    pub(super) fn each<E: From<Error>>(
        &mut self,
        from: u64,
        mut send: impl FnMut(Bytes, u64) -> Result<u64, E>,
    ) -> Result<u64, E> {
        let digest = self.descriptor.digest;
        thread::scope(|scope| {
            // Nothing waits in between, which would be one more part in memory.
            let (give, take) = sync_channel(0);
            thread::Builder::new()
                .name("orlop-push".into())
                .spawn_scoped(scope, move || self.read_from(from, &give))
                .map_err(|error| from_io("begin to read the content", &digest, error))?;
            let mut at = from;
            for part in take {
                let part: Bytes = part?;
                let end = at + part.len() as u64;
                at = send(part, at)?;
                if at != end {
                    break;
                }
            }
            Ok(at)
        })
    }

    /// Refuses content that is not what it is called, when all of it was read.
    pub(super) fn check(self) -> Result<()> {
        let (expected, found) = (self.descriptor.digest, self.digester.finish());
        if found == expected {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("content is not what its digest says, digest={expected}, found={found}"),
        ))
    }

    /// Ends with the content, with its first failure, or when nobody wants more.
    fn read_from(&mut self, from: u64, give: &SyncSender<Result<Bytes>>) {
        let mut at = from;
        let mut reader = match self.open(from) {
            Ok(reader) => reader,
            Err(error) => return drop(give.send(Err(error))),
        };
        while at < self.descriptor.size {
            let part = self.next(&mut reader, at);
            at += part.as_ref().map_or(0, |part| part.len() as u64);
            let failed = part.is_err();
            if give.send(part).is_err() || failed {
                return;
            }
        }
    }

    fn open(&self, at: u64) -> Result<Box<dyn Read + Send + 'a>> {
        if self.lent.is_some() { Ok(Box::new(io::empty())) } else { self.content.open(at) }
    }

    /// The part that begins at `at`, where the reader stands.
    fn next(&mut self, reader: &mut dyn Read, at: u64) -> Result<Bytes> {
        let length = self.length.min(self.descriptor.size.saturating_sub(at));
        let bytes = match &self.lent {
            Some(lent) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(lent.len());
                lent.slice(place(at)..place(at.saturating_add(length)))
            }
            None => self.read(reader, length)?,
        };
        let known = usize::try_from(self.hashed.saturating_sub(at)).unwrap_or(usize::MAX);
        self.digester.update(bytes.get(known..).unwrap_or_default());
        self.hashed = self.hashed.max(at.saturating_add(length));
        Ok(bytes)
    }

    fn read(&self, reader: &mut dyn Read, length: u64) -> Result<Bytes> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        reader
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| from_io("read the content", digest, error))?;
        let found = bytes.len() as u64;
        if found == length {
            return Ok(bytes.into());
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("content ends early, digest={digest}, size={size}, last_part={found}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use std::ops::ControlFlow;

    use super::*;
    use crate::blobs::{Blob, BlobReader};
    use crate::digest::Digest;

    /// Bytes, and whether they are to be had without being read.
    struct Content(&'static [u8], bool);

    impl Incoming for Content {
        fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new(&self.0[usize::try_from(offset).unwrap()..]))
        }

        fn local(&self) -> Result<Option<BlobReader>> {
            let blob = Blob::journalled(Digest::of(self.0), Bytes::from_static(self.0));
            Ok(self.1.then(|| BlobReader::from(blob)))
        }

        fn advance(&self, _: u64) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }

    const BYTES: &[u8] = b"ten bytes.";

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor::new("application/octet-stream", Digest::of(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_registry_that_has_less_is_given_it_again_and_nothing_is_hashed_twice() {
        for lends in [false, true] {
            let (content, descriptor) = (Content(BYTES, lends), descriptor(BYTES));
            let mut parts = Parts::new(&content, &descriptor, 3);
            assert!(parts.only().unwrap().is_none());
            // After the second part it has lost all but a byte.
            let (mut at, mut given) = (0, Vec::new());
            while at < 10 {
                at = parts
                    .each(at, |bytes, at| {
                        let end = at + bytes.len() as u64;
                        given.push((at, bytes));
                        Ok::<_, Error>(if end == 6 { 1 } else { end })
                    })
                    .unwrap();
            }
            parts.check().unwrap();
            let starts: Vec<u64> = given.iter().map(|(at, _)| *at).collect();
            assert_eq!(starts, [0, 3, 1, 4, 7]);
            for (at, bytes) in given {
                let at = usize::try_from(at).unwrap();
                assert_eq!(bytes, BYTES[at..at + bytes.len()], "{at}");
            }
        }
    }

    #[test]
    fn what_is_not_what_it_is_called_is_refused_before_its_end_is_sent() {
        for (found, length, expected) in [
            (b"ten bytes!".as_slice(), 3, "content is not what its digest says"),
            (b"ten bytes!", 10, "content is not what its digest says"),
            (b"ten", 3, "content ends early"),
            (b"", 20, "content ends early"),
        ] {
            for lends in [false, true] {
                let (content, descriptor) = (Content(found, lends), descriptor(BYTES));
                let mut parts = Parts::new(&content, &descriptor, length);
                let sent = match parts.only() {
                    Ok(None) => parts.each(0, |bytes, at| Ok::<_, Error>(at + bytes.len() as u64)).map(drop),
                    other => other.map(drop),
                };
                let error = sent.and_then(|()| parts.check()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Mismatch);
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    }
}
