//! The built-in augmentations `flip` and `crop`: pictures of training rows, changed at random.
//!
//! What becomes of a picture follows from the seed, the step, and its place in the batch.

use stoker_model::{Axis, Flip, RandomCrop};

use crate::philox::{Purpose, Stream};

/// An augmentation of `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Augment {
    kind: Kind,
    height: usize,
    width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flip(Axis),
    /// So many zeros around, and cut to the size.
    Crop(usize),
}

impl Augment {
    pub(crate) fn flip(settings: Flip, shape: &[usize]) -> Self {
        Self::new(Kind::Flip(settings.axis), shape)
    }

    pub(crate) fn crop(settings: RandomCrop, shape: &[usize]) -> Self {
        Self::new(Kind::Crop(settings.padding.into()), shape)
    }

    /// The compiler checked that the shape is a picture's.
    fn new(kind: Kind, shape: &[usize]) -> Self {
        let [height, width] = match shape {
            [.., height, width] => [*height, *width],
            _ => [1, 1],
        };
        Self {
            kind,
            height,
            width,
        }
    }

    /// Changes the pictures of a shard, whose first row has the index `first` in the batch. `site`
    /// tells steps of one job apart.
    pub(crate) fn apply(
        self,
        features: &mut [f32],
        width: usize,
        (seed, site, step): (u64, u16, u64),
        first: usize,
    ) {
        let stream = Stream::new(seed, Purpose::Augment, site, step);
        for (row, picture) in features.chunks_exact_mut(width).enumerate() {
            let index = (first + row) as u64;
            match self.kind {
                Kind::Flip(axis) => {
                    if stream.below(index, 2) == 1 {
                        self.flip_rows(axis, picture);
                    }
                }
                Kind::Crop(padding) => {
                    let places = 2 * padding as u64 + 1;
                    // From -padding to +padding.
                    let offset = |at| {
                        let place = usize::try_from(stream.below(at, places)).unwrap_or(padding);
                        place as isize - padding as isize
                    };
                    self.shift(picture, offset(2 * index), offset(2 * index + 1));
                }
            }
        }
    }

    fn flip_rows(self, axis: Axis, picture: &mut [f32]) {
        for channel in picture.chunks_exact_mut(self.height * self.width) {
            match axis {
                Axis::Horizontal => {
                    channel
                        .chunks_exact_mut(self.width)
                        .for_each(<[f32]>::reverse);
                }
                Axis::Vertical => {
                    for y in 0..self.height / 2 {
                        let (above, below) = channel.split_at_mut((y + 1) * self.width);
                        let above = &mut above[y * self.width..];
                        let other = (self.height - 1 - y) * self.width - (y + 1) * self.width;
                        above.swap_with_slice(&mut below[other..][..self.width]);
                    }
                }
            }
        }
    }

    /// Each pixel becomes the one `down` below and `right` beside it, and zero where there is none.
    fn shift(self, picture: &mut [f32], down: isize, right: isize) {
        let (height, width) = (self.height, self.width);
        for channel in picture.chunks_exact_mut(height * width) {
            // From the side that is read, so that nothing is overwritten before.
            for step in 0..height {
                let y = if down >= 0 { step } else { height - 1 - step };
                let from = y.checked_add_signed(down).filter(|&from| from < height);
                let Some(from) = from else {
                    channel[y * width..][..width].fill(0.0);
                    continue;
                };
                channel.copy_within(from * width..(from + 1) * width, y * width);
                shift_line(&mut channel[y * width..][..width], right);
            }
        }
    }
}

fn shift_line(line: &mut [f32], right: isize) {
    let by = right.unsigned_abs().min(line.len());
    if right >= 0 {
        line.copy_within(by.., 0);
        let kept = line.len() - by;
        line[kept..].fill(0.0);
    } else {
        line.copy_within(..line.len() - by, by);
        line[..by].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 channels of 3 x 4.
    fn picture() -> Vec<f32> {
        (1..=24_u8).map(f32::from).collect()
    }

    fn at(picture: &[f32], channel: usize, y: usize, x: usize) -> f32 {
        picture[channel * 12 + y * 4 + x]
    }

    #[test]
    fn flips_both_ways() {
        for (axis, mirrored) in [(Axis::Horizontal, [0, 3]), (Axis::Vertical, [2, 0])] {
            let mut flipped = picture();
            let augment = Augment::flip(Flip { axis }, &[2, 3, 4]);
            augment.flip_rows(axis, &mut flipped);
            let [y, x] = mirrored;
            for channel in 0..2 {
                assert_eq!(at(&flipped, channel, 0, 0), at(&picture(), channel, y, x));
            }
            augment.flip_rows(axis, &mut flipped);
            assert_eq!(flipped, picture());
        }
    }

    #[test]
    fn shifts_with_zeros_behind() {
        let augment = Augment::crop(RandomCrop { padding: 4 }, &[2, 3, 4]);
        for (down, right) in [(0, 0), (1, -2), (-2, 1), (2, 3), (-3, 0), (0, 4)] {
            let mut shifted = picture();
            augment.shift(&mut shifted, down, right);
            for channel in 0..2 {
                for y in 0..3_isize {
                    for x in 0..4_isize {
                        let (from_y, from_x) = (y + down, x + right);
                        let inside = (0..3).contains(&from_y) && (0..4).contains(&from_x);
                        let expected = match inside {
                            true => at(&picture(), channel, from_y as usize, from_x as usize),
                            false => 0.0,
                        };
                        let found = at(&shifted, channel, y as usize, x as usize);
                        assert_eq!(found, expected, "{down} {right} {y} {x}");
                    }
                }
            }
        }
    }

    #[test]
    fn follows_from_the_place_in_the_batch() {
        let augment = Augment::crop(RandomCrop { padding: 2 }, &[1, 3, 4]);
        let rows: Vec<f32> = (0..8).flat_map(|_| (1..=12_u8).map(f32::from)).collect();
        let mut all = rows.clone();
        augment.apply(&mut all, 12, (7, 0, 3), 0);
        let mut half = rows[48..].to_vec();
        augment.apply(&mut half, 12, (7, 0, 3), 4);
        assert_eq!(all[48..], half);
        assert!(all.chunks(12).any(|row| row != &all[..12]), "rows differ");
        let mut later = rows;
        augment.apply(&mut later, 12, (7, 0, 4), 0);
        assert_ne!(all, later);
    }
}
