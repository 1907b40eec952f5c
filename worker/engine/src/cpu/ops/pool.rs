//! Pooling over `[height, width, channels]`. Nothing is kept for the way back: the maximum is
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
        padding,
        in_height,
        ..
    } = *pool;
    let inside = move |out: usize, size: usize| {
        let first = (out * stride).saturating_sub(padding);
        first..(out * stride + kernel - padding).min(size)
    };
    (0..pool.out_height).flat_map(move |out_y| {
        (0..out_width).map(move |out_x| {
            let rows = inside(out_y, in_height);
            let numbers = rows.flat_map(move |y| {
                inside(out_x, in_width).map(move |x| (y * in_width + x) * channels)
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

/// y = each window's mean.
pub(super) fn average(
    (x, y): (ValueId, ValueId),
    pool: &Pool,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (rows, level) = (context.plan().rows.div_ceil(groups), context.level);
    let (input, output) = sizes(pool);
    let share = share_of(pool.kernel * pool.kernel);
    let [x, y] = context.arena.views([x, y]);
    let buffers = [(x, rows * input), (y, rows * output)];
    each_group(groups, buffers, |_, [x, y]| {
        for (x, y) in x.chunks_exact(input).zip(y.chunks_exact_mut(output)) {
            for (out, numbers) in windows(pool) {
                let y = &mut y[out..out + pool.channels];
                y.fill(0.0);
                for at in numbers {
                    lanes::add(level, y, &x[at..at + pool.channels]);
                }
                lanes::scale(level, y, share);
            }
        }
    });
}

/// dx: each window's dy is shared out.
pub(super) fn average_grad(
    (dy, dx): (ValueId, ValueId),
    pool: &Pool,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (rows, level) = (context.plan().rows.div_ceil(groups), context.level);
    let (input, output) = sizes(pool);
    let share = share_of(pool.kernel * pool.kernel);
    let [dy, dx] = context.arena.views([dy, dx]);
    let buffers = [(dy, rows * output), (dx, rows * input)];
    each_group(groups, buffers, |_, [dy, dx]| {
        dx.fill(0.0);
        for (dy, dx) in dy.chunks_exact(output).zip(dx.chunks_exact_mut(input)) {
            for (out, numbers) in windows(pool) {
                for at in numbers {
                    let dx = &mut dx[at..at + pool.channels];
                    lanes::add(level, dx, &dy[out..out + pool.channels]);
                }
            }
        }
        lanes::scale(level, dx, share);
    });
}

/// y = the mean over the positions that are there.
pub(super) fn mean(
    (x, y): (ValueId, ValueId),
    columns: usize,
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let (rows, level) = (plan.rows.div_ceil(groups), context.level);
    let floats = plan.values[x.0].row_floats;
    let ends = context.ends(x);
    let [x, y] = context.arena.views([x, y]);
    let buffers = [(x, rows * floats), (y, rows * columns)];
    each_group(groups, buffers, |group, [x, y]| {
        y.fill(0.0);
        let each = x.chunks_exact(floats).zip(y.chunks_exact_mut(columns));
        for (row, (x, y)) in (group * rows..).zip(each) {
            let there = ends.map_or(floats / columns, |ends| ends.of(row));
            lanes::add_rows(level, y, &x[..there * columns]);
            lanes::scale(level, y, share_of(there));
        }
    });
}

/// dx: dy's share at each position that is there.
pub(super) fn mean_grad(
    (dy, dx): (ValueId, ValueId),
    columns: usize,
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let (rows, level) = (plan.rows.div_ceil(groups), context.level);
    let floats = plan.values[dx.0].row_floats;
    let ends = context.ends(dx);
    let [dy, dx] = context.arena.views([dy, dx]);
    let buffers = [(dy, rows * columns), (dx, rows * floats)];
    each_group(groups, buffers, |group, [dy, dx]| {
        let each = dy.chunks_exact(columns).zip(dx.chunks_exact_mut(floats));
        for (row, (dy, dx)) in (group * rows..).zip(each) {
            let there = ends.map_or(floats / columns, |ends| ends.of(row));
            let (dx, rest) = dx.split_at_mut(there * columns);
            for dx in dx.chunks_exact_mut(columns) {
                dx.copy_from_slice(dy);
            }
            lanes::scale(level, dx, share_of(there));
            rest.fill(0.0);
        }
    });
}

/// What each of `count` numbers is of their mean.
fn share_of(count: usize) -> f32 {
    1.0 / count as f32
}
