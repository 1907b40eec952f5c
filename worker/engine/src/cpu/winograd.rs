#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Convolutions of 3 x 3 by fewer products (Winograd 1980, Lavin & Gray 2016).
//!
//! A patch of 2 x 2 outputs comes of 4 x 4 inputs. Inputs and weights are each transformed to 16
//! numbers, whose products, summed over the channels, are transformed back: 16 multiplications where
//! the definition has 36. The transforms have no factor but halves, so little is lost to rounding.
//! Patches lie over `[height, width]`; what they have beyond it is read as zeros, and not written.

use super::product::{Matrix, multiply};
use super::simd::{Level, simd};

/// Numbers of a transformed patch.
const SIZE: usize = stoker_model::PATCH_FLOATS;
/// Channels that are transformed side by side, at most.
const LANES: usize = 64;
/// A number that isn't there.
const OUTSIDE: usize = usize::MAX;

/// What is between the two steps of a transform.
type Middle = [[[f32; LANES]; 4]; 4];

/// Images of one convolution: `[height, width, channels]` before and after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Patches that are transformed at a time.
    pub(super) patches: usize,
}

/// Patches of some images: which of them, and of what channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    first: usize,
    count: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Cut {
    /// Where the numbers of a square of `N` x `N` around a patch are, which starts `before` above
    /// and on the left of it.
    #[inline(always)]
    fn places<const N: usize>(&self, patch: usize, before: usize) -> [[usize; N]; N] {
        let across = self.width.div_ceil(2);
        let down = self.height.div_ceil(2);
        let (image, patch) = (patch / (across * down), patch % (across * down));
        let (top, left) = (2 * (patch / across), 2 * (patch % across));
        let inside = |start: usize, by: usize, size: usize| {
            (start + by).checked_sub(before).filter(|&at| at < size)
        };
        std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let y = inside(top, row, self.height);
                match y.zip(inside(left, column, self.width)) {
                    Some((y, x)) => ((image * self.height + y) * self.width + x) * self.channels,
                    None => OUTSIDE,
                }
            })
        })
    }
}

impl Images {
    fn cuts(self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let all = rows * self.height.div_ceil(2) * self.width.div_ceil(2);
        let firsts = (0..all).step_by(self.patches);
        firsts.map(move |first| (first, self.patches.min(all - first)))
    }

    const fn cut(self, (first, count): (usize, usize), channels: usize) -> Cut {
        Cut {
            first,
            count,
            channels,
            height: self.height,
            width: self.width,
        }
    }

    /// y = conv(x, W), of transformed weights `[inputs, SIZE, outputs]`. `scratch` holds the
    /// transformed inputs and outputs.
    pub(super) fn convolve(
        self,
        (level, k_block): (Level, usize),
        [y, scratch]: [&mut [f32]; 2],
        [x, weights]: [&[f32]; 2],
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = x.len() / (self.height * self.width * inputs);
        let weights = Matrix::new(weights, inputs, SIZE * outputs);
        let (before, after) = scratch.split_at_mut(SIZE * self.patches * inputs);
        for some in self.cuts(rows) {
            gather(level, before, x, self.cut(some, inputs));
            let each = before.chunks_exact(some.1 * inputs);
            let each = each.zip(after.chunks_exact_mut(some.1 * outputs));
            for (index, (before, after)) in each.take(SIZE).enumerate() {
                let before = Matrix::new(before, some.1, inputs);
                let weights = weights.columns_from(index * outputs, outputs);
                multiply(level, k_block, after, false, before, weights);
            }
            scatter(level, y, after, self.cut(some, outputs));
        }
    }

    /// The gradient of the transformed weights, `[SIZE, outputs, inputs]`.
    pub(super) fn grad_weight(
        self,
        (level, k_block): (Level, usize),
        [sums, scratch]: [&mut [f32]; 2],
        [dy, x]: [&[f32]; 2],
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = x.len() / (self.height * self.width * inputs);
        if rows == 0 {
            sums.fill(0.0);
        }
        let (before, after) = scratch.split_at_mut(SIZE * self.patches * inputs);
        for (index, some) in self.cuts(rows).enumerate() {
            gather(level, before, x, self.cut(some, inputs));
            gather_grad(level, after, dy, self.cut(some, outputs));
            let each = before.chunks_exact(some.1 * inputs);
            let each = each.zip(after.chunks_exact(some.1 * outputs));
            let sums = sums.chunks_exact_mut(outputs * inputs);
            for (sums, (before, after)) in sums.zip(each) {
                let before = Matrix::new(before, some.1, inputs);
                let after = Matrix::new(after, some.1, outputs).transposed();
                multiply(level, k_block, sums, index > 0, after, before);
            }
        }
    }
}

/// Where weights are: rows of `width` numbers for each of the 9 places of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) width: usize,
    /// Numbers from one row to the next, and from one place to the next.
    pub(super) row_stride: usize,
    pub(super) place_stride: usize,
    /// Whether the places come in reverse.
    pub(super) flipped: bool,
}

#[inline(always)]
fn of_two(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

#[inline(always)]
fn of_three(out: &mut [f32], [a, b, c]: [&[f32]; 3], f: impl Fn(f32, f32, f32) -> f32) {
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(a, b, c);
    }
}

/// The numbers of a step, by their index: of inputs before the products.
#[inline(always)]
fn of_inputs(out: &mut [f32], index: usize, [a, b, c, d]: [&[f32]; 4]) {
    match index {
        0 => of_two(out, a, c, |a, c| a - c),
        1 => of_two(out, b, c, |b, c| b + c),
        2 => of_two(out, b, c, |b, c| c - b),
        _ => of_two(out, b, d, |b, d| b - d),
    }
}

/// Outputs after them.
#[inline(always)]
fn to_outputs(out: &mut [f32], index: usize, [a, b, c, d]: [&[f32]; 4]) {
    match index {
        0 => of_three(out, [a, b, c], |a, b, c| a + b + c),
        _ => of_three(out, [b, c, d], |b, c, d| b - c - d),
    }
}

/// Weights before them.
#[inline(always)]
fn of_weights(out: &mut [f32], index: usize, [a, b, c]: [&[f32]; 3]) {
    match index {
        0 => out.copy_from_slice(a),
        1 => of_three(out, [a, b, c], |a, b, c| 0.5 * (a + c + b)),
        2 => of_three(out, [a, b, c], |a, b, c| 0.5 * (a + c - b)),
        _ => out.copy_from_slice(c),
    }
}

/// The way back of `to_outputs`.
#[inline(always)]
fn of_gradients(out: &mut [f32], index: usize, [a, b]: [&[f32]; 2]) {
    match index {
        0 => out.copy_from_slice(a),
        1 => of_two(out, a, b, |a, b| a + b),
        2 => of_two(out, a, b, |a, b| a - b),
        _ => of_two(out, a, b, |_, b| -b),
    }
}

/// The way back of `of_weights`.
#[inline(always)]
fn to_weights(out: &mut [f32], index: usize, [a, b, c, d]: [&[f32]; 4]) {
    match index {
        0 => of_three(out, [a, b, c], |a, b, c| 0.5 * (b + c) + a),
        1 => of_two(out, b, c, |b, c| 0.5 * (b - c)),
        _ => of_three(out, [b, c, d], |b, c, d| 0.5 * (b + c) + d),
    }
}

/// Takes a step for each column, then for each row, of `lanes` squares side by side: from places of
/// `x` to those of `out`. The loops are over slices, which compilers make vectors of.
#[inline(always)]
fn twice<const N: usize, const M: usize>(
    (out, to): (&mut [f32], impl Fn(usize, usize) -> usize),
    (x, from): (&[f32], impl Fn(usize, usize) -> usize),
    middle: &mut Middle,
    lanes: usize,
    step: impl Fn(&mut [f32], usize, [&[f32]; N]) + Copy,
) {
    const ZEROS: [f32; LANES] = [0.0; LANES];
    for column in 0..N {
        let rows: [&[f32]; N] = std::array::from_fn(|row| match from(row, column) {
            OUTSIDE => &ZEROS[..lanes],
            at => &x[at..at + lanes],
        });
        for (row, middle) in middle.iter_mut().enumerate().take(M) {
            step(&mut middle[column][..lanes], row, rows);
        }
    }
    for (row, middle) in middle.iter().enumerate().take(M) {
        let columns: [&[f32]; N] = std::array::from_fn(|column| &middle[column][..lanes]);
        for column in 0..M {
            let at = to(row, column);
            if at != OUTSIDE {
                step(&mut out[at..at + lanes], column, columns);
            }
        }
    }
}

/// The first of the channels that are transformed side by side, and how many they are.
#[inline(always)]
fn slabs(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels)
        .step_by(LANES)
        .map(move |first| (first, LANES.min(channels - first)))
}

/// A place `by` numbers on.
#[inline(always)]
const fn on(at: usize, by: usize) -> usize {
    if at == OUTSIDE { OUTSIDE } else { at + by }
}

/// Transforms squares of each patch to `[SIZE, count, channels]`.
#[inline(always)]
fn transform<const N: usize>(
    out: &mut [f32],
    x: &[f32],
    cut: Cut,
    before: usize,
    step: impl Fn(&mut [f32], usize, [&[f32]; N]) + Copy,
) {
    let mut middle: Middle = [[[0.0; LANES]; 4]; 4];
    for patch in 0..cut.count {
        let places = cut.places::<N>(cut.first + patch, before);
        for (first, lanes) in slabs(cut.channels) {
            let to = |row: usize, column: usize| {
                ((4 * row + column) * cut.count + patch) * cut.channels + first
            };
            let from = |row: usize, column: usize| on(places[row][column], first);
            twice::<N, 4>((out, to), (x, from), &mut middle, lanes, step);
        }
    }
}

simd! {
    /// Transforms the inputs of patches.
    fn gather(out: &mut [f32], x: &[f32], cut: Cut) {
        transform::<4>(out, x, cut, 1, of_inputs);
    }

    /// Transforms the gradients of patches.
    fn gather_grad(out: &mut [f32], dy: &[f32], cut: Cut) {
        transform::<2>(out, dy, cut, 0, of_gradients);
    }

    /// Transforms patches back, to where they are in the images.
    fn scatter(y: &mut [f32], given: &[f32], cut: Cut) {
        let mut middle: Middle = [[[0.0; LANES]; 4]; 4];
        for patch in 0..cut.count {
            let places = cut.places::<2>(cut.first + patch, 0);
            for (first, lanes) in slabs(cut.channels) {
                let from = |row: usize, column: usize| {
                    ((4 * row + column) * cut.count + patch) * cut.channels + first
                };
                let to = |row: usize, column: usize| on(places[row][column], first);
                twice::<4, 2>((y, to), (given, from), &mut middle, lanes, to_outputs);
            }
        }
    }

    /// Transforms rows `first..` of weights to `[rows, SIZE, width]`, as many as `out` holds.
    fn transform_weights(out: &mut [f32], w: &[f32], weights: Weights, first: usize) {
        let mut middle: Middle = [[[0.0; LANES]; 4]; 4];
        for (row, out) in out.chunks_exact_mut(SIZE * weights.width).enumerate() {
            for (column, lanes) in slabs(weights.width) {
                let start = (first + row) * weights.row_stride + column;
                let from = |ky: usize, kx: usize| {
                    let place = if weights.flipped { 8 - 3 * ky - kx } else { 3 * ky + kx };
                    start + place * weights.place_stride
                };
                let to = |y: usize, x: usize| (4 * y + x) * weights.width + column;
                twice::<3, 4>((out, to), (w, from), &mut middle, lanes, of_weights);
            }
        }
    }

    /// Rows `first..` of dW, `[outputs, 9, inputs]`, of the gradient of the transformed weights: as
    /// many as `dw` holds.
    fn transform_back(dw: &mut [f32], sums: &[f32], inputs: usize, first: usize) {
        let mut middle: Middle = [[[0.0; LANES]; 4]; 4];
        let size = sums.len() / SIZE;
        for (row, dw) in dw.chunks_exact_mut(9 * inputs).enumerate() {
            for (column, lanes) in slabs(inputs) {
                let start = (first + row) * inputs + column;
                let from = |y: usize, x: usize| (4 * y + x) * size + start;
                let to = |ky: usize, kx: usize| (3 * ky + kx) * inputs + column;
                twice::<4, 3>((dw, to), (sums, from), &mut middle, lanes, to_weights);
            }
        }
    }
}
