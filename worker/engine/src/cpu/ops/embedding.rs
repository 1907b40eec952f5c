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

/// dW: each row the sum of dy over its token's positions, in their order; groups cut W's rows.
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
    let [dy, x] = context.arena.views([*dy, *x]);
    let (dy, x) = (&*dy, &*x);
    let dw = gradient(context.gradients, plan, *weight);
    each_group(groups, [(dw, rows * units)], |group, [dw]| {
        dw.fill(0.0);
        let first = group * rows;
        for (&x, dy) in x.iter().zip(dy.chunks_exact(*units)) {
            let row = token(x, *vocabulary).and_then(|token| token.checked_sub(first));
            if let Some(dw) = row.and_then(|row| dw.get_mut(row * units..(row + 1) * units)) {
                lanes::add(level, dw, dy);
            }
        }
    });
}
