#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Parts of the numbers of each position: put side by side, and taken apart again.

use stoker_model::{Part, ValueId};

use super::super::simd::simd;
use super::super::unfold::copy;
use super::{Context, each_group};

/// A part of y = x.
pub(super) fn join(
    (x, y): (ValueId, ValueId),
    part: Part,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let sizes = [x, y].map(|id| rows * plan.values[id.0].row_floats);
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, sizes[0]), (y, sizes[1])], |_, [x, y]| {
        write(level, y, x, part);
    });
}

/// y = a part of x.
pub(super) fn cut(
    (x, y): (ValueId, ValueId),
    part: Part,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let sizes = [x, y].map(|id| rows * plan.values[id.0].row_floats);
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, sizes[0]), (y, sizes[1])], |_, [x, y]| {
        read(level, y, x, part);
    });
}

simd! {
    fn write(y: &mut [f32], x: &[f32], part: Part) {
        let Part { of, first, count } = part;
        for (y, x) in y.chunks_exact_mut(of).zip(x.chunks_exact(count)) {
            copy(&mut y[first..first + count], x);
        }
    }

    fn read(y: &mut [f32], x: &[f32], part: Part) {
        let Part { of, first, count } = part;
        for (y, x) in y.chunks_exact_mut(count).zip(x.chunks_exact(of)) {
            copy(y, &x[first..first + count]);
        }
    }
}
