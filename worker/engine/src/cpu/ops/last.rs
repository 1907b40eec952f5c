//! The last position of a sequence.

use stoker_model::ValueId;

use super::{Context, each_group};

/// y = x at the last position that is there; groups cut the rows.
pub(super) fn forward(
    (x, y): (ValueId, ValueId),
    columns: usize,
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let (rows, floats) = (plan.rows.div_ceil(groups), plan.values[x.0].row_floats);
    let ends = context.ends(x);
    let [x, y] = context.arena.views([x, y]);
    let buffers = [(x, rows * floats), (y, rows * columns)];
    each_group(groups, buffers, |group, [x, y]| {
        let each = x.chunks_exact(floats).zip(y.chunks_exact_mut(columns));
        for (row, (x, y)) in (group * rows..).zip(each) {
            let end = ends.map_or(floats, |ends| ends.of(row) * columns);
            y.copy_from_slice(&x[end - columns..end]);
        }
    });
}

/// dx: dy at the last position that is there, zeros at the others.
pub(super) fn grad(
    (dy, dx): (ValueId, ValueId),
    columns: usize,
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let (rows, floats) = (plan.rows.div_ceil(groups), plan.values[dx.0].row_floats);
    let ends = context.ends(dx);
    let [dy, dx] = context.arena.views([dy, dx]);
    let buffers = [(dy, rows * columns), (dx, rows * floats)];
    each_group(groups, buffers, |group, [dy, dx]| {
        let each = dy.chunks_exact(columns).zip(dx.chunks_exact_mut(floats));
        for (row, (dy, dx)) in (group * rows..).zip(each) {
            let end = ends.map_or(floats, |ends| ends.of(row) * columns);
            dx.fill(0.0);
            dx[end - columns..end].copy_from_slice(dy);
        }
    });
}
