//! Philox4x32-10, a counter-based random generator (Salmon et al. 2011, "Parallel random numbers:
//! as easy as 1, 2, 3").
//!
//! A number is a function of what it is for and not of how many were drawn before it, so that
//! threads, workers and resumed runs all draw the same ones.

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Blocks computed side by side.
pub(crate) const LANES: usize = 16;

/// What numbers are for. Each purpose has its own stream under one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Init = 1,
    Split = 2,
    Shuffle = 3,
    Dropout = 4,
    TransformTrain = 5,
    TransformTest = 6,
    MaskTrain = 7,
    MaskTest = 8,
    Sample = 9,
    Augment = 10,
}

/// A stream of blocks of four words, each found by its two indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    key: [u32; 2],
    high: [u32; 2],
}

impl Stream {
    /// The stream for `purpose` under `seed`. `site` tells streams of one purpose apart; `time` is
    /// a step or an epoch, of which the low 40 bits count.
    pub(crate) const fn new(seed: u64, purpose: Purpose, site: u16, time: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "words are cut on purpose")]
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            high: [
                time as u32,
                (purpose as u32) << 24 | (site as u32) << 8 | ((time >> 32) as u32 & 0xFF),
            ],
        }
    }

    /// The four words at `(index, row)`.
    pub(crate) fn block(self, index: u32, row: u32) -> [u32; 4] {
        philox([[index], [row], [self.high[0]], [self.high[1]]], self.key).map(|[word]| word)
    }

    /// Sixteen neighbouring blocks from `(first, row)` on: word by word, lane by lane.
    #[inline(always)]
    pub(crate) fn blocks(self, first: u32, row: u32) -> [[u32; LANES]; 4] {
        let mut index = [0; LANES];
        for (lane, index) in (0_u32..).zip(&mut index) {
            *index = first.wrapping_add(lane);
        }
        let rest = [row, self.high[0], self.high[1]].map(|word| [word; LANES]);
        philox([index, rest[0], rest[1], rest[2]], self.key)
    }

    /// A word of 64 bits for `index`.
    pub(crate) fn word64(self, index: u64) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "words are cut on purpose")]
        let [low, high, ..] = self.block(index as u32, (index >> 32) as u32);
        u64::from(high) << 32 | u64::from(low)
    }

    /// A number below `bound` for `index`, by Lemire's multiplication. Its bias is under
    /// bound / 2^64.
    pub(crate) fn below(self, index: u64, bound: u64) -> u64 {
        let wide = u128::from(self.word64(index)) * u128::from(bound);
        (wide >> 64) as u64
    }
}

/// The ten rounds, on `N` blocks side by side.
#[inline(always)]
fn philox<const N: usize>(mut counter: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = counter;
        for lane in 0..N {
            let first = u64::from(c0[lane]) * u64::from(MULTIPLIERS[0]);
            let second = u64::from(c2[lane]) * u64::from(MULTIPLIERS[1]);
            #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
            {
                counter[0][lane] = (second >> 32) as u32 ^ c1[lane] ^ key[0];
                counter[1][lane] = second as u32;
                counter[2][lane] = (first >> 32) as u32 ^ c3[lane] ^ key[1];
                counter[3][lane] = first as u32;
            }
        }
        key[0] = key[0].wrapping_add(KEY_STEPS[0]);
        key[1] = key[1].wrapping_add(KEY_STEPS[1]);
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the Random123 library publishes.
    #[test]
    fn known_answers() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            let counter: [u32; 4] = counter;
            assert_eq!(philox(counter.map(|c| [c]), key).map(|[c]| c), answer);
        }
    }

    #[test]
    fn sixteen_blocks_at_once_are_the_blocks_one_by_one() {
        let stream = Stream::new(0x1234_5678_9abc_def0, Purpose::Dropout, 7, 99);
        let blocks = stream.blocks(32, 5);
        for (lane, index) in (32_u32..48).enumerate() {
            assert_eq!(stream.block(index, 5), blocks.map(|word| word[lane]));
        }
    }

    #[test]
    fn streams_differ_by_purpose_site_time_and_seed() {
        let streams = [
            Stream::new(1, Purpose::Init, 0, 0),
            Stream::new(1, Purpose::Shuffle, 0, 0),
            Stream::new(1, Purpose::Init, 1, 0),
            Stream::new(1, Purpose::Init, 0, 1),
            Stream::new(1, Purpose::Init, 0, 1 << 32),
            Stream::new(2, Purpose::Init, 0, 0),
            Stream::new(1 << 32, Purpose::Init, 0, 0),
        ];
        let mut words: Vec<u64> = streams.iter().map(|stream| stream.word64(0)).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), streams.len());
    }
}
