//! Positions in the list of repositories that do not say what lies there.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

/// What makes positions of names, and names of positions, as long as the registry runs.
pub(super) struct Positions {
    key: [u8; 32],
}

/// Every name is as long in a position, and leaves room for its length.
const PLAIN: usize = 256;
const MARK: usize = 16;

impl Positions {
    pub(super) fn new() -> Self {
        // Of the system's randomness, by the way of the hashers of the standard library.
        let random = RandomState::new();
        let mut hasher = blake3::Hasher::new();
        for part in 0..4_u8 {
            hasher.update(&random.hash_one(part).to_be_bytes());
        }
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// The position behind a name, which only this registry can read. None for what is too long for a name.
    pub(super) fn behind(&self, name: &str) -> Option<String> {
        let mut plain = [0; PLAIN];
        let (len, text) = plain.split_first_mut()?;
        *len = u8::try_from(name.len()).ok()?;
        text.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        let mark = self.mark(&plain);
        let mut position = String::with_capacity(2 * (MARK + PLAIN));
        for byte in mark.iter().chain(&self.masked(&mark, plain)) {
            position.push_str(&format!("{byte:02x}"));
        }
        Some(position)
    }

    /// The name that a position lies behind. None for what this registry never gave.
    pub(super) fn name(&self, position: &str) -> Option<String> {
        if !position.is_ascii() || position.len() != 2 * (MARK + PLAIN) {
            return None;
        }
        let bytes: Vec<u8> = position
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<_>>()?;
        let (mark, masked) = bytes.split_first_chunk::<MARK>()?;
        let plain = self.masked(mark, masked.try_into().ok()?);
        if self.mark(&plain) != *mark {
            return None;
        }
        let (&len, text) = plain.split_first()?;
        String::from_utf8(text.get(..usize::from(len))?.to_vec()).ok()
    }

    /// Tells a position that was given from one that was made up, and is the seed of the mask.
    fn mark(&self, plain: &[u8; PLAIN]) -> [u8; MARK] {
        let hash = blake3::Hasher::new_keyed(&self.key).update(b"mark").update(plain).finalize();
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    fn masked(&self, mark: &[u8; MARK], mut bytes: [u8; PLAIN]) -> [u8; PLAIN] {
        let mut mask = [0; PLAIN];
        blake3::Hasher::new_keyed(&self.key).update(b"mask").update(mark).finalize_xof().fill(&mut mask);
        bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        bytes
    }
}

impl fmt::Debug for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Positions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_by_whoever_gave_them_alone() {
        let (here, there) = (Positions::new(), Positions::new());
        let longest = "a".repeat(255);
        let mut lengths = Vec::new();
        for name in ["", "a", "team/app", longest.as_str()] {
            let position = here.behind(name).unwrap_or_default();
            assert_eq!(here.name(&position).as_deref(), Some(name));
            assert_eq!(there.name(&position), None);
            lengths.push(position.len());
            let mut changed = position.clone().into_bytes();
            for at in [0, position.len() - 1] {
                if let Some(digit) = changed.get_mut(at) {
                    *digit = if *digit == b'0' { b'1' } else { b'0' };
                }
            }
            assert_eq!(here.name(&String::from_utf8_lossy(&changed)), None);
        }
        lengths.dedup();
        assert_eq!(lengths.len(), 1, "a position tells how long a name is");
        let (one, other) = (here.behind("team/a"), here.behind("team/b"));
        assert_ne!(one.unwrap_or_default().get(..64), other.unwrap_or_default().get(..64));
        assert_eq!(here.behind(&"a".repeat(256)), None);
        for made_up in ["", "00", "x", &"0".repeat(544), &"\u{e9}".repeat(272)] {
            assert_eq!(here.name(made_up), None, "{made_up}");
        }
    }
}
