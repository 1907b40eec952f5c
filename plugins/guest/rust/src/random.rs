//! Randomness without state: the n-th number of a row is a function of (seed, row, n) alone, so it
//! doesn't matter in which order rows are visited.

/// The random numbers of one row of one shard.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    key: u64,
}

impl Random {
    /// The numbers of row `row` under the seed of the call.
    #[must_use]
    pub fn of_row(seed: u64, row: u64) -> Self {
        Self {
            key: mix(mix(seed) ^ row),
        }
    }

    /// Number `index`: 64 uniform bits.
    #[must_use]
    pub fn bits(self, index: u64) -> u64 {
        mix(self.key ^ mix(index))
    }

    /// Number `index` as an integer in `0..bound`; 0 if `bound` is 0. The bias is below `bound` in 2^64.
    #[must_use]
    pub fn below(self, index: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(index)) * u128::from(bound)) >> 64) as u64
    }
}

/// A bijection of 64 bits whose output bits each depend on all input bits (the SplitMix64 step of
/// Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn numbers_depend_on_seed_row_and_index() {
        let one = Random::of_row(1, 2).bits(3);
        assert_eq!(one, Random::of_row(1, 2).bits(3));
        for (seed, row, index) in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
            assert_ne!(one, Random::of_row(seed, row).bits(index));
        }
    }

    #[test]
    fn below_reaches_every_value_and_no_other() {
        let mut seen = [0_u32; 3];
        for row in 0..3_000 {
            seen[Random::of_row(7, row).below(0, 3) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (850..1_150).contains(count)),
            "{seen:?}"
        );
    }
}
