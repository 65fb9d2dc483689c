//! Pseudo-random bytes that are the same for a seed on every machine and in every version: SplitMix64, written out here so
//! that no dependency can change it.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent stream for a part: the same for the same seed and label, whatever was drawn before.
    pub fn part(seed: u64, label: u64) -> Self {
        let mut stream = Self(seed);
        let salt = stream.number();
        let mut stream = Self(salt ^ label.wrapping_mul(0xd134_2543_de82_ef95));
        stream.number();
        stream
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: even enough for bounds far below 2^64.
        let product = u128::from(self.number()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 7);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut stream = Random::new(1_234_567);
        // The numbers that the reference implementation gives for this seed.
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([stream.number(), stream.number(), stream.number()], expected);
        assert_eq!(Random::new(9).bytes(5), Random::new(9).bytes(8)[..5]);
        assert_ne!(Random::part(1, 1).bytes(16), Random::part(1, 2).bytes(16));
        assert!((0..1000).all(|_| stream.below(7) < 7));
    }
}
