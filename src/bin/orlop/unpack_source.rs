//! The bytes of a packed directory on their way out of it: counted, hashed and bounded.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;

use orlop::digest::Digester;

use crate::error::{Exit, Failure};
use crate::unpack::{Limit, Packed, Stop};

/// The packed bytes on their way: counted, hashed, and stopped when the observer says so.
pub(crate) struct Counted<'a> {
    from: &'a mut dyn Read,
    digester: Digester,
    found: u64,
    size: u64,
    /// What may come out grows with what comes.
    allowance: &'a Allowance,
    limit: Limit,
    pub(crate) is_stopped: bool,
    observer: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(
        from: &'a mut dyn Read,
        packed: &Packed<'_>,
        allowance: &'a Allowance,
        observer: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Self {
        Self {
            from,
            digester: Digester::new(packed.digest.algorithm()),
            found: 0,
            size: packed.size,
            allowance,
            limit: packed.limit,
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
        let before = self.limit.of(self.found);
        self.found += read as u64;
        self.allowance.grow(self.limit.of(self.found) - before);
        self.digester.update(buffer.get(..read).unwrap_or_default());
        if (self.observer)(self.found).is_break() {
            self.is_stopped = true;
        }
        Ok(read)
    }
}

/// The archive inside the compression: hashed, and no longer than allowed.
pub(crate) struct Inside<'a, R> {
    pub(crate) from: R,
    pub(crate) digester: Option<Digester>,
    pub(crate) allowance: &'a Allowance,
    pub(crate) is_over: bool,
}

impl<R: Read> Read for Inside<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if self.allowance.bytes(read as u64).is_err() {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Some(digester) = &mut self.digester {
            digester.update(buffer.get(..read).unwrap_or_default());
        }
        Ok(read)
    }
}

/// What an entry costs beside its path: more than what is kept of it in memory, and about an inode.
const ENTRY: u64 = 512;

/// How much may still come out of a packed directory.
#[derive(Debug)]
pub(crate) struct Allowance {
    bytes: Cell<u64>,
    entries: Cell<u64>,
}

/// What there was too much of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    Bytes,
    Entries,
}

impl Allowance {
    pub(crate) fn new(bytes: u64, entries: u64) -> Self {
        Self { bytes: Cell::new(bytes), entries: Cell::new(entries) }
    }

    fn grow(&self, count: u64) {
        self.bytes.set(self.bytes.get().saturating_add(count));
    }

    fn bytes(&self, count: u64) -> Result<(), Over> {
        self.bytes.set(self.bytes.get().checked_sub(count).ok_or(Over::Bytes)?);
        Ok(())
    }

    /// Takes one entry whose path has so many bytes.
    pub(crate) fn entry(&self, length: usize) -> Result<(), Over> {
        self.entries.set(self.entries.get().checked_sub(1).ok_or(Over::Entries)?);
        self.bytes(ENTRY + length as u64)
    }
}
