//! Max pooling over `[height, width, channels]`. Nothing is kept for the way back: the maximum is
//! found again.

use stoker_model::{Pool, ValueId};

use super::super::lanes;
use super::{Context, each_group};

/// Channels that the way back does at a time.
const CHANNELS: usize = 64;

/// The windows of one image: where each one's output is, and where its numbers are, in order.
fn windows(pool: &Pool) -> impl Iterator<Item = (usize, impl Iterator<Item = usize> + Clone)> {
    let Pool {
        channels,
        in_width,
        out_width,
        kernel,
        stride,
        ..
    } = *pool;
    (0..pool.out_height).flat_map(move |out_y| {
        (0..out_width).map(move |out_x| {
            let numbers = (0..kernel).flat_map(move |ky| {
                (0..kernel).map(move |kx| {
                    ((out_y * stride + ky) * in_width + out_x * stride + kx) * channels
                })
            });
            ((out_y * out_width + out_x) * channels, numbers)
        })
    })
}

fn sizes(pool: &Pool) -> (usize, usize) {
    (
        pool.in_height * pool.in_width * pool.channels,
        pool.out_height * pool.out_width * pool.channels,
    )
}

/// y = each window's maximum.
pub(super) fn forward(
    (x, y): (ValueId, ValueId),
    pool: &Pool,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (rows, level) = (context.plan().rows.div_ceil(groups), context.level);
    let (input, output) = sizes(pool);
    let [x, y] = context.arena.views([x, y]);
    each_group(
        groups,
        [(x, rows * input), (y, rows * output)],
        |_, [x, y]| {
            for (x, y) in x.chunks_exact(input).zip(y.chunks_exact_mut(output)) {
                for (out, numbers) in windows(pool) {
                    let y = &mut y[out..out + pool.channels];
                    y.fill(f32::NEG_INFINITY);
                    for at in numbers {
                        lanes::maximum(level, y, &x[at..at + pool.channels]);
                    }
                }
            }
        },
    );
}

/// dx: each window's dy goes to its first maximum. `values` are dy, x, y, dx.
pub(super) fn grad(values: [ValueId; 4], pool: &Pool, groups: usize, context: &mut Context<'_>) {
    let (rows, level) = (context.plan().rows.div_ceil(groups), context.level);
    let (input, output) = sizes(pool);
    let [dy, x, y, dx] = context.arena.views(values);
    let sizes = [
        (dy, rows * output),
        (x, rows * input),
        (y, rows * output),
        (dx, rows * input),
    ];
    each_group(groups, sizes, |_, [dy, x, y, dx]| {
        dx.fill(0.0);
        let outputs = dy.chunks_exact(output).zip(y.chunks_exact(output));
        let inputs = x.chunks_exact(input).zip(dx.chunks_exact_mut(input));
        for ((dy, y), (x, dx)) in outputs.zip(inputs) {
            for (out, numbers) in windows(pool) {
                give(
                    level,
                    pool.channels,
                    [&dy[out..], x, &y[out..]],
                    dx,
                    numbers,
                );
            }
        }
    });
}

/// Gives one window's gradients to its first maxima.
fn give(
    level: lanes::Level,
    channels: usize,
    [dy, x, y]: [&[f32]; 3],
    dx: &mut [f32],
    numbers: impl Iterator<Item = usize> + Clone,
) {
    let mut left = [0_f32; CHANNELS];
    for first in (0..channels).step_by(CHANNELS) {
        let count = CHANNELS.min(channels - first);
        let left = &mut left[..count];
        left.copy_from_slice(&dy[first..first + count]);
        for at in numbers.clone() {
            let range = at + first..at + first + count;
            lanes::claim(
                level,
                &mut dx[range.clone()],
                left,
                &x[range],
                &y[first..first + count],
            );
        }
    }
}
