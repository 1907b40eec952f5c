//! Operations on each number by itself, the sums of bias gradients, and changes of order.

use stoker_domain::spec::Activation;
use stoker_model::{Op, ParameterId, ValueId};

use super::super::lanes;
use super::conv::add_partials;
use super::{Context, each_group, gradient};

/// Floats that are changed and then summed while they are in the cache.
const CACHED: usize = 4096;

type Pair = (ValueId, ValueId);

/// Floats of one row of a value.
fn row_floats(context: &Context<'_>, id: ValueId) -> usize {
    context.plan().values[id.0].row_floats
}

/// y = each row of x as `[rows, columns]`, transposed.
pub(super) fn transpose(
    (x, y): Pair,
    (rows, columns): (usize, usize),
    groups: usize,
    context: &mut Context<'_>,
) {
    let floats = rows * columns;
    let size = context.plan().rows.div_ceil(groups) * floats;
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, size), (y, size)], |_, [x, y]| {
        for (x, y) in x.chunks_exact(floats).zip(y.chunks_exact_mut(floats)) {
            for (row, x) in x.chunks_exact(columns).enumerate() {
                for (column, &x) in x.iter().enumerate() {
                    y[column * rows + row] = x;
                }
            }
        }
    });
}

/// y = x + b, with the first `columns` numbers of b.
pub(super) fn add_bias(
    (x, y): Pair,
    (bias, columns): (ParameterId, usize),
    groups: usize,
    context: &mut Context<'_>,
) {
    let (level, bias) = (context.level, &context.parameter(bias)[..columns]);
    let size = context.plan().rows.div_ceil(groups) * row_floats(context, x);
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, size), (y, size)], |_, [x, y]| {
        y.copy_from_slice(x);
        lanes::add_bias(level, y, bias);
    });
}

/// y = f(x).
pub(super) fn activate(
    (x, y): Pair,
    function: Activation,
    groups: usize,
    context: &mut Context<'_>,
) {
    let level = context.level;
    let size = context.plan().rows.div_ceil(groups) * row_floats(context, x);
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, size), (y, size)], |_, [x, y]| {
        lanes::copy_activate(level, y, x, function);
    });
}

/// y = a + b.
pub(super) fn add([a, b, y]: [ValueId; 3], groups: usize, context: &mut Context<'_>) {
    let level = context.level;
    let size = context.plan().rows.div_ceil(groups) * row_floats(context, y);
    let [a, b, y] = context.arena.views([a, b, y]);
    each_group(groups, [(a, size), (b, size), (y, size)], |_, [a, b, y]| {
        y.copy_from_slice(a);
        lanes::add(level, y, b);
    });
}

/// d = d + x.
pub(super) fn add_to((d, x): Pair, groups: usize, context: &mut Context<'_>) {
    let level = context.level;
    let size = context.plan().rows.div_ceil(groups) * row_floats(context, d);
    let [d, x] = context.arena.views([d, x]);
    each_group(groups, [(d, size), (x, size)], |_, [d, x]| {
        lanes::add(level, d, x)
    });
}

/// y = x.
pub(super) fn copy((x, y): Pair, groups: usize, context: &mut Context<'_>) {
    let size = context.plan().rows.div_ceil(groups) * row_floats(context, x);
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, size), (y, size)], |_, [x, y]| {
        y.copy_from_slice(x)
    });
}

/// d = d f'(saved), and the bias's gradient, in one pass.
pub(super) fn activation_bias_grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::ActivationBiasGrad {
        d,
        function,
        bias,
        columns,
        partials,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let size = plan.rows.div_ceil(groups) * row_floats(context, *d);
    let saved = function.map(|(_, saved)| saved);
    let [d, saved, partials] = context.arena.optional([Some(*d), saved, *partials]);
    let change = |d: &mut [f32], saved: &[f32], sums: &mut [f32]| {
        sums.fill(0.0);
        let block = columns * (CACHED / columns).max(1);
        for (index, d) in d.chunks_mut(block).enumerate() {
            if let Some((function, _)) = function {
                let saved = &saved[index * block..][..d.len()];
                lanes::activation_grad(level, d, saved, *function);
            }
            if !sums.is_empty() {
                lanes::add_rows(level, sums, d);
            }
        }
    };
    let sums: &mut [f32] = match bias {
        Some(bias) => {
            // Longer rows may have more of it.
            let (sums, rest) = gradient(context.gradients, plan, *bias).split_at_mut(*columns);
            rest.fill(0.0);
            sums
        }
        None => &mut [],
    };
    if groups == 1 {
        return change(d, saved, sums);
    }
    let sizes = [(d, size), (saved, size), (&mut *partials, sums.len())];
    each_group(groups, sizes, |_, [d, saved, partial]| {
        change(d, saved, partial)
    });
    if !sums.is_empty() {
        add_partials(level, sums, partials);
    }
}

/// y = x, dropped in training.
pub(super) fn dropout(
    (x, y): Pair,
    rate: f32,
    site: u16,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (level, train, first_row) = (context.level, context.train, context.first_row);
    let (masks, floats) = (context.masks(site), row_floats(context, x));
    let rows = context.plan().rows.div_ceil(groups);
    let size = rows * floats;
    let [x, y] = context.arena.views([x, y]);
    each_group(groups, [(x, size), (y, size)], |group, [x, y]| {
        if !train {
            return y.copy_from_slice(x);
        }
        let first = first_row + index(group * rows);
        let each = x.chunks_exact(floats).zip(y.chunks_exact_mut(floats));
        for (row, (x, y)) in (first..).zip(each) {
            lanes::dropout(level, y, x, masks, row, rate);
        }
    });
}

/// d, dropped alike.
pub(super) fn dropout_grad(
    d: ValueId,
    rate: f32,
    site: u16,
    groups: usize,
    context: &mut Context<'_>,
) {
    let (level, first_row) = (context.level, context.first_row);
    let (masks, floats) = (context.masks(site), row_floats(context, d));
    let rows = context.plan().rows.div_ceil(groups);
    let [d] = context.arena.views([d]);
    each_group(groups, [(d, rows * floats)], |group, [d]| {
        let first = first_row + index(group * rows);
        for (row, d) in (first..).zip(d.chunks_exact_mut(floats)) {
            lanes::dropout_grad(level, d, masks, row, rate);
        }
    });
}

/// A row's index in a batch, which has at most 2^20 rows.
fn index(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}
