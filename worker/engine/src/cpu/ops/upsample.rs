#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Enlarging images, `[height, width, channels]`. All channels of a position are done side by side.

use stoker_model::{Upsample, ValueId};

use super::super::simd::simd;
use super::super::unfold::copy;
use super::{Context, each_group};

/// y = x enlarged.
pub(super) fn forward(
    (x, y): (ValueId, ValueId),
    upsample: &Upsample,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (rows, level) = (context.plan().rows.div_ceil(groups), context.level);
    let (input, output) = (upsample.in_floats(), upsample.out_floats());
    let [x, y] = context.arena.views([x, y]);
    let buffers = [(x, rows * input), (y, rows * output)];
    each_group(groups, buffers, |_, [x, y]| {
        for (x, y) in x.chunks_exact(input).zip(y.chunks_exact_mut(output)) {
            enlarge(level, y, x, upsample);
        }
    });
}

/// dx: what the numbers made of each one give, in their order.
pub(super) fn grad(
    (dy, dx): (ValueId, ValueId),
    upsample: &Upsample,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (rows, level) = (context.plan().rows.div_ceil(groups), context.level);
    let (input, output) = (upsample.in_floats(), upsample.out_floats());
    let [dy, dx] = context.arena.views([dy, dx]);
    let buffers = [(dy, rows * output), (dx, rows * input)];
    each_group(groups, buffers, |_, [dy, dx]| {
        dx.fill(0.0);
        for (dy, dx) in dy.chunks_exact(output).zip(dx.chunks_exact_mut(input)) {
            give(level, dx, dy, upsample);
        }
    });
}

/// The two numbers along a side of `size` that number `out` of the larger side lies between, and
/// how far it is on the way to the second one: centres of positions lie on centres.
#[inline(always)]
fn between(out: usize, factor: usize, size: usize) -> (usize, usize, f32) {
    // In halves of an output position, from the centre of the first input.
    let halves = (2 * out + 1).saturating_sub(factor);
    let first = (halves / (2 * factor)).min(size - 1);
    let share = (halves % (2 * factor)) as f32 / (2 * factor) as f32;
    (first, (first + 1).min(size - 1), share)
}

/// The four positions that an output position lies between, and the share of each.
#[inline(always)]
fn corners(of: &Upsample, out_y: usize, out_x: usize) -> [(usize, f32); 4] {
    let (top, bottom, down) = between(out_y, of.factor, of.height);
    let (left, right, across) = between(out_x, of.factor_x(), of.width);
    let at = |y: usize, x: usize| (y * of.width + x) * of.channels;
    [
        (at(top, left), (1.0 - down) * (1.0 - across)),
        (at(top, right), (1.0 - down) * across),
        (at(bottom, left), down * (1.0 - across)),
        (at(bottom, right), down * across),
    ]
}

simd! {
    fn enlarge(y: &mut [f32], x: &[f32], of: &Upsample) {
        let (channels, out_width) = (of.channels, of.width * of.factor_x());
        let mut positions = y.chunks_exact_mut(channels);
        for out_y in 0..of.height * of.factor {
            for out_x in 0..out_width {
                let Some(y) = positions.next() else { return };
                if !of.linear {
                    let at = (out_y / of.factor * of.width + out_x / of.factor_x()) * channels;
                    copy(y, &x[at..at + channels]);
                    continue;
                }
                let [a, b, c, d] = corners(of, out_y, out_x);
                let [first, second, third, fourth] = [a, b, c, d].map(|(at, _)| &x[at..at + channels]);
                let each = y.iter_mut().zip(first).zip(second).zip(third).zip(fourth);
                for ((((y, first), second), third), fourth) in each {
                    *y = (first * a.1 + second * b.1) + (third * c.1 + fourth * d.1);
                }
            }
        }
    }

    fn give(dx: &mut [f32], dy: &[f32], of: &Upsample) {
        let (channels, out_width) = (of.channels, of.width * of.factor_x());
        let mut positions = dy.chunks_exact(channels);
        for out_y in 0..of.height * of.factor {
            for out_x in 0..out_width {
                let Some(dy) = positions.next() else { return };
                if !of.linear {
                    let at = (out_y / of.factor * of.width + out_x / of.factor_x()) * channels;
                    for (dx, d) in dx[at..at + channels].iter_mut().zip(dy) {
                        *dx += d;
                    }
                    continue;
                }
                for (at, share) in corners(of, out_y, out_x) {
                    for (dx, d) in dx[at..at + channels].iter_mut().zip(dy) {
                        *dx += d * share;
                    }
                }
            }
        }
    }
}
