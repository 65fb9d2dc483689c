//! The bytes of a packed directory on their way out of it: counted, hashed and bounded.

use std::io::{self, Read};
use std::ops::ControlFlow;

use orlop::Digest;
use orlop::digest::Digester;

use crate::error::{Exit, Failure};
use crate::unpack::{Packed, Stop};

/// The packed bytes on their way: counted, hashed, and stopped when the observer says so.
pub(crate) struct Counted<'a> {
    from: &'a mut dyn Read,
    digester: Digester,
    found: u64,
    size: u64,
    pub(crate) is_stopped: bool,
    observer: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(
        from: &'a mut dyn Read,
        digest: &Digest,
        size: u64,
        observer: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Self {
        Self {
            from,
            digester: Digester::new(digest.algorithm()),
            found: 0,
            size,
            is_stopped: false,
            observer,
        }
    }

    /// Reads what is left and checks all of it.
    pub(crate) fn check(mut self, packed: &Packed<'_>) -> Result<(), Stop> {
        io::copy(&mut self, &mut io::sink())?;
        if self.is_stopped {
            return Err(Stop::Stopped);
        }
        let (digest, expected, found) = (packed.digest, packed.size, self.found);
        let actual = self.digester.finish();
        let damaged = if found != expected {
            let relation = if found < expected { "shorter" } else { "longer" };
            format!("content is {relation} than its descriptor says, digest={digest}, expected={expected}")
        } else if actual != *digest {
            format!("content is damaged, digest={digest}, found={actual}")
        } else {
            return Ok(());
        };
        Err(Stop::Refused(
            Failure::new(Exit::Integrity, damaged).with_hint(
                "push the same content again to heal it, or take it from where the layout came from",
            ),
        ))
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_stopped || self.found > self.size {
            return Ok(0);
        }
        let read = self.from.read(buffer)?;
        self.found += read as u64;
        self.digester.update(buffer.get(..read).unwrap_or_default());
        if (self.observer)(self.found).is_break() {
            self.is_stopped = true;
        }
        Ok(read)
    }
}

/// The archive inside the compression: hashed, and no longer than allowed.
pub(crate) struct Inside<R> {
    pub(crate) from: R,
    pub(crate) digester: Option<Digester>,
    pub(crate) left: u64,
    pub(crate) is_over: bool,
}

impl<R: Read> Read for Inside<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if read as u64 > self.left {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.left -= read as u64;
        if let Some(digester) = &mut self.digester {
            digester.update(buffer.get(..read).unwrap_or_default());
        }
        Ok(read)
    }
}
