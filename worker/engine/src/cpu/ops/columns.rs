#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Columns of the features, and products of pairs of vectors.

use stoker_model::{Op, Span, ValueId};

use super::super::lanes::sum_of;
use super::super::simd::simd;
use super::{Context, each_group};

/// Products computed side by side.
const LANES: usize = 16;

/// Runs one of these operations.
pub(super) fn execute(op: &Op, groups: usize, context: &mut Context<'_>) {
    match op {
        Op::Select { x, y, spans } => select((*x, *y), spans, groups, context),
        Op::SelectGrad { dy, dx, spans } => select_grad((*dy, *dx), spans, groups, context),
        Op::Dot { a, b, y, columns } => dot([*a, *b, *y], *columns, groups, context),
        Op::DotGrad { dy, x, dx, columns } => {
            dot_grad([*dy, *x, *dx], *columns, groups, context);
        }
        Op::InteractGrad {
            dy,
            x,
            dx,
            count,
            columns,
        } => interact_grad([*dy, *x, *dx], [*count, *columns], groups, context),
        _ => interact(op, groups, context),
    }
}

/// y = the numbers of x in the spans; groups cut the rows.
fn select((x, y): (ValueId, ValueId), spans: &[Span], groups: usize, context: &mut Context<'_>) {
    let plan = context.plan();
    let [wide, narrow] = [x, y].map(|id| plan.values[id.0].row_floats);
    let rows = plan.rows.div_ceil(groups);
    let [x, y] = context.arena.views([x, y]);
    each_group(
        groups,
        [(x, rows * wide), (y, rows * narrow)],
        |_, [x, y]| {
            for (x, mut y) in x.chunks_exact(wide).zip(y.chunks_exact_mut(narrow)) {
                for span in spans {
                    let (head, tail) = y.split_at_mut(span.count);
                    head.copy_from_slice(&x[span.first..][..span.count]);
                    y = tail;
                }
            }
        },
    );
}

/// dx = dy where it was taken from, 0 elsewhere; groups cut the rows.
fn select_grad(
    (dy, dx): (ValueId, ValueId),
    spans: &[Span],
    groups: usize,
    context: &mut Context<'_>,
) {
    let plan = context.plan();
    let [narrow, wide] = [dy, dx].map(|id| plan.values[id.0].row_floats);
    let rows = plan.rows.div_ceil(groups);
    let [dy, dx] = context.arena.views([dy, dx]);
    let sizes = [(dy, rows * narrow), (dx, rows * wide)];
    each_group(groups, sizes, |_, [dy, dx]| {
        dx.fill(0.0);
        for (mut dy, dx) in (dy.chunks_exact_mut(narrow)).zip(dx.chunks_exact_mut(wide)) {
            for span in spans {
                let (head, tail) = dy.split_at_mut(span.count);
                dx[span.first..][..span.count].copy_from_slice(head);
                dy = tail;
            }
        }
    });
}

/// y = Σ a b; groups cut the rows.
fn dot([a, b, y]: [ValueId; 3], columns: usize, groups: usize, context: &mut Context<'_>) {
    let (level, rows) = (context.level, context.plan().rows.div_ceil(groups));
    // A vector's product with itself: two views of one value can't be had.
    let other = (b != a).then_some(b);
    let [a, b, y] = context.arena.optional([Some(a), other, Some(y)]);
    let sizes = [(a, rows * columns), (b, rows * columns), (y, rows)];
    each_group(groups, sizes, |_, [a, b, y]| {
        let b = if b.is_empty() { &*a } else { &*b };
        dots(level, y, a, b, columns);
    });
}

/// dx = dy x; groups cut the rows.
fn dot_grad([dy, x, dx]: [ValueId; 3], columns: usize, groups: usize, context: &mut Context<'_>) {
    let (level, rows) = (context.level, context.plan().rows.div_ceil(groups));
    let [dy, x, dx] = context.arena.views([dy, x, dx]);
    let sizes = [(dy, rows), (x, rows * columns), (dx, rows * columns)];
    each_group(groups, sizes, |_, [dy, x, dx]| {
        scale_rows(level, dx, dy, x, columns);
    });
}

/// y = x_i · x_j for j < i; groups cut the rows.
fn interact(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Interact {
        x,
        y,
        count,
        columns,
        scratch,
    } = op
    else {
        return;
    };
    let (level, rows) = (context.level, context.plan().rows.div_ceil(groups));
    let [x, y, scratch] = context.arena.optional([Some(*x), Some(*y), *scratch]);
    let pairs = count * (count - 1) / 2;
    let sizes = [
        (x, rows * count * columns),
        (y, rows * pairs),
        (scratch, columns * count.next_multiple_of(LANES)),
    ];
    each_group(groups, sizes, |_, [x, y, scratch]| {
        scratch.fill(0.0);
        let rows = x.chunks_exact(count * columns);
        for (x, y) in rows.zip(y.chunks_exact_mut(pairs)) {
            products(level, y, x, scratch, *columns);
        }
    });
}

/// dx_i = Σ dy x_j; groups cut the rows.
fn interact_grad(
    [dy, x, dx]: [ValueId; 3],
    [count, columns]: [usize; 2],
    groups: usize,
    context: &mut Context<'_>,
) {
    let (level, rows) = (context.level, context.plan().rows.div_ceil(groups));
    let (pairs, floats) = (count * (count - 1) / 2, count * columns);
    let [dy, x, dx] = context.arena.views([dy, x, dx]);
    let sizes = [(dy, rows * pairs), (x, rows * floats), (dx, rows * floats)];
    each_group(groups, sizes, |_, [dy, x, dx]| {
        let rows = dy.chunks_exact(pairs).zip(x.chunks_exact(floats));
        for ((dy, x), dx) in rows.zip(dx.chunks_exact_mut(floats)) {
            products_grad(level, dx, dy, x, columns);
        }
    });
}

simd! {
    /// y = the product of each row of a and b.
    fn dots(y: &mut [f32], a: &[f32], b: &[f32], columns: usize) {
        let rows = a.chunks_exact(columns).zip(b.chunks_exact(columns));
        for (y, (a, b)) in y.iter_mut().zip(rows) {
            *y = sum_of(a, b, |a, b| a * b);
        }
    }

    /// dx = each row of x times its number.
    fn scale_rows(dx: &mut [f32], by: &[f32], x: &[f32], columns: usize) {
        let rows = dx.chunks_exact_mut(columns).zip(x.chunks_exact(columns));
        for ((dx, x), &by) in rows.zip(by) {
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = by * x;
            }
        }
    }

    /// y = the products of the pairs of x's rows: of each with those before it. `turned` has room
    /// for x transposed, its rows filled up with zeros to whole lanes.
    fn products(y: &mut [f32], x: &[f32], turned: &mut [f32], columns: usize) {
        let stride = turned.len() / columns;
        for (index, x) in x.chunks_exact(columns).enumerate() {
            for (p, &number) in x.iter().enumerate() {
                turned[p * stride + index] = number;
            }
        }
        let mut rest = y;
        for (index, x) in x.chunks_exact(columns).enumerate() {
            let (own, after) = rest.split_at_mut(index);
            for (block, own) in own.chunks_mut(LANES).enumerate() {
                let mut sums = [0_f32; LANES];
                for (&left, row) in x.iter().zip(turned.chunks_exact(stride)) {
                    let right = &row[block * LANES..][..LANES];
                    for (sum, &right) in sums.iter_mut().zip(right) {
                        *sum = left.mul_add(right, *sum);
                    }
                }
                own.copy_from_slice(&sums[..own.len()]);
            }
            rest = after;
        }
    }

    /// dx = for each row, the others times their pair's dy, added in their order.
    fn products_grad(dx: &mut [f32], dy: &[f32], x: &[f32], columns: usize) {
        let pair = |i: usize, j: usize| if j < i { i * (i - 1) / 2 + j } else { j * (j - 1) / 2 + i };
        for (i, dx) in dx.chunks_exact_mut(columns).enumerate() {
            for (block, dx) in dx.chunks_mut(LANES).enumerate() {
                let mut sums = [0_f32; LANES];
                for (j, x) in x.chunks_exact(columns).enumerate() {
                    if j != i {
                        let by = dy[pair(i, j)];
                        let x = &x[block * LANES..][..dx.len()];
                        for (sum, &x) in sums.iter_mut().zip(x) {
                            *sum = by.mul_add(x, *sum);
                        }
                    }
                }
                dx.copy_from_slice(&sums[..dx.len()]);
            }
        }
    }
}
