//! Randomness of the system, for names that nobody may guess.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// 128 bits that nobody can foretell.
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => filled += other?,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bit_changes_and_nothing_comes_twice() {
        let drawn: BTreeSet<[u8; 16]> = (0..200).map(|_| random().unwrap()).collect();
        assert_eq!(drawn.len(), 200);
        let (mut ones, mut zeros) = (0, 0);
        for bytes in drawn {
            ones |= u128::from_be_bytes(bytes);
            zeros |= !u128::from_be_bytes(bytes);
        }
        assert_eq!((ones, zeros), (u128::MAX, u128::MAX));
    }
}
