#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Statistics of channels, and normalisation by them: what batch and group normalisation share.
//!
//! Numbers are `[positions, channels]`. A channel's sums go over positions in order, by blocks that
//! stay in the cache; so one pass over the memory gives mean and squared deviations, and long sums
//! lose little.

use super::simd::simd;

/// Floats of a block, and its positions at least.
const BLOCK: usize = 4096;
const POSITIONS: usize = 16;
/// Channels whose sums stay in registers: of a wide slab, and of what is left.
const WIDE: usize = 64;
const NARROW: usize = 16;

/// Floats of whole positions that are summed while they are in the cache.
const fn block(channels: usize) -> usize {
    let positions = BLOCK / channels;
    if positions > POSITIONS {
        positions * channels
    } else {
        POSITIONS * channels
    }
}

/// What a channel's numbers are normalised by: `(x - mean) * factor + bias`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) mean: &'a [f32],
    pub(crate) factor: &'a [f32],
    pub(crate) bias: &'a [f32],
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x > 0.0 || x.is_nan() { x } else { 0.0 }
}

/// Calls `$body` with the first channel of each slab and the slab's width, as a constant.
macro_rules! slabs {
    ($channels:expr, |$first:ident, $width:ident, $lanes:ident| $body:expr) => {{
        let mut $first = 0;
        while $first + WIDE <= $channels {
            const $width: usize = WIDE;
            let $lanes = WIDE;
            $body;
            $first += WIDE;
        }
        while $first < $channels {
            const $width: usize = NARROW;
            let $lanes = NARROW.min($channels - $first);
            $body;
            $first += NARROW;
        }
    }};
}

/// f for each lane and its numbers in every position of a slab.
#[inline(always)]
fn each<const W: usize>(
    x: &[f32],
    (channels, first, lanes): (usize, usize, usize),
    mut f: impl FnMut(usize, f32),
) {
    for x in x.chunks_exact(channels) {
        let x = &x[first..];
        match x.first_chunk::<W>() {
            Some(x) if lanes == W => {
                for (lane, &x) in x.iter().enumerate() {
                    f(lane, x);
                }
            }
            _ => {
                for (lane, &x) in x[..lanes].iter().enumerate() {
                    f(lane, x);
                }
            }
        }
    }
}

/// Mean and squared deviations of a block's slab, joined to those of the `before` positions so far
/// (Chan et al. 1979).
#[inline(always)]
fn join_block<const W: usize>(
    mean: &mut [f32],
    square: &mut [f32],
    x: &[f32],
    slab: (usize, usize, usize),
    before: usize,
) {
    let count = x.len() / slab.0;
    let share = 1.0 / count as f32;
    let mut means = [0_f32; W];
    each::<W>(x, slab, |lane, x| means[lane] += x);
    means.iter_mut().for_each(|mean| *mean *= share);
    let mut squares = [0_f32; W];
    each::<W>(x, slab, |lane, x| {
        let off = x - means[lane];
        squares[lane] += off * off;
    });
    let (first, lanes) = (slab.1, slab.2);
    let own = mean[first..][..lanes].iter_mut().zip(&mut square[first..]);
    let (share, weight) = shares(before, count);
    for ((mean, square), (&other, &more)) in own.zip(means.iter().zip(&squares)) {
        join_one(mean, square, other, more, share, weight);
    }
}

/// How far `count` positions move the mean of `before`, and what their distance adds to the squared
/// deviations.
#[inline(always)]
fn shares(before: usize, count: usize) -> (f32, f32) {
    let share = count as f32 / (before + count) as f32;
    (share, before as f32 * share)
}

#[inline(always)]
fn join_one(mean: &mut f32, square: &mut f32, other: f32, more: f32, share: f32, weight: f32) {
    let off = other - *mean;
    *mean = off.mul_add(share, *mean);
    *square = (off * off).mul_add(weight, *square + more);
}

/// A slab of what is given per channel.
#[inline(always)]
fn slab_of<const W: usize>(values: &[f32], first: usize, lanes: usize) -> [f32; W] {
    let mut slab = [0.0; W];
    slab[..lanes].copy_from_slice(&values[first..][..lanes]);
    slab
}

/// Adds a slab's sums of d and of d (x - mean), where d counts if `seen` says so of a lane's x.
#[inline(always)]
fn add_sums<const W: usize>(
    [sums, slopes]: [&mut [f32]; 2],
    [d, x]: [&[f32]; 2],
    mean: &[f32],
    (channels, first, lanes): (usize, usize, usize),
    seen: impl Fn(usize, f32) -> bool,
) {
    let (mut sum, mut slope) = ([0_f32; W], [0_f32; W]);
    let mean = slab_of::<W>(mean, first, lanes);
    let mut add = |lane: usize, d: f32, x: f32| {
        let d = if seen(lane, x) { d } else { 0.0 };
        sum[lane] += d;
        slope[lane] = d.mul_add(x - mean[lane], slope[lane]);
    };
    for (d, x) in d.chunks_exact(channels).zip(x.chunks_exact(channels)) {
        let (d, x) = (&d[first..], &x[first..]);
        match (d.first_chunk::<W>(), x.first_chunk::<W>()) {
            (Some(d), Some(x)) if lanes == W => (0..W).for_each(|lane| add(lane, d[lane], x[lane])),
            _ => (0..lanes).for_each(|lane| add(lane, d[lane], x[lane])),
        }
    }
    let totals = sums[first..][..lanes].iter_mut().zip(&mut slopes[first..]);
    for ((total, slopes), (&sum, &slope)) in totals.zip(sum.iter().zip(&slope)) {
        *total += sum;
        *slopes += slope;
    }
}

simd! {
    /// Mean and sum of squared deviations of each channel; zeros without a position.
    fn moments(mean: &mut [f32], square: &mut [f32], x: &[f32]) {
        let channels = mean.len();
        mean.fill(0.0);
        square.fill(0.0);
        let mut before = 0;
        for x in x.chunks(block(channels)) {
            slabs!(channels, |first, W, lanes| {
                join_block::<W>(mean, square, x, (channels, first, lanes), before)
            });
            before += x.len() / channels;
        }
    }

    /// Joins the moments of `count` positions to those of `before`.
    fn join_moments(mean: &mut [f32], square: &mut [f32], other: (&[f32], &[f32]), before: usize, count: usize) {
        let (share, weight) = shares(before, count);
        let others = other.0.iter().zip(other.1);
        for ((mean, square), (&other, &more)) in mean.iter_mut().zip(square).zip(others) {
            join_one(mean, square, other, more, share, weight);
        }
    }

    /// y = f((x - mean) factor + bias + residual), where f is relu or nothing. The residual may be
    /// absent.
    fn normalise(y: &mut [f32], x: &[f32], residual: &[f32], by: By<'_>, with_relu: bool) {
        #[inline(always)]
        fn rows(y: &mut [f32], x: &[f32], by: By<'_>, f: impl Fn(f32) -> f32) {
            let channels = by.mean.len();
            for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let per = by.mean.iter().zip(by.factor).zip(by.bias);
                for ((y, &x), ((&mean, &factor), &bias)) in y.iter_mut().zip(x).zip(per) {
                    *y = f((x - mean).mul_add(factor, bias));
                }
            }
        }
        #[inline(always)]
        fn sums(y: &mut [f32], x: &[f32], residual: &[f32], by: By<'_>, f: impl Fn(f32) -> f32) {
            let channels = by.mean.len();
            let rows = x.chunks_exact(channels).zip(residual.chunks_exact(channels));
            for (y, (x, residual)) in y.chunks_exact_mut(channels).zip(rows) {
                let per = by.mean.iter().zip(by.factor).zip(by.bias);
                let numbers = x.iter().zip(residual);
                for ((y, (&x, &more)), ((&mean, &factor), &bias)) in y.iter_mut().zip(numbers).zip(per) {
                    *y = f((x - mean).mul_add(factor, bias) + more);
                }
            }
        }
        match (residual.is_empty(), with_relu) {
            (true, false) => rows(y, x, by, |x| x),
            (true, true) => rows(y, x, by, relu),
            (false, false) => sums(y, x, residual, by, |x| x),
            (false, true) => sums(y, x, residual, by, relu),
        }
    }

    /// Adds each channel's sum of d to `sums`, and that of d (x - mean) to `slopes`. With `relu` d
    /// counts only where what `by` gives is above 0.
    fn grad_sums(sums: &mut [f32], slopes: &mut [f32], d: &[f32], x: &[f32], by: By<'_>, relu: bool) {
        let channels = by.mean.len();
        let block = block(channels);
        for (d, x) in d.chunks(block).zip(x.chunks(block)) {
            slabs!(channels, |first, W, lanes| {
                let (sums, numbers, slab) = ([&mut *sums, &mut *slopes], [d, x], (channels, first, lanes));
                if relu {
                    let factor = slab_of::<W>(by.factor, first, lanes);
                    let bias = slab_of::<W>(by.bias, first, lanes);
                    let mean = slab_of::<W>(by.mean, first, lanes);
                    add_sums::<W>(sums, numbers, by.mean, slab, |lane, x| {
                        (x - mean[lane]).mul_add(factor[lane], bias[lane]) > 0.0
                    });
                } else {
                    add_sums::<W>(sums, numbers, by.mean, slab, |_, _| true);
                }
            });
        }
    }

    /// The same, after d became 0 where y isn't above 0.
    fn grad_sums_by_output(sums: &mut [f32], slopes: &mut [f32], d: &mut [f32], y: &[f32], x: &[f32], mean: &[f32]) {
        let channels = mean.len();
        let block = block(channels);
        let blocks = y.chunks(block).zip(x.chunks(block));
        for (d, (y, x)) in d.chunks_mut(block).zip(blocks) {
            for (d, &y) in d.iter_mut().zip(y) {
                *d = if y > 0.0 { *d } else { 0.0 };
            }
            slabs!(channels, |first, W, lanes| {
                let slab = (channels, first, lanes);
                add_sums::<W>([&mut *sums, &mut *slopes], [d, x], mean, slab, |_, _| true);
            });
        }
    }

    /// dx = d factor - offset - (x - mean) slope, rounded so that a d that is its own mean gives 0.
    fn grad_input(dx: &mut [f32], d: &[f32], x: &[f32], by: By<'_>, offset: &[f32], slope: &[f32]) {
        let channels = by.mean.len();
        let rows = d.chunks_exact(channels).zip(x.chunks_exact(channels));
        for (dx, (d, x)) in dx.chunks_exact_mut(channels).zip(rows) {
            let per = by.mean.iter().zip(by.factor).zip(offset.iter().zip(slope));
            for ((dx, (&d, &x)), ((&mean, &factor), (&offset, &slope))) in dx.iter_mut().zip(d.iter().zip(x)).zip(per) {
                *dx = (mean - x).mul_add(slope, d * factor - offset);
            }
        }
    }

    /// The same in place. With `relu` d counts where what `by` gives is above 0.
    fn grad_input_in_place(d: &mut [f32], x: &[f32], by: By<'_>, offset: &[f32], slope: &[f32], relu: bool) {
        #[inline(always)]
        fn rows(d: &mut [f32], x: &[f32], by: By<'_>, offset: &[f32], slope: &[f32], seen: impl Fn(f32) -> bool) {
            let channels = by.mean.len();
            for (d, x) in d.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let per = by.mean.iter().zip(by.factor).zip(by.bias).zip(offset.iter().zip(slope));
                for ((d, &x), (((&mean, &factor), &bias), (&offset, &slope))) in d.iter_mut().zip(x).zip(per) {
                    let given = if seen((x - mean).mul_add(factor, bias)) { *d } else { 0.0 };
                    *d = (mean - x).mul_add(slope, given * factor - offset);
                }
            }
        }
        if relu {
            rows(d, x, by, offset, slope, |y| y > 0.0);
        } else {
            rows(d, x, by, offset, slope, |_| true);
        }
    }
}
