//! Embeddings of token ids, which are held as numbers.

use stoker_model::Op;

use super::super::lanes;
use super::{Context, each_group, gradient};

/// The token, where the number is one.
fn token(number: f32, vocabulary: usize) -> Option<usize> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what changes is refused"
    )]
    let token = number as usize;
    (token < vocabulary && token as f32 == number).then_some(token)
}

/// y = W's row of each token; groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Embedding {
        x,
        y,
        weight,
        vocabulary,
        units,
    } = op
    else {
        return;
    };
    let length = context.plan().values[x.0].row_floats;
    let size = context.plan().rows.div_ceil(groups) * length;
    let weight = context.parameter(*weight);
    let [x, y] = context.arena.views([*x, *y]);
    each_group(groups, [(x, size), (y, size * units)], |_, [x, y]| {
        for (&x, y) in x.iter().zip(y.chunks_exact_mut(*units)) {
            match token(x, *vocabulary) {
                Some(token) => y.copy_from_slice(&weight[token * units..][..*units]),
                None => y.fill(f32::NAN),
            }
        }
    });
}

/// dW: each row the sum of dy over its token's positions, in their order; groups cut W's rows. Where
/// the table's touched rows are kept, they are all that is zeroed.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::EmbeddingGrad {
        dy,
        x,
        weight,
        vocabulary,
        units,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = vocabulary.div_ceil(groups);
    let there = context.rows * plan.values[x.0].row_floats;
    let [dy, x] = context.arena.views([*dy, *x]);
    let (dy, x) = (&*dy, &x[..there]);
    let dw = gradient(context.gradients, plan, *weight);
    let table = context.touched.table(*weight);
    let touched = (table.as_deref()).and_then(|table| table.known(context.slot));
    each_group(groups, [(dw, rows * units)], |group, [dw]| {
        let first = group * rows;
        match touched {
            Some(touched) => {
                for &row in touched {
                    if let Some(dw) = of_row(dw, row as usize, first, *units) {
                        dw.fill(0.0);
                    }
                }
            }
            None => dw.fill(0.0),
        }
        for (&x, dy) in x.iter().zip(dy.chunks_exact(*units)) {
            let row = token(x, *vocabulary);
            if let Some(dw) = row.and_then(|row| of_row(dw, row, first, *units)) {
                lanes::add(level, dw, dy);
            }
        }
    });
    if let Some(table) = table {
        let tokens = x.iter().filter_map(|&x| token(x, *vocabulary));
        table.list(context.slot, tokens);
    }
}

/// A row of a group's part of the table, which starts at row `first`.
fn of_row(part: &mut [f32], row: usize, first: usize, units: usize) -> Option<&mut [f32]> {
    let row = row.checked_sub(first)?;
    part.get_mut(row * units..(row + 1) * units)
}
