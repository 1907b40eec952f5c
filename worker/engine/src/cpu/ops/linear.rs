//! Linear layers.

use stoker_model::Op;

use super::super::product::{Matrix, multiply};
use super::{Context, Epilogue, each_group, gradient, transpose};

/// Rows of a group at least, while there are groups for all threads: each group packs all of the
/// weights.
const GROUP_ROWS: usize = 128;

/// How many groups cut so many rows: no more than the plan has. No result depends on it.
fn groups_of(rows: usize, groups: usize) -> usize {
    groups.min((rows / GROUP_ROWS).max(rayon::current_num_threads()))
}

/// y = f(x Wᵀ + b); groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Linear {
        x,
        y,
        weight,
        bias,
        activation,
        pre,
        transposed,
        positions,
        inputs,
        outputs,
    } = op
    else {
        return;
    };
    let plan = context.plan();
    let weight = context.parameter(*weight);
    let epilogue = Epilogue {
        level: context.level,
        bias: bias.map(|bias| context.parameter(bias)),
        activation: *activation,
    };
    let values = [Some(*x), Some(*y), *pre, *transposed];
    let [x, y, pre, transposed] = context.arena.optional(values);
    transpose(epilogue.level, groups, transposed, weight, *outputs);
    let weight = Matrix::new(transposed, *inputs, *outputs);
    let rows = plan.rows * positions;
    let groups = groups_of(rows, groups);
    let rows = rows.div_ceil(groups);
    let sizes = [
        (x, rows * inputs),
        (y, rows * outputs),
        (pre, rows * outputs),
    ];
    each_group(groups, sizes, |_, [x, y, pre]| {
        let x = Matrix::new(x, x.len() / inputs, *inputs);
        multiply(epilogue.level, plan.k_block, y, false, x, weight);
        epilogue.apply(y, pre);
    });
}

/// dW = dyᵀ x; groups cut W's rows, and are no more than there are threads: each reads all of x.
pub(super) fn grad_weight(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::LinearGradWeight {
        dy,
        x,
        weight,
        positions,
        inputs,
        outputs,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let terms = plan.rows * positions;
    let [dy, x] = context.arena.views([*dy, *x]);
    let dy = Matrix::new(dy, terms, *outputs).transposed();
    let x = Matrix::new(x, terms, *inputs);
    let groups = groups.min(rayon::current_num_threads());
    let rows = outputs.div_ceil(groups);
    let dw = gradient(context.gradients, plan, *weight);
    each_group(groups, [(dw, rows * inputs)], |group, [dw]| {
        let some = dy.rows_from(group * rows, dw.len() / inputs);
        multiply(level, plan.k_block, dw, false, some, x);
    });
}

/// dx = dy W; groups cut the rows.
pub(super) fn grad_input(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::LinearGradInput {
        dy,
        dx,
        weight,
        positions,
        inputs,
        outputs,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows * positions;
    let groups = groups_of(rows, groups);
    let rows = rows.div_ceil(groups);
    let weight = Matrix::new(context.parameter(*weight), *outputs, *inputs);
    let [dy, dx] = context.arena.views([*dy, *dx]);
    each_group(
        groups,
        [(dy, rows * outputs), (dx, rows * inputs)],
        |_, [dy, dx]| {
            let dy = Matrix::new(dy, dy.len() / outputs, *outputs);
            multiply(level, plan.k_block, dx, false, dy, weight);
        },
    );
}
