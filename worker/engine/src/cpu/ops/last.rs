//! The last position of a sequence.

use stoker_model::ValueId;

use super::{Context, each_group};

/// y = x at the last position; groups cut the rows.
pub(super) fn forward(
    (x, y): (ValueId, ValueId),
    columns: usize,
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let (rows, floats) = (plan.rows.div_ceil(groups), plan.values[x.0].row_floats);
    let [x, y] = context.arena.views([x, y]);
    let buffers = [(x, rows * floats), (y, rows * columns)];
    each_group(groups, buffers, |_, [x, y]| {
        for (x, y) in x.chunks_exact(floats).zip(y.chunks_exact_mut(columns)) {
            y.copy_from_slice(&x[floats - columns..]);
        }
    });
}

/// dx: dy at the last position, zeros before it.
pub(super) fn grad(
    (dy, dx): (ValueId, ValueId),
    columns: usize,
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let (rows, floats) = (plan.rows.div_ceil(groups), plan.values[dx.0].row_floats);
    let [dy, dx] = context.arena.views([dy, dx]);
    let buffers = [(dy, rows * columns), (dx, rows * floats)];
    each_group(groups, buffers, |_, [dy, dx]| {
        for (dy, dx) in dy.chunks_exact(columns).zip(dx.chunks_exact_mut(floats)) {
            let (before, last) = dx.split_at_mut(floats - columns);
            before.fill(0.0);
            last.copy_from_slice(dy);
        }
    });
}
