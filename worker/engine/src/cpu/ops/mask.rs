//! Zeros after the end of rows that end early.

use stoker_model::ValueId;

use super::{Context, each_group};

/// d = 0 at the positions after each row's end.
pub(super) fn zero(d: ValueId, groups: usize, context: &mut Context<'_>) {
    let Some(all) = context.ends(d) else {
        return;
    };
    let plan = context.plan();
    let (rows, floats) = (plan.rows.div_ceil(groups), plan.values[d.0].row_floats);
    let columns = floats / all.ends.positions;
    let [d] = context.arena.views([d]);
    each_group(groups, [(d, rows * floats)], |group, [d]| {
        for (row, d) in (group * rows..).zip(d.chunks_exact_mut(floats)) {
            d[all.of(row) * columns..].fill(0.0);
        }
    });
}
