#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Self-attention (Vaswani et al. 2017), a head at a time: heads are laid out for the products, so
//! that all that one needs is in the cache.

use stoker_model::{Attention, Op};

use super::super::lanes::{maximum_of, sum_of};
use super::super::product::{Matrix, multiply};
use super::super::simd::{Level, simd};
use super::{Context, RowEnds, each_group};
use crate::math::exp;

/// Where a head's numbers are: the first of them at a position, and numbers from one position to
/// the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    first: usize,
    stride: usize,
}

/// Queries, keys and values of a head, and its output.
fn heads(attention: &Attention, head: usize) -> [Head; 4] {
    let shared = head / (attention.heads / attention.kv_heads);
    let keys = attention.heads + shared;
    let stride = attention.in_features();
    let at = |index: usize, stride: usize| Head {
        first: index * attention.head_floats,
        stride,
    };
    [
        at(head, stride),
        at(keys, stride),
        at(keys + attention.kv_heads, stride),
        at(head, attention.out_features()),
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
fn scale(attention: &Attention) -> f32 {
    (1.0 / (attention.head_floats as f64).sqrt()) as f32
}

/// Buffers of one head.
struct Scratch<'a> {
    parts: [&'a mut [f32]; 7],
    square: &'a mut [f32],
}

fn cut<'a>(scratch: &'a mut [f32], attention: &Attention) -> Scratch<'a> {
    let (parts, square) = scratch.split_at_mut(7 * attention.head());
    let mut parts = parts.chunks_exact_mut(attention.head());
    Scratch {
        parts: std::array::from_fn(|_| parts.next().unwrap_or_default()),
        square: &mut square[..attention.length * attention.length],
    }
}

/// The attention over the positions of a row that are there.
fn cut_to(attention: &Attention, ends: Option<RowEnds<'_>>, row: usize) -> Attention {
    Attention {
        length: ends.map_or(attention.length, |ends| ends.of(row)),
        ..*attention
    }
}

/// The outputs of all heads; groups cut the rows. A row that ends early is as if it were as short:
/// after its end the output is zeros.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Attention {
        x,
        y,
        probabilities,
        attention,
        scratch,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let (input, output, square) = sizes(attention);
    let ends = context.ends(*x);
    let values = [Some(*x), Some(*y), Some(*probabilities), *scratch];
    let [x, y, probabilities, scratch] = context.arena.optional(values);
    let buffers = [
        (x, rows * input),
        (y, rows * output),
        (probabilities, rows * attention.heads * square),
        (scratch, attention.scratch_floats()),
    ];
    each_group(groups, buffers, |group, [x, y, probabilities, scratch]| {
        let each = x.chunks_exact(input).zip(y.chunks_exact_mut(output));
        let each = each.zip(probabilities.chunks_exact_mut(attention.heads * square));
        for (row, ((x, y), probabilities)) in (group * rows..).zip(each) {
            let there = cut_to(attention, ends, row);
            let (y, rest) = y.split_at_mut(there.length * there.out_features());
            rest.fill(0.0);
            let product = Product {
                level,
                block: plan.k_block,
                attention: &there,
            };
            let mut scratch = cut(scratch, &there);
            for (head, p) in probabilities.chunks_exact_mut(square).enumerate() {
                let p = &mut p[..there.length * there.length];
                forward_head(&product, heads(&there, head), x, [p, y], &mut scratch);
            }
        }
    });
}

/// Writes one head's probabilities and outputs.
fn forward_head(
    product: &Product<'_>,
    [queries, keys, values, outputs]: [Head; 4],
    x: &[f32],
    [p, y]: [&mut [f32]; 2],
    scratch: &mut Scratch<'_>,
) {
    let (level, attention) = (product.level, product.attention);
    let width = attention.head_floats;
    let [q, k, v, o, ..] = &mut scratch.parts;
    gather(level, q, x, queries, width, scale(attention));
    gather(level, k, x, keys, width, 1.0);
    gather(level, v, x, values, width, 1.0);
    product.of(p, product.tall(q), product.tall(k).transposed());
    softmax(level, p, attention.length, attention.causal);
    product.of(o, product.square(p), product.tall(v));
    scatter(level, y, o, outputs, width, 1.0, false);
}

/// Numbers of one row: in, out, and of one head's probabilities.
const fn sizes(attention: &Attention) -> (usize, usize, usize) {
    (
        attention.length * attention.in_features(),
        attention.length * attention.out_features(),
        attention.length * attention.length,
    )
}

/// Products between the matrices of a head.
struct Product<'a> {
    level: Level,
    block: usize,
    attention: &'a Attention,
}

impl Product<'_> {
    fn of(&self, out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
        multiply(self.level, self.block, out, false, a, b);
    }

    fn tall<'a>(&self, head: &'a [f32]) -> Matrix<'a> {
        Matrix::new(head, self.attention.length, self.attention.head_floats)
    }

    fn square<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.attention.length, self.attention.length)
    }
}

/// The gradients of queries, keys and values; groups cut the rows.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::AttentionGrad {
        dy,
        x,
        dx,
        probabilities,
        attention,
        scratch,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let (input, output, square) = sizes(attention);
    let ends = context.ends(*x);
    let values = [
        Some(*dy),
        Some(*x),
        Some(*dx),
        Some(*probabilities),
        *scratch,
    ];
    let [dy, x, dx, probabilities, scratch] = context.arena.optional(values);
    let buffers = [
        (dy, rows * output),
        (x, rows * input),
        (dx, rows * input),
        (probabilities, rows * attention.heads * square),
        (scratch, attention.scratch_floats()),
    ];
    each_group(
        groups,
        buffers,
        |group, [dy, x, dx, probabilities, scratch]| {
            let each = dy.chunks_exact(output).zip(x.chunks_exact(input));
            let each = each.zip(dx.chunks_exact_mut(input));
            let each = each.zip(probabilities.chunks_exact(attention.heads * square));
            for (row, (((dy, x), dx), probabilities)) in (group * rows..).zip(each) {
                let there = cut_to(attention, ends, row);
                let product = Product {
                    level,
                    block: plan.k_block,
                    attention: &there,
                };
                let mut scratch = cut(scratch, &there);
                dx.fill(0.0);
                for (head, p) in probabilities.chunks_exact(square).enumerate() {
                    let p = &p[..there.length * there.length];
                    let heads = heads(&there, head);
                    grad_head(&product, heads, [dy, x, p], dx, &mut scratch);
                }
            }
        },
    );
}

/// Adds one head's gradients to `dx`.
fn grad_head(
    product: &Product<'_>,
    [queries, keys, values, outputs]: [Head; 4],
    [dy, x, p]: [&[f32]; 3],
    dx: &mut [f32],
    scratch: &mut Scratch<'_>,
) {
    let (level, attention) = (product.level, product.attention);
    let (width, scale) = (attention.head_floats, scale(attention));
    let [q, k, v, d, dq, dk, dv] = &mut scratch.parts;
    gather(level, q, x, queries, width, scale);
    gather(level, k, x, keys, width, 1.0);
    gather(level, v, x, values, width, 1.0);
    gather(level, d, dy, outputs, width, 1.0);
    product.of(dv, product.square(p).transposed(), product.tall(d));
    let ds = &mut *scratch.square;
    product.of(ds, product.tall(d), product.tall(v).transposed());
    softmax_grad(level, ds, p, attention.length);
    product.of(dq, product.square(ds), product.tall(k));
    product.of(dk, product.square(ds).transposed(), product.tall(q));
    scatter(level, dx, dq, queries, width, scale, true);
    scatter(level, dx, dk, keys, width, 1.0, true);
    scatter(level, dx, dv, values, width, 1.0, true);
}

simd! {
    /// A head's numbers at all positions, one after the other and scaled.
    fn gather(out: &mut [f32], x: &[f32], head: Head, width: usize, scale: f32) {
        let positions = x.chunks_exact(head.stride);
        for (out, x) in out.chunks_exact_mut(width).zip(positions) {
            for (out, &x) in out.iter_mut().zip(&x[head.first..head.first + width]) {
                *out = x * scale;
            }
        }
    }

    /// The way back: sets or adds a head's numbers, scaled.
    fn scatter(x: &mut [f32], values: &[f32], head: Head, width: usize, scale: f32, add: bool) {
        let positions = x.chunks_exact_mut(head.stride);
        for (x, values) in positions.zip(values.chunks_exact(width)) {
            let x = &mut x[head.first..head.first + width];
            for (x, &value) in x.iter_mut().zip(values) {
                *x = if add { *x + value * scale } else { value * scale };
            }
        }
    }

    /// Each row's softmax, in place; a causal row ends at its own position.
    fn softmax(scores: &mut [f32], length: usize, causal: bool) {
        for (row, scores) in scores.chunks_exact_mut(length).enumerate() {
            let seen = if causal { row + 1 } else { length };
            let (scores, rest) = scores.split_at_mut(seen);
            let max = maximum_of(scores);
            for score in scores.iter_mut() {
                *score = exp(*score - max);
            }
            let share = 1.0 / sum_of(scores, scores, |x, _| x);
            for score in scores.iter_mut() {
                *score *= share;
            }
            rest.fill(0.0);
        }
    }

    /// d = p (d - the sum over the row of p d). A probability of 0 gives 0, so a causal row stays
    /// one.
    fn softmax_grad(d: &mut [f32], p: &[f32], length: usize) {
        for (d, p) in d.chunks_exact_mut(length).zip(p.chunks_exact(length)) {
            let mean = sum_of(d, p, |d, p| d * p);
            for (d, &p) in d.iter_mut().zip(p) {
                *d = p * (*d - mean);
            }
        }
    }
}
